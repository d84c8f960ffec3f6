"""Whatever happens, in whatever order, all mirrors become equal to their owners, and nothing gone returns.

A seeded scheduler in virtual time plays writes, deletions, crashes, partitions, links that break in the
middle of an answer, answers that come again much later, catalogs and mirrors set back to old copies, and
two copies of one node at once. After every exchange: a mirror that calls itself level with its owner is
equal to it. In the end, when everybody can talk: all are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from catalog import Change, Decision, PacsError, Share, Verb
from federation import mirror_writing, serving
from federation.following import REPAIRED, exchange
from tests.catalog.samples import Ticking, arrival
from tests.federation.grids import Cut, Node, known, live

STUDIES = 12
SHARE = 5


def evens(study: str, rows: Any) -> dict[bytes, bytes]:
    return dict(rows) if int(study[-1]) % 2 == 0 else {}


def tens(study: str, rows: Any) -> dict[bytes, bytes]:
    return {key: row[:40] for key, row in rows.items()} if int(study[-1]) < 5 else {}


TERMS = [Share(SHARE, "evens", evens), Share(SHARE, "tens", tens)]


def projected(rows: dict[bytes, bytes], share: Share) -> dict[bytes, bytes]:
    """Return what a share holds if it is made from nothing."""
    studies: dict[bytes, dict[bytes, bytes]] = {}
    for key, row in rows.items():
        studies.setdefault(key.partition(b"\0")[0], {})[key] = row
    made = [share.project(study.decode(), found) for study, found in studies.items()]
    return {key: row for each in made for key, row in each.items()}


class Story:
    """One run: three nodes, everything that may befall them, and what must hold meanwhile."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home = home
        self.chance = Random(seed)
        self.clock = Ticking()
        self.nodes = [Node(home / name, self.clock) for name in ("alpha", "beta", "gamma")]
        self.clones: dict[bytes, Node] = {}
        self.copies: dict[tuple[bytes, str], list[Path]] = {}
        self.cuts: set[frozenset[bytes]] = set()
        self.said: dict[tuple[bytes, bytes, int], list[Any]] = {}
        self.damaged: set[tuple[bytes, bytes, int]] = set()
        self.made = 0
        for node in self.nodes:
            node.catalog.share(TERMS[:1])

    def node(self) -> Node:
        return self.chance.choice(self.nodes)

    def speaking(self, node: Node) -> Node:
        """Return who answers under the node's name: itself, or a copy of it that runs too."""
        return self.chance.choice([node, self.clones.get(node.name, node)])

    def step(self) -> None:
        deeds: dict[Callable[[], None], int] = {
            self.write: 30,
            self.decide: 12,
            self.talk: 60,
            self.repeat: 8,
            self.cut: 4,
            self.heal: 4,
            self.crash: 3,
            self.keep: 3,
            self.set_back: 3,
            self.set_mirror_back: 2,
            self.clone: 1,
            self.end_clone: 2,
            self.forget: 3,
            self.share: 2,
            self.renew: 1,
            self.rot: 3,
        }
        self.clock.now += self.chance.choice([0.1, 0.3, 1.0, 5.0])
        self.chance.choices(list(deeds), list(deeds.values()))[0]()

    def write(self) -> None:
        node = self.speaking(self.node())
        for _ in range(self.chance.randint(1, 4)):
            study, series = self.chance.randrange(STUDIES), self.chance.randrange(3)
            self.made += 1
            uid = f"{node.name[0]}.{study}"
            received = int(self.clock() * 1000)
            node.catalog.record(
                [arrival(uid, f"{uid}.{series}", f"{uid}.{series}.{self.made}", received=received)]
            )
        if self.chance.random() < 0.8:
            self.clock.now += 3
            node.publish()

    def decide(self) -> None:
        node = self.speaking(self.node())
        studies = [key.decode() for key in live(node.catalog) if b"\0" not in key]
        done = [
            decision
            for study in studies
            for decision in node.catalog.decisions(study)
            if decision.verb is Verb.REJECT
        ]
        self.made += 1
        now = int(self.clock() * 1000)
        facts: dict[str, Any] = {"id": f"d{self.made}", "reason": "", "who": "", "when": now}
        if done and self.chance.random() < 0.3:
            facts.update(verb=Verb.UNDO, target=done[0].target, detail=done[0].id)
        elif studies:
            verb = self.chance.choice([Verb.REJECT, Verb.DELETE])
            facts.update(verb=verb, target=(self.chance.choice(studies),))
        else:
            return
        node.catalog.decide(Decision(**facts))
        self.clock.now += 3
        node.publish()

    def talk(self) -> None:
        for _ in range(self.chance.randint(1, 3)):
            reader, owner = self.chance.sample(self.nodes, 2)
            if frozenset((reader.name, owner.name)) not in self.cuts:
                share = self.chance.choice([0, 0, SHARE])
                after = self.chance.choice([0, 1, 2, 3, 1000, 1000, 1000])
                self.exchange(reader, owner, self.speaking(owner), share, after)

    def exchange(self, reader: Node, named: Node, owner: Node, share: int, after: int = 1000) -> bool:
        follower = reader.follower(named.name, share)
        if self.chance.random() < 0.2:
            follower.connected(self.clock())
        follower.told(owner.owner.head(share), self.clock())
        self.clock.now += 0.3
        link = Cut(owner.owner, after, lost=self.chance.choice([-1, -1, -1, 0, 1, 2]) if after < 1000 else -1)
        try:
            is_busy = exchange(follower, link, self.clock())
        except PacsError:
            is_busy = True
        self.said.setdefault((reader.name, named.name, share), []).extend(link.said)
        self.check(reader, named, owner, share)
        return is_busy

    def check(self, reader: Node, named: Node, owner: Node, share: int) -> None:
        damaged = (reader.name, named.name, share)
        follower = reader.follower(named.name, share)
        if REPAIRED in {finding.kind for finding in follower.findings}:
            self.damaged.discard(damaged)
        follower.findings.clear()
        if damaged in self.damaged:
            return
        state = reader.mirror.state(reader.mirror.source(named.name, share))
        if state.seen == owner.owner.head(share) and state.is_whole:
            assert reader.mirrored(named.name, share) == live(owner.catalog, share)

    def repeat(self) -> None:
        """Deliver answers of long ago again."""
        if self.said:
            reader_name, owner_name, share = self.chance.choice(list(self.said))
            reader = next(node for node in self.nodes if node.name == reader_name)
            follower = reader.followers.get((owner_name, share))
            said = self.said[reader_name, owner_name, share]
            if follower and said:
                applied = follower.state.applied
                fitting = [each for each in said if getattr(each, "prev", None) == applied]
                for late in [*fitting, *self.chance.choices(said, k=10)]:
                    follower.received(late, self.clock())
                owner = next(node for node in self.nodes if node.name == owner_name)
                self.check(reader, owner, owner, share)

    def cut(self) -> None:
        self.cuts.add(frozenset(node.name for node in self.chance.sample(self.nodes, 2)))

    def heal(self) -> None:
        if self.cuts:
            self.cuts.remove(self.chance.choice(sorted(self.cuts, key=sorted)))

    def crash(self) -> None:
        node = self.node()
        node.restart()
        node.catalog.share(TERMS[:1])

    def keep(self) -> None:
        """Make a backup of a catalog, or of a mirror."""
        node, part = self.node(), self.chance.choice(["catalog", "mirror"])
        copies = self.copies.setdefault((node.name, part), [])
        copies.append(node.copy(part, self.home / f"{node.name.decode()}.{part}.{len(copies)}"))

    def set_back(self, part: str = "catalog") -> None:
        """Put an old copy in place, as a restore or a virtual machine set back does."""
        node = self.node()
        if copies := self.copies.get((node.name, part)):
            node.restart(**{part: self.chance.choice(copies)})
            node.catalog.share(TERMS[:1])
            if self.chance.random() < 0.7:
                self.write()

    def set_mirror_back(self) -> None:
        self.set_back("mirror")

    def clone(self) -> None:
        """Let a copy of a node run beside it, under the same name."""
        node = self.node()
        if node.name not in self.clones:
            self.made += 1
            home = self.home / f"clone{self.made}" / node.home.name
            home.mkdir(parents=True)
            node.copy("catalog", home / "catalog")
            self.clones[node.name] = Node(home, self.clock)
            self.clones[node.name].catalog.share(TERMS[:1])

    def end_clone(self) -> None:
        if self.clones:
            self.clones.pop(self.chance.choice(list(self.clones))).stop()

    def forget(self) -> None:
        """Forget tombstones, as after ninety days: those too that not everybody has heard of."""
        self.speaking(self.node()).catalog.forget_tombstones({0: 1 << 40, SHARE: 1 << 40})

    def share(self) -> None:
        node = self.speaking(self.node())
        node.catalog.share([self.chance.choice(TERMS)])
        for _ in range(3):
            node.publish()

    def renew(self) -> None:
        self.node().catalog.renew_epoch()

    def rot(self) -> None:
        """Have a mirror hold something else than it was given, until digests are compared."""
        reader, owner = self.chance.sample(self.nodes, 2)
        share = self.chance.choice([0, SHARE])
        source = reader.mirror.source(owner.name, share)
        keys = list(reader.mirrored(owner.name, share))
        if not keys:
            return
        wrong = Change(1, self.chance.choice(keys), self.chance.choice([b"", b"rotten row"]))
        with reader.mirror._writing(source) as writing:
            writing.take([wrong], is_repair=True)
        self.damaged.add((reader.name, owner.name, share))

    def settle(self) -> None:
        """Let everybody talk until nobody has anything to say; then all are equal."""
        self.cuts.clear()
        while self.clones:
            self.end_clone()
        for node in self.nodes:
            self.clock.now += 5
            node.catalog.share(TERMS[:1])
            for _ in range(3):
                node.publish()
            assert live(node.catalog, SHARE) == projected(live(node.catalog), TERMS[0])
        pairs = [(a, b, share) for a in self.nodes for b in self.nodes if a is not b for share in (0, SHARE)]
        for reader, owner, share in pairs:
            reader.follower(owner.name, share).connected(self.clock())
            for _ in range(60):
                self.clock.now += 100
                is_busy = self.exchange(reader, owner, owner, share)
                state = reader.mirror.state(reader.mirror.source(owner.name, share))
                if not is_busy and state.seen == owner.owner.head(share) and state.is_whole:
                    break
            source = reader.mirror.source(owner.name, share)
            assert reader.mirrored(owner.name, share) == live(owner.catalog, share)
            assert known(reader.mirror.digests(source)) == known(owner.catalog.digests(share))

    def close(self) -> None:
        for node in [*self.nodes, *self.clones.values()]:
            node.stop()
        shutil.rmtree(self.home)


def play(home: Path, seed: int, steps: int) -> None:
    story = Story(home, seed)
    try:
        for _ in range(steps):
            story.step()
        story.settle()
    finally:
        story.close()


@pytest.fixture(autouse=True)
def small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PART_ROWS", 6)
    monkeypatch.setattr(serving, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(mirror_writing, "VANISH_ALWAYS", 10_000)
    monkeypatch.setattr(mirror_writing, "VANISH_LIMIT", 10_000)


@pytest.mark.parametrize("seed", range(16))
def test_all_mirrors_become_equal_to_their_owners_and_nothing_rises_again(tmp_path: Path, seed: int) -> None:
    play(tmp_path / "grid", seed, 150)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_they_do_in_hundreds_of_stories(tmp_path: Path, seed: int) -> None:
    play(tmp_path / "grid", seed, 300)
