"""Who may do what over the web: rights, roles that bundle them, and the archives a role is held for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from catalog import BadRequest
from node.archives import DEFAULT

EVERY: Final = "*"
"""In place of an archive's name: every archive, and the node itself."""


class Right(StrEnum):
    """What a route needs; one word each in refusals, token scopes and the audit."""

    SEARCH = "search"
    """Find studies and read their attributes."""
    RETRIEVE = "retrieve"
    """Read images."""
    STORE = "store"
    TRANSFER = "transfer"
    """See what this node sends, and have it send."""
    DECIDE = "decide"
    """Judge what waits for a person, correct, reject and delete."""
    WATCH = "watch"
    """Read the node's status and its numbers; no patient is in them."""
    RESEARCH = "research"
    """See a research project, order its exports, take what was released; its people decide what that is."""
    AUDIT = "audit"
    """Read who did what."""
    MANAGE = "manage"
    """Change devices and archives."""


class Role(StrEnum):
    """What a person or a program is here."""

    VIEWER = "viewer"
    SENDER = "sender"
    RESEARCHER = "researcher"
    ADMIN = "admin"


RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    Role.VIEWER: frozenset((Right.SEARCH, Right.RETRIEVE)),
    Role.SENDER: frozenset((Right.STORE, Right.TRANSFER)),
    Role.RESEARCHER: frozenset((Right.SEARCH, Right.RETRIEVE, Right.RESEARCH)),
    Role.ADMIN: frozenset(Right),
}
OF_THE_NODE: Final = frozenset((Right.WATCH, Right.AUDIT, Right.MANAGE))
"""Rights about the whole node: they come only with a role that is held for every archive."""


def parse_grant(text: str) -> str:
    """Return `role@archive` as it is kept; without an archive it is for the default one, an admin's for all.

    Raises:
        BadRequest: there is no such role, or a researcher would read more than named archives.
    """
    word, _, archive = text.strip().partition("@")
    try:
        role = Role(word)
    except ValueError:
        raise BadRequest(f"{word!r} is not a role.", f"Name one of: {', '.join(Role)}.") from None
    archive = archive or (EVERY if role is Role.ADMIN else DEFAULT)
    if role is Role.RESEARCHER and archive in (EVERY, DEFAULT):
        what = "A researcher reads archives of de-identified images only, and they must be named."
        raise BadRequest(what, "Say --role researcher@ARCHIVE, or give the role viewer.")
    return f"{role}@{archive}"


def rights_in(grants: Iterable[str], archive: str) -> frozenset[Right]:
    """Return the rights that grants give in an archive; `EVERY` asks for those about the whole node."""
    found: set[Right] = set()
    for grant in grants:
        role, _, where = grant.partition("@")
        if where in (EVERY, archive):
            found |= RIGHTS[Role(role)]
    return frozenset(found if archive == EVERY else found - OF_THE_NODE)


def role_for(right: Right) -> Role:
    """Return the smallest role that has the right."""
    return min((role for role in Role if right in RIGHTS[role]), key=lambda role: len(RIGHTS[role]))
