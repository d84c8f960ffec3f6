"""Who lists the instances of a series that lies elsewhere: its owner, or whoever keeps a copy for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalog import Entry, Unavailable
from catalog.statements import SeriesStatement
from federation.catalog_service import RemoteOwner
from federation.owners import owner_of, place_at

_PATIENCE: Final = 2.0
"""Seconds within which a peer must list the instances of a series."""
_Lister = Callable[[bytes, SeriesStatement], list[Entry]]


class Listers:
    """Asks for manifests, for the grid as this node sees it."""

    def __init__(
        self,
        of_old: Callable[[bytes, SeriesStatement], list[Entry] | None],
        of_keepers: _Lister,
        is_connected: Callable[[str], bool],
        shares: Callable[[bytes], list[int]],
        reach: Callable[[str, str], RemoteOwner],
        avoid: Callable[[bytes], object],
    ) -> None:
        """`shares` are those of an owner that are followed; who is to be asked last is told to `avoid`."""
        self._of_old, self._of_keepers, self._is_connected = of_old, of_keepers, is_connected
        self._shares, self._reach, self._avoid = shares, reach, avoid

    def manifest(self, owner: bytes, series: SeriesStatement) -> list[Entry]:
        """Return the instances of an owner's series.

        Raises:
            PacsError: neither the owner nor a keeper told.
        """
        if (found := self._of_old(owner, series)) is not None:
            return found
        if not self._is_connected(owner_of(owner).node_id):
            return self._of_keepers(owner, series) or self._of_owner(owner, series)
        try:
            return self._of_owner(owner, series)
        except Unavailable:
            # It may be connected and answer nobody: silent since a moment, or set back.
            self._avoid(owner)
            if lent := self._of_keepers(owner, series):
                return lent
            raise

    def _of_owner(self, owner: bytes, series: SeriesStatement) -> list[Entry]:
        shares, there = self._shares(owner), owner_of(owner)
        if not shares:
            raise Unavailable("That node lets this one follow its catalog no more.")
        uids = series.StudyInstanceUID, series.SeriesInstanceUID
        reached = self._reach(there.node_id, there.archive)
        for share in shares:
            if found := reached.manifest(share, *uids, lambda entry: place_at(owner), _PATIENCE):
                return found
        return []
