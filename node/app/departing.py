"""Leaving the grid, composed: the node that goes collects receipts, the others drop what they have of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from catalog import BadRequest, Clock, PacsError, Unavailable
from federation.leaving import LeaveService, alone_here, ask_to_drop
from federation.links.gate import Gate
from federation.neighbours import Neighbours
from federation.owners import owner_of
from federation.trust import office
from federation.trust.authority import AUTHORITY_FILE, ROOT_FILE
from federation.trust.credentials import Pair
from federation.trust.departure import Receipt, depart, read_departure
from federation.trust.names import Identity
from federation.trust.rows import Departed, PeerRow
from node.grid import Grid, Membership
from node.storage.places import write_durably

from .archive import Archive
from .copying import Copying
from .fetching import Fetching

logger = logging.getLogger(__name__)
_SIGNED: Final = "leaving.json"
"""In identity/: the receipts so far, while this node leaves."""
_RECEIPTS: Final = "receipts.json"
_GRACE: Final = 3
"""Seconds for which an authority lets who left have its answer, before its certificate counts no more."""


class Departing:
    """Both sides of leaving; `neighbours` and `fetching` return what is made when the node opens."""

    def __init__(
        self,
        home: Path,
        archives: Mapping[str, Archive],
        grid: Callable[[], Grid],
        neighbours: Callable[[], Neighbours],
        fetching: Callable[[], Fetching],
        copying: Copying,
        clock: Clock,
    ) -> None:
        self._home, self._archives, self._grid = home, archives, grid
        self._neighbours, self._fetching, self._copying = neighbours, fetching, copying
        self._clock = clock
        self.forget: Callable[[str], object] = lambda node_id: None
        """Forgets what a node entrusted to this one."""

    # Of others who leave.

    def service(self, gate: Gate) -> LeaveService:
        """Return what those who leave call."""
        return LeaveService(gate, self._alone, self._asked, self._pair)

    def _pair(self) -> Pair:
        return self._grid().member().credentials.pair

    def _alone(self, identity: Identity) -> int:
        return self._copying.without(identity.node_id)

    def _asked(self, identity: Identity) -> Receipt:
        receipt, member = self._drop(identity.node_id), self._grid().member()
        self._record("a node leaves", receipt)
        if member.authority is not None:
            issuer = member.authority.issuer
            member.links.take_departure(depart(identity.node_id, self._clock(), issuer))
        return receipt

    def step(self) -> None:
        """Drop what is here of who left, as an authority says, and have its certificate count no more."""
        member = self._grid().membership
        if member is None or not member.is_serving:
            return
        for key, row in list(self._grid().tables.departed.scan()):
            if not row.is_dropped:
                self._see_off(member, key, row)

    def _see_off(self, member: Membership, key: bytes, row: Departed) -> None:
        departure, tables = read_departure(row.document, member.trust), self._grid().tables
        if self._clock() < departure.at + _GRACE:
            return
        known, standing = tables.peers.get(key), member.roll.standing(departure.node_id)
        if standing is not None and standing.identity.issued > departure.at:
            # It is a member again, since a moment that this node did not see.
            tables.departed.put(key, Departed(row.document, is_dropped=True))
            return
        if member.authority is not None and known is not None and known.state == "member":
            member.authority.revoke(departure.node_id)
        self._record("a node left", self._drop(departure.node_id))
        if known is not None:
            gone = PeerRow(node_id=known.node_id, name=known.name, site=known.site, state="left")
            tables.peers.put(key, msgspec.structs.replace(gone, since=departure.at))
        for name, grant in list(tables.grants.scan()):
            if grant.peer == f"node:{departure.node_id}":
                tables.grants.delete(name)
        tables.departed.put(key, Departed(row.document, is_dropped=True))

    def _drop(self, node_id: str) -> Receipt:
        """Forget all that this node has of another one, and its receipts; return what was here."""
        copies, size = 0, 0
        self._copying.forget_keeper(node_id)
        if self._copying.is_open:
            store = self._copying.store
            for owner in [each for each in store.owners() if owner_of(each).node_id == node_id]:
                store.readers.delete(owner)
                for study, rows in list(store.listing(owner)):
                    size += sum(each.holding.size for each in rows)
                    copies += store.drop(owner, study)
        cached = self._fetching().cache.sweep(lambda owner, entry: owner_of(owner).node_id != node_id)
        self.forget(node_id)
        studies = self._neighbours().forget(node_id)
        own = self._grid().settings.node_id
        return Receipt(own, node_id, int(self._clock()), studies, copies, size, cached)

    def _record(self, what: str, receipt: Receipt) -> None:
        audit = next(iter(self._archives.values())).shared.audit
        audit.record("change", None, what, msgspec.structs.asdict(receipt))

    # Of this node, when it leaves.

    def leave(self, who: str, *, is_forced: bool = False) -> dict[str, Any]:
        """Have everybody drop what they have of this node, and end its membership.

        What lies here alone goes to its owners first: then `going_home` is told, by owner, in bytes; and what
        lies at other sites alone comes home: then `coming_home` is told, in bytes.

        One that was cut short goes on where it was; what was signed before is kept.

        Raises:
            BadRequest: the grid cannot be without this node, or something here is damaged.
            Unavailable: no authority is connected, or nobody who has what is to come home, or an owner of
                copies is not.
        """
        member, grid = self._grid().member(), self._grid()
        others = [row for _, row in grid.tables.peers.scan() if row.state == "member"]
        others = [row for row in others if row.node_id != grid.settings.node_id]
        if not _is_known(others, _signed(grid.folder)):
            self._check(member, others, is_forced=is_forced)
            if is_forced:
                return self._finish(member, grid, others, who)
            if going := self._alone_here(member, others):
                return {"going_home": going}
            if left := self._copying.come_home():
                return {"coming_home": left, "why": self._copying.why_away}
        return self._finish(member, grid, others, who)

    def _finish(self, member: Membership, grid: Grid, others: list[PeerRow], who: str) -> dict[str, Any]:
        try:
            return self._go(member, grid, others, who)
        finally:
            self._copying.stay()

    def _alone_here(self, member: Membership, others: list[PeerRow]) -> dict[str, int]:
        """Ask the owners of what is kept here how much of theirs is nowhere else; return bytes by name."""
        names, found = {row.node_id: row.name for row in others}, {}
        owners = self._copying.store.owners() if self._copying.is_open else []
        for node_id in dict.fromkeys(owner_of(each).node_id for each in owners):
            if node_id not in names:
                continue
            try:
                alone = alone_here(member.links.channel(node_id), names[node_id])
            except PacsError as error:
                what = f"{names[node_id]} cannot say whether its copies here are the only ones: {error.what}"
                remedy = "Try again when it is connected. To drop them all the same: --force"
                raise Unavailable(what, remedy) from None
            if alone:
                found[names[node_id]] = alone
        return found

    def _go(self, member: Membership, grid: Grid, others: list[PeerRow], who: str) -> dict[str, Any]:
        for name, _ in list(grid.tables.grants.scan()):
            grid.tables.grants.delete(name)
        # Authorities last: after their answer this node's certificate counts no more.
        others.sort(key=lambda row: row.is_authority)
        receipts, owing = _signed(grid.folder), []
        signed = {each["node_id"] for each in receipts}
        for row in others:
            # First here: nothing that this node has may rest on copies that go.
            self._copying.forget_keeper(row.node_id)
            try:
                channel = member.links.channel(row.node_id)
                found = ask_to_drop(channel, row.name, member.trust, grid.settings.node_id)
            except PacsError as error:
                if row.node_id not in signed:
                    owing.append({"name": row.name, "site": row.site, "why": error.what})
                continue
            receipts.append({"name": row.name, "site": row.site, **msgspec.structs.asdict(found)})
            # Whoever is killed now must know that the others let it go: an authority answers once.
            write_durably(grid.folder / _SIGNED, msgspec.json.encode(receipts))
        dropped = [self._drop(row.node_id) for row in others]
        told = {
            "grid": member.trust.bundle.name,
            "came_home": self._copying.came,
            "receipts": receipts,
            "owing": owing,
            "is_known": not others or _is_known(others, receipts),
            "authority": office.id_of(member.authority.issuer.certificate) if member.authority else "",
            "dropped_here": {
                "studies": sum(each.studies for each in dropped),
                "copies": sum(each.copies for each in dropped),
                "copy_bytes": sum(each.copy_bytes for each in dropped),
                "cached": sum(each.cached for each in dropped),
            },
        }
        self._end(grid, told)
        audit = next(iter(self._archives.values())).shared.audit
        audit.record("change", None, "left the grid", {"who": who, "receipts": len(receipts), "owing": owing})
        return told

    def _check(self, member: Membership, others: list[PeerRow], *, is_forced: bool) -> None:
        is_heard = any(row.is_authority and member.roll.standing(row.node_id) is not None for row in others)
        if others and member.authority is not None and not is_heard:
            what = "No other authority is connected: without one nobody joins, and certificates end."
            remedy = "Have another (peerpacs authority ask, at its node), or let the others leave first."
            raise BadRequest(what, remedy)
        if others and not is_heard and not is_forced:
            remedy = (
                "Try again when one is: peerpacs peers. If this node was expelled: peerpacs leave --force"
            )
            raise Unavailable("No authority of the grid is connected.", remedy)
        damaged = sum(1 for archive in self._archives.values() for _ in archive.care.book)
        if damaged and not is_forced:
            what = f"{damaged} objects are damaged here; copies at other nodes may be the only whole ones."
            raise BadRequest(what, "See: peerpacs verify. To leave all the same: --force")

    def _end(self, grid: Grid, told: dict[str, Any]) -> None:
        """End the membership, and write what is told beside the old identity."""
        assert grid.membership is not None
        grid.membership.close()
        grid.membership = None
        when = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%d-%H%M%S")
        left = grid.folder.with_name(f"identity.left-{when}")
        told["file"] = str(left / _RECEIPTS)
        told["root"] = str(left / ROOT_FILE) if (grid.folder / ROOT_FILE).exists() else ""
        write_durably(grid.folder / _RECEIPTS, msgspec.json.format(msgspec.json.encode(told), indent=2))
        (grid.folder / _SIGNED).unlink(missing_ok=True)
        # Until the others dismiss it, an authority could let anybody in.
        (grid.folder / AUTHORITY_FILE).unlink(missing_ok=True)
        grid.folder.rename(left)
        for table in _of_membership(grid):
            for key, _ in list(table.scan()):
                table.delete(key)


def _signed(identity: Path) -> list[dict[str, Any]]:
    """Return the receipts that a leaving was given before it was cut short."""
    try:
        found: list[dict[str, Any]] = msgspec.json.decode((identity / _SIGNED).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return []
    return found


def _is_known(others: list[PeerRow], receipts: list[dict[str, Any]]) -> bool:
    """Say whether an authority signed: from then on this node's certificate counts nowhere."""
    authorities = {row.node_id for row in others if row.is_authority}
    return any(each["node_id"] in authorities for each in receipts)


def _of_membership(grid: Grid) -> Iterator[Any]:
    """Yield the tables that mean nothing outside the grid; shares are the node's own and stay."""
    tables = grid.tables
    yield from (tables.documents, tables.invitations, tables.requests, tables.issued)
    yield from (tables.peers, tables.departed, tables.grants)
