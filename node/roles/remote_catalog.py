"""A catalog that another role keeps: satisfies `CatalogWriter`, with what gateways ask of it besides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from catalog import (
    Arrival,
    Attributes,
    Change,
    Conflict,
    Decision,
    Entry,
    Head,
    Holding,
    Move,
    Moved,
    Query,
    Recorded,
    Selection,
    Standing,
)
from catalog.purging import Doomed
from catalog.rows import Totals
from catalog.selecting import Claim

from .answering import Page
from .calls import Question, RoleClient
from .catalog import (
    CHANGES,
    CLAIMS,
    CONFLICTS,
    CORRECTIONS,
    DECIDE,
    DECISIONS,
    DOOMED,
    FIND,
    FORGET,
    HEAD,
    HEADERS,
    HOLDS,
    KNOWS_PATIENT,
    LEAVE,
    MORE,
    MORE_NEWEST,
    NEWEST,
    RECORD,
    RELOCATE,
    RESTORE,
    SELECT,
    SENT_IN,
    STANDING,
    STORED_AFTER,
    TOTALS,
    VERSIONS,
    WHEREABOUTS,
)


class _Asked:
    """What of a catalog there is to be asked, seen or rejected."""

    def __init__(self, client: RoleClient, archive: str, *, is_rejected: bool) -> None:
        self._client = client
        self._archive = archive
        self._is_rejected = is_rejected

    def find(self, query: Query) -> Iterator[Attributes]:
        """See `Catalog.find`; the first page is there when this returns."""
        page: Page[Attributes] = self._ask(FIND, (self._is_rejected, query))
        return self._all(page)

    def select(self, selection: Selection) -> list[Entry]:
        """See `Catalog.select`."""
        found: list[Entry] = self._ask(SELECT, (self._is_rejected, selection))
        return found

    def changes(self, after: int, limit: int, share: int = 0) -> list[Change]:
        """See `Catalog.changes`."""
        found: list[Change] = [] if self._is_rejected else self._ask(CHANGES, (after, limit, share))
        return found

    def head(self, share: int = 0) -> Head:
        """See `Catalog.head`."""
        head: Head = Head(0, 0, b"") if self._is_rejected else self._ask(HEAD, (share,))
        return head

    def _all(self, page: Page[Attributes]) -> Iterator[Attributes]:
        try:
            while True:
                yield from page.items
                if not page.token:
                    return
                page = self._ask(MORE, page.token)
        except GeneratorExit:
            if page.token:
                self._ask(LEAVE, page.token)
            raise

    def _ask(self, question: Question, body: object) -> Any:
        return self._client.ask(question, self._archive, body)


class RemoteCatalog(_Asked):
    """An archive's catalog at the role that a client reaches; nothing of it is remembered here."""

    def __init__(self, client: RoleClient, archive: str) -> None:
        super().__init__(client, archive, is_rejected=False)

    def rejected(self) -> _Asked:
        """Return what persons and devices rejected, as a catalog of its own."""
        return _Asked(self._client, self._archive, is_rejected=True)

    def holds(self, SOPInstanceUID: str, sha256: bytes) -> bool:
        """See `CatalogWriter.holds`."""
        return bool(self._ask(HOLDS, (SOPInstanceUID, sha256)))

    def record(self, arrivals: Sequence[Arrival]) -> list[Recorded]:
        """See `CatalogWriter.record`.

        Raises:
            Uncertain: no answer came. They may be recorded all the same, so their bytes stay.
        """
        recorded: list[Recorded] = self._ask(RECORD, list(arrivals))
        return recorded

    def forget_lost(self, is_lost: Callable[[Holding], bool]) -> list[Entry]:
        """See `CatalogWriter.forget_lost`."""
        page: Page[Entry] = self._ask(NEWEST, None)
        lost = [entry for entry in page.items if is_lost(entry.holding)]
        while page.token:
            page = self._ask(MORE_NEWEST, page.token)
            lost += [entry for entry in page.items if is_lost(entry.holding)]
        if lost:
            self._ask(FORGET, (lost,))
        return lost

    def relocate(self, moves: Sequence[Move]) -> list[Moved]:
        """See `CatalogWriter.relocate`."""
        moved: list[Moved] = self._ask(RELOCATE, (list(moves),))
        return moved

    def whereabouts(self, SOPInstanceUID: str, sha256: bytes) -> Holding | None:
        """See `CatalogWriter.whereabouts`."""
        there: Holding | None = self._ask(WHEREABOUTS, (SOPInstanceUID, sha256))
        return there

    def stored_after(self, cursor: bytes, limit: int) -> list[tuple[bytes, Entry]]:
        """See `CatalogWriter.stored_after`."""
        found: list[tuple[bytes, Entry]] = self._ask(STORED_AFTER, (cursor, limit))
        return found

    def decide(self, decision: Decision) -> None:
        """See `CatalogWriter.decide`."""
        self._ask(DECIDE, (decision,))

    def restore(self, decision: Decision) -> None:
        """See `CatalogWriter.restore`."""
        self._ask(RESTORE, (decision,))

    def decisions(self, StudyInstanceUID: str) -> list[Decision]:
        """See `CatalogWriter.decisions`."""
        found: list[Decision] = self._ask(DECISIONS, (StudyInstanceUID,))
        return found

    def standing(self, *uids: str) -> Standing:
        """See `CatalogWriter.standing`."""
        standing: Standing = self._ask(STANDING, uids)
        return standing

    def corrections(self, entry: Entry) -> list[Decision]:
        """See `CatalogWriter.corrections`."""
        found: list[Decision] = self._ask(CORRECTIONS, (entry,))
        return found

    def doomed(self, decision: Decision) -> Doomed:
        """See `CatalogWriter.doomed`."""
        doomed: Doomed = self._ask(DOOMED, (decision,))
        return doomed

    def knows_patient(self, IssuerOfPatientID: str, PatientID: str) -> bool:
        """See `CatalogWriter.knows_patient`."""
        return bool(self._ask(KNOWS_PATIENT, (IssuerOfPatientID, PatientID)))

    def conflicts(self, resolved: bool = False) -> Iterator[Conflict]:
        """See `CatalogWriter.conflicts`."""
        found: list[Conflict] = self._ask(CONFLICTS, resolved)
        return iter(found)

    def versions(self, target: tuple[str, ...]) -> list[Entry]:
        """Return every stored version of a study, series or instance, hidden or not preferred ones too."""
        found: list[Entry] = self._ask(VERSIONS, (target,))
        return found

    def claims(self, uids: Iterable[str]) -> dict[str, list[Claim]]:
        """Return every version behind each SOP Instance UID and whether it was rejected or deleted."""
        found: dict[str, list[Claim]] = self._ask(CLAIMS, (list(uids),))
        return found

    def sent_in(self, StudyInstanceUID: str, SeriesInstanceUID: str) -> str:
        """Return the study in which a series was sent, wherever it was moved since."""
        study: str = self._ask(SENT_IN, (StudyInstanceUID, SeriesInstanceUID))
        return study

    def headers(self, entries: Sequence[Entry]) -> list[bytes]:
        """See `Insight.headers`."""
        found: list[bytes] = self._ask(HEADERS, (list(entries),))
        return found

    def state_of(self, StudyInstanceUID: str) -> bytes:
        """See `Insight.state_of`."""
        return "".join(decision.id for decision in self.decisions(StudyInstanceUID)).encode()

    def was_here(self, target: tuple[str, ...]) -> bool:
        """See `Insight.was_here`."""
        return bool(self.versions(target))

    def totals(self) -> Totals:
        """Return how much a query may see of everything, and how many conflicts are open."""
        totals: Totals = self._ask(TOTALS, ())
        return totals

    def close(self) -> None:
        """Do nothing: who made the client closes it."""
