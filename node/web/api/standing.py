"""What goes on by itself, over REST: routes, prefetch, old PACS, moving in, and copies at other nodes."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from node.rights import Right

from .answers import Uid
from .operation import Operation
from .operation import verb as _verb

_Object = dict[str, Any]
_Rows = list[dict[str, Any]]
_Word = Annotated[str, Meta(max_length=64)]


class StudyWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which study."""

    study: Uid


class Expected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A patient who is about to come."""

    patient: Annotated[str, Meta(min_length=1, max_length=64)]
    issuer: _Word = ""


class MoveIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is moved in from another PACS, and how gently."""

    source: Annotated[str, Meta(min_length=1, max_length=16, description="Its AE title in the device book.")]
    dates: Annotated[str, Meta(min_length=1, max_length=32, description="As 2009- or 20100101-20101231.")]
    hours: Annotated[str, Meta(max_length=100, description="As 19-06; empty for always.")] = ""
    rate: Annotated[str, Meta(max_length=32, description="As 200/min; empty for as fast as it goes.")] = ""
    lanes: Annotated[int, Meta(ge=1, le=16)] = 2
    archive: _Word = ""
    is_undated: bool = False
    """Studies without a date too."""


def _op(method: str, path: str, summary: str, handler: Any, answer: Any = _Object, **more: Any) -> Operation:
    return Operation(method, path, Right.MANAGE, summary, handler, answer, is_node=True, **more)


_ROUTE, _MOVED = "/routes/{rule}", "/migrations/{source}"
STANDING: Final = (
    _op("GET", "/routes", "The routes, and what their targets lack", _verb("routes"), _Rows, is_polled=True),
    _op("GET", f"{_ROUTE}/check", "Whether a study went by a route, and what its target lacks",
        _verb("check_route"), query=StudyWanted),
    _op("POST", f"{_ROUTE}/send", "Send a study as a route says", _verb("send_route", who=True),
        body=StudyWanted),
    _op("POST", "/prefetch", "Fetch earlier studies of a patient who is about to come",
        _verb("prefetch", who=True), _Rows, body=Expected),
    _op("GET", "/old-pacs", "The old PACS that are asked too, and how they are", _verb("old_pacs"), _Rows,
        is_polled=True),
    _op("POST", "/old-pacs/{name}/allow", "Let vanish what an old PACS has no more",
        _verb("old_pacs_allow", who=True)),
    _op("GET", "/migrations", "What is moved in, and how far it is", _verb("migrations"), _Rows,
        is_polled=True),
    _op("POST", "/migrations", "Move in what another PACS has of some days",
        _verb("start_migration", who=True), body=MoveIn, status=202),
    _op("GET", _MOVED, "How far one is", _verb("migration")),
    _op("GET", f"{_MOVED}/differences", "What both do not agree about", _verb("migration_differences"),
        _Rows),
    _op("POST", f"{_MOVED}/pause", "Let it rest", _verb("pause_migration", who=True)),
    _op("POST", f"{_MOVED}/resume", "Go on with it", _verb("resume_migration", who=True)),
    _op("POST", f"{_MOVED}/cancel", "Give it up", _verb("cancel_migration", who=True)),
    _op("GET", "/copies", "How many studies have their copies at other nodes", _verb("copies"),
        is_polled=True),
    _op("GET", "/copies/lacking", "Studies that lack copies, and why", _verb("copies_lacking"), _Rows),
    _op("GET", "/copies/pins", "Studies that stay on this node's disk, and where they are now",
        _verb("pins"), _Rows),
    _op("PUT", "/copies/pins/{study}", "Have a study stay on this node's disk, whatever the fill mark says",
        _verb("pin", who=True)),
    _op("DELETE", "/copies/pins/{study}", "Let a study go from the disk like any other",
        _verb("unpin", who=True), None, status=204),
)  # fmt: skip
