"""What a node lets its peers follow, composed: shares in the logs of its archives, and who may read."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from catalog import Clock
from federation.announcing import Announcer
from federation.granting import GrantBook, Kept, stated
from federation.links.gate import Gate
from federation.trust.policy import Caller
from node.grid import Grid

from .archive import Archive


class Sharing:
    """The owner's side of what is followed; `grid` returns the node's membership."""

    def __init__(
        self, home: Path, archives: Mapping[str, Archive], grid: Callable[[], Grid], clock: Clock
    ) -> None:
        self._home, self._archives, self._grid, self._clock = home, archives, grid, clock
        self._stated: object = None
        self.check: Callable[[str], None] = lambda archive: None
        """Raises Unavailable as long as an archive is not to be told of."""

    @cached_property
    def secret(self) -> bytes:
        """A key of this node alone, from which hashes and pseudonyms are made."""
        path = self._home / "secrets" / "shares.key"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(32))
        return path.read_bytes()

    def book(self, gate: Gate) -> GrantBook:
        """Return what decides what callers may list and ask."""

        def archive(name: str) -> Kept | None:
            found = self._archives.get(name)
            return found.catalog if found else None

        parts = (gate.visitor, archive, lambda: self.secret, self._clock)
        return GrantBook(self._grid().tables, *parts, lambda name: self.check(name))

    def state(self) -> None:
        """Have the logs state the shares as they are now."""
        now = [share for _, share in self._grid().tables.shares.scan()]
        names = sorted(self._archives)
        if (now, names) != self._stated:
            for name in names:
                of_it = [stated(share, self.secret) for share in now if share.archive == name]
                self._archives[name].catalog.share(of_it)
            self._stated = now, names

    def forget_tombstones(self, announcer: Announcer | None) -> None:
        """Have the logs forget what is gone, once all who follow them know, or after ninety days."""
        own = self._grid().settings.node_id
        peers = [row for _, row in self._grid().tables.peers.scan() if row.state == "member"]
        callers = [Caller(row.node_id, row.site) for row in peers if row.node_id != own]
        for name, archive in tuple(self._archives.items()):
            heard = announcer.acknowledged(name, callers) if announcer else {}
            archive.catalog.forget_tombstones(heard)
