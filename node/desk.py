"""What a person can ask of a node, as verbs that take and return what JSON can say.

The same table serves a running node's control socket and a command that opens the home by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from catalog import Attributes, BadRequest, Matching, NotFound, Selection, Verb, answer, understand
from node.certificates import describe
from node.keys import attributes_of, check_values, question
from node.life import life_of
from node.review import Review

if TYPE_CHECKING:
    from node.app import Node


class Desk:
    """The verbs of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._register = node.register
        shelves = (node.held, node.rejected)
        self._review = Review(node.catalog, node.store, node.ingest, shelves, self._register, node.audit)

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        node, review = self._node, self._review
        own = (
            self.status,
            self.find,
            self.correct,
            self.reject,
            self.delete,
            self.undo,
            self.trace,
            node.start_import,
            node.import_progress,
            node.stop_import,
        )
        waiting = (
            review.conflicts,
            review.conflict,
            review.prefer,
            review.held,
            review.release,
            review.discard,
            review.rejected,
            review.retake,
            review.throw_away,
        )
        return {verb.__name__: verb for verb in (*own, *waiting)}

    def status(self) -> dict[str, Any]:
        """Say how the node is: its name, what it holds, what waits for a person, and who was refused."""
        node = self._node
        held, rejected = self._review.held(), self._review.rejected()
        totals, disk = node.catalog.totals(), os.statvfs(node.main.folder)
        return {
            "name": node.config.node.name,
            "ae_title": node.config.node.ae_title,
            "node_id": node.config.node.node_id,
            "ports": node.ports,
            "started": node.started if node.ports else None,
            "archive": {
                "studies": totals.studies,
                "series": totals.series,
                "instances": totals.instances,
                "bytes": totals.size,
            },
            "disk": {
                "free": disk.f_bavail * disk.f_frsize,
                "size": disk.f_blocks * disk.f_frsize,
                "is_full": disk.f_bavail * disk.f_frsize < node.config.storage.stop_below_mb << 20,
            },
            "associations": node.dimse.counters(),
            "tls": self._tls(),
            "conflicts": totals.open_conflicts,
            "held": {
                "senders": sorted({row["source"] for row in held}),
                "instances": sum(row["instances"] for row in held),
                "bytes": sum(row["bytes"] for row in held),
            },
            "rejected": {"files": len(rejected), "bytes": sum(row["size"] for row in rejected)},
            "refusals": [msgspec.to_builtins(refusal) for refusal in node.access.refusals.last()],
        }

    def _tls(self) -> dict[str, Any] | None:
        """Say which certificate lies there, and why it is not in use if it is not; None without TLS."""
        node = self._node
        if not node.config.tls.port:
            return None
        problem = node.credentials.problem()
        try:
            shown = describe(node.home / node.config.tls.certificate_file)
        except BadRequest as error:
            return {"problem": problem or error.what}
        return {**shown._asdict(), "problem": problem}

    def find(self, keys: list[str], level: str = "", limit: int = 100) -> list[Attributes]:
        """Return what matches `Keyword=Value` keys, at most `limit` (0 = all), as C-FIND would answer."""
        query = understand(
            question(keys, level),
            patient_root=True,
            matching=Matching.RELATIONAL | Matching.COMBINED_DATE_TIME,
            is_lenient=False,
        )
        found = islice(self._node.catalog.find(query), limit or None)
        return [answer(query, each, ae_title=self._node.config.node.ae_title) for each in found]

    def correct(self, target: str, attributes: list[str], reason: str, who: str) -> dict[str, Any]:
        """Correct `Keyword=Value` attributes of a study, series or instance in everything that leaves."""
        changed = attributes_of(attributes)
        check_values(changed)
        return self._register.make(
            Verb.CORRECT, self._target(target), reason=reason, who=who, attributes=changed
        )

    def reject(self, target: str, reason: str, who: str) -> dict[str, Any]:
        """Hide a study, series or instance from every answer; its bytes stay."""
        return self._register.make(Verb.REJECT, self._target(target), reason=reason, who=who)

    def delete(self, target: str, reason: str, who: str) -> dict[str, Any]:
        """Delete a study, series or instance."""
        return self._register.make(Verb.DELETE, self._target(target), reason=reason, who=who)

    def undo(self, decision: str, reason: str, who: str) -> dict[str, Any]:
        """Take a decision back; a beginning of its id that fits no other is enough."""
        return self._register.undo(decision, reason=reason, who=who)

    def trace(self, study: str) -> dict[str, Any]:
        """Tell the life of a study in sentences, oldest first."""
        return life_of(study, self._node.catalog, self._node.held, self._node.home / "audit")

    def _target(self, text: str) -> tuple[str, ...]:
        """Return the UIDs from the study down that `study/series/instance` or any one UID names."""
        uids = tuple(part for part in text.split("/") if part)
        if len(uids) != 1:
            return uids[:3]
        [uid] = uids
        if self._node.catalog.decisions(uid) or self._node.catalog.select(Selection(studies=uids)):
            return uids
        if entries := self._node.catalog.select(Selection(series=uids)):
            return (entries[0].StudyInstanceUID, uid)
        if entries := self._node.catalog.select(Selection(instances=uids)):
            return (entries[0].StudyInstanceUID, entries[0].SeriesInstanceUID, uid)
        raise NotFound(f"{uid} is neither a study nor a series nor an instance here.", "See: peerpacs find")
