"""What a node lets others do with what it owns: shares, grants, and the one judgement. Deny by default; pure.

A share is a set of studies and a view of them; its rows, log and digests are the projected ones. A grant
lets a node or a site do some things with a share. Both are rows of the owner, read anew by whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from catalog import BY_TAG, Attributes, BadRequest, Level, Matching, NotFound, NotPermitted, compile_matcher

from .names import ROLES, check_node_id

MOST_SHARES: Final = 63
EVERYTHING: Final = "everything"
"""The share every node has: all it holds, in full view; its log is the catalog's own."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_PURPOSE: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_HOURS: Final = re.compile(r"([01]?\d|2[0-3])-([01]?\d|2[0-3])")
Test = Callable[[Attributes], bool]


class View(StrEnum):
    """How much of a record a share shows, the most first."""

    FULL = "full"
    EXACT = "exact"
    """Keyed hashes of (issuer, id), accession number and study UID: who knows the number may ask."""
    MINIMAL = "minimal"
    """UIDs, sizes and hashes, nothing of a patient: enough to keep copies."""
    COUNTS = "counts"
    """How many, never which."""
    DEID_ONLY = "deid-only"
    """Nothing but what an export made anonymous."""


class Op(StrEnum):
    """What a grant can allow."""

    CATALOG = "catalog"
    FIND_LIVE = "find_live"
    RETRIEVE = "retrieve"
    HOST_REPLICAS = "host_replicas"
    EXPORT_DEID = "export_deid"


class Share(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Some of what this node holds, and how it is shown."""

    name: str
    number: int
    """The number of its log, 1 to 63; 0 is the share `everything`."""
    match: Attributes = {}
    """Keys of the fixed table, as in a query; empty: all."""
    view: View = View.FULL
    archive: str = "main"


class Grant(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What a peer may do with a share."""

    peer: str
    """`node:ID` or `site:NAME`."""
    share: str
    ops: tuple[Op, ...]
    rate: int = 0
    """Bytes per second for objects; 0: no limit."""
    hours: str = "*"
    """`*`, or hours of the owner's day like `18-6`."""
    profile: str = ""
    project: str = ""
    min_cohort: int = 0
    purposes: tuple[str, ...] = ()
    """Purposes of use for which questions may be asked and objects be had; empty: any."""
    roles: tuple[str, ...] = ()
    """Which of ROLES may ask questions and have objects; empty: any."""

    def words(self, op: Op) -> str:
        """Return in words for a person what it allows of an operation it names."""
        only = self.limits() if op in _ON_BEHALF else ""
        return f"{op.value} on {self.share}{only}"

    def limits(self) -> str:
        """Return in words for whom and what it counts alone, where it asks that; else nothing."""
        by = f" by {' or '.join(self.roles)}" if self.roles else ""
        return f" for {' or '.join(self.purposes)}{by}" if self.purposes else by


class Caller(NamedTuple):
    """Who asks, as its certificate says, and for what and in which role, as its call's assertion says."""

    node_id: str
    site: str
    purpose: str | None = None
    """None where a judgement is about no call: whatever the purpose."""
    role: str | None = None
    """Likewise."""


class Permission(NamedTuple):
    """What one grant allows."""

    share: Share
    grant: Grant
    admits: Test
    """Says of a record's attributes (study's and series') whether the share has it."""


ALL: Final = Share(name=EVERYTHING, number=0)
_ON_BEHALF: Final = frozenset({Op.FIND_LIVE, Op.RETRIEVE})
"""What is asked for persons and devices; all else a node asks for itself."""
_SEE: Final = (Op.CATALOG, Op.FIND_LIVE, Op.RETRIEVE)
TEMPLATES: Final[dict[str, tuple[Grant, ...]]] = {
    "none": (),
    "peer": (Grant(peer="", share=EVERYTHING, ops=_SEE),),
    "replica-peer": (Grant(peer="", share=EVERYTHING, ops=(*_SEE, Op.HOST_REPLICAS)),),
}
"""What approving an invitation grants at the node that approves; every other owner decides for itself."""
_SENSIBLE: Final[dict[View, frozenset[Op]]] = {
    View.FULL: frozenset(Op),
    View.EXACT: frozenset({Op.CATALOG, Op.FIND_LIVE, Op.RETRIEVE}),
    View.MINIMAL: frozenset({Op.CATALOG, Op.HOST_REPLICAS}),
    View.COUNTS: frozenset({Op.CATALOG}),
    View.DEID_ONLY: frozenset({Op.EXPORT_DEID}),
}
"""What can be granted on a share without showing more than its view."""


def check_share(share: Share, others: Iterable[Share]) -> Share:
    """Return the share, with a free number if it is new (number -1).

    Raises:
        BadRequest: a value is not one of its kind, or 63 shares exist.
    """
    if not _NAME.fullmatch(share.name) or share.name == EVERYTHING:
        what = f"{share.name!r} cannot name a share."
        raise BadRequest(what, f"Use up to 32 of a-z, 0-9 and -; {EVERYTHING!r} exists already.")
    for tag in share.match:
        if tag not in BY_TAG or BY_TAG[tag].level is Level.IMAGE:
            raise BadRequest(f"A share cannot match on {tag}: no catalog row has it.", tags=(tag,))
    compile_matcher(share.match, Matching.PLAIN)
    others = list(others)
    for other in others:
        if other.name == share.name:
            return msgspec.structs.replace(share, number=other.number)
    free = sorted(set(range(1, MOST_SHARES + 1)) - {other.number for other in others})
    if not free:
        raise BadRequest(f"There are {MOST_SHARES} shares already.", "Remove one first.")
    return msgspec.structs.replace(share, number=free[0])


def check_grant(grant: Grant, shares: Iterable[Share]) -> Grant:
    """Return the grant.

    Raises:
        BadRequest: a value is not one of its kind, or it would show more than the share's view.
        NotFound: there is no such share.
    """
    kind, _, name = grant.peer.partition(":")
    if kind == "node":
        check_node_id(name)
    elif kind != "site" or not name:
        raise BadRequest(f"{grant.peer!r} is no peer.", "Use node:ID or site:NAME.")
    if grant.hours != "*" and not _HOURS.fullmatch(grant.hours):
        raise BadRequest(f"{grant.hours!r} are no hours.", "Use * or hours of the day like 18-6.")
    if wrong := [each for each in grant.purposes if not _PURPOSE.fullmatch(each)]:
        what = f"{wrong[0]!r} is no purpose of use."
        raise BadRequest(what, "Name purposes like treatment, payment, research or operation.")
    if wrong := [each for each in grant.roles if each not in ROLES]:
        known = ", ".join(f"{role} ({words})" for role, words in ROLES.items())
        raise BadRequest(f"{wrong[0]!r} is no role in which anybody asks.", f"Name one of: {known}.")
    if not grant.ops or grant.rate < 0 or grant.min_cohort < 0:
        raise BadRequest("A grant needs something it allows, and no limit below 0.")
    share = next((each for each in (ALL, *shares) if each.name == grant.share), None)
    if share is None:
        raise NotFound(f"There is no share {grant.share!r}.", "List them with: peerpacs grants")
    if beyond := set(grant.ops) - _SENSIBLE[share.view]:
        what = (
            f"The share {share.name!r} shows {share.view.value} only; {', '.join(sorted(beyond))} needs more."
        )
        raise BadRequest(what, "Grant it on another share.")
    return grant


def is_open(hours: str, moment: datetime) -> bool:
    """Say whether a grant counts at this hour of the owner's day."""
    match = _HOURS.fullmatch(hours)
    if match is None:
        return hours == "*"
    begin, end = int(match[1]), int(match[2])
    if begin <= end:
        return begin <= moment.hour < end
    return moment.hour >= begin or moment.hour < end


class Policy:
    """Shares and grants as they are at one moment."""

    def __init__(self, shares: Iterable[Share], grants: Iterable[Grant]) -> None:
        every = {share.name: share for share in (ALL, *shares)}
        self.shares = every
        self.grants = [grant for grant in grants if grant.share in every]
        self._tests = {name: compile_matcher(each.match, Matching.PLAIN) for name, each in every.items()}

    def permissions(self, caller: Caller, op: Op, now: float | None) -> list[Permission]:
        """Return what this caller may do so at this moment, the fullest view first.

        `now` is seconds since 1970, None for whatever the hour; hours are those of the machine's time zone.
        """
        names = (f"node:{caller.node_id}", f"site:{caller.site}" if caller.site else "")
        moment = None if now is None else datetime.fromtimestamp(now)
        found = [
            Permission(self.shares[grant.share], grant, self._tests[grant.share])
            for grant in self.grants
            if op in grant.ops
            and grant.peer in names
            and (moment is None or is_open(grant.hours, moment))
            and _is_for(grant, caller, op)
        ]
        order = list(View)
        return sorted(found, key=lambda each: (order.index(each.share.view), each.share.number))

    def check(self, caller: Caller, op: Op, now: float, share: int | None = None) -> list[Permission]:
        """Return what this caller may do so, on one share or on any; this is the check per call.

        Raises:
            NotPermitted: nothing grants it.
        """
        found = self.permissions(caller, op, now)
        if share is not None:
            found = [each for each in found if each.share.number == share]
        if not found:
            on = "" if share is None else f" on share {share}"
            to = f"{caller.node_id} of {caller.site or 'no site'}"
            if op in _ON_BEHALF:
                to += self._lacking(caller, op, now)
            what = f"This node does not grant {op.value}{on} to {to}."
            raise NotPermitted(what, f"Its admin can: peerpacs grants add node:{caller.node_id} ...")
        return found

    def _lacking(self, caller: Caller, op: Op, now: float) -> str:
        """Return in words which of purpose and role a call was refused for, if it was for one of them."""
        purpose, role = f" for {caller.purpose or 'no purpose'}", f" when {caller.role or 'nobody'} asks"
        if self.permissions(caller._replace(purpose=None), op, now):
            return purpose
        if self.permissions(caller._replace(role=None), op, now):
            return role
        is_both = self.permissions(caller._replace(purpose=None, role=None), op, now)
        return f"{purpose}{role}" if is_both else ""


def _is_for(grant: Grant, caller: Caller, op: Op) -> bool:
    """Say whether a grant counts for the purpose and the role of a call."""
    if op not in _ON_BEHALF:
        return True
    is_purpose = not grant.purposes or caller.purpose is None or caller.purpose in grant.purposes
    return is_purpose and (not grant.roles or caller.role is None or caller.role in grant.roles)


def first_admitting(permissions: Iterable[Permission], attributes: Attributes) -> Permission | None:
    """Return the fullest permission whose share has this record, or None; this is the check per record."""
    return next((each for each in permissions if each.admits(attributes)), None)


class Throttle:
    """A token bucket of one second for a grant's rate; the clock is the caller's."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free = float(rate)
        self._seen: float | None = None

    def wait(self, size: int, now: float) -> float:
        """Take `size` bytes and return the seconds to wait before they may go; `now` is monotonic."""
        if not self._rate:
            return 0.0
        if self._seen is not None:
            self._free = min(float(self._rate), self._free + (now - self._seen) * self._rate)
        self._seen = now
        self._free -= size
        return max(0.0, -self._free / self._rate)
