"""A store on a bucket serves from the cache, fetches what it dropped, and can be made again."""

from __future__ import annotations

import random
import resource
import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest

from catalog import NotFound
from node.bucket import BucketStore, Confirm, Encryption, Spool
from node.storage import KeptDecision, StorageSettings
from tests.node.bucket.serving import Server, bucket_store, work_off
from tests.node.storage.filling import MB, Came, Stopped, fill, keep, objects, read


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(size + seed).randbytes(size)


def drop_all(store: BucketStore) -> None:
    while store.evict_step():
        pass


@pytest.mark.parametrize("encryption", Encryption)
@pytest.mark.parametrize("size", [1, 65_536, 900_000, 2_000_000, 7_000_000])
def test_a_file_dropped_from_the_cache_is_read_as_it_was(
    tmp_path: Path, server: Server, encryption: Encryption, size: int
) -> None:
    store = bucket_store(tmp_path, server, encryption=encryption, cache_bytes=-1)
    holding = keep(store, some_bytes(size))
    drop_all(store)
    assert read(store, holding) == some_bytes(size)


def test_ranges_of_a_large_file_are_the_plain_bytes(tmp_path: Path, server: Server) -> None:
    store = bucket_store(tmp_path, server, cache_bytes=-1)
    data = some_bytes(3_000_000)
    holding = keep(store, data)
    drop_all(store)
    chance = random.Random(7)
    with closing(store.open(holding)) as reader:
        for _ in range(40):
            start, length = chance.randrange(len(data)), chance.randrange(1, 300_000)
            buffer = bytearray(length)
            got = reader.read_into(memoryview(buffer), start)
            assert buffer[:got] == data[start : start + length]
            assert got == min(length, len(data) - start)


def test_what_leaves_the_node_is_not_readable_without_the_key(tmp_path: Path, server: Server) -> None:
    store = bucket_store(tmp_path, server)
    keep(store, b"DICM" + bytes(range(256)) * 40, Came(source="SECRET_AE"))
    [path] = server.files()
    assert bytes(range(256)) not in path.read_bytes()
    assert b"SECRET_AE" not in path.read_bytes()


def test_nothing_is_dropped_that_the_bucket_has_not_confirmed(tmp_path: Path, server: Server) -> None:
    store = bucket_store(tmp_path, server, spool=Spool.PERSISTENT, cache_bytes=-1)
    holding = keep(store, some_bytes(5000))
    assert not store.evict_step()
    server.stop()
    assert read(store, holding) == some_bytes(5000)


def test_the_cache_keeps_its_size_and_drops_what_was_read_longest_ago(tmp_path: Path, server: Server) -> None:
    store = bucket_store(tmp_path, server, cache_bytes=25_000)
    first, second, third = (keep(store, some_bytes(10_000, seed)) for seed in range(3))
    read(store, first)
    drop_all(store)
    server.stop()
    assert read(store, first) == some_bytes(10_000, 0)
    assert read(store, third) == some_bytes(10_000, 2)
    assert store.is_safe(second)


def test_what_is_too_old_leaves_the_cache(tmp_path: Path, server: Server) -> None:
    clock = Stopped()
    store = bucket_store(tmp_path, server, clock, cache_age=100)
    keep(store, some_bytes(10_000))
    assert not store.evict_step()
    clock.now += 101
    assert store.evict_step()


def test_a_file_that_is_being_read_while_the_cache_drops_it_is_read_on(
    tmp_path: Path, server: Server
) -> None:
    store = bucket_store(tmp_path, server, cache_bytes=-1)
    data = some_bytes(200_000)
    with closing(store.open(keep(store, data))) as reader:
        buffer = bytearray(100_000)
        reader.read_into(memoryview(buffer), 0)
        drop_all(store)
        reader.read_into(memoryview(buffer), 100_000)
    assert buffer == data[100_000:]


def test_many_who_want_one_file_share_one_fetch(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bucket_store(tmp_path, server, cache_bytes=-1)
    holding = keep(store, some_bytes(500_000))
    drop_all(store)
    fetches: list[bytes] = []
    bring = store._fetcher._bring
    monkeypatch.setattr(store._fetcher, "_bring", lambda name: (fetches.append(name), bring(name))[1])
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(read(store, holding))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [some_bytes(500_000)] * 8
    assert len(fetches) == 1


def test_what_was_announced_is_there_before_it_is_asked_for(tmp_path: Path, server: Server) -> None:
    store = bucket_store(tmp_path, server, cache_bytes=-1)
    series = [keep(store, some_bytes(5000, seed)) for seed in range(4)]
    drop_all(store)
    store.prefetch(series)
    store.end_fetching()
    while store.fetch_turn():
        pass
    server.stop()
    assert [read(store, holding) for holding in series] == [some_bytes(5000, seed) for seed in range(4)]


def test_uploads_nobody_waits_for_keep_their_pace(tmp_path: Path, server: Server) -> None:
    clock = Stopped()
    store = bucket_store(tmp_path, server, clock, spool=Spool.PERSISTENT, bytes_per_second=10_000)
    for seed in range(4):
        keep(store, some_bytes(50_000, seed))
    sent = []
    for _ in range(4):
        work_off(store)
        sent.append(len(server.files()))
        clock.now += 6
    assert sent == [1, 2, 3, 4]


def test_a_removed_object_leaves_the_bucket_too(tmp_path: Path, server: Server) -> None:
    store = bucket_store(tmp_path, server)
    holding, other = keep(store, some_bytes(5000)), keep(store, some_bytes(6000))
    store.remove(holding, erase=True)
    with pytest.raises(NotFound):
        store.open(holding)
    work_off(store)
    assert [path.name for path in server.files()] == [other.sha256.hex()]
    assert store.waiting() == 0


def test_reading_back_can_be_asked_for(tmp_path: Path, server: Server) -> None:
    store = bucket_store(tmp_path, server, confirm=Confirm.READ_BACK)
    assert store.is_safe(keep(store, some_bytes(5000)))


def test_a_server_that_only_repeats_checksums_is_not_believed(tmp_path: Path, server: Server) -> None:
    store = bucket_store(tmp_path, server)
    keep(store, some_bytes(5000))
    assert not store._bucket.verifies_sha256
    assert server.files("probe") == []


def test_a_bucket_alone_tells_everything_in_its_order(tmp_path: Path, server: Server) -> None:
    clock = Stopped()
    store = bucket_store(tmp_path, server, clock)
    first = keep(store, some_bytes(5000), Came("CT-1", int(clock.now * 1000)))
    clock.now += 1
    store.keep_decision("reject.1", b'{"what": "rejected"}')
    clock.now += 1
    second = keep(store, some_bytes(6000), Came("CT-2", int(clock.now * 1000), is_held=True))
    store.close()
    shutil.rmtree(tmp_path / "spool")
    (tmp_path / "again").mkdir()
    shutil.copy2(tmp_path / "bucket.key", tmp_path / "again")
    store = bucket_store(tmp_path / "again", server, clock)
    found = [*store.scan()]
    kept = objects(iter(found))
    assert [item.holding.sha256 for item in kept] == [first.sha256, second.sha256]
    assert [item.origin.source for item in kept] == ["CT-1", "CT-2"]
    assert [item.origin.is_held for item in kept] == [False, True]
    assert isinstance(found[1], KeptDecision)
    assert (found[1].id, found[1].text) == ("reject.1", b'{"what": "rejected"}')
    assert [read(store, item.holding) for item in kept] == [some_bytes(5000), some_bytes(6000)]


def test_the_bucket_is_told_of_what_came_again_while_it_was_uploaded(tmp_path: Path, server: Server) -> None:
    clock = Stopped()
    store = bucket_store(tmp_path, server, clock, spool=Spool.PERSISTENT)
    keep(store, some_bytes(5000), Came("CT-1", int(clock.now * 1000)))
    while not server.files("o"):
        assert store.upload_step()
    assert store.waiting() == 1, "it is not confirmed yet"
    clock.now += 1
    again = int(clock.now * 1000)
    keep(store, some_bytes(5000), Came("CT-2", again))
    work_off(store)
    store.close()
    shutil.rmtree(tmp_path / "spool")
    (tmp_path / "again").mkdir()
    shutil.copy2(tmp_path / "bucket.key", tmp_path / "again")
    [kept] = objects(bucket_store(tmp_path / "again", server, clock).scan())
    assert (kept.origin.source, kept.origin.received) == ("CT-2", again)


@pytest.mark.slow
def test_memory_is_bounded_however_large_the_object(tmp_path: Path, server: Server) -> None:
    storage = StorageSettings(full_below=0, resume_above=0)
    store = bucket_store(tmp_path, server, storage=storage, chunk=MB, multipart_above=16 * MB, part=16 * MB)
    piece = some_bytes(MB)
    incoming = store.incoming()
    for _ in range(300):
        fill(incoming, piece, MB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    holding = store.keep(incoming, Came())
    store.sync(holding)
    incoming.discard()
    assert store.is_safe(holding)
    with closing(store.open(holding)) as reader:
        buffer = memoryview(bytearray(MB))
        assert all(reader.read_into(buffer, at * MB) == MB for at in range(300))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 128 << 10
