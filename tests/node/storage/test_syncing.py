"""One fdatasync serves everybody who was there before it began, and nobody who was not."""

from __future__ import annotations

import errno
import threading

import pytest

from node.storage.syncing import GroupSync


class Disk:
    """A file that grows by one for each `append`, and a disk that works only when told."""

    def __init__(self) -> None:
        self.end = 0
        self.syncs = 0
        self.failure: OSError | None = None
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.group = GroupSync(self.synchronise, synced=0)

    def synchronise(self) -> int:
        end = self.end
        self.syncs += 1
        self.begun.release()
        self.go_on.acquire()
        if self.failure:
            raise self.failure
        return end

    def waiters(self, count: int) -> list[threading.Thread]:
        """Append `count` times, each time with a thread that waits for it."""
        threads = []
        for _ in range(count):
            self.end += 1
            threads.append(threading.Thread(target=self.group.wait, args=(self.end,)))
        for thread in threads:
            thread.start()
        return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def until_waiting(disk: Disk, count: int) -> None:
    """Return when so many threads queue behind the leader."""
    while len(disk.group._waiting) < count:
        threading.Event().wait(0.001)


def test_a_lone_sender_pays_one_sync() -> None:
    disk = Disk()
    disk.go_on.release()
    join(disk.waiters(1))
    assert disk.syncs == 1


def test_sixteen_who_come_during_one_sync_share_the_next() -> None:
    disk = Disk()
    leader = disk.waiters(1)
    disk.begun.acquire()
    others = disk.waiters(16)
    until_waiting(disk, 16)
    disk.go_on.release(2)
    join(leader + others)
    assert disk.syncs == 2


def test_who_came_after_the_sync_began_waits_for_another() -> None:
    disk = Disk()
    early = disk.waiters(1)
    disk.begun.acquire()
    late = disk.waiters(1)
    until_waiting(disk, 1)
    disk.go_on.release()
    join(early)
    disk.begun.acquire()
    assert late[0].is_alive()
    disk.go_on.release()
    join(late)


def test_an_eager_leader_serves_those_who_come_later_to_wait() -> None:
    disk = Disk()
    disk.end = 1
    disk.go_on.release()
    disk.group.lead()
    disk.group.wait(1)
    assert disk.syncs == 1


def test_what_the_disk_refused_once_is_never_durable_afterwards() -> None:
    disk = Disk()
    disk.go_on.release(3)
    disk.end = 1
    disk.group.wait(1)
    disk.failure = OSError(errno.EIO, "broken")
    disk.end = 2
    with pytest.raises(OSError, match="broken"):
        disk.group.wait(2)
    disk.failure = None
    with pytest.raises(OSError, match="broken"):
        disk.group.wait(2)
    disk.group.lead()
    disk.group.wait(1)
    assert disk.syncs == 2
