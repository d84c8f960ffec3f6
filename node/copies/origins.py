"""Whose copies the objects are, told by the segments alone, so that rows can be made again from them.

A note among the objects says which owner and study a number means; the origin of each object has that number,
and who stored it at its owner.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import msgspec

from catalog import Holding, PacsError
from node.reading import first_bytes, header_of
from node.reception import Origin
from node.state import State
from node.storage import Kept, KeptDecision, SegmentStore, read_meta

from .rows import CopyRow, study_key

logger = logging.getLogger(__name__)

_NOTE: Final = "copies-"
_NEXT: Final = b""
_HEAD: Final = 1 << 16


class _Told(msgspec.Struct, frozen=True):
    owner: str
    study: str


class Origins:
    """Numbers of owners' studies in one store."""

    def __init__(self, state: State, segments: SegmentStore) -> None:
        self._numbers = state.table("origins", int)
        self._segments = segments

    def of(self, owner: bytes, study: str, source: str, received: int) -> Origin:
        """Return the origin of an object of a study.

        Raises:
            OutOfSpace: the disk is full; nothing was written.
        """
        key = study_key(owner, study)
        number = self._numbers.get(key)
        if number is None:
            number = (self._numbers.get(_NEXT) or 0) + 1
            told = msgspec.json.encode(_Told(owner.decode(), study))
            self._segments.keep_decision(f"{_NOTE}{number}", told)
            self._note(key, number)
        return Origin(f"{number} {source}", received, False)

    def _note(self, key: bytes, number: int) -> None:
        self._numbers.change({key: lambda _: number, _NEXT: lambda known: max(known or 0, number)})

    def refound(self) -> Iterator[tuple[bytes, str, CopyRow]]:
        """Yield owner, study and row of every whole object, and number the studies; reads all there is."""
        studies: dict[str, _Told] = {}
        kept: list[Kept] = []
        for item in self._segments.scan():
            if isinstance(item, KeptDecision) and item.id.startswith(_NOTE):
                number = item.id.removeprefix(_NOTE)
                studies[number] = told = msgspec.json.decode(item.text, type=_Told)
                self._note(study_key(told.owner.encode(), told.study), int(number))
            elif isinstance(item, Kept):
                kept.append(item)
        unknown = 0
        for item in kept:
            number, _, source = item.origin.source.partition(" ")
            row = self._row(item.holding, source, item.origin.received)
            if number in studies and row is not None:
                yield studies[number].owner.encode(), studies[number].study, row
            else:
                unknown += 1
        if unknown:
            logger.error("Whose %d copies are cannot be told; they stay, and nobody is given them.", unknown)

    def _row(self, holding: Holding, source: str, received: int) -> CopyRow | None:
        reader = self._segments.open(holding)
        try:
            meta = read_meta(bytes(first_bytes(reader, _HEAD)))
            header = header_of(reader, meta.offset, meta.TransferSyntaxUID)
        except PacsError:
            return None
        finally:
            reader.close()
        return CopyRow(
            SeriesInstanceUID=header.SeriesInstanceUID,
            SOPInstanceUID=header.SOPInstanceUID,
            SOPClassUID=header.SOPClassUID,
            TransferSyntaxUID=meta.TransferSyntaxUID,
            holding=holding,
            source=source,
            received=received,
        )
