"""What waits for a person: UIDs that several versions claim, what strangers sent, what could not be taken."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from catalog import (
    Arrival,
    Attributes,
    BadRequest,
    CatalogWriter,
    Conflict,
    Entry,
    MoreNeeded,
    NotFound,
    ObjectStore,
    Verb,
    describe,
    scan,
)
from node.contracts import Audit, Caller, Device, Ingest, StoreResult
from node.held import HeldShelf
from node.keys import keyword_of, text_of
from node.reading import header_reader
from node.register import Register
from node.rejected import Rejected, RejectedShelf
from node.storage import read_meta

_MANY: Final = 1000
"""Conflicts listed at most; a person who has more needs another tool than a list."""
_HEAD: Final = 1 << 16
_PIECE: Final = 1 << 20


class Review:
    """Lists and decides; takes and returns what JSON can say."""

    def __init__(
        self,
        catalog: CatalogWriter,
        store: ObjectStore,
        ingest: Ingest,
        shelves: tuple[HeldShelf, RejectedShelf],
        register: Register,
        audit: Audit,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._ingest = ingest
        self._held, self._rejected = shelves
        self._register = register
        self._audit = audit

    def conflicts(self, resolved: bool = False) -> list[dict[str, Any]]:
        """Return the UIDs that several versions claim."""
        found = (one for one in self._catalog.conflicts(resolved) if one.resolved == resolved)
        return [_row(conflict) for conflict in islice(found, _MANY)]

    def conflict(self, sop: str) -> dict[str, Any]:
        """Return one conflict with what its versions say where they differ, the preferred version first."""
        conflict = self._conflict(sop)
        said = [self._header(version) for version in conflict.versions]
        tags = dict.fromkeys(tag for attributes in said for tag in attributes)
        rows = {tag: [text_of(attributes.get(tag, {})) for attributes in said] for tag in tags}
        different = {keyword_of(tag): row for tag, row in rows.items() if len(set(row)) > 1}
        return {**_row(conflict), "values": different}

    def prefer(self, sop: str, sha256: str, reason: str, who: str) -> dict[str, Any]:
        """Prefer one version of an instance, named by the beginning of its SHA-256, from now on."""
        versions = self._conflict(sop).versions
        named = [one for one in versions if sha256 and one.holding.sha256.hex().startswith(sha256.lower())]
        if len(named) != 1:
            what = f"{len(named) or 'No'} versions of {sop} have a SHA-256 that begins with {sha256!r}."
            raise NotFound(what, f"See: peerpacs conflicts show {sop}")
        [version] = named
        target = (version.StudyInstanceUID, version.SeriesInstanceUID, version.SOPInstanceUID)
        detail = version.holding.sha256.hex()
        return self._register.make(Verb.PREFER, target, reason=reason, who=who, detail=detail)

    def held(self) -> list[dict[str, Any]]:
        """Return what unknown senders stored and a person must release, a row for each sender and study."""
        groups: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
        for arrival in self._held.list():
            groups[arrival.entry.source, arrival.entry.StudyInstanceUID].append(arrival)
        return [
            {
                "source": source,
                "StudyInstanceUID": study,
                "instances": len(arrivals),
                "bytes": sum(arrival.entry.holding.size for arrival in arrivals),
                "since": min(arrival.entry.received for arrival in arrivals),
            }
            for (source, study), arrivals in sorted(groups.items())
        ]

    def release(self, reason: str, who: str, source: str = "", study: str = "") -> dict[str, Any]:
        """Let what waits of a sender, a study or both into the archive."""
        return self._judge(Verb.RELEASE, reason, who, source, study)

    def discard(self, reason: str, who: str, source: str = "", study: str = "") -> dict[str, Any]:
        """Throw away what waits of a sender, a study or both, for good."""
        return self._judge(Verb.DISCARD, reason, who, source, study)

    def rejected(self) -> list[dict[str, Any]]:
        """Return the data sets that could not be taken, oldest first."""
        return [msgspec.to_builtins(item) for item in self._rejected.list()]

    def retake(self, name: str, who: str) -> dict[str, Any]:
        """Take a rejected data set in after all, as what its own header says it is.

        Raises:
            BadRequest: it was refused again, and lies on the shelf as before.
        """
        item = self._rejected.find(name)
        result = _offer_again(self._rejected.path(item.name), item, self._ingest)
        self._rejected.discard(item.name)
        outcome = "refused again" if result.status else "stored"
        self._tell(item.name, "retake", outcome, who)
        if result.status:
            what = f"It was refused again, with {result.status:04X}: {result.comment.rstrip('.')}."
            raise BadRequest(what, "Its bytes are safe: peerpacs rejected list shows them under a new name.")
        return {"name": item.name, "outcome": outcome}

    def throw_away(self, name: str, who: str) -> dict[str, Any]:
        """Delete a rejected data set for good."""
        item = self._rejected.discard(name)
        self._tell(item.name, "throw away", "deleted", who)
        return {"name": item.name, "outcome": "deleted"}

    def _conflict(self, sop: str) -> Conflict:
        for conflict in self._catalog.conflicts(resolved=True):
            if conflict.SOPInstanceUID == sop:
                return conflict
        raise NotFound(f"No conflict is about {sop}.", "List them with: peerpacs conflicts list")

    def _header(self, version: Entry) -> Attributes:
        read, limit = header_reader(self._store), _HEAD
        while True:
            data, total = read(version, limit)
            try:
                return describe(data, version.TransferSyntaxUID, total)
            except MoreNeeded as more:
                limit = max(limit * 8, more.size)

    def _judge(self, verb: Verb, reason: str, who: str, source: str, study: str) -> dict[str, Any]:
        if not source and not study:
            raise BadRequest(f"What to {verb} was not said.", "Name a sender with --from, a study, or both.")
        groups: dict[str, list[str]] = defaultdict(list)
        for arrival in self._held.list(source, study):
            groups[arrival.entry.StudyInstanceUID].append(arrival.entry.holding.sha256.hex())
        if not groups:
            raise NotFound("Nothing of that waits for a person.", "See: peerpacs held list")
        for uid, digests in groups.items():
            self._register.make(verb, (uid,), reason=reason, who=who, detail=" ".join(digests))
        return {"studies": len(groups), "instances": sum(map(len, groups.values()))}

    def _tell(self, name: str, verb: str, outcome: str, who: str) -> None:
        self._audit.record("decision", None, outcome, {"who": who, "verb": verb, "rejected": name})


def _offer_again(path: Path, rejected: Rejected, ingest: Ingest) -> StoreResult:
    """Offer a rejected file to the one door in again, under the UIDs that its own header has.

    Raises:
        Unreadable: it is no data set, so no one can say what it is.
    """
    caller = Caller(rejected.source, rejected.address, "", Device(ae_title=rejected.source))
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        meta = read_meta(head)
        size = path.stat().st_size - meta.offset
        while True:
            try:
                header = scan(memoryview(head)[meta.offset :], meta.TransferSyntaxUID, size)
                break
            except MoreNeeded as more:
                head += stream.read(max(len(head) * 7, more.size))
        reception = ingest.begin(
            caller,
            header.SOPClassUID,
            header.SOPInstanceUID,
            meta.TransferSyntaxUID,
            is_held=rejected.is_held,
        )
        piece = head[meta.offset :]
        while piece:
            reception.space(len(piece))[:] = piece
            reception.filled(len(piece))
            piece = stream.read(_PIECE)
    return reception.finish()


def _row(conflict: Conflict) -> dict[str, Any]:
    return {
        "SOPInstanceUID": conflict.SOPInstanceUID,
        "StudyInstanceUID": conflict.versions[0].StudyInstanceUID if conflict.versions else "",
        "differences": list(conflict.differences),
        "since": conflict.since,
        "is_resolved": conflict.resolved,
        "versions": [
            {
                "sha256": version.holding.sha256.hex(),
                "size": version.holding.size,
                "source": version.source,
                "received": version.received,
                "StudyInstanceUID": version.StudyInstanceUID,
                "SeriesInstanceUID": version.SeriesInstanceUID,
            }
            for version in conflict.versions
        ],
    }
