"""The catalog of a node for gateways elsewhere: what they ask and record, the rows of the state among it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from catalog import (
    Arrival,
    Attributes,
    Change,
    Clock,
    Conflict,
    Decision,
    Entry,
    Head,
    Holding,
    LmdbCatalog,
    Move,
    Moved,
    NotFound,
    Query,
    Recorded,
    Selection,
    Standing,
)
from catalog.purging import Doomed
from catalog.rejected import RejectedCatalog
from catalog.rows import Totals
from catalog.selecting import Claim
from node.audit import Line
from node.contracts import Audit, Caller
from node.state import State

from .answering import Answer, Page, Pages
from .calls import Question
from .state import RowService

_PAGE: Final = 100
_ROWS: Final = 500

FIND: Final = Question("find", tuple[bool, Query], Page[Attributes])
MORE: Final = Question("more matches", str, Page[Attributes])
LEAVE: Final = Question("no more matches", str, None)
SELECT: Final = Question("select", tuple[bool, Selection], list[Entry])
RECORD: Final = Question("record", list[Arrival], list[Recorded])
NEWEST: Final = Question("newest", None, Page[Entry])
MORE_NEWEST: Final = Question("more newest", str, Page[Entry])
CONFLICTS: Final = Question("conflicts", bool, list[Conflict])
AUDIT: Final = Question("audit", tuple[str, list[Line]], None)
PRESENT: Final = Question("catalog?", None, None)

CHANGES: Final = Question("changes", tuple[int, int, int], list[Change])
HEAD: Final = Question("head", tuple[int], Head)
HOLDS: Final = Question("holds", tuple[str, bytes], bool)
FORGET: Final = Question("forget", tuple[list[Entry]], None)
RELOCATE: Final = Question("relocate", tuple[list[Move]], list[Moved])
WHEREABOUTS: Final = Question("whereabouts", tuple[str, bytes], Holding | None)
STORED_AFTER: Final = Question("stored_after", tuple[bytes, int], list[tuple[bytes, Entry]])
DECIDE: Final = Question("decide", tuple[Decision], None)
RESTORE: Final = Question("restore", tuple[Decision], None)
DECISIONS: Final = Question("decisions", tuple[str], list[Decision])
STANDING: Final = Question("standing", tuple[str, ...], Standing)
CORRECTIONS: Final = Question("corrections", tuple[Entry], list[Decision])
DOOMED: Final = Question("doomed", tuple[Decision], Doomed)
KNOWS_PATIENT: Final = Question("knows_patient", tuple[str, str], bool)
VERSIONS: Final = Question("versions", tuple[tuple[str, ...]], list[Entry])
CLAIMS: Final = Question("claims", tuple[list[str]], dict[str, list[Claim]])
SENT_IN: Final = Question("sent_in", tuple[str, str], str)
HEADERS: Final = Question("headers", tuple[list[Entry]], list[bytes])
TOTALS: Final = Question("totals", tuple[()], Totals)
_PLAIN: Final = (
    CHANGES, HEAD, HOLDS, FORGET, RELOCATE, WHEREABOUTS, STORED_AFTER, DECIDE, RESTORE, DECISIONS, STANDING,
    CORRECTIONS, DOOMED, KNOWS_PATIENT, VERSIONS, CLAIMS, SENT_IN, HEADERS, TOTALS,
)  # fmt: skip
"""Those that are a method of the catalog under the same name, the body its arguments."""

OnRecorded = Callable[[str, Entry, Recorded], None]
Catalogs = Callable[[], Mapping[str, LmdbCatalog]]


class CatalogService:
    """Answers for the catalogs of a node's archives and for its state."""

    def __init__(
        self,
        catalogs: Catalogs,
        state: State,
        audit: Audit,
        clock: Clock,
        on_recorded: OnRecorded = lambda archive, entry, recorded: None,
    ) -> None:
        self._catalogs = catalogs
        self._rows = RowService(state)
        self._audit = audit
        self._pages = Pages(clock)
        self._on_recorded = on_recorded

    def answers(self) -> Mapping[Question, Answer]:
        """Return what can be asked, for a `RoleServer`."""
        return {
            **self._rows.answers(),
            **{question: partial(self._plain, question.name) for question in _PLAIN},
            PRESENT: lambda archive, body: None,
            AUDIT: lambda archive, body: self._tell(*body),
            RECORD: self._record,
            FIND: self._find,
            MORE: lambda archive, body: self._pages.more(body, _PAGE),
            LEAVE: lambda archive, body: self._pages.leave(body),
            SELECT: lambda archive, body: self._side(archive, body[0]).select(body[1]),
            CONFLICTS: lambda archive, body: list(self._catalog(archive).conflicts(body)),
            NEWEST: self._newest,
            MORE_NEWEST: lambda archive, body: self._pages.more(body, _ROWS),
        }

    def _tell(self, gateway: str, lines: list[Line]) -> None:
        """Put what a gateway has in its audit into that of the node."""
        for line in lines:
            caller = Caller(line.ae, line.address, line.called, user=line.user)
            detail = {**line.detail, "gateway": gateway, "gateway_time": line.time}
            self._audit.record(line.event, caller, line.outcome, detail)

    def _plain(self, name: str, archive: str, arguments: tuple[Any, ...]) -> object:
        answer: object = getattr(self._catalog(archive), name)(*arguments)
        return answer

    def _find(self, archive: str, body: tuple[bool, Query]) -> object:
        return self._pages.begin(self._side(archive, body[0]).find(body[1]), _PAGE)

    def _newest(self, archive: str, body: None) -> object:
        return self._pages.begin(iter(self._catalog(archive).find_lost(lambda holding: True)), _ROWS)

    def _catalog(self, archive: str) -> LmdbCatalog:
        catalog = self._catalogs().get(archive)
        if catalog is None:
            raise NotFound(f"There is no archive {archive!r}.", "List them with: peerpacs archives list")
        return catalog

    def _side(self, archive: str, is_rejected: bool) -> LmdbCatalog | RejectedCatalog:
        catalog = self._catalog(archive)
        return catalog.rejected() if is_rejected else catalog

    def _record(self, archive: str, arrivals: list[Arrival]) -> list[Recorded]:
        # What comes from several gateways at once goes into one commit.
        recorded = self._catalog(archive).record(arrivals)
        for arrival, result in zip(arrivals, recorded, strict=True):
            if result is not Recorded.SAME:
                self._on_recorded(archive, arrival.entry, result)
        return recorded
