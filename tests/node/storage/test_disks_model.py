"""Whatever is stored, removed, flipped and drained: each row has its bytes, or is found to be damaged."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from catalog import Damaged, Holding
from node.damage import DamageBook, Mender
from node.inspection import Inspector
from node.storage import Kept
from node.verification import Verification, Wish
from tests.node.storage.filling import Came, keep, read
from tests.node.storage.test_draining import Site, content, flip, open_site
from tests.node.storage.test_volumes import with_disk

SIZES = (300, 4000, 70_000, 700_000)


class Disks(RuleBasedStateMachine):
    """An archive of two disks, and what must be in it."""

    @initialize()
    def begin(self) -> None:
        # A thread of tantivy's that has just begun may make its lock file while the folder is removed.
        self.scratch = tempfile.TemporaryDirectory(prefix="peerpacs-disks-", ignore_cleanup_errors=True)
        self.site: Site = open_site(Path(self.scratch.name))
        with_disk(Path(self.scratch.name), self.site.store)
        self.sizes: dict[int, int] = {}
        self.kept: dict[int, Holding] = {}
        self.flipped: set[int] = set()
        self.flipped_at: dict[int, bytes] = {}
        self.next = 1

    def teardown(self) -> None:
        self.site.close()
        self.scratch.cleanup()

    @rule(size=st.sampled_from(SIZES), is_held=st.booleans())
    def store(self, size: int, is_held: bool) -> None:
        number, self.next = self.next, self.next + 1
        self.sizes[number] = size
        self.kept[number] = self.site.put(number, size, is_held=is_held)

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), is_erased=st.booleans())
    def discard(self, data: st.DataObject, is_erased: bool) -> None:
        """A person discards something that is held."""
        held = list(self.site.held.list())
        if held:
            arrival = data.draw(st.sampled_from(held))
            number = int(arrival.entry.SOPInstanceUID.split(".")[1])
            self.site.held.take(arrival)
            self.flipped.discard(number)
            try:
                self.site.store.remove(arrival.entry.holding, erase=is_erased)
            finally:
                del self.kept[number]

    @precondition(lambda self: set(self.kept) - self.flipped)
    @rule(data=st.data())
    def flip(self, data: st.DataObject) -> None:
        """A byte of an object's data turns over."""
        number = data.draw(st.sampled_from(sorted(set(self.kept) - self.flipped)))
        holding = self.site.where(number, self.kept[number])
        flip(self.site, holding, 512 + 100 + self.sizes[number] // 2)
        self.flipped.add(number)
        self.flipped_at[number] = holding.where

    @precondition(lambda self: self.flipped)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """Equal bytes come again, and heal what is damaged."""
        number = data.draw(st.sampled_from(sorted(self.flipped)))
        again = keep(self.site.store, content(number, self.sizes[number]), Came(received=1))
        book = DamageBook(self.site.state, self.site.clock)
        assert Mender(self.site.store, self.site.rows, book).mend(f"1.{number}.1.1", again)
        self.flipped.discard(number)

    @rule(volume=st.sampled_from((0, 1)), is_wanted=st.booleans(), steps=st.integers(0, 40))
    def drain(self, volume: int, is_wanted: bool, steps: int) -> None:
        """A volume is drained for a while; the other one is not."""
        self.site.store.list.mark(1 - volume, is_draining=False)
        self.site.store.list.mark(volume, is_draining=is_wanted)
        self.site.store.states()
        for _ in range(steps):
            self.site.drain.step()
        self.site.clock.now += 7

    @rule()
    def start_again(self) -> None:
        """The node is stopped and started."""
        folder, clock = self.site.folder, self.site.clock
        self.site.close()
        self.site = open_site(folder, clock)

    @rule()
    def verify(self) -> None:
        """What was flipped, and nothing else, is found."""
        site = self.site
        book = DamageBook(site.state, site.clock)
        inspector = Inspector(site.store, site.store, site.catalog, site.held, book)
        job = Verification(inspector, Wish(), site.clock)
        while not job.is_over:
            job.step()
        found = job.progress()
        assert not found["failure"]
        assert found["unrecorded"] == 0
        assert found["objects"] == len(self.kept)
        # A drain may have left a whole copy of what was flipped afterwards, which heals it.
        damaged = {int(row.SOPInstanceUID.split(".")[1]) for row in book}
        assert damaged <= self.flipped
        assert found["healed"] or damaged == self.flipped
        self.flipped = damaged
        # Nor would a rebuild bring back anything that is gone.
        told = {item.holding.sha256 for item in site.store.scan() if isinstance(item, Kept)}
        assert told <= {holding.sha256 for holding in self.kept.values()}

    @invariant()
    def everything_is_there(self) -> None:
        for number, was in self.kept.items():
            holding = self.site.where(number, was)
            if number in self.flipped:
                try:
                    self.site.store.verify(holding)
                except Damaged:
                    continue
                # A drain under way had read it before the byte turned over: its copy is named now, and whole.
                assert holding.where != self.flipped_at[number], "bytes healed by themselves"
                self.flipped.discard(number)
            assert read(self.site.store, holding) == content(number, self.sizes[number])


TestDisks = Disks.TestCase
TestDisks.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
