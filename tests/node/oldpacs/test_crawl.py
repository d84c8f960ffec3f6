"""What is known of an old PACS follows it: what is new, what changed, and what is gone there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from catalog import Selection, Unavailable, Verb
from catalog.statements import SeriesStatement, is_tombstone, read_series
from federation.mirror import Mirror
from node.app import Node
from node.dimse import Requestor
from node.nearline_cache import CopyCache
from node.oldpacs import Crawl, OldObjects, Reach
from node.standing import OldPacs
from node.state import State
from tests.homes import Peer, edited, phantoms, serving
from tests.node.oldpacs.odd import odd

DAY = 86400.0


class Follower:
    """A crawl of a node that plays the old PACS, at a time of the test's own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.old: Node = stack.enter_context(serving(folder / "old", node={"ae_title": "OLD"}))
        self.follow(self.old.ports["dicom"], folder, stack)

    def follow(self, port: int, folder: Path, stack: ExitStack) -> None:
        """Follow what listens at a port of this machine."""
        self.now = 1_750_000_000.0
        self.mirror = Mirror(folder / "mirror", clock=lambda: self.now)
        stack.callback(self.mirror.close)
        self._state = stack.enter_context(State(folder / "state"))
        pacs = OldPacs(name="OLD", ae_title="OLD", receive_as="ALPHA_OLD")
        self.reach = Reach(pacs, lambda: Requestor("ALPHA", "127.0.0.1", port, "OLD"), lambda: self.now)
        source = self.mirror.source(b"old:OLD/old", 0)
        self.crawl = Crawl(self.reach, self.mirror, source, self._state, "HOSP-A", lambda: self.now)

    def look(self, later: float = 0.0) -> int:
        """Let time pass and all be looked at that is due; return how many studies are known."""
        self.now += later
        while self.crawl.step():
            pass
        return self.crawl.studies

    def series(self) -> dict[str, SeriesStatement]:
        """Return the series that are known."""
        rows = self.mirror.rows(self.mirror.source(b"old:OLD/old", 0))
        stated = [read_series(row) for key, row in rows if b"\0" in key and not is_tombstone(row)]
        return {each.SeriesInstanceUID: each for each in stated}

    def store(self, *seeds: int) -> list[str]:
        """Have the old PACS take studies; return their UIDs."""
        uids = []
        for seed in seeds:
            sent = phantoms(seed, size=4_000)
            assert set(Peer(self.old).store(*sent)) == {0}
            [entry] = self.old.catalog.select(Selection(instances=(sent[0].SOPInstanceUID,)))
            uids.append(entry.StudyInstanceUID)
        return uids

    def delete(self, *uids: str) -> None:
        """Have studies deleted there."""
        for uid in uids:
            self.old.register.make(Verb.REJECT, (uid,), reason="old", who="novak")


class OddFollower(Follower):
    """A crawl of an old PACS that may cut its lists short."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.odd = stack.enter_context(odd(0))
        self.follow(self.odd.port, folder, stack)

    def has(self, day: str, *seeds: int) -> None:
        """Have the old PACS have a study of a day for each seed."""
        for seed in seeds:
            sent = phantoms(seed, size=4_000, instances=2)
            self.odd.keep(*(edited(one, StudyDate=day) for one in sent))


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    with ExitStack() as stack:
        yield Follower(tmp_path, stack)


def test_what_is_deleted_there_vanishes_with_the_next_look_through(follower: Follower) -> None:
    first, _, _ = follower.store(1, 2, 3)
    assert follower.crawl.age is None
    assert follower.look() == 3
    assert follower.crawl.age == 0.0
    follower.delete(first)
    assert follower.look(DAY) == 3
    assert follower.look(8 * DAY) == 2


def test_when_nearly_all_is_gone_at_once_a_person_is_asked_first(follower: Follower) -> None:
    uids = follower.store(*range(1, 15))
    assert follower.look() == 14
    follower.delete(*uids[:12])
    for _ in range(3):
        follower.look(8 * DAY / 2)
        follower.now += 60
    gone = 14 - follower.crawl.studies
    if gone < 12:
        assert "would vanish" in follower.crawl.held
        follower.crawl.allow()
        follower.now += 60
    assert follower.look(60.0) == 2


def test_a_look_through_goes_on_where_it_was_after_a_restart(follower: Follower) -> None:
    follower.store(1, 2)
    for _ in range(3):
        follower.crawl.step()
    before = follower.crawl.progress.before
    assert before
    again = Crawl(
        follower.reach,
        follower.mirror,
        follower.crawl._source,
        follower._state,
        "HOSP-A",
        lambda: follower.now,
    )
    assert again.progress.before == before
    follower.crawl = again
    assert follower.look() == 2


@pytest.mark.parametrize("ends", [0xFE00, 0xB000])
def test_what_is_missing_from_a_list_that_was_cut_short_is_not_taken_to_be_gone(
    ends: int, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        follower = OddFollower(tmp_path, stack)
        follower.has("20250615", 1, 2, 3, 4)
        follower.has("20250614", 5, 6)
        assert follower.look() == 6
        follower.odd.at_most, follower.odd.ends = 3, ends
        assert follower.look(8 * DAY) == 6
        [(day, what)] = follower.crawl.progress.cut.items()
        assert day == "2025-06-15"
        assert f"{ends:04X} after 3 answers" in what
        assert follower.crawl.age is None, "so the grid says that its answer may lack something"
        follower.odd.at_most = 0
        follower.odd.has = follower.odd.has[2:]
        assert follower.look(8 * DAY) == 5
        assert not follower.crawl.progress.cut
        assert follower.crawl.age == 0.0


def test_where_a_list_is_cut_short_each_day_is_asked_for_alone(tmp_path: Path) -> None:
    with ExitStack() as stack:
        follower = OddFollower(tmp_path, stack)
        for day in range(1, 15):
            follower.has(f"202505{day:02}", 2 * day, 2 * day + 1)
        follower.odd.at_most = 3
        assert follower.look() == 28
        assert not follower.crawl.progress.cut


def test_a_series_is_not_gone_because_the_list_of_its_study_was_cut_short(tmp_path: Path) -> None:
    with ExitStack() as stack:
        follower = OddFollower(tmp_path, stack)
        sent = phantoms(1, size=4_000, instances=3)
        uids = [f"1.2.{number}" for number in range(3)]
        follower.odd.keep(
            *(
                edited(one, StudyDate="20250615", SeriesInstanceUID=uid)
                for one, uid in zip(sent, uids, strict=True)
            )
        )
        follower.look()
        assert follower.series().keys() == set(uids)
        follower.odd.at_most = 2
        follower.look(8 * DAY)
        assert follower.series().keys() == set(uids)
        assert "of the level SERIES short" in follower.crawl.progress.cut["2025-06-15"]
        follower.odd.at_most = 0
        follower.odd.has.pop()
        follower.look(8 * DAY)
        assert follower.series().keys() == set(uids[:2])


def test_a_series_whose_list_of_instances_is_cut_short_is_not_told_as_if_it_were_whole(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        follower = OddFollower(tmp_path, stack)
        sent = phantoms(1, size=4_000, instances=4)
        follower.odd.keep(*sent)
        cache = CopyCache(tmp_path / "cache", lambda: follower.now, 1 << 30, 1e9)
        objects = OldObjects(b"old:OLD/old", follower.reach, cache, lambda: follower.now)
        follower.look()
        [series] = follower.series().values()
        follower.odd.at_most = 3
        with pytest.raises(Unavailable, match="FE00 after 3 answers"):
            objects.manifest(series)
        follower.odd.at_most = 0
        assert len(objects.manifest(series)) == 4
