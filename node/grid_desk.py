"""What a person can ask about the grid, as verbs that take and return what JSON can say."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

import msgspec

from catalog import BadRequest, NotFound, PacsError, Unavailable
from federation.links.joining import Waiting
from federation.trust.enrolment import Registrar
from federation.trust.names import check_node_id, spoken
from federation.trust.policy import ALL, Grant, Op, Share, View, check_grant, check_share
from federation.trust.rows import PeerRow
from federation.trust.ticket import is_address, read, write
from node.audit import AuditLog
from node.grid import Grid
from node.keys import attributes_of

_CHANGE: Final = "change"
_STATES: Final = {"revoked": "expelled", "left": "left"}
_NAME_IT: Final = "Say where one answers who wants to join: peerpacs join --at HOST:7444"


class GridDesk:
    """The verbs of membership: invite, join, approve, peers, revoke, grants."""

    def __init__(self, grid: Grid, audit: AuditLog) -> None:
        self._grid = grid
        self._audit = audit
        self.archive: Callable[[str], str] = lambda name: name
        """Returns the name of an archive that there is; raises NotFound for another."""
        self.lag: Callable[[str], dict[str, Any]] = lambda node_id: {}
        """Adds to a peer how far its catalog is followed here, and this node's there."""

    def node_id(self, peer: str) -> str:
        """Return the id of the one node that an id, its beginning or a name names."""
        return self._row(peer).node_id

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        own = (
            self.invite,
            self.join,
            self.joined,
            self.requests,
            self.approve,
            self.deny,
            self.peers,
            self.peer_address,
            self.revoke,
            self.grants,
            self.put_grant,
            self.remove_grant,
            self.put_share,
            self.remove_share,
        )
        return {verb.__name__: verb for verb in own}

    def invite(
        self,
        site: str,
        template: str,
        ttl: float,
        who: str,
        address: str = "",
        replace: str = "",
        name: str = "",
    ) -> dict[str, Any]:
        """Make a ticket for one node of a site; the first one founds the grid, under `name`."""
        grid = self._grid
        is_new = grid.membership is None
        if is_new:
            if grid.joiner().waiting() is not None:
                raise BadRequest("This node waits to join a grid.", "See how it stands: peerpacs join")
            self._check_own_id()
            grid.found(name or grid.settings.name)
            self._audit.record(
                _CHANGE, None, "grid founded", {"who": who, "name": name or grid.settings.name}
            )
        member, where = grid.member(), address or self._join_address()
        ticket = self._registrar().invite(where, site, template, ttl, who, replace)
        detail = {"who": who, "site": site, "template": template, "token": ticket.token_id.hex()}
        self._audit.record(_CHANGE, None, "invited to the grid", detail)
        return {
            "ticket": write(ticket),
            "grid": member.trust.bundle.name,
            "grid_id": spoken(member.trust.grid_id),
            "site": site,
            "template": template,
            "ttl": ttl,
            "is_new_grid": is_new,
        }

    def _check_own_id(self) -> None:
        """Raises BadRequest before anything is founded or asked: no certificate can name such a node."""
        own = self._grid.settings.node_id
        try:
            check_node_id(own)
        except BadRequest:
            what = f"The id of this node, {own!r}, is no UUID: it can be in no grid. Nothing was changed."
            remedy = "Give [node] node_id in peerpacs.toml a UUID (uuidgen makes one), and start it anew."
            raise BadRequest(what, remedy) from None

    def _join_address(self) -> str:
        settings, ports = self._grid.settings, self._grid.member().ports
        host = settings.host if settings.host not in ("0.0.0.0", "::") else socket.gethostname()
        return settings.join_address or f"{host}:{ports.get('join') or settings.join_port}"

    def _registrar(self) -> Registrar:
        registrar = self._grid.member().registrar
        if registrar is None:
            what = "This node is no authority of its grid."
            raise BadRequest(what, "Do this at a node that is one; see: peerpacs peers")
        return registrar

    def join(self, ticket: str, who: str, at: str = "") -> dict[str, Any]:
        """Ask to join with a ticket; without one, return the request that waits, or ask to come back."""
        grid = self._grid
        if ticket:
            self._check_own_id()
        waiting = grid.ask(read(ticket)) if ticket else grid.joiner().waiting()
        is_new = bool(ticket) or waiting is None
        waiting = waiting or self._come_back(at)
        if is_new:
            detail = {"who": who, "grid": waiting.grid_id.hex(), "request": waiting.request_id}
            self._audit.record(_CHANGE, None, "asked to join a grid", detail)
        return {
            "grid": waiting.grid_name,
            "grid_id": spoken(waiting.grid_id),
            "site": waiting.site,
            "words": list(waiting.words),
            "request": waiting.request_id,
        }

    def _come_back(self, at: str) -> Waiting:
        """Ask an authority for another certificate in place of one that ended; `at` is where it answers."""
        member = self._grid.membership
        if member is None or member.credentials.days_left() > 0:
            raise NotFound("No request of this node waits.", "Begin with: peerpacs join TICKET")
        rows = [row for _, row in self._grid.tables.peers.scan() if row.is_authority and row.desk]
        trouble: PacsError = NotFound("No address of an authority is known here.", _NAME_IT)
        for address in [at] if at else [row.desk for row in rows]:
            try:
                return self._grid.joiner().come_back(address, member.credentials.pair)
            except Unavailable as error:
                trouble = Unavailable(error.what, _NAME_IT)
        raise trouble

    def joined(self, who: str) -> bool:
        """Look how the request stands; say whether this node is in the grid now."""
        is_in = self._grid.collect()
        if is_in:
            grid_id = self._grid.member().trust.grid_id.hex()
            self._audit.record(_CHANGE, None, "joined a grid", {"who": who, "grid": grid_id})
        return is_in

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests that wait for a yes or no."""
        return [
            {
                "request": request_id,
                "name": request.name,
                "site": request.site,
                "node_id": request.node_id,
                "words": list(request.words),
                "received": request.received,
                "template": request.template,
                "replace": request.replace,
                "is_return": request.is_return,
            }
            for request_id, request in self._registrar().requests()
        ]

    def approve(self, request: str, who: str) -> dict[str, Any]:
        """Take a node in whose words were compared."""
        row = self._registrar().approve(request, who)
        detail = {"who": who, "node_id": row.node_id, "site": row.site, "template": row.template}
        self._audit.record(_CHANGE, None, "node taken into the grid", detail)
        return {"name": row.name, "site": row.site, "node_id": row.node_id}

    def deny(self, request: str, who: str, reason: str = "") -> dict[str, Any]:
        """Refuse a node."""
        row = self._registrar().deny(request, who, reason)
        detail = {"who": who, "node_id": row.node_id, "reason": reason}
        self._audit.record(_CHANGE, None, "node not taken into the grid", detail)
        return {"name": row.name, "site": row.site, "node_id": row.node_id}

    def peers(self) -> dict[str, Any]:
        """Return this node's own standing, and every other node with how it is reached and what it may do."""
        grid, member = self._grid, self._grid.member()
        identity = member.credentials.pair.identity
        rows = [row for _, row in grid.tables.peers.scan() if row.node_id != identity.node_id]
        return {
            "grid": member.trust.bundle.name,
            "grid_id": spoken(member.trust.grid_id),
            "node_id": identity.node_id,
            "site": identity.site,
            "is_authority": member.authority is not None,
            "certificate_days": round(member.credentials.days_left(), 1),
            "ports": member.ports,
            "peers": [self.told(row) for row in sorted(rows, key=lambda row: row.name)],
        }

    def told(self, row: PeerRow) -> dict[str, Any]:
        """Return how a peer stands."""
        member = self._grid.member()
        standing = member.roll.standing(row.node_id)
        is_missed = member.is_serving and standing is None and row.state == "member"
        failure = member.links.failure(row.node_id) if is_missed else None
        if is_missed and failure is None and row.is_dial_only:
            what = f"{row.name} can only dial out, and did not dial this node yet."
            failure = Unavailable(
                what, "There: peerpacs join, if it was let in only now; else: peerpacs peers"
            )
        names = (f"node:{row.node_id}", f"site:{row.site}")
        grants = [grant for _, grant in self._grid.tables.grants.scan() if grant.peer in names]
        return {
            "name": row.name,
            "site": row.site,
            "node_id": row.node_id,
            "state": _STATES.get(row.state) or ("connected" if standing else "disconnected"),
            "since": row.since,
            "skew": round(standing.skew, 1) if standing else None,
            "certificate_ends": standing.identity.expires if standing else None,
            "addresses": [*row.static, *row.addresses],
            "relays": list(row.relays),
            "is_dial_only": row.is_dial_only,
            "is_authority": row.is_authority,
            "may": sorted({grant.words(op) for grant in grants for op in grant.ops}),
            "why": failure.what if failure else "",
            "next": failure.next if failure else "",
            **self.lag(row.node_id),
        }

    def _row(self, peer: str) -> PeerRow:
        """Return the one node that an id, its beginning or a name names."""
        rows = [row for _, row in self._grid.tables.peers.scan()]
        found = [row for row in rows if peer in (row.node_id, row.name)]
        found = found or [row for row in rows if len(peer) >= 4 and row.node_id.startswith(peer.lower())]
        if len(found) != 1:
            what = f"{len(found) or 'No'} nodes are called {peer!r}."
            raise NotFound(what, "List them with: peerpacs peers")
        return found[0]

    def peer_address(self, peer: str, addresses: list[str], who: str) -> dict[str, Any]:
        """Name where to reach a node, before what it says of itself; none takes that back."""
        row = self._row(peer)
        for address in addresses:
            if not is_address(address):
                raise BadRequest(f"{address!r} is no address.", "Name one like pacs.example.org:7443")
        changed = msgspec.structs.replace(row, static=tuple(addresses))
        self._grid.tables.peers.put(row.node_id.encode(), changed)
        self._audit.record(
            _CHANGE,
            None,
            "addresses of a peer named",
            {"who": who, "node_id": row.node_id, "addresses": addresses},
        )
        return self.told(changed)

    def revoke(self, peer: str, who: str) -> dict[str, Any]:
        """Expel a node from the grid, everywhere."""
        member = self._grid.member()
        if member.authority is None:
            self._registrar()
        row = self._row(peer)
        assert member.authority is not None
        member.authority.revoke(row.node_id)
        detail = {"who": who, "node_id": row.node_id, "site": row.site}
        self._audit.record(_CHANGE, None, "node expelled from the grid", detail)
        return {"name": row.name, "site": row.site, "node_id": row.node_id}

    def grants(self) -> dict[str, Any]:
        """Return what this node lets others do with what it owns."""
        tables = self._grid.tables
        shares = [ALL, *(share for _, share in tables.shares.scan())]
        return {
            "shares": [_object(share) for share in shares],
            "grants": [self._granted(key.decode(), grant) for key, grant in tables.grants.scan()],
        }

    def put_grant(self, peer: str, share: str, ops: list[str], who: str, **limits: Any) -> dict[str, Any]:
        """Let a node or a site do something with a share; what it might do with it before is replaced.

        What is granted for a research project stands beside what is granted otherwise.
        """
        tables = self._grid.tables
        kind, _, name = peer.partition(":")
        named = peer if kind == "site" and name else f"node:{self._row(name or peer).node_id}"
        told = {"peer": named, "share": share, "ops": ops, **limits}
        if wrong := sorted(set(ops) - set(Op)):
            raise BadRequest(f"{wrong[0]!r} is nothing to be granted.", f"Name some of: {', '.join(Op)}.")
        try:
            grant = msgspec.convert(_fields(Grant, told), Grant)
        except msgspec.ValidationError as error:
            raise BadRequest(f"That cannot be granted: {error}.", "See: peerpacs grants add --help") from None
        grant = check_grant(grant, [each for _, each in tables.shares.scan()])
        key = f"{named.partition(':')[2]}/{share}" + (f"/{grant.project}" if grant.project else "")
        for old, row in list(tables.grants.scan()):
            if (row.peer, row.share, row.project) == (grant.peer, grant.share, grant.project):
                tables.grants.delete(old)
        tables.grants.put(key.encode(), grant)
        self._audit.record(_CHANGE, None, "granted", {"who": who, **told, "peer": named})
        return self._granted(key, grant)

    def _granted(self, key: str, grant: Grant) -> dict[str, Any]:
        """Return a grant with its id, and the name by which people know the peer."""
        kind, _, name = grant.peer.partition(":")
        peer = self._grid.tables.peers.get(name.encode()) if kind == "node" else None
        return {"id": key, "name": peer.name if peer else grant.peer, **_object(grant)}

    def remove_grant(self, grant: str, who: str) -> None:
        """Take a grant back, by its id or as NAME/SHARE; it counts at once."""
        rows = self._grid.tables.grants
        name, _, share = grant.rpartition("/")
        peers = [row for _, row in self._grid.tables.peers.scan() if name == row.name]
        named = {(f"node:{row.node_id}", share) for row in peers}
        found = [key for key, row in rows.scan() if key == grant.encode() or (row.peer, row.share) in named]
        for key in found:
            rows.delete(key)
        if not found:
            raise NotFound(f"There is no grant {grant!r}.", "List them with: peerpacs grants")
        self._audit.record(_CHANGE, None, "grant taken back", {"who": who, "grant": grant})

    def put_share(self, name: str, keys: list[str], view: str, who: str, archive: str = "") -> dict[str, Any]:
        """Make a share of an archive, or change what it matches and shows."""
        tables = self._grid.tables
        if view not in set(View):
            raise BadRequest(f"{view!r} is no view of a share.", f"Name one of: {', '.join(View)}.")
        told = {"name": name, "number": -1, "match": attributes_of(keys), "view": view}
        if archive:
            told["archive"] = self.archive(archive)
        try:
            share = msgspec.convert(_fields(Share, told), Share)
        except msgspec.ValidationError as error:
            raise BadRequest(f"That cannot be a share: {error}.", "See: peerpacs grants --help") from None
        share = check_share(share, [each for _, each in tables.shares.scan()])
        for _, grant in tables.grants.scan():
            if grant.share == name:
                check_grant(grant, [share])
        tables.shares.put(name.encode(), share)
        self._audit.record(_CHANGE, None, "share made", {"who": who, "share": name, "view": view})
        return _object(share)

    def remove_share(self, name: str, who: str) -> None:
        """Remove a share that nothing is granted on."""
        tables = self._grid.tables
        if any(grant.share == name for _, grant in tables.grants.scan()):
            raise BadRequest(f"Something is granted on {name!r}.", "First: peerpacs grants remove ID")
        if not tables.shares.delete(name.encode()):
            raise NotFound(f"There is no share {name!r}.", "List them with: peerpacs grants")
        self._audit.record(_CHANGE, None, "share removed", {"who": who, "share": name})


def _fields(kind: type[msgspec.Struct], told: dict[str, Any]) -> list[Any]:
    """Return values in the order of a struct that is an array on disk, defaults filled in."""
    fields = msgspec.structs.fields(kind)
    return [told.get(field.name, field.default) for field in fields]


def _object(row: msgspec.Struct) -> dict[str, Any]:
    """Return a row as a JSON object, though it is an array on disk."""
    values: dict[str, Any] = {name: msgspec.to_builtins(getattr(row, name)) for name in row.__struct_fields__}
    return values
