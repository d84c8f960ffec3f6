"""An archive as peers are given objects from it: what is held here, as stored, with corrections beside it."""

from __future__ import annotations

from typing import Protocol

from catalog import Catalog, Decision, Entry, Reader, Selection
from catalog.statements import Stated
from node.retriever import NodeRetriever


class Own(Catalog, Protocol):
    """The archive's catalog, as much of it as is needed here."""

    def stated(self, StudyInstanceUID: str) -> Stated | None:
        """Return what the log would state about a study now."""

    def versions(self, target: tuple[str, ...]) -> list[Entry]:
        """Return every stored version of a study or series: hidden ones and those not preferred too."""


class ArchiveShelf:
    """Satisfies `federation.objects.Shelf`."""

    def __init__(self, catalog: Own, retriever: NodeRetriever) -> None:
        self._catalog = catalog
        self._retriever = retriever

    @property
    def system(self) -> str:
        """The name under which corrections are told."""
        return self._retriever.system

    def select(self, selection: Selection) -> list[Entry]:
        """See `Catalog.select`."""
        return self._catalog.select(selection)

    def versions(self, target: tuple[str, ...]) -> list[Entry]:
        """Return every stored version of a study or series: hidden ones and those not preferred too."""
        return self._catalog.versions(target)

    def stated(self, StudyInstanceUID: str) -> Stated | None:
        """Return what the log would state about a study now."""
        return self._catalog.stated(StudyInstanceUID)

    def whole(self, entry: Entry) -> Reader:
        """Open a stored file as it is; see `Retriever.open`."""
        return self._retriever.whole(entry)

    def corrections(self, entry: Entry) -> list[Decision]:
        """Return the corrections in force for an instance, oldest first."""
        return self._retriever.corrections(entry)
