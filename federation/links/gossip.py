"""What nodes tell each other beside their catalogs: documents of trust, and where members may be reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from catalog import BadRequest
from federation.trust.names import Identity, check_node_id
from federation.trust.rows import PeerRow, Rows
from federation.trust.ticket import is_address
from federation.trust.trust import Documents, Trust, Versions
from protos import trust_pb2 as wire

MOST: Final = 1000
"""Members of a directory that are read."""


def versions_message(trust: Trust) -> wire.Versions:
    """Return what this node has."""
    bundle, publication, crls = trust.versions()
    lists = [wire.CrlVersion(issuer=issuer, number=number) for issuer, number in crls]
    return wire.Versions(bundle=bundle, publication=publication, crls=lists)


def lacking(trust: Trust, theirs: wire.Versions) -> wire.Documents | None:
    """Return what somebody lacks who has that, or None."""
    crls = tuple((each.issuer, each.number) for each in theirs.crls)
    bundle, lists, publication = trust.newer_than(Versions(theirs.bundle, theirs.publication, crls))
    if not (bundle or lists or publication):
        return None
    return wire.Documents(bundle=bundle, crls=lists, publication=publication)


def take(trust: Trust, documents: wire.Documents) -> bool:
    """Keep what is newer and rightly signed; say whether anything was."""
    return trust.accept(Documents(documents.bundle, tuple(documents.crls), documents.publication))


def member_message(row: PeerRow) -> wire.Member:
    """Return a node as others hear of it; addresses that only an admin here named stay here."""
    return wire.Member(
        node_id=row.node_id,
        name=row.name,
        site=row.site,
        addresses=row.addresses,
        ae_titles=row.ae_titles,
        is_dial_only=row.is_dial_only,
        is_authority=row.is_authority,
        revision=row.revision,
        relays=row.relays,
        door=row.door,
        desk=row.desk,
    )


def learn(
    peers: Rows[PeerRow],
    trust: Trust,
    member: wire.Member,
    own_id: str,
    now: float,
    sure: Identity | None = None,
) -> bool:
    """Take in where a member may be reached; say whether it was news.

    `sure` is the identity of a member that speaks for itself: only its certificate names its site.
    """
    try:
        node_id = check_node_id(member.node_id)
    except BadRequest:
        return False
    if node_id == own_id or (trust.is_expelled(node_id) and sure is None):
        return False
    news: list[bool] = []

    def merge(row: PeerRow | None) -> PeerRow | None:
        found = merged(row, member, sure, int(now))
        news.append(found != row)
        return found

    peers.change({node_id.encode(): merge})
    return bool(news and news[-1])


def merged(row: PeerRow | None, member: wire.Member, sure: Identity | None, now: int) -> PeerRow:
    """Return the row with what is newer in the message; pure."""
    if row is not None and row.state != "member" and sure is None:
        return row
    if row is not None and row.state != "member" and sure is not None:
        row = replace(row, state="member", since=sure.issued)
    name = sure.name if sure else row.name if row else member.name[:64]
    site = sure.site if sure else row.site if row else member.site[:64]
    is_newer = row is None or member.revision > row.revision
    if row is not None and not is_newer:
        return replace(row, name=name, site=site)
    return PeerRow(
        node_id=member.node_id,
        name=name,
        site=site,
        addresses=_addresses(member.addresses),
        ae_titles=tuple(title[:16] for title in member.ae_titles[:16]),
        is_dial_only=member.is_dial_only,
        is_authority=member.is_authority,
        revision=member.revision,
        relays=_addresses(member.relays),
        door=member.door if is_address(member.door) else "",
        static=row.static if row else (),
        since=row.since if row and row.since else now,
        desk=member.desk if is_address(member.desk) else "",
    )


def _addresses(found: Sequence[str]) -> tuple[str, ...]:
    return tuple(each for each in found[:8] if is_address(each))


def candidates(row: PeerRow, discovered: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return where to try to reach a node, in order; of one that can only dial out, who forwards to it."""
    own = () if row.is_dial_only else (*discovered, *row.addresses)
    return tuple(dict.fromkeys((*row.static, *own, *row.relays)))
