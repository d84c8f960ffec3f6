"""What every object store promises, whatever it keeps its files on."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catalog import BadRequest, Damaged, Holding, NotFound, ObjectStore
from tests.node.bucket.serving import bucket_store, forget_state
from tests.node.bucket.swift import swift_store
from tests.node.roles.serving import remote_store
from tests.node.storage.filling import Came, fill, keep, read, segment_store, two_volumes

STORES: dict[str, Callable[[Path], ObjectStore]] = {
    "segments": segment_store,
    "volumes": two_volumes,
    "storage elsewhere": remote_store,
    "bucket": bucket_store,
    "bucket at Swift": swift_store,
}
"""Each store joins with one line."""
MARKS = {"bucket at Swift": pytest.mark.slow}
SIZES = (1, 511, 512, 513, 70_000, 262_144, 300_001, 524_288, 600_000, 3_000_000)


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in STORES])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    opened = STORES[request.param](tmp_path)
    yield opened
    opened.close()
    forget_state(tmp_path)


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(size + seed).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_kept_comes_back_unchanged(store: ObjectStore, size: int) -> None:
    data = some_bytes(size)
    holding = keep(store, data)
    assert (holding.sha256, holding.size) == (hashlib.sha256(data).digest(), size)
    assert read(store, holding) == data


@pytest.mark.parametrize("piece", [1000, 65_536, 131_066, 700_000])
def test_the_size_of_the_pieces_does_not_matter(store: ObjectStore, piece: int) -> None:
    data = some_bytes(1_700_000)
    incoming = fill(store.incoming(), data, piece)
    assert incoming.digest() == hashlib.sha256(data).digest()
    assert read(store, store.keep(incoming, Came())) == data


def test_only_what_is_filled_of_a_space_counts(store: ObjectStore) -> None:
    incoming = store.incoming()
    incoming.space(100)[:5] = b"hello"
    incoming.filled(5)
    assert (incoming.size, bytes(incoming.head(99)), incoming.read_at(1, 3)) == (5, b"hello", b"ell")


@pytest.mark.parametrize("size", SIZES)
def test_what_came_in_can_be_read_before_and_after_it_is_kept(store: ObjectStore, size: int) -> None:
    data = some_bytes(size)
    incoming = fill(store.incoming(), data)
    for is_kept in (False, True):
        assert bytes(incoming.head(1000)) == data[:1000]
        assert incoming.read_at(size // 3, size) == data[size // 3 :]
        if not is_kept:
            store.keep(incoming, Came())


def test_a_reader_serves_any_part_and_knows_where_the_file_ends(store: ObjectStore) -> None:
    data = some_bytes(100_000)
    reader = store.open(keep(store, data))
    buffer = bytearray(1000)
    assert reader.read_into(memoryview(buffer), 5000) == 1000
    assert buffer == data[5000:6000]
    assert reader.read_into(memoryview(buffer), 99_900) == 100
    assert buffer[:100] == data[-100:]
    assert reader.read_into(memoryview(buffer), 100_000) == 0
    reader.close()
    reader.close()


def test_what_was_discarded_leaves_nothing(store: ObjectStore) -> None:
    incoming = fill(store.incoming(), some_bytes(2_000_000))
    incoming.discard()
    incoming.discard()
    absent = Holding(bytes(32), keep(store, b"other").where, 5)
    with pytest.raises((NotFound, Damaged)):
        store.open(absent)


@pytest.mark.parametrize("erase", [False, True])
@pytest.mark.parametrize("size", [700, 300_000, 3_000_000])
def test_a_removed_object_is_not_found_and_its_neighbours_are(
    store: ObjectStore, size: int, erase: bool
) -> None:
    before, data, after = some_bytes(5000, 1), some_bytes(size), some_bytes(5000, 2)
    holdings = [keep(store, each) for each in (before, data, after)]
    for _ in range(2):
        store.remove(holdings[1], erase)
        with pytest.raises(NotFound):
            store.open(holdings[1])
    assert [read(store, holdings[0]), read(store, holdings[2])] == [before, after]


def test_a_reader_never_gives_bytes_of_an_object_that_was_removed_meanwhile(store: ObjectStore) -> None:
    data = some_bytes(50_000)
    holding = keep(store, data)
    reader = store.open(holding)
    store.remove(holding)
    buffer = bytearray(50_000)
    with pytest.raises(NotFound):
        reader.read_into(memoryview(buffer), 0)


def test_a_removed_object_can_be_kept_again(store: ObjectStore) -> None:
    data = some_bytes(9000)
    store.remove(keep(store, data))
    assert read(store, keep(store, data)) == data


@pytest.mark.parametrize("size", [700, 3_000_000])
def test_what_is_whole_is_verified_and_what_was_removed_is_not_found(store: ObjectStore, size: int) -> None:
    holding, other = keep(store, some_bytes(size)), keep(store, b"other")
    store.verify(holding)
    store.remove(holding)
    with pytest.raises(NotFound):
        store.verify(holding)
    store.verify(other)


def test_a_place_of_another_store_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(NotFound):
        store.open(Holding(bytes(32), b"s3://elsewhere", 5))


def test_a_decision_needs_an_id_that_can_name_a_file(store: ObjectStore) -> None:
    store.keep_decision("2026-reject.1", b"{}")
    store.keep_decision("2026-reject.1", b"{}")
    for id in ("", "../x", "a/b", "ü", "x" * 81):
        with pytest.raises(BadRequest):
            store.keep_decision(id, b"{}")


def test_many_threads_store_and_read_at_once(store: ObjectStore) -> None:
    kept: list[tuple[Holding, bytes]] = []

    def work(seed: int) -> None:
        for number in range(12):
            data = some_bytes(20_000 + 60_000 * (number % 11), seed * 100 + number)
            kept.append((keep(store, data), data))
            holding, expected = kept[seed % len(kept)]
            assert read(store, holding) == expected

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 96
    assert all(read(store, holding) == data for holding, data in kept)
