"""How the grid is, for a person: one peer looked at from all sides, and what is wrong with any of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from catalog import Clock
from federation.links.gossip import candidates
from federation.links.joining import LOOK_AGAIN, look_at
from federation.links.roll import SKEW
from federation.outcomes import spoken
from federation.trust.rows import PeerRow
from node.grid import Grid, Membership
from node.grid_conflicts import GridConflicts
from node.grid_desk import GridDesk

GOOD, WARNING, FAILURE = "good", "warning", "failure"
_BEHIND: Final = 60.0
"""Seconds for which somebody may be behind a catalog before a person is told."""
_SOON: Final = 14
"""Days before a certificate's end from which a person is told; it renews itself at half life."""
_AT_ONCE: Final = 8
_GRANT: Final = "peerpacs grants add {} everything catalog find_live retrieve"
Line = dict[str, str]
"""`mark`, `what`, and `next`: what a person can do."""


class GridHealth:
    """Looks at the grid from this node; `desk` knows the peers."""

    def __init__(self, grid: Grid, desk: GridDesk, conflicts: GridConflicts, clock: Clock) -> None:
        self._grid, self._desk, self._conflicts, self._clock = grid, desk, conflicts, clock

    def problems(self) -> list[Line]:
        """Return what keeps this node's grid answers from being whole, or will; nothing outside a grid."""
        member = self._grid.membership
        if member is None and (waiting := self._grid.joiner().waiting()) is not None:
            return [_line(WARNING, f"This node asked {waiting.site} to join its grid.", LOOK_AGAIN)]
        if member is None or not member.is_serving:
            return []
        return list(self._problems(member))

    def _problems(self, member: Membership) -> Iterator[Line]:
        if alarm := member.credentials.alarm():
            yield _line(FAILURE, alarm)
        for row in self._desk.peers()["peers"]:
            if row["state"] == "disconnected":
                why = row["why"] or f"{row['name']} of {row['site']} is not connected."
                yield _line(FAILURE, f"{why}{_how_old(row)}", f"See: peerpacs peers {row['name']}")
            elif row["state"] == "connected":
                yield from (each for each in self._connected(row) if each["mark"] != GOOD)
        if member.registrar is not None and (waiting := len(member.registrar.requests())):
            yield _line(
                WARNING, f"{waiting} who asked to join wait for a yes or no.", "See: peerpacs approve"
            )
        if count := sum(1 for _ in self._conflicts.all()):
            what = f"{count} studies have two patients under one Study Instance UID."
            yield _line(WARNING, what, "See: peerpacs peers")

    def peer(self, name: str) -> dict[str, Any]:
        """Return all that this node can find out about one peer.

        Raises:
            NotFound: no peer, or more than one, is called so.
        """
        member, node_id = self._grid.member(), self._desk.node_id(name)
        stored = self._grid.tables.peers.get(node_id.encode())
        assert stored is not None
        row = self._desk.told(stored)
        granted = member.links.granted(node_id) if member.is_serving else None
        lines = [*self._session(member, row), *self._addresses(member, stored)]
        if row["state"] == "connected":
            lines += self._connected(row)
        lines += _rights(row, granted, self._grid.settings.name)
        return {**row, "granted": granted, "ae_titles": list(stored.ae_titles), "lines": lines}

    def _session(self, member: Membership, row: dict[str, Any]) -> Iterator[Line]:
        standing = member.roll.standing(row["node_id"])
        if row["state"] == "expelled":
            yield _line(FAILURE, f"{row['name']} was expelled from the grid.", _again(row))
        elif not member.is_serving:
            yield _line(FAILURE, "This node does not run, so it is connected with nobody.", "peerpacs run")
        elif standing is None:
            what = row["why"] or "It is not connected, and nothing was tried yet."
            yield _line(FAILURE, f"{what}{_how_old(row)}", row["next"])
        else:
            now = member.outside.monotonic()
            dialer = "this node dialed" if standing.is_dialed else f"{row['name']} dialed"
            since, heard = spoken(now - standing.since), spoken(now - standing.heard)
            yield _line(GOOD, f"connected for {since}, {dialer}; heard of {heard} ago")

    def _addresses(self, member: Membership, row: PeerRow) -> list[Line]:
        """Look at every address of the peer, all at once."""
        known = member.links.addresses(row.node_id) if member.is_serving else candidates(row)
        if not known:
            can = "Name one: peerpacs peers address, or have a node that both reach open a door."
            return [_line(WARNING, "no address of it is known", can)]
        own, now, proxy = member.credentials.pair, self._clock(), self._grid.settings.proxy

        def look(address: str) -> Line:
            wrong = look_at(address, row.node_id, own, now, proxy)
            origin = _origin(address, row)
            if wrong:
                return _line(WARNING, f"{origin}: {wrong}")
            return _line(GOOD, f"{origin}: it answers there")

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(look, known))

    def _connected(self, row: dict[str, Any]) -> Iterator[Line]:
        """Yield what the session tells of a connected peer."""
        days = (row["certificate_ends"] - self._clock()) / 86400
        mark = GOOD if days > _SOON else WARNING
        yield _line(mark, f"certificate of {row['name']} counts for {days:.0f} more days, and renews itself")
        if abs(row["skew"]) > SKEW:
            what = f"The clock of {row['name']} is {row['skew']:+.0f} s off this node's."
            yield _line(WARNING, what, "On the wrong one: timedatectl set-ntp true")
        else:
            yield _line(GOOD, f"its clock is {round(row['skew'], 1) + 0.0:+.1f} s off this node's")
        for lag in row["lag"]:
            yield _followed(row["name"], lag)
        for lag in row["their_lag"]:
            mark = WARNING if lag["behind"] and lag["seconds"] > _BEHIND else GOOD
            what = f"it is {_behind(lag)} this node's catalog"
            yield _line(mark, what if mark == GOOD else f"{row['name']}: {what}.", "")


def _followed(name: str, lag: dict[str, Any]) -> Line:
    studies = f"{lag['studies']} studies of it are known here"
    if lag["held"]:
        what = f"{lag['held']} studies would vanish from what {name} states, and stay for now."
        return _line(WARNING, what, f"If they are really gone: peerpacs peers allow {name}")
    if lag["seconds"] is None:
        what = f"The catalog of {name} is not all here yet: {studies}, {lag['behind']} changes to come."
        return _line(WARNING, what)
    if lag["seconds"] > _BEHIND:
        return _line(WARNING, f"This node is {_behind(lag)} the catalog of {name}; {studies}.")
    return _line(GOOD, f"{studies}; this node is {_behind(lag)} its catalog")


def _behind(lag: dict[str, Any]) -> str:
    if not lag["behind"] and not lag["seconds"]:
        return "level with"
    return f"{lag['behind']} changes, {spoken(lag['seconds'] or 0.0)} behind"


def _rights(row: dict[str, Any], granted: tuple[str, ...] | None, own: str) -> Iterator[Line]:
    name, may = row["name"], row["may"]
    if may:
        yield _line(GOOD, f"it may here: {', '.join(may)}")
    else:
        yield _line(WARNING, f"{name} may nothing here", _GRANT.format(name))
    if granted is None:
        yield _line(WARNING, "what this node may there is not known: it did not say yet")
    elif granted:
        yield _line(GOOD, f"this node may there: {', '.join(granted)}")
    else:
        yield _line(WARNING, f"this node may nothing at {name}", f"There: {_GRANT.format(own)}")


def _how_old(row: dict[str, Any]) -> str:
    """Return how old the copy is that answers stand on meanwhile."""
    known = [lag["seconds"] for lag in row["lag"]]
    if not known:
        return " There is no copy of its catalog here."
    if None in known:
        return " The copy of its catalog here was never whole."
    return f" Answers stand on a copy of its catalog, {spoken(max(known))} old."


def _origin(address: str, row: PeerRow) -> str:
    if address in row.static:
        return f"{address}, named here"
    if address in row.relays:
        return f"{address}, a node that forwards to it"
    return f"{address}, as it says" if address in row.addresses else f"{address}, seen nearby"


def _again(row: dict[str, Any]) -> str:
    return f"To let it come back: peerpacs invite --site {row['site']} --replace {row['node_id']}"


def _line(mark: str, what: str, next: str = "") -> Line:
    return {"mark": mark, "what": what, "next": next}
