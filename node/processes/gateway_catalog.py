"""A catalog in a process that does not write it: read here, written by asking the writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from catalog import (
    Arrival,
    Decision,
    Entry,
    Holding,
    LmdbReader,
    Move,
    Moved,
    ReadHeader,
    Recorded,
    open_beside_writer,
)

from .client import WriterClient
from .wire import Call


class GatewayCatalog(LmdbReader):
    """Satisfies `CatalogWriter`; sees everything that the writer acknowledged, to whomever."""

    def __init__(
        self, archive: str, writer: WriterClient, path: Path, search_path: Path, read_header: ReadHeader
    ) -> None:
        """Open the catalog of an archive that the writer has open.

        Raises:
            PacsError: there is none.
        """
        super().__init__(*open_beside_writer(path, search_path), read_header, lambda: None)
        self._archive = archive
        self._writer = writer

    def record(self, arrivals: Sequence[Arrival]) -> list[Recorded]:
        """See `CatalogWriter.record`.

        Raises:
            Uncertain: the writer does not answer. It may have recorded them all the same, so their bytes
                stay; a sender that comes again is told that they are here.
        """
        answer: list[Recorded] = self._ask(Call.RECORD, list(arrivals))
        return answer

    def forget_lost(self, is_lost: Callable[[Holding], bool]) -> list[Entry]:
        """See `CatalogWriter.forget_lost`."""
        lost = self.find_lost(is_lost)
        if lost:
            self._ask(Call.FORGET, lost)
        return lost

    def relocate(self, moves: Sequence[Move]) -> list[Moved]:
        """See `CatalogWriter.relocate`."""
        answer: list[Moved] = self._ask(Call.RELOCATE, list(moves))
        return answer

    def decide(self, decision: Decision) -> None:
        """See `CatalogWriter.decide`."""
        self._ask(Call.DECIDE, decision)

    def restore(self, decision: Decision) -> None:
        """See `CatalogWriter.restore`."""
        self._ask(Call.RESTORE, decision)

    def _ask(self, call: Call, body: object) -> Any:
        return self._writer.ask(call, self._archive, body)
