"""The held shelf: what unknown senders stored, durable and acknowledged, but seen by nobody until released.

The bytes lie in the archive's segments like any others, marked as held in their member header; only the
row here says that they wait. Nothing here is found, routed, copied, exported or committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from catalog import Arrival, Holding, Move, Moved, NotPermitted
from node.state import Tables

_COUNT_ANEW = 256
_FULL = "The shelf for unknown senders is full"


class HeldShelf:
    """Rows of `Arrival` by SOP Instance UID and SHA-256, at most `allowance()` bytes in all."""

    def __init__(self, state: Tables, allowance: Callable[[], int]) -> None:
        self._table = state.table("held", Arrival)
        self._allowance = allowance
        self._bytes = self._count()
        self._admitted = 0

    @property
    def size(self) -> int:
        """Bytes that wait here."""
        return self._bytes

    def holds(self, SOPInstanceUID: str, sha256: bytes) -> bool:
        """Say whether exactly these bytes wait here already."""
        return self._table.get(_key(SOPInstanceUID, sha256)) is not None

    def admit(self, size: int) -> None:
        """Let `size` more bytes in.

        Raises:
            NotPermitted: unknown senders have used up their share of the disk.
        """
        self._admitted += 1
        is_over = self._bytes + size > self._allowance()
        if is_over or self._admitted % _COUNT_ANEW == 0:
            # Other processes of this node put and take too.
            self._bytes = self._count()
        if is_over and self._bytes + size > self._allowance():
            raise NotPermitted(_FULL, "Release or discard some (peerpacs held list), or add the device.")

    def put(self, arrival: Arrival) -> None:
        """Remember a durable object that waits; return when the row is on disk."""
        entry = arrival.entry
        self._table.put(_key(entry.SOPInstanceUID, entry.holding.sha256), arrival)
        self._bytes += entry.holding.size

    def list(self, source: str = "", study: str = "") -> Iterator[Arrival]:
        """Yield what waits, of one sender or one StudyInstanceUID if named."""
        for _, arrival in self._table.scan():
            entry = arrival.entry
            if source in ("", entry.source) and study in ("", entry.StudyInstanceUID):
                yield arrival

    def whereabouts(self, SOPInstanceUID: str, sha256: bytes) -> Holding | None:
        """Return where bytes that wait here lie."""
        arrival = self._table.get(_key(SOPInstanceUID, sha256))
        return arrival.entry.holding if arrival else None

    def relocate(self, move: Move) -> Moved:
        """Have a row name another place of the same bytes, if it names the old one; durable."""
        outcome = Moved.UNKNOWN

        def moved(arrival: Arrival | None) -> Arrival | None:
            nonlocal outcome
            if arrival is None:
                return None
            held = arrival.entry.holding
            outcome = Moved.NOW if held == move.was else Moved.BEFORE if held == move.now else Moved.ELSEWHERE
            entry = replace(arrival.entry, holding=move.now) if outcome is Moved.NOW else arrival.entry
            return replace(arrival, entry=entry)

        self._table.change({_key(move.SOPInstanceUID, move.was.sha256): moved})
        return outcome

    def _count(self) -> int:
        return sum(arrival.entry.holding.size for _, arrival in self._table.scan())

    def take(self, arrival: Arrival) -> None:
        """Remove the row of what was released or discarded; a second time is harmless."""
        entry = arrival.entry
        if self._table.delete(_key(entry.SOPInstanceUID, entry.holding.sha256)):
            self._bytes -= entry.holding.size


def _key(SOPInstanceUID: str, sha256: bytes) -> bytes:
    return SOPInstanceUID.encode() + b"\0" + sha256
