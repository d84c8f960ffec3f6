"""Removed bytes are gone, and every moment on the way there leaves a store that tells the truth."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog import Damaged, Holding, NotFound
from node.storage import Damage, SegmentStore, removal
from node.storage.members import member_length
from node.storage.places import place_of

from .filling import CAME, fill, keep, objects, read, segment_store

SECRET = b"bytes a patient wants gone; "


def secret_store(folder: Path) -> tuple[SegmentStore, list[Holding]]:
    store = segment_store(folder)
    return store, [keep(store, data) for data in (b"before" * 900, SECRET * 5000, b"after" * 900)]


def segment_bytes(folder: Path) -> bytes:
    return (folder / "objects/00/000001.tar").read_bytes()


@pytest.mark.parametrize("erase", [False, True])
def test_the_bytes_are_gone_from_the_file(tmp_path: Path, erase: bool) -> None:
    store, holdings = secret_store(tmp_path)
    assert SECRET in segment_bytes(tmp_path)
    store.remove(holdings[1], erase)
    assert SECRET not in segment_bytes(tmp_path)


def test_the_space_is_given_back(tmp_path: Path) -> None:
    store, holdings = secret_store(tmp_path)
    path = tmp_path / "objects/00/000001.tar"
    before = path.stat()
    store.remove(holdings[1])
    after = path.stat()
    assert after.st_size == before.st_size
    if _has_holes(tmp_path):
        assert (before.st_blocks - after.st_blocks) * 512 > 0.9 * holdings[1].size


def _has_holes(folder: Path) -> bool:
    """Whether this file system can punch holes at all, asked of fallocate(1)."""
    probe = folder / "probe"
    probe.write_bytes(bytes(1 << 16))
    return subprocess.run(["fallocate", "-p", "-l", "65536", probe], capture_output=True).returncode == 0


def test_without_holes_zeros_take_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_punch_hole", lambda *_: False)
    store, holdings = secret_store(tmp_path)
    store.remove(holdings[1])
    assert SECRET not in segment_bytes(tmp_path)
    assert read(store, holdings[2]) == b"after" * 900


def test_an_erased_object_was_overwritten_before_its_space_was_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(*_: object) -> bool:
        seen.append(SECRET in segment_bytes(tmp_path))
        return True

    monkeypatch.setattr(removal, "_punch_hole", look)
    store, holdings = secret_store(tmp_path)
    store.remove(holdings[1], erase=True)
    assert seen == [False]


class PowerFailure(Exception):
    """What a test raises where the power might fail."""


@pytest.mark.parametrize("call", ["fdatasync", "pwrite"])
@pytest.mark.parametrize("after", range(3))
def test_a_removal_cut_short_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    store, holdings = secret_store(tmp_path)
    with monkeypatch.context() as failing:
        failing.setattr(removal.os, call, failing_after(after, getattr(os, call)))
        with contextlib.suppress(PowerFailure):
            store.remove(holdings[1], erase=True)
    told = [*store.scan()]
    assert not [item for item in told if isinstance(item, Damage)]
    assert len(objects(iter(told))) in (2, 3)
    for item in objects(iter(told)):
        store.verify(item.holding)
    store.remove(holdings[1], erase=True)
    assert SECRET not in segment_bytes(tmp_path)
    assert [item.holding for item in objects(store.scan())] == [holdings[0], holdings[2]]


def failing_after(count: int, call: Callable[..., int]) -> Callable[..., int]:
    left = [count]

    def perhaps(*arguments: object) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise PowerFailure
        return call(*arguments)

    return perhaps


def test_nothing_is_touched_where_no_header_stands(tmp_path: Path) -> None:
    store, holdings = secret_store(tmp_path)
    inside = Holding(holdings[1].sha256, holdings[1].where[:5] + (20).to_bytes(4, "big"), 100)
    before = segment_bytes(tmp_path)
    with pytest.raises(Damaged):
        store.remove(inside)
    assert segment_bytes(tmp_path) == before


@pytest.mark.parametrize("damaged", [[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]])
def test_what_has_a_damaged_header_is_erased_and_nothing_else(tmp_path: Path, damaged: list[int]) -> None:
    store = segment_store(tmp_path)
    contents = [SECRET * 5000 + bytes([number]) for number in range(3)]
    holdings = [keep(store, data) for data in contents]
    for number in damaged:
        spoil_header(tmp_path, holdings[number])
        with pytest.raises(Damaged):
            store.remove(holdings[number])
    for number in damaged:
        store.remove(holdings[number], erase=True)
        store.remove(holdings[number], erase=True)
    others = [number for number in range(3) if number not in damaged]
    for number in others:
        assert read(store, holdings[number]) == contents[number]
    assert segment_bytes(tmp_path).count(SECRET) == 5000 * len(others)
    told = [*store.scan()]
    assert not [item for item in told if isinstance(item, Damage)]
    assert [item.holding for item in objects(iter(told))] == [holdings[number] for number in others]


@pytest.mark.parametrize("length", [30_000, 10_000_000])
def test_nothing_is_erased_where_something_else_can_be_read(tmp_path: Path, length: int) -> None:
    """Whoever names a place wrongly, by an older row, loses nothing of what lies there now."""
    store, holdings = secret_store(tmp_path)
    spoil_header(tmp_path, holdings[0])
    before = segment_bytes(tmp_path)
    with pytest.raises(Damaged):
        store.remove(Holding(bytes(32), holdings[0].where, length), erase=True)
    inside = Holding(holdings[1].sha256, holdings[1].where[:5] + (20).to_bytes(4, "big"), 100)
    with pytest.raises(Damaged):
        store.remove(inside, erase=True)
    assert segment_bytes(tmp_path) == before


def spoil_header(folder: Path, holding: Holding) -> None:
    with (folder / "objects/00/000001.tar").open("r+b") as file:
        file.seek(place_of(holding.where).offset + 10)
        file.write(b"\xff" * 20)


def test_another_object_at_the_place_stays(tmp_path: Path) -> None:
    store, holdings = secret_store(tmp_path)
    store.remove(Holding(bytes(32), holdings[0].where, 10))
    assert read(store, holdings[0]) == b"before" * 900


def test_what_lies_behind_the_end_of_the_store_is_removed_already(tmp_path: Path) -> None:
    store, holdings = secret_store(tmp_path)
    end = sum(member_length(holding.size) for holding in holdings) // 512
    store.remove(Holding(bytes(32), holdings[0].where[:5] + end.to_bytes(4, "big"), 10))
    store.remove(Holding(bytes(32), b"\0" + (99).to_bytes(4, "big") + bytes(4), 10))


def test_a_large_object_that_was_removed_is_gone(tmp_path: Path) -> None:
    store = segment_store(tmp_path)
    large = keep(store, SECRET * 100_000)
    store.remove(large, erase=True)
    with pytest.raises(NotFound):
        store.open(large)
    assert not [segment for segment in (tmp_path / "objects/00").iterdir() if SECRET in segment.read_bytes()]


def test_an_object_removed_before_it_was_synced_is_not_told_at_the_next_start(tmp_path: Path) -> None:
    store = segment_store(tmp_path)
    holding = store.keep(fill(store.incoming(), SECRET), CAME)
    store.remove(holding)
    store.close()
    assert objects(segment_store(tmp_path).recover()) == []
