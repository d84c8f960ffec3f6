"""The grid over REST: peers, who wants to join, and what this node lets others do."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from node.rights import Right

from .operation import Call, Operation

Word = Annotated[str, Meta(min_length=1, max_length=64)]


class Invitation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to invite."""

    site: Word
    template: Annotated[str, Meta(max_length=32)] = "peer"
    ttl: Annotated[float, Meta(gt=0, le=30 * 86400, description="Seconds that the ticket counts.")] = 86400.0
    name: Annotated[str, Meta(max_length=64, description="Of the grid, if this one founds it.")] = ""


class Denial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a node is not taken in."""

    reason: Annotated[str, Meta(max_length=200)] = ""


class Grant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node (its name or id) or site:NAME may do with a share."""

    peer: Word
    share: Word = "everything"
    ops: Annotated[list[Word], Meta(min_length=1, max_length=10)]
    rate: Annotated[int, Meta(ge=0, le=(1 << 50))] = 0
    hours: Annotated[str, Meta(max_length=8)] = "*"
    project: Annotated[str, Meta(max_length=24)] = ""
    min_cohort: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    purposes: Annotated[list[Word], Meta(max_length=10)] = []
    roles: Annotated[list[Word], Meta(max_length=10)] = []


class Which(Struct, frozen=True, forbid_unknown_fields=True):
    """Which grant."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]


class Share(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a share has, and how it is shown."""

    keys: Annotated[list[Annotated[str, Meta(max_length=500)]], Meta(max_length=100)] = []
    view: Annotated[str, Meta(pattern="^(full|exact|minimal|counts|deid-only)$")] = "full"


def _peers(call: Call) -> Any:
    return call.ask("peers")


def _peer(call: Call) -> Any:
    return call.ask("peer", peer=call.named["peer"])


def _invite(call: Call) -> Any:
    return call.ask("invite", who=call.who, **msgspec.structs.asdict(call.body()))


def _requests(call: Call) -> Any:
    return call.ask("requests")


def _approve(call: Call) -> Any:
    return call.ask("approve", request=call.named["joiner"], who=call.who)


def _deny(call: Call) -> Any:
    told: Denial = call.body()
    return call.ask("deny", request=call.named["joiner"], who=call.who, reason=told.reason)


def _revoke(call: Call) -> Any:
    return call.ask("revoke", peer=call.named["peer"], who=call.who)


def _grants(call: Call) -> Any:
    return call.ask("grants")


def _put_grant(call: Call) -> Any:
    return call.ask("put_grant", who=call.who, **msgspec.structs.asdict(call.body()))


def _remove_grant(call: Call) -> None:
    told: Which = call.query()
    call.ask("remove_grant", grant=told.id, who=call.who)


def _put_share(call: Call) -> Any:
    told = msgspec.structs.asdict(call.body())
    return call.ask("put_share", name=call.named["share"], who=call.who, **told)


def _remove_share(call: Call) -> None:
    call.ask("remove_share", name=call.named["share"], who=call.who)


_Object = dict[str, Any]


def _op(method: str, path: str, summary: str, handler: Any, answer: Any = _Object, **more: Any) -> Operation:
    return Operation(method, path, Right.MANAGE, summary, handler, answer, is_node=True, **more)


_TOLD_ONCE: Final[dict[str, Any]] = {"status": 201, "is_secret": True}
GRID: Final = (
    _op("GET", "/peers", "This node in its grid, and every other one", _peers, is_polled=True),
    _op("GET", "/peers/{peer}", "All that is known of a peer", _peer),
    _op(
        "POST",
        "/peer-invitations",
        "Make a ticket for one node",
        _invite,
        body=Invitation,
        status=201,
        is_secret=True,
    ),
    _op("GET", "/peer-requests", "Who asks to be taken in", _requests, list[_Object], is_polled=True),
    _op("POST", "/peer-requests/{joiner}/approve", "Take a node in, its words compared", _approve),
    _op("POST", "/peer-requests/{joiner}/deny", "Refuse a node", _deny, body=Denial),
    _op("POST", "/peers/{peer}/revoke", "Expel a node, everywhere", _revoke),
    _op("GET", "/grants", "What others may do with what this node owns", _grants, is_polled=True),
    _op("POST", "/grants", "Let a peer do something with a share", _put_grant, body=Grant),
    _op("DELETE", "/grants", "Take a grant back", _remove_grant, None, query=Which, status=204),
    _op("PUT", "/shares/{share}", "Make or change a share", _put_share, body=Share),
    _op("DELETE", "/shares/{share}", "Remove a share", _remove_share, None, status=204),
)
