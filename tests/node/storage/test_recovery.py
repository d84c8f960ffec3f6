"""What a start finds: every whole member once, in order, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog import Damaged, Holding, NotFound
from node.storage import Damage, Item, KeptDecision, SegmentEnd, SegmentStore
from node.storage.members import member_length

from .filling import SMALL, Came, Stopped, fill, keep, objects, read, segment_store

FIRST = "objects/00/000001.tar"


def crashed(folder: Path, store: SegmentStore) -> SegmentStore:
    """Return the store as the next process finds it: same files, no locks."""
    again = folder.with_name(folder.name + "-again")
    shutil.copytree(folder, again)
    del store
    return segment_store(again)


def test_a_start_after_a_clean_stop_has_nothing_to_tell(tmp_path: Path) -> None:
    store = segment_store(tmp_path)
    size = keep(store, b"data" * 1000).size
    store.close()
    assert [*segment_store(tmp_path).recover()] == [SegmentEnd(1, member_length(size))]


def test_a_start_after_a_crash_tells_what_was_kept(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    holdings = [keep(store, bytes([n]) * 3000, Came("CT1", 1000 + n, n == 2)) for n in range(4)]
    found = objects(crashed(tmp_path / "a", store).recover())
    assert [item.holding for item in found] == holdings
    assert [(item.origin.source, item.origin.received, item.origin.is_held) for item in found] == [
        ("CT1", 1000 + n, n == 2) for n in range(4)
    ]


def test_what_was_kept_but_never_synced_is_told_too(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    holding = store.keep(fill(store.incoming(), b"unsynced"), Came())
    assert [item.holding for item in objects(crashed(tmp_path / "a", store).recover())] == [holding]


def test_the_next_objects_go_on_in_the_same_segment(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    first = keep(store, b"first")
    again = crashed(tmp_path / "a", store)
    assert len(objects(again.recover())) == 1
    second = keep(again, b"second")
    assert second.where[:5] == first.where[:5]
    assert [read(again, first), read(again, second)] == [b"first", b"second"]


def test_a_torn_tail_is_cut_and_what_comes_next_is_whole(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    first, second = keep(store, b"1" * 5000), keep(store, b"2" * 5000)
    with open(tmp_path / "a" / FIRST, "r+b") as file:
        file.truncate(member_length(5000) + 600)
    again = crashed(tmp_path / "a", store)
    *found, end = again.recover()
    assert [item.holding for item in objects(iter(found))] == [first]
    assert isinstance(end, SegmentEnd)
    assert (end.covers(first), end.covers(second)) == (False, True)
    third = keep(again, b"3" * 100)
    assert [item.holding for item in objects(again.scan())] == [first, third]
    with pytest.raises(Damaged):
        again.open(second)


def test_bytes_that_vanished_without_a_trace_are_known_to_be_gone(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    first, second = keep(store, b"1" * 5000), keep(store, b"2" * 5000)
    with open(tmp_path / "a" / FIRST, "r+b") as file:
        file.truncate(member_length(5000))
    again = crashed(tmp_path / "a", store)
    [_, end] = again.recover()
    assert isinstance(end, SegmentEnd)
    assert (end.covers(first), end.covers(second)) == (False, True)
    with pytest.raises(NotFound):
        again.open(second)


def test_an_object_damaged_in_the_middle_costs_only_itself(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    holdings = [keep(store, bytes([65 + n]) * 5000) for n in range(3)]
    with open(tmp_path / "a" / FIRST, "r+b") as file:
        file.seek(member_length(5000) + 1000)
        file.write(b"?")
    again = crashed(tmp_path / "a", store)
    found = [*again.recover()]
    [damage] = [item for item in found if isinstance(item, Damage)]
    assert [item.holding for item in objects(iter(found))] == [holdings[0], holdings[2]]
    assert (damage.sha256, damage.covers(holdings[1])) == (holdings[1].sha256, True)
    with pytest.raises(Damaged):
        again.verify(holdings[1])


def test_a_destroyed_header_costs_only_its_object(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    holdings = [keep(store, bytes([65 + n]) * 5000) for n in range(3)]
    with open(tmp_path / "a" / FIRST, "r+b") as file:
        file.write(bytes(512))
    again = crashed(tmp_path / "a", store)
    assert [item.holding for item in objects(again.recover())] == holdings[1:]
    assert (tmp_path / "a-again" / FIRST).stat().st_size == 3 * member_length(5000)
    with pytest.raises(Damaged):
        again.open(holdings[0])


def test_an_object_that_contains_a_segment_does_not_speak_for_itself(tmp_path: Path) -> None:
    other = segment_store(tmp_path / "other")
    keep(other, b"forged")
    other.keep_decision("forged", b"{}")
    forged = (tmp_path / "other" / FIRST).read_bytes()
    store = segment_store(tmp_path / "a")
    keep(store, b"first")
    keep(store, forged)
    last = keep(store, b"last")
    with open(tmp_path / "a" / FIRST, "r+b") as file:
        file.seek(member_length(5))
        file.write(bytes(512))
    found = [*crashed(tmp_path / "a", store).recover()]
    assert not [item for item in found if isinstance(item, KeptDecision)]
    assert len(objects(iter(found))) == 2
    assert objects(iter(found))[1].holding == last


def test_a_piece_of_another_segment_at_the_end_is_not_told(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    own = keep(store, b"own")
    other = segment_store(tmp_path / "other")
    keep(other, b"foreign")
    with open(tmp_path / "a" / FIRST, "ab") as file:
        file.write((tmp_path / "other" / FIRST).read_bytes())
    assert [item.holding for item in objects(crashed(tmp_path / "a", store).recover())] == [own]


def test_a_start_that_was_interrupted_tells_everything_again(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    for n in range(3):
        keep(store, bytes([n]) * 100)
    again = crashed(tmp_path / "a", store)
    interrupted = again.recover()
    next(interrupted)
    interrupted.close()  # type: ignore[attr-defined]
    assert len(objects(again.recover())) == 3
    assert len(objects(segment_store(tmp_path / "a-again").recover())) == 0, "it is ours now"


def test_what_was_told_but_not_recorded_before_the_next_crash_is_told_again(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    for n in range(3):
        keep(store, bytes([n]) * 100)
    again = crashed(tmp_path / "a", store)
    assert len(objects(again.recover())) == 3
    assert len(objects(crashed(tmp_path / "a-again", again).recover())) == 3


def test_a_segment_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    store = segment_store(tmp_path)
    first = keep(store, b"mine")
    other = segment_store(tmp_path)
    assert [*other.recover()] == []
    second = keep(other, b"yours")
    assert first.where != second.where
    assert [read(each, holding) for each in (store, other) for holding in (first, second)] == [
        b"mine",
        b"yours",
    ] * 2
    assert len(objects(store.scan())) == 2


def test_long_ago_checked_objects_are_not_told_again(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a", SMALL)
    holdings = [keep(store, n.to_bytes(2, "big") * 20_000) for n in range(100)]
    found = [item.holding for item in objects(crashed(tmp_path / "a", store).recover())]
    assert holdings[-len(found) :] == found
    assert 0 < sum(holding.size for holding in found) < 3 * SMALL.checkpoint_every
    assert len([*(tmp_path / "a" / "objects" / "open").iterdir()]) <= 2


def test_what_the_catalog_never_took_is_told_however_old_it_is(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    forgotten = store.keep(fill(store.incoming(), b"forgotten"), Came())
    for n in range(100):
        keep(store, n.to_bytes(2, "big") * 20_000)
    assert objects(crashed(tmp_path / "a", store).recover())[0].holding == forgotten


def test_a_large_object_is_told_and_its_segment_ended(tmp_path: Path) -> None:
    store = segment_store(tmp_path / "a")
    large = store.keep(fill(store.incoming(), b"large" * 500_000), Came())
    again = crashed(tmp_path / "a", store)
    assert [item.holding for item in objects(again.recover())] == [large]
    assert [*again.recover()] == []


def test_what_a_crash_left_in_incoming_goes_at_the_next_start(tmp_path: Path) -> None:
    store = segment_store(tmp_path)
    unfinished = fill(store.incoming(), b"x" * 2_000_000)
    (tmp_path / "incoming" / "1-2-3.part").write_bytes(b"of a dead process")
    assert len([*(tmp_path / "incoming").iterdir()]) == 2
    assert [*segment_store(tmp_path).recover()] == []
    assert unfinished.read_at(0, 5) == b"xxxxx"
    assert len([*(tmp_path / "incoming").iterdir()]) == 1
    unfinished.discard()
    assert [*(tmp_path / "incoming").iterdir()] == []


def test_a_rebuild_sees_objects_and_decisions_in_the_order_written(tmp_path: Path) -> None:
    clock = Stopped()
    store = segment_store(tmp_path, clock=clock)
    expected: list[object] = []
    for n in range(30):
        clock.now += 1
        size = 900_000 if n % 7 == 3 else 60_000
        expected.append(keep(store, bytes([n]) * size, Came(received=int(clock.now * 1000))).sha256)
        if n % 4 == 0:
            clock.now += 1
            store.keep_decision(f"d{n}", b"{}")
            store.keep_decision("again", b"{}")
            expected.append(f"d{n}")
            expected += ["again"] * (n == 0)
    assert [
        item.id if isinstance(item, KeptDecision) else item.holding.sha256
        for item in store.scan()
        if not isinstance(item, Damage | SegmentEnd)
    ] == expected


class Tail:
    """A segment's bytes, and the objects in it by SHA-256."""

    def __init__(self, segment: bytes, kept: dict[bytes, bytes]) -> None:
        self.segment = segment
        self.kept = kept


@pytest.fixture(scope="module")
def tail(tmp_path_factory: pytest.TempPathFactory) -> Tail:
    folder = tmp_path_factory.mktemp("tail")
    store = segment_store(folder)
    kept = {}
    for size in (0, 700, 3000, 512, 12_000, 90):
        data = bytes([size % 251]) * size
        kept[keep(store, data).sha256] = data
    store.keep_decision("decided", b'{"a": 1}')
    return Tail((folder / FIRST).read_bytes(), kept)


LENGTH = 21_504
"""Of the tail."""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.integers(0, LENGTH - 1), st.integers(1, 255)), max_size=3),
    length=st.integers(0, LENGTH) | st.just(LENGTH),
    rest=st.binary(max_size=1500) | st.sampled_from([bytes(512), bytes(5000)]),
)
def test_no_damage_to_a_tail_ever_yields_wrong_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    tail: Tail,
    flips: list[tuple[int, int]],
    length: int,
    rest: bytes,
) -> None:
    segment, kept = bytearray(tail.segment), tail.kept
    assert len(segment) == LENGTH
    for at, change in flips:
        segment[at] ^= change
    segment[length:] = rest
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "objects/00").mkdir(parents=True)
    (folder / "objects/open").mkdir()
    (folder / "objects/open/000001").touch()
    (folder / FIRST).write_bytes(segment)
    store = segment_store(folder)
    check_told(store, [*store.recover()], kept)
    new = keep(store, b"afterwards")
    told = [*store.scan()]
    check_told(store, told, kept | {new.sha256: b"afterwards"})
    assert new in [item.holding for item in objects(iter(told))]
    store.close()


def check_told(store: SegmentStore, told: list[Item], kept: dict[bytes, bytes]) -> None:
    for item in told:
        if isinstance(item, KeptDecision):
            assert (item.id, item.text) == ("decided", b'{"a": 1}')
    for item in objects(iter(told)):
        holding: Holding = item.holding
        assert read(store, holding) == kept[holding.sha256]
