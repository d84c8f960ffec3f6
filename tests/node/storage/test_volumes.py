"""Several disks: what comes goes where there is room, and an absent disk is never taken for an empty one."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from pathlib import Path

import pytest

from catalog import BadRequest, Holding, NotFound, OutOfSpace, Unavailable
from node.storage import KeptDecision, SegmentEnd, StorageSettings, VolumeStore
from node.storage.places import place_of
from tests.node.storage.filling import MB, SMALL, Came, Stopped, fill, keep, objects, read, until_the_end

OWNER = "node/main"


def open_store(folder: Path, clock: Stopped | None = None, settings: StorageSettings = SMALL) -> VolumeStore:
    """Open the store of an archive, replayed as at a start."""
    store = VolumeStore(folder / "objects", folder / "incoming", clock or Stopped(), settings, OWNER)
    until_the_end(store)
    list(store.recover())
    return store


def with_disk(folder: Path, store: VolumeStore, name: str = "disk") -> Path:
    """Add a volume; return its folder."""
    path = folder / name
    path.mkdir()
    store.list.add(path)
    store.states()
    list(store.returned())
    return path


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(size * 1000 + seed).randbytes(size)


def volume_of(holding: Holding) -> int:
    return place_of(holding.where).volume


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def test_objects_of_both_volumes_are_read_after_a_start(tmp_path: Path, archive: Path) -> None:
    store = open_store(archive)
    kept = [keep(store, some_bytes(5000))]
    with_disk(tmp_path, store)
    store.list.mark(0, is_read_only=True)
    store.states()
    kept += [keep(store, some_bytes(5001)), keep(store, some_bytes(2 * MB))]
    assert [volume_of(holding) for holding in kept] == [0, 1, 1]
    store.close()
    store = open_store(archive)
    assert [len(read(store, holding)) for holding in kept] == [5000, 5001, 2 * MB]
    assert {item.holding.sha256 for item in objects(store.scan())} == {each.sha256 for each in kept}


def test_a_volume_that_is_missing_at_the_start_is_unavailable_and_all_else_is_served(
    tmp_path: Path, archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(archive)
    here = keep(store, b"here")
    disk = with_disk(tmp_path, store)
    store.list.mark(0, is_read_only=True)
    store.states()
    there = keep(store, b"there")
    store.list.mark(0, is_read_only=False)
    store.close()
    disk.rename(tmp_path / "unplugged")
    disk.mkdir()
    clock = Stopped()
    store = until_the_end(VolumeStore(archive / "objects", archive / "incoming", clock, SMALL, OWNER))
    assert list(store.recover()) == [SegmentEnd(1, 1024)], "nothing is said of the absent"
    assert "is not mounted there" in caplog.text
    assert read(store, here) == b"here"
    for ask in (store.open, store.verify, store.remove):
        with pytest.raises(Unavailable, match=r"Volume 1 .* is missing"):
            ask(there)
    with pytest.raises(Unavailable):
        store.scan()
    assert volume_of(keep(store, b"new")) == 0
    assert list(disk.iterdir()) == [], "nothing is written to the empty mount point"
    disk.rmdir()
    (tmp_path / "unplugged").rename(disk)
    clock.now += 2
    assert read(store, there) == b"there"
    assert store.states()[1].state == "returning"
    list(store.returned())
    assert store.states()[1].state == "ok"


def test_a_volume_that_goes_while_the_node_runs_is_not_written_to(tmp_path: Path, archive: Path) -> None:
    clock = Stopped()
    store = open_store(archive, clock)
    disk = with_disk(tmp_path, store)
    store.list.mark(0, is_read_only=True)
    store.states()
    there = keep(store, b"there")
    store.list.mark(0, is_read_only=False)
    disk.rename(tmp_path / "unplugged")
    disk.mkdir()
    clock.now += 2
    assert volume_of(keep(store, b"new")) == 0
    with pytest.raises(Unavailable):
        store.open(there)
    assert list(disk.iterdir()) == []


def test_a_disk_found_under_another_path_keeps_its_number(tmp_path: Path, archive: Path) -> None:
    store = open_store(archive)
    disk = with_disk(tmp_path, store)
    store.list.mark(0, is_read_only=True)
    store.states()
    there = keep(store, b"there")
    disk.rename(tmp_path / "elsewhere")
    store.list.add(tmp_path / "elsewhere")
    store.states()
    assert read(store, there) == b"there"


def test_a_list_that_was_lost_is_made_again_from_the_labels(tmp_path: Path, archive: Path) -> None:
    store = open_store(archive)
    disks = [with_disk(tmp_path, store, name) for name in ("a", "b")]
    store.list.mark(0, is_read_only=True)
    store.list.mark(1, is_read_only=True)
    store.states()
    there = keep(store, b"there")
    assert volume_of(there) == 2
    store.close()
    (archive / "objects" / "volumes.json").unlink()
    store = open_store(archive)
    with pytest.raises(Unavailable, match="not among the volumes"):
        store.open(there)
    for disk in disks[::-1]:
        store.list.add(disk)
    store.states()
    assert read(store, there) == b"there"
    assert [state.volume.number for state in store.states()] == [0, 1, 2]


def test_what_cannot_be_a_volume_is_refused_with_a_reason(tmp_path: Path, archive: Path) -> None:
    store = open_store(archive)
    disk = with_disk(tmp_path, store)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    (disk / "inside").mkdir()
    place = tmp_path / "o"
    other = VolumeStore(place / "objects", place / "incoming", Stopped(), SMALL, "node/other")
    until_the_end(other)
    for path, why in {
        tmp_path / "full": "not empty",
        disk / "inside": "in one another",
        archive: "in one another",
        tmp_path: "in one another",
    }.items():
        with pytest.raises(BadRequest, match=why):
            store.list.add(path)
    with pytest.raises(BadRequest, match="another archive"):
        other.list.add(disk)
    with pytest.raises(NotFound):
        store.list.add(tmp_path / "nowhere")


def test_the_volume_with_the_most_room_is_written_to_and_a_full_one_is_passed_over(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Stopped()
    free = {0: 100 * MB, 1: 50 * MB}
    real = os.statvfs

    def found(folder: Path) -> os.statvfs_result:
        answer = list(real(folder))
        answer[1], answer[4] = 1, free[int("disk" in str(folder))]
        return os.statvfs_result(answer)

    settings = StorageSettings(MB, MB // 2, 4 * MB, full_below=10 * MB, resume_above=20 * MB)
    store = open_store(archive, clock, settings)
    with_disk(tmp_path, store)
    monkeypatch.setattr(os, "statvfs", found)
    wrote = []
    for free[0], free[1] in ((100 * MB, 50 * MB), (40 * MB, 50 * MB), (40 * MB, 5 * MB)):
        clock.now += 2
        wrote.append([volume_of(keep(store, some_bytes(size, size))) for size in (3000, MB)])
    assert wrote == [[0, 0], [1, 1], [0, 0]]
    free[0] = 5 * MB
    clock.now += 2
    with pytest.raises(OutOfSpace):
        keep(store, b"more")
    assert [state.state for state in store.states()] == ["full", "full"]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of folders whose disk fails: whatever is written under them ends in EIO."""
    names: set[str] = set()

    def is_failing(fd: int) -> bool:
        path = os.readlink(f"/proc/self/fd/{fd}")
        return any(f"/{name}/" in path for name in names)

    def broken(call: str) -> None:
        real = getattr(os, call)

        def one(fd: int, *rest: object) -> object:
            if is_failing(fd):
                raise OSError(errno.EIO, "Input/output error")
            return real(fd, *rest)

        monkeypatch.setattr(os, call, one)

    for call in ("pwritev", "pwrite", "fdatasync"):
        broken(call)
    return names


@pytest.mark.parametrize("size", [3000, 2 * MB])
def test_a_disk_that_fails_leads_to_writes_on_the_others(
    tmp_path: Path, archive: Path, failing: set[str], size: int, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Stopped()
    store = open_store(archive, clock)
    with_disk(tmp_path, store)
    store.list.mark(0, is_read_only=True)
    store.states()
    there = keep(store, b"there")
    store.list.mark(0, is_read_only=False)
    failing.add("disk")
    store.writable()
    for seed in range(4):
        clock.now += 2
        data = some_bytes(size, seed)
        try:
            holding = keep(store, data)
        except Unavailable:
            assert seed < 2, "who sends again finds another disk"
            continue
        assert volume_of(holding) == 0
        assert read(store, holding) == data
    assert volume_of(holding) == 0
    assert read(store, there) == b"there"
    failing.clear()
    clock.now += 61
    store.list.mark(0, is_read_only=True)
    store.states()
    assert volume_of(keep(store, some_bytes(size, 9))) == 1


def test_a_decision_goes_to_another_disk_too_and_is_found_once(
    tmp_path: Path, archive: Path, failing: set[str]
) -> None:
    store = open_store(archive)
    with_disk(tmp_path, store)
    failing.add("archive")
    store.keep_decision("d1", b"{}")
    failing.clear()
    store.keep_decision("d1", b"{}")
    found = [item for item in store.scan() if isinstance(item, KeptDecision)]
    assert [item.id for item in found] == ["d1"]


def test_threads_that_store_while_volumes_come_and_go_lose_nothing(tmp_path: Path, archive: Path) -> None:
    store = open_store(archive)
    kept: list[tuple[Holding, bytes]] = []
    stop = threading.Event()
    syncer = threading.Thread(target=store.sync_forever, args=(stop,))

    def work(seed: int) -> None:
        for number in range(30):
            data = some_bytes(2000 + 20_000 * (number % 40), seed * 100 + number)
            kept.append((keep(store, data, Came(received=number)), data))

    threads = [syncer, *(threading.Thread(target=work, args=(seed,)) for seed in range(4))]
    for thread in threads:
        thread.start()
    with_disk(tmp_path, store)
    for number in (0, 1, 0, 1):
        store.list.mark(number, is_read_only=True)
        store.states()
        keep(store, some_bytes(1234, number))
        store.list.mark(number, is_read_only=False)
    for thread in threads[1:]:
        thread.join()
    stop.set()
    syncer.join()
    store.close()
    store = open_store(archive)
    assert len(kept) == 120
    assert all(read(store, holding) == data for holding, data in kept)
    assert {volume_of(holding) for holding, _ in kept} <= {0, 1}


def test_a_copy_of_the_archive_folder_without_its_disks_says_so(tmp_path: Path, archive: Path) -> None:
    store = open_store(archive)
    disk = with_disk(tmp_path, store)
    store.close()
    shutil.rmtree(disk)
    store = open_store(archive)
    assert [state.state for state in store.states()] == ["ok", "missing"]
    assert fill(store.incoming(), b"x").size == 1
