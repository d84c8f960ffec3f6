"""Studies of all sites over REST: who holds what, who answered, and bringing a study here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from catalog import Entry, NotFound, PacsError, Selection
from node.contracts import Retriever
from node.rights import Right

from .answers import Attributes, StudyQuery
from .operation import Call, Operation, verb
from .studies import plain

_FIND, _READ = Right.SEARCH, Right.RETRIEVE
_encode: Final = msgspec.json.Encoder().encode


class SitePart(Struct, frozen=True, kw_only=True):
    """How a site took part in an answer."""

    site: str
    part: str
    """mirror, live, fallback or none."""
    age: float | None
    """Seconds since what was used of its catalog was known to be right; null: there is nothing of it."""
    why: str
    is_silent: bool
    """It did not answer, or what is known of it is old."""


class GridStudies(Struct, frozen=True, kw_only=True):
    """Studies of all sites; each has `here` (instances) and `sites` beside its attributes."""

    studies: list[Attributes]
    sites: list[SitePart]
    seconds: float


class SiteHolding(Struct, frozen=True, kw_only=True):
    """What one site has of a study."""

    site: str
    is_here: bool
    is_reachable: bool
    is_whole: bool
    series: int
    instances: int
    bytes: int
    received: float


class GridStudy(Struct, frozen=True, kw_only=True):
    """Who holds what of a study."""

    StudyInstanceUID: str
    availability: str
    has_conflict: bool
    others: list[str]
    """Sites that state another patient under this UID."""
    here: int
    sites: list[SiteHolding]


class GridConflict(Struct, frozen=True, kw_only=True):
    """A study under whose UID different nodes state different patients, or keep other bytes."""

    StudyInstanceUID: str
    nodes: list[str]
    names: list[str]
    """What these nodes are called."""
    since: float
    instances: list[str]
    """SOP Instance UIDs that the nodes have with other bytes; none where the patients differ."""


def _studies(call: Call) -> GridStudies:
    """Return the studies of all sites that match, newest first, with who holds what of each."""
    query: StudyQuery = call.query()
    began = time.monotonic()
    found, sites = call.backing.grid(call.visitor.caller).studies(list(query.key), query.limit)
    return GridStudies(
        studies=[{**plain(attributes), **held} for attributes, held in found],
        sites=[SitePart(**each) for each in sites],
        seconds=round(time.monotonic() - began, 3),
    )


def _study(call: Call) -> GridStudy:
    """Return who holds what of one study."""
    return GridStudy(**call.backing.grid(call.visitor.caller).study(call.named["study"]))


class _Fetching:
    """Brings instances here, and says after each how far it is; satisfies `Stream`."""

    size = None

    def __init__(self, entries: list[Entry], retriever: Retriever) -> None:
        self._entries, self._retriever = entries, retriever

    def __iter__(self) -> Iterator[bytes]:
        self._retriever.expect(self._entries)
        size, trouble = 0, None
        for done, entry in enumerate(self._entries, 1):
            try:
                outgoing = self._retriever.open(entry)
            except PacsError as error:
                trouble = error
                continue
            size += outgoing.size
            outgoing.close()
            yield _encode({"done": done, "of": len(self._entries), "bytes": size}) + b"\n"
        if trouble is not None:
            yield _encode({"why": trouble.what, "next": trouble.next}) + b"\n"

    def close(self) -> None:
        """Nothing to give back."""


def _fetch(call: Call) -> None:
    """Bring a study here from wherever it lies; a line of JSON after each instance."""
    scope = call.backing.everywhere(call.visitor.caller)
    entries = scope.catalog.select(Selection(studies=(call.named["study"],)))
    if not entries:
        raise NotFound("No site that can be asked has this study.", "Search for it first.")
    exchange = call.exchange()
    exchange.stream(_Fetching(entries, scope.retriever), "application/x-ndjson")
    exchange.record("retrieve", what="fetch", instances=len(entries))


EVERYWHERE: Final = (
    Operation(
        "GET", "/grid/studies", _FIND, "Find studies of all sites", _studies, GridStudies,
        query=StudyQuery, is_node=True, is_polled=True,
    ),
    Operation(
        "GET", "/grid/studies/{study}", _FIND, "Who holds what of a study", _study, GridStudy, is_node=True
    ),
    Operation(
        "POST", "/grid/studies/{study}/fetch", _READ, "Bring a study here, with progress line by line",
        _fetch, is_node=True, media_type="application/x-ndjson",
    ),
    Operation(
        "GET", "/grid/conflicts", Right.DECIDE, "Studies about which sites do not agree",
        verb("grid_conflicts"), list[GridConflict], is_node=True, is_polled=True,
    ),
)  # fmt: skip
