"""The change log says what changed, once, in order, and proves it."""

from __future__ import annotations

import struct
from hashlib import sha256
from pathlib import Path

import msgspec

from catalog import Change, Decision, LmdbCatalog, Verb
from catalog.log import Digest, bucket_of
from catalog.statements import SeriesStatement, StudyStatement, is_tombstone
from tests.catalog.samples import Ticking, arrival, open_catalog


def settle(catalog: LmdbCatalog, clock: Ticking) -> None:
    clock.now += 3
    catalog.publish(clock())


def digests_from_scratch(catalog: LmdbCatalog) -> dict[int, Digest]:
    found: dict[int, tuple[int, int]] = {}
    for change in catalog.snapshot(b"", 1_000_000):
        bucket = bucket_of(change.key)
        rows, total = found.get(bucket, (0, 0))
        if not is_tombstone(change.row):
            rows, total = rows + 1, total + int.from_bytes(sha256(change.row).digest(), "big")
        found[bucket] = rows, total
    return {
        bucket: Digest(rows, (total % 2**256).to_bytes(32, "big")) for bucket, (rows, total) in found.items()
    }


def series_row(change: Change) -> SeriesStatement:
    return msgspec.msgpack.decode(change.row, type=SeriesStatement)


def test_a_settled_study_and_its_series_are_stated_once(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = open_catalog(tmp_path, clock=clock)
    catalog.record([arrival("1", "1.1", f"1.1.{n}") for n in range(3)])
    assert catalog.changes(0, 100) == []
    settle(catalog, clock)
    study, series = sorted(catalog.changes(0, 100), key=lambda change: change.key)
    assert msgspec.msgpack.decode(study.row, type=StudyStatement).StudyInstanceUID == "1"
    assert (series_row(series).instances, series_row(series).is_settled) == (3, True)
    settle(catalog, clock)
    assert catalog.head().seq == 2
    catalog.close()


def test_a_growing_series_is_stated_at_once_then_twice_a_second_and_once_when_settled(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = open_catalog(tmp_path, clock=clock)
    stated = []
    for n in range(30):
        catalog.record([arrival("1", "1.1", f"1.1.{n}")])
        clock.now += 0.1
        catalog.publish(clock())
        stated.append(catalog.head().seq)
    assert stated[0] == 2
    assert 5 <= stated[-1] <= 8
    settle(catalog, clock)
    (last,) = catalog.changes(catalog.head().seq - 1, 10)
    assert (series_row(last).instances, series_row(last).is_settled) == (30, True)
    assert len(catalog.changes(0, 100)) == 2
    catalog.close()


def test_a_study_is_stated_at_once_and_with_its_series_in_one_commit(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = open_catalog(tmp_path, clock=clock)
    catalog.record([arrival(f"{n}", f"{n}.1", f"{n}.1.1") for n in range(300)])
    clock.now += 0.1
    catalog.publish(clock())
    assert catalog.head().seq == 600
    with catalog.reading_log() as log:
        ends, seq = [], 0
        while (end := log.chain_from(seq + 1)) is not None:
            ends.append(end[0])
            seq = end[0]
    seq = 0
    for end in ends:
        keys = [change.key for change in catalog.changes(seq, end - seq)]
        studies = {key for key in keys if b"\0" not in key}
        assert {key.partition(b"\0")[0] for key in keys if key not in studies} == studies
        seq = end
    catalog.close()


def test_a_clock_set_back_keeps_no_change_from_being_told(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = open_catalog(tmp_path, clock=clock)
    catalog.record([arrival("1", "1.1", "1.1.0")])
    catalog.publish(clock())
    clock.now -= 3600
    catalog.record([arrival("1", "1.1", "1.1.1"), arrival("2", "2.1", "2.1.1")])
    catalog.publish(clock())
    told = [series_row(change) for change in catalog.changes(0, 10) if b"\0" in change.key]
    assert [(row.StudyInstanceUID, row.instances) for row in told] == [("1", 2), ("2", 1)]
    catalog.close()


def test_the_chain_can_be_recomputed_and_the_digests_too(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = open_catalog(tmp_path, clock=clock)
    chain = catalog.head().chain
    for n in range(5):
        before = catalog.head().seq
        catalog.record([arrival(f"{n}", f"{n}.1", f"{n}.1.1")])
        settle(catalog, clock)
        made = sha256(chain)
        for change in catalog.changes(before, 100):
            lengths = struct.pack(">HI", len(change.key), len(change.row))
            made.update(change.seq.to_bytes(8, "big") + lengths + change.key + change.row)
        chain = made.digest()[:8]
        assert catalog.head().chain == chain == catalog.chain_at(catalog.head().seq)
    assert catalog.digests() == digests_from_scratch(catalog)
    catalog.close()


def test_what_is_rejected_leaves_tombstones_and_undo_brings_the_same_rows_back(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = open_catalog(tmp_path, clock=clock)
    catalog.record([arrival("1", "1.1", "1.1.1"), arrival("2", "2.1", "2.1.1")])
    settle(catalog, clock)
    rows = {change.key: change.row for change in catalog.changes(0, 100)}
    digests = catalog.digests()
    catalog.decide(Decision(id="r", verb=Verb.REJECT, target=("1",), reason="", who="", when=1))
    settle(catalog, clock)
    assert {change.key: change.row for change in catalog.changes(4, 100)} == {b"1": b"R", b"1\x001.1": b"R"}
    catalog.decide(Decision(id="u", verb=Verb.UNDO, target=("1",), reason="", who="", when=2, detail="r"))
    settle(catalog, clock)
    assert {change.key: change.row for change in catalog.changes(0, 100)} == rows
    assert catalog.digests() == digests
    catalog.close()


def test_dirty_marks_and_the_epoch_survive_a_restart(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = open_catalog(tmp_path, clock=clock)
    catalog.record([arrival("1", "1.1", "1.1.1")])
    epoch = catalog.head().epoch
    catalog.close()
    catalog = open_catalog(tmp_path, clock=clock)
    assert catalog.head().epoch == epoch
    settle(catalog, clock)
    assert catalog.head().seq == 2
    catalog.close()


def test_a_new_epoch_is_above_every_other_whatever_the_clock_says(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = open_catalog(tmp_path, clock=clock)
    first = catalog.head().epoch
    clock.now = 0.0
    second = catalog.renew_epoch()
    third = catalog.renew_epoch(at_least=second + 1000)
    assert first < second < second + 1000 < third == catalog.head().epoch
    catalog.close()
