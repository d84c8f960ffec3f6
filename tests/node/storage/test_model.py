"""Whatever is done to a store in whatever order, and whenever the power fails: it has what it promised."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from catalog import Damaged, Holding, NotFound
from node.storage import Damage, KeptDecision, SegmentEnd, SegmentStore, StorageSettings

from .filling import CAME, MB, fill, objects, read, segment_store

TINY = StorageSettings(
    seal_at=30_000,
    buffered_at_most=300_000,
    budget=MB,
    full_below=0,
    resume_above=0,
    checkpoint_every=4000,
    open_segments=2,
)


class StoreModel(RuleBasedStateMachine):
    """Keeps beside the store what must be in it: `synced` for certain, `kept` if the power stays on."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.life = 0
        self.number = 0
        self.kept: dict[Holding, bytes] = {}
        self.synced: dict[Holding, bytes] = {}
        self.removed: list[Holding] = []
        self.decided: set[str] = set()
        self.store: SegmentStore

    @initialize()
    def start(self) -> None:
        self.store = segment_store(self.home / "0", TINY)

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    @rule(size=st.sampled_from([0, 100, 512, 3000, 9000, 40_000, 400_000]), is_synced=st.booleans())
    def keep(self, size: int, is_synced: bool) -> None:
        self.number += 1
        data = random.Random(self.number).randbytes(size)
        incoming = fill(self.store.incoming(), data)
        holding = self.store.keep(incoming, CAME)
        incoming.discard()
        self.kept[holding] = data
        if is_synced:
            self.store.sync(holding)
            self.synced[holding] = data

    @precondition(lambda self: self.kept)
    @rule(which=st.randoms(use_true_random=False), erase=st.booleans())
    def remove(self, which: random.Random, erase: bool) -> None:
        holding = which.choice([*self.kept])
        self.store.remove(holding, erase)
        del self.kept[holding]
        self.synced.pop(holding, None)
        self.removed.append(holding)

    @rule()
    def decide(self) -> None:
        self.number += 1
        self.store.keep_decision(f"d{self.number}", str(self.number).encode())
        self.decided.add(f"d{self.number}")

    @rule()
    def stop_and_start(self) -> None:
        self.store.close()
        self.store = segment_store(self.home / str(self.life), TINY)
        told = [*self.store.recover()]
        assert not [item for item in told if isinstance(item, Damage)]
        assert {item.holding for item in objects(iter(told))} <= self.kept.keys()
        self.synced = dict(self.kept)

    @rule(loss=st.none() | st.randoms(use_true_random=False))
    def crash(self, loss: random.Random | None) -> None:
        """Copy the files as they are, or with what was not synced damaged, and start on the copy."""
        current = self.store._current
        reached = (current.number, current.group.synced) if current else None
        old, self.life = self.home / str(self.life), self.life + 1
        folder = self.home / str(self.life)
        shutil.copytree(old, folder)
        if loss and reached:
            lose(folder / f"objects/00/{reached[0]:06d}.tar", reached[1], loss)
        self.store.close()
        shutil.rmtree(old)
        self.store = segment_store(folder, TINY)
        told = [*self.store.recover()]
        forgotten = [item for item in told if isinstance(item, Damage | SegmentEnd)]
        if loss:
            self.kept = {h: data for h, data in self.kept.items() if h in self.synced or self.is_whole(h)}
        for holding in self.synced:
            assert not any(item.covers(holding) for item in forgotten)
        assert {item.holding for item in objects(iter(told))} <= self.kept.keys()
        unsynced = self.kept.keys() - self.synced.keys()
        assert unsynced <= {item.holding for item in objects(iter(told))}
        self.synced = dict(self.kept)

    def is_whole(self, holding: Holding) -> bool:
        try:
            self.store.verify(holding)
        except (NotFound, Damaged):
            return False
        return True

    @invariant()
    def what_was_kept_is_there(self) -> None:
        for holding, data in self.kept.items():
            assert read(self.store, holding) == data
        # An equal object may have taken the very place that a power failure had freed.
        for holding in set(self.removed) - self.kept.keys():
            with pytest.raises((NotFound, Damaged)):
                self.store.open(holding)

    @invariant()
    def a_rebuild_finds_exactly_that(self) -> None:
        told = [*self.store.scan()] if self.kept else []
        assert {item.holding for item in objects(iter(told))} == self.kept.keys()
        if told:
            assert {item.id for item in told if isinstance(item, KeptDecision)} == self.decided


def lose(segment: Path, synced: int, how: random.Random) -> None:
    """Do to the bytes behind `synced` what a power failure may do: lose the end, or pages."""
    data = bytearray(segment.read_bytes())
    if how.random() < 0.7:
        del data[how.randint(synced, max(synced, len(data))) :]
    for start in range(synced, len(data), 512):
        if how.random() < 0.3:
            data[start : start + 512] = bytes(len(data[start : start + 512]))
    segment.write_bytes(data)


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
