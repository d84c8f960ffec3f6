"""What may be committed to: every version of an instance is what was stored, byte by byte, where it is kept.

A catalog's row proves nothing. Each version's file is read again and its SHA-256 compared, or, where a
bucket keeps it, the bucket has confirmed size and SHA-256.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Final, Protocol

from catalog import Claim, Damaged, Entry, Holding, NotFound, PacsError
from node.contracts import Reference

logger = logging.getLogger(__name__)

# Failure Reason (0008,1197), PS3.3 C.14.1.1.
COMMITTED: Final = 0
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
CLASS_NOT_SUPPORTED: Final = 0x0122
DUPLICATE_TRANSACTION: Final = 0x0131
RESOURCE_LIMITATION: Final = 0x0213

LATER: Final = -1
"""No reason yet: it may become safe, and is to be asked again."""
AWAITING: Final = -2
"""No reason yet: a rule asks for other sites to have it, and they have not proved that they do."""
_AT_ONCE: Final = 8
"""Files that one worker reads in a row."""


class Safe(Enum):
    """Whether one kept file is safe."""

    YES = "yes"
    NOT_YET = "not yet"
    DAMAGED = "damaged"
    GONE = "gone"


class Safety(Protocol):
    """Says whether one kept file would survive; several of them in turn when copies count elsewhere."""

    def look(self, holding: Holding) -> Safe:
        """Look at what is kept, not at what is written about it; any thread may call; never raises."""


class _Disk(Protocol):
    def sync(self, holding: Holding) -> None: ...

    def verify(self, holding: Holding) -> None: ...


class DiskSafety:
    """Satisfies `Safety` on a local store: the file is on the disk, and its bytes have its SHA-256."""

    def __init__(self, store: _Disk) -> None:
        self._store = store

    def look(self, holding: Holding) -> Safe:
        """Read the whole file again."""
        try:
            self._store.sync(holding)
            self._store.verify(holding)
        except Damaged as error:
            logger.error("A stored file is damaged: %s %s", error.what, error.next)
            return Safe.DAMAGED
        except NotFound as error:
            logger.error("A stored file is gone: %s %s", error.what, error.next)
            return Safe.GONE
        except PacsError as error:
            logger.warning("A stored file cannot be read now: %s %s", error.what, error.next)
            return Safe.NOT_YET
        except OSError as error:
            logger.error("The stored file %s cannot be read: %s", holding.sha256.hex(), error)
            return Safe.DAMAGED
        return Safe.YES


class _Bucket(Protocol):
    def is_safe(self, holding: Holding) -> bool: ...

    def lost(self) -> frozenset[bytes]: ...


class BucketSafety:
    """Satisfies `Safety` where a bucket keeps everything: it has confirmed size and SHA-256."""

    def __init__(self, store: _Bucket) -> None:
        self._store = store

    def look(self, holding: Holding) -> Safe:
        """Ask what the bucket confirmed; what is still on its way there is not safe yet.

        What neither the spool nor the bucket has any more is gone: waiting would not bring it back.
        """
        if self._store.is_safe(holding):
            return Safe.YES
        return Safe.GONE if holding.sha256 in self._store.lost() else Safe.NOT_YET


Claims = Callable[[Iterable[str]], dict[str, list[Claim]]]
"""Every version behind each SOP Instance UID, as `LmdbCatalog.claims`."""
Group = Sequence[Entry]
Elsewhere = Callable[[Sequence[Entry], float], list[int]]
"""Whether enough other sites have each version: COMMITTED, AWAITING or a Failure Reason; the time is that of
the request, in seconds since 1970."""
Spread = Callable[[Callable[[Group], list[Safe]], Iterable[Group]], Iterable[list[Safe]]]
"""Applies a function to each group, in order of the results: `map`, or a pool's."""


def nobody_else(entries: Sequence[Entry], asked: float) -> list[int]:
    """Ask for no other site; satisfies `Elsewhere`."""
    return [COMMITTED] * len(entries)


class Judge:
    """Finds the Failure Reason of each reference, 0 where it is committed."""

    def __init__(
        self,
        claims: Claims,
        safety: Safety,
        *,
        is_storage: Callable[[str], bool],
        spread: Spread = map,
        on_damage: Callable[[Entry], None] = lambda entry: None,
        elsewhere: Elsewhere = nobody_else,
    ) -> None:
        """`is_storage` knows SOP Classes; `on_damage` hears of each version whose bytes are not as stored."""
        self._claims = claims
        self._safety = safety
        self._is_storage = is_storage
        self._spread = spread
        self._on_damage = on_damage
        self._elsewhere = elsewhere

    def judge(self, references: Sequence[Reference], asked: float = 0.0) -> list[int]:
        """Return the Failure Reason of each reference; 0 is committed, LATER and AWAITING not decided.

        A UID that several versions claim is committed only when each of them is safe: whoever asks may
        have any of them.
        """
        claims = self._claims(dict.fromkeys(each.SOPInstanceUID for each in references))
        reasons = [self._known(each, claims[each.SOPInstanceUID]) for each in references]
        kept = {
            claim.entry.holding: claim.entry
            for each, reason in zip(references, reasons, strict=True)
            if reason == COMMITTED
            for claim in claims[each.SOPInstanceUID]
            if not claim.is_deleted
        }
        entries = [kept[place] for place in sorted(kept, key=lambda place: place.where)]
        there = dict(zip((each.holding for each in entries), self._elsewhere(entries, asked), strict=True))
        # What waits for others is not read in vain each time.
        found = self._look([each for each in entries if there[each.holding] != AWAITING])
        return [
            reason or self._worst(claims[each.SOPInstanceUID], found, there)
            for each, reason in zip(references, reasons, strict=True)
        ]

    def _known(self, reference: Reference, claims: list[Claim]) -> int:
        """Return what the catalog alone tells. What a person deleted is not here; what was rejected neither,
        even if another version of it is: nobody could retrieve the one that was."""
        present = [claim for claim in claims if not claim.is_deleted]
        if not present:
            is_known = self._is_storage(reference.SOPClassUID)
            return NO_SUCH_INSTANCE if is_known else CLASS_NOT_SUPPORTED
        if any(claim.is_hidden for claim in present):
            return NO_SUCH_INSTANCE
        if any(claim.entry.SOPClassUID != reference.SOPClassUID for claim in present):
            return CLASS_INSTANCE_CONFLICT
        return COMMITTED

    def _look(self, entries: list[Entry]) -> dict[Holding, Safe]:
        """Look at each file, in the order they lie on the disk."""
        groups = [entries[start : start + _AT_ONCE] for start in range(0, len(entries), _AT_ONCE)]
        found = [each for group in self._spread(self._look_at, groups) for each in group]
        for entry, safe in zip(entries, found, strict=True):
            if safe in (Safe.DAMAGED, Safe.GONE):
                self._on_damage(entry)
        return {entry.holding: safe for entry, safe in zip(entries, found, strict=True)}

    def _look_at(self, group: Group) -> list[Safe]:
        return [self._safety.look(entry.holding) for entry in group]

    def _worst(self, claims: list[Claim], found: dict[Holding, Safe], there: dict[Holding, int]) -> int:
        places = [claim.entry.holding for claim in claims if not claim.is_deleted]
        looks = {found.get(place) for place in places}
        if looks & {Safe.DAMAGED, Safe.GONE}:
            return PROCESSING_FAILURE
        if others := max(there[place] for place in places):
            return others
        if AWAITING in (there[place] for place in places):
            return AWAITING
        return LATER if Safe.NOT_YET in looks else COMMITTED
