"""What a caller may list and ask of this node's archives, by its rows of shares and grants at this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

from catalog import Clock, Matching, NotFound, NotPermitted, Query, compile_matcher, is_universal, texts
from catalog import shares as logs
from catalog.log import ALL
from catalog.order import decoded
from catalog.statements import is_tombstone, read_series, read_study
from federation.links.gate import Visitor
from federation.trust.policy import Caller, Op, Permission, Policy, Share, View
from federation.trust.projection import Projection, share_key
from federation.trust.rows import Tables

from .asking import Asked
from .catalog_service import Granted
from .serving import Log, LogOwner

_NAMING: Final = ("0020000D", "00080050", "00100020")
"""What somebody must know of a study who is granted no more than hashes: one of these, whole."""


class Kept(Log, Asked, Protocol):
    """The catalog of an archive, as much as peers are served from."""


class Offer(NamedTuple):
    """A share that a caller may follow."""

    archive: str
    share: int
    owner: LogOwner
    hash_key: bytes = b""


class GrantBook:
    """Satisfies `Grants`; default deny. `secret` returns what the keys of hashes are made from."""

    def __init__(
        self,
        tables: Tables,
        visitor: Callable[[Any], Visitor],
        archive: Callable[[str], Kept | None],
        secret: Callable[[], bytes],
        clock: Clock,
        check: Callable[[str], None] = lambda archive: None,
    ) -> None:
        """`visitor` returns who makes the call of a context; `archive` a catalog by the archive's name.

        `check` raises Unavailable as long as nothing of an archive may be told.
        """
        self._tables = tables
        self._visitor = visitor
        self._archive = archive
        self._secret = secret
        self._clock = clock
        self._check = check

    def policy(self) -> Policy:
        """Return shares and grants as they are now."""
        shares = [share for _, share in self._tables.shares.scan()]
        return Policy(shares, [grant for _, grant in self._tables.grants.scan()])

    def told(self, caller: Caller) -> list[str]:
        """Return what a caller may do at this moment, in words."""
        policy, now = self.policy(), self._clock()
        return [each.grant.words(op) for op in Op for each in policy.permissions(caller, op, now)]

    def offers(self, caller: Caller) -> Iterator[Offer]:
        """Yield the shares that a caller may follow: everything, or else each it is granted."""
        seen: set[tuple[str, int]] = set()
        whole: set[str] = set()
        for permission in self.policy().permissions(caller, Op.CATALOG, self._clock()):
            share = permission.share
            name = share.archive, share.number
            kept = self._archive(share.archive)
            if kept is None or name in seen or share.archive in whole:
                continue
            seen.add(name)
            if share.number == ALL:
                whole.add(share.archive)
            key = share_key(self._secret(), share) if share.view is View.EXACT else b""
            yield Offer(share.archive, share.number, LogOwner(kept), key)

    def catalog(self, context: Any, archive: str, share: int) -> Granted:
        """Return what may be listed; raises NotPermitted."""
        caller = self._visitor(context).caller
        permission = self._permission(caller, Op.CATALOG, archive, share)
        kept = self._kept(archive)
        if permission.share.view is View.EXACT:
            # Instances are listed to who may ask for what it knows; rows and hashes come from the log.
            may_ask = self.policy().permissions(caller, Op.FIND_LIVE, self._clock())
            if any(each.share.number == share for each in may_ask):
                return Granted(LogOwner(kept), Known(kept, permission.share))
        return Granted(LogOwner(kept), kept)

    def live(self, context: Any, archive: str, share: int) -> Granted:
        """Return what may be asked; raises NotPermitted."""
        permission = self._permission(self._visitor(context).caller, Op.FIND_LIVE, archive, share)
        kept = self._kept(archive)
        if permission.share.view is View.EXACT:
            return Granted(LogOwner(kept), Known(kept, permission.share), must_name)
        return Granted(LogOwner(kept), kept)

    def _permission(self, caller: Caller, op: Op, archive: str, share: int) -> Permission:
        permission = self.policy().check(caller, op, self._clock(), share)[0]
        if permission.share.archive != archive:
            raise NotPermitted(f"Share {share} is not one of the archive {archive!r}.")
        return permission

    def _kept(self, archive: str) -> Kept:
        kept = self._archive(archive)
        if kept is None:
            raise NotFound(f"This node has no archive {archive!r}.")
        self._check(archive)
        return kept

    def owner(self, archive: str) -> LogOwner | None:
        """Return who answers for an archive's log; None for one that is not here."""
        kept = self._archive(archive)
        return LogOwner(kept) if kept else None


def must_name(query: Query) -> Query:
    """Return the question if it names a study, an accession number or a patient.

    Raises:
        NotPermitted: it fishes.
    """
    for tag in _NAMING:
        key = query.keys.get(tag)
        if key is None or is_universal(key):
            continue
        if not any(set(text) & set("*?") for text in texts(key)):
            return query
    what = "Only who names a patient, an accession number or a study may ask here."
    raise NotPermitted(what, "Ask with one of them, without wildcards.")


class Known:
    """A catalog that shows whole studies of a share to who knows them; satisfies `Asked`."""

    def __init__(self, kept: Kept, share: Share) -> None:
        self._kept = kept
        self._rows = rows_in(share)
        self.find = kept.find
        self.select = kept.select
        self.changes = kept.changes
        self.head = kept.head

    def rows_of(self, StudyInstanceUID: str, share: int) -> dict[bytes, bytes]:
        """Return what the share has of a study, unprojected."""
        rows = self._kept.rows_of(StudyInstanceUID, ALL)
        live = {key: row for key, row in rows.items() if not is_tombstone(row)}
        return self._rows(StudyInstanceUID, live)


def rows_in(share: Share) -> Callable[[str, Mapping[bytes, bytes]], dict[bytes, bytes]]:
    """Return what picks a study's rows that are in a share: its series that match, and then the study."""
    admits = compile_matcher(share.match, Matching.PLAIN)

    def pick(study: str, rows: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        key = study.encode()
        if key not in rows:
            return {}
        above = decoded(read_study(rows[key]).attributes)
        found = {
            each: row
            for each, row in rows.items()
            if each != key and admits({**above, **decoded(read_series(row).attributes)})
        }
        return {key: rows[key], **found} if found else {}

    return pick


def stated(share: Share, secret: bytes) -> logs.Share:
    """Return a share as the log states it: its rows as its view shows them."""
    key = share_key(secret, share) if share.view is View.EXACT else b""
    projection, pick = Projection(share, key), rows_in(share)

    def project(study: str, rows: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        shown = {projection.key(each): projection.row(each, row) for each, row in pick(study, rows).items()}
        return {each: row for each, row in shown.items() if not is_tombstone(row)}

    terms = f"{share.view} {sorted(share.match.items())} {sha256(key).hexdigest()}"
    return logs.Share(share.number, terms, project)
