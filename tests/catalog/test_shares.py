"""A share has a log of its own, and says of each study only what its projection leaves."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from catalog import Decision, LmdbCatalog, Share, Verb
from catalog.statements import DELETED, LEFT_SHARE, is_tombstone, read_series
from tests.catalog.samples import Ticking, arrival, open_catalog
from tests.catalog.test_log import digests_from_scratch, settle


def only(modality: str) -> Share:
    """Return a share of the series of one modality, with their studies."""

    def project(study: str, rows: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        fit = {
            key: row
            for key, row in rows.items()
            if b"\0" in key and f'"{modality}"'.encode() in read_series(row).attributes
        }
        return fit | {study.encode(): rows[study.encode()]} if fit and study.encode() in rows else {}

    return Share(1, f"only {modality}", project)


def hashed(study: str, rows: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {sha256(study.encode()).digest(): b"known"}


def live(catalog: LmdbCatalog, share: int = 1) -> list[bytes]:
    return [change.key for change in catalog.snapshot(b"", 1000, share) if not is_tombstone(change.row)]


def told(catalog: LmdbCatalog, after: int, share: int = 1) -> dict[bytes, bytes]:
    return {change.key: change.row for change in catalog.changes(after, 1000, share)}


def filled(tmp_path: Path, clock: Ticking) -> LmdbCatalog:
    catalog = open_catalog(tmp_path, clock=clock)
    catalog.record([arrival("1", "1.1", "1.1.1"), arrival("1", "1.2", "1.2.1", Modality="MR")])
    catalog.record([arrival("1.2", "1.2.1", "1.2.1.1", Modality="MR"), arrival("2", "2.1", "2.1.1")])
    return catalog


def test_a_share_states_what_its_projection_leaves_and_numbers_it_for_itself(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = filled(tmp_path, clock)
    catalog.share([only("MR")])
    settle(catalog, clock)
    assert live(catalog) == [b"1", b"1\x001.2", b"1.2", b"1.2\x001.2.1"]
    assert catalog.head(1).seq == 4 < catalog.head().seq
    assert catalog.head(1).epoch == catalog.head().epoch
    assert catalog.chain_at(4, 1) == catalog.head(1).chain
    assert sum(digest.rows for digest in catalog.digests(1).values()) == 4
    settle(catalog, clock)
    assert catalog.head(1).seq == 4
    catalog.close()


def test_a_share_made_later_or_by_other_terms_holds_the_same_as_one_made_at_once(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = filled(tmp_path, clock)
    for n in range(450):
        catalog.record([arrival(f"9.{n}", f"9.{n}.1", f"9.{n}.1.1", Modality="MR" if n % 3 else "CT")])
    settle(catalog, clock)
    catalog.share([only("MR")])
    for _ in range(11):
        settle(catalog, clock)
    assert len(live(catalog)) == 4 + 2 * 300
    before = catalog.head(1).seq
    catalog.share([only("CT")])
    for _ in range(11):
        settle(catalog, clock)
    assert len(live(catalog)) == 4 + 2 * 150
    assert told(catalog, before)[b"1.2"] == LEFT_SHARE
    catalog.share([])
    for _ in range(11):
        settle(catalog, clock)
    assert live(catalog) == []
    catalog.close()


def test_what_leaves_a_share_and_what_is_gone_are_told_apart(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = filled(tmp_path, clock)
    catalog.share([only("MR"), Share(63, "hashed", hashed)])
    settle(catalog, clock)
    before, before_hashed = catalog.head(1).seq, catalog.head(63).seq
    catalog.decide(
        Decision(id="d", verb=Verb.DELETE, target=("1.2",), reason="", who="", when=2_000_000_000_000)
    )
    catalog.decide(
        Decision(
            id="c",
            verb=Verb.CORRECT,
            target=("1", "1.2"),
            reason="",
            who="",
            when=3,
            attributes={"00080060": {"vr": "CS", "Value": ["PT"]}},
        )
    )
    settle(catalog, clock)
    assert told(catalog, before) == {
        b"1": LEFT_SHARE,
        b"1\x001.2": LEFT_SHARE,
        b"1.2": DELETED,
        b"1.2\x001.2.1": DELETED,
    }
    assert told(catalog, before_hashed, 63) == {sha256(b"1.2").digest(): DELETED}
    catalog.close()


def test_tombstones_are_forgotten_when_everybody_heard_them_or_after_ninety_days(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = filled(tmp_path, clock)
    catalog.share([only("MR")])
    settle(catalog, clock)
    for number, study in enumerate(("1", "2")):
        catalog.decide(
            Decision(id=study, verb=Verb.REJECT, target=(study,), reason="", who="", when=number + 1)
        )
        settle(catalog, clock)
    digests = catalog.digests()
    gone = [change.seq for change in catalog.changes(0, 100) if is_tombstone(change.row)]
    assert catalog.forget_tombstones({0: gone[0], 1: 0}) == 1
    with catalog.reading_log() as log:
        assert log.floor == gone[0]
    assert [change.seq for change in catalog.changes(0, 100) if is_tombstone(change.row)] == gone[1:]
    clock.now += 91 * 86400
    assert catalog.forget_tombstones({}) == len(gone) - 1 + 2
    assert all(not is_tombstone(change.row) for change in catalog.snapshot(b"", 100))
    assert catalog.digests() == digests == {**digests, **digests_from_scratch(catalog)}
    catalog.decide(Decision(id="u", verb=Verb.UNDO, target=("1",), reason="", who="", when=9, detail="1"))
    settle(catalog, clock)
    assert b"1" in live(catalog, 0)
    assert b"1" in live(catalog)
    catalog.close()


def test_numbers_where_commits_ended_are_found_from_both_sides(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = filled(tmp_path, clock)
    settle(catalog, clock)
    first = catalog.head()
    catalog.record([arrival("3", "3.1", "3.1.1")])
    settle(catalog, clock)
    with catalog.reading_log() as log:
        assert log.chain_from(1) == (first.seq, first.chain) == log.chain_before(first.seq + 1)
        assert log.chain_from(first.seq + 1) == (log.head.seq, log.head.chain)
        assert log.chain_before(first.seq) is None
        assert log.chain_from(log.head.seq + 1) is None
    catalog.close()
