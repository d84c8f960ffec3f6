"""What is known of an old PACS follows it: what is new, what changed, and what is gone there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from catalog import Selection, Verb
from federation.mirror import Mirror
from node.app import Node
from node.dimse import Requestor
from node.oldpacs import Crawl, Reach
from node.standing import OldPacs
from node.state import State
from tests.homes import Peer, phantoms, serving

DAY = 86400.0


class Follower:
    """A crawl of a node that plays the old PACS, at a time of the test's own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.old: Node = stack.enter_context(serving(folder / "old", node={"ae_title": "OLD"}))
        self.now = 1_750_000_000.0
        self.mirror = Mirror(folder / "mirror", clock=lambda: self.now)
        stack.callback(self.mirror.close)
        self._state = stack.enter_context(State(folder / "state"))
        pacs = OldPacs(name="OLD", ae_title="OLD", receive_as="ALPHA_OLD")
        port = self.old.ports["dicom"]
        reach = Reach(pacs, lambda: Requestor("ALPHA", "127.0.0.1", port, "OLD"), lambda: self.now)
        source = self.mirror.source(b"old:OLD/old", 0)
        self.crawl = Crawl(reach, self.mirror, source, self._state, "HOSP-A", lambda: self.now)

    def look(self, later: float = 0.0) -> int:
        """Let time pass and all be looked at that is due; return how many studies are known."""
        self.now += later
        while self.crawl.step():
            pass
        return self.crawl.studies

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
        follower.crawl._reach,
        follower.mirror,
        follower.crawl._source,
        follower._state,
        "HOSP-A",
        lambda: follower.now,
    )
    assert again.progress.before == before
    follower.crawl = again
    assert follower.look() == 2
