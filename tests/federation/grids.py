"""A grid in one process and in virtual time: real catalogs and mirrors, links that fail as told."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, cast

from catalog import LmdbCatalog, Unavailable
from catalog.log import Digest
from catalog.statements import is_tombstone
from federation.following import Follower, exchange
from federation.messages import BucketRequest, DigestReply, Owner, PullReply, PullRequest, Repair
from federation.mirror import Mirror
from federation.serving import LogOwner
from tests.catalog.samples import Ticking, open_catalog

MAP_SIZE = 1 << 27


class Node:
    """One node: its catalog, its mirror, and a follower for each other node."""

    def __init__(self, home: Path, clock: Ticking) -> None:
        self.home = home
        self.name = home.name.encode()
        self.clock = clock
        self.followers: dict[tuple[bytes, int], Follower] = {}
        self.start()

    def start(self) -> None:
        self.catalog = open_catalog(self.home, map_size=MAP_SIZE, clock=self.clock)
        self.mirror = Mirror(self.home / "mirror", clock=self.clock, map_size=MAP_SIZE)
        self.owner = LogOwner(self.catalog)
        self.followers = {}

    def stop(self) -> None:
        self.catalog.close()
        self.mirror.close()

    def restart(self, **restored: Path) -> None:
        """Stop and start; parts named (catalog, mirror) come back as they were in the copy."""
        self.stop()
        for part, copy in restored.items():
            shutil.rmtree(self.home / part)
            shutil.copytree(copy, self.home / part)
        self.start()

    def copy(self, part: str, target: Path) -> Path:
        shutil.copytree(self.home / part, target)
        return target

    def publish(self) -> None:
        self.catalog.publish(self.clock())

    def follower(self, owner: bytes, share: int = 0) -> Follower:
        if (owner, share) not in self.followers:
            source = self.mirror.source(owner, share)
            follower = Follower(self.mirror, source, now=self.clock(), chance=Random(1))
            self.followers[owner, share] = follower
        return self.followers[owner, share]

    def mirrored(self, owner: bytes, share: int = 0) -> dict[bytes, bytes]:
        return dict(self.mirror.rows(self.mirror.source(owner, share)))

    def sync(self, other: Node, share: int = 0, owner: Owner | None = None) -> None:
        """Bring the mirror of the other node up to date, digests compared."""
        follower = self.follower(other.name, share)
        follower.connected(self.clock())
        for _ in range(30):
            follower.told(other.owner.head(share), self.clock())
            self.clock.now += 0.3
            if exchange(follower, owner or other.owner, self.clock()):
                continue
            if follower.state.seen == other.owner.head(share) and follower.state.is_whole:
                return
        raise AssertionError("it does not come to rest")


def live(catalog: LmdbCatalog, share: int = 0) -> dict[bytes, bytes]:
    """Return what the log states, without what it says is gone."""
    rows = catalog.snapshot(b"", 1_000_000, share)
    return {row.key: row.row for row in rows if not is_tombstone(row.row)}


def known(digests: Any) -> dict[int, Digest]:
    """Return the digests of buckets with rows."""
    return {bucket: digest for bucket, digest in digests.items() if digest.rows}


class Cut:
    """An owner whose answers break off after so many messages, and lack the one of number `lost`."""

    def __init__(self, owner: Owner, after: int, lost: int = -1) -> None:
        self._owner = owner
        self._lost = lost
        self.left = after
        self.said: list[Any] = []

    def head(self, share: int) -> Any:
        return self._owner.head(share)

    def _some(self, replies: Iterator[Any]) -> Iterator[Any]:
        for reply in replies:
            if not self.left:
                raise Unavailable("The link was cut.")
            self.left -= 1
            self.said.append(reply)
            if len(self.said) - 1 != self._lost:
                yield reply

    def pull(self, request: PullRequest) -> Iterator[PullReply]:
        return self._some(self._owner.pull(request))

    def digests(self, share: int) -> DigestReply:
        for reply in self._some(iter([self._owner.digests(share)])):
            return cast(DigestReply, reply)
        raise Unavailable("The answer was lost.")

    def bucket(self, request: BucketRequest) -> Iterator[Repair]:
        return self._some(self._owner.bucket(request))
