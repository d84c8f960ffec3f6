"""What a person can ask about what an archive keeps, as verbs that take and return what JSON can say."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from catalog import (
    Attributes,
    BadRequest,
    Busy,
    Matching,
    NotFound,
    RejectedFor,
    Selection,
    Verb,
    answer,
    understand,
)
from node.agreement import disagreement
from node.archives import DEFAULT
from node.audit import Line
from node.deletions import Deletions
from node.drain import WHAT
from node.inventory import page_of
from node.keys import attributes_of, check_values, question
from node.life import decisions_of, life_of
from node.retention_desk import RetentionDesk
from node.review import Review
from node.storekeeping import Storekeeping
from node.targets import target_of
from node.transfers.desk import TransferDesk

if TYPE_CHECKING:
    from node.app import Archive, Node


class ArchiveDesk:
    """The verbs of one archive; nothing of another can be seen or changed by them."""

    def __init__(self, node: Node, archive: Archive) -> None:
        self._node = node
        self._archive = archive
        self._register = archive.register
        shelves = (archive.held, archive.rejected)
        self.review = Review(
            archive.catalog, archive.store, archive.ingest, shelves, self._register, archive.audit
        )

    @property
    def storekeeping(self) -> Storekeeping:
        """What is asked about the disks and the soundness of what lies on them."""
        return Storekeeping(self._archive, self._archive.verifications, self._node.verify)

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        review = self.review
        own = (
            self.find,
            self.correct,
            self.reject,
            self.delete,
            self.erase,
            self.hold,
            self.move_series,
            self.join_studies,
            self.confirm,
            self.deletions,
            self.undo,
            self.trace,
            self.decisions,
            self.references,
            self.inventory,
            self.start_import,
            self._node.imports.imports,
            self._node.imports.import_progress,
            self._node.imports.stop_import,
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
        node, archive = self._node, self._archive
        transfers = TransferDesk(
            lambda: node.transfers, archive.name, archive.catalog, node.devices, archive.audit
        )
        named: tuple[Callable[..., Any], ...] = (*own, *waiting, *transfers.verbs())
        retention = RetentionDesk(archive.retention, archive.clock_guard, archive.audit, node.clock)
        return {verb.__name__: verb for verb in named} | self.storekeeping.verbs() | retention.verbs()

    def references(self, study: str) -> list[tuple[str, str]]:
        """Return SOP Class and SOP Instance UID of every instance of a study that can be seen."""
        entries = self._archive.catalog.select(Selection(studies=(study,)))
        return [(entry.SOPClassUID, entry.SOPInstanceUID) for entry in entries]

    def inventory(self, after: str) -> dict[str, Any]:
        """Return a page of all that is stored, hidden versions too, and where the next one begins."""
        return page_of(self._archive.catalog, self.find, after)

    def start_import(self, source: str, issuer: str = "", patient: str = "", who: str = "") -> str:
        """Import a folder, zip file or DICOMDIR into this archive; return the job's name.

        Raises:
            Busy: the node is drained.
        """
        if self._node.ports and self._node.drain.is_on:
            raise Busy(WHAT, "Import it when the node is back, or first: peerpacs drain --off")
        return self._node.imports.start(source, self._archive, issuer, patient, who)

    def find(self, keys: list[str], level: str = "", limit: int = 100) -> list[Attributes]:
        """Return what matches `Keyword=Value` keys, at most `limit` (0 = all), as C-FIND would answer."""
        query = understand(
            question(keys, level),
            patient_root=True,
            matching=Matching.RELATIONAL | Matching.COMBINED_DATE_TIME,
            is_lenient=False,
        )
        found = islice(self._archive.catalog.find(query), limit or None)
        return [answer(query, each, ae_title=self._archive.plan.ae_title) for each in found]

    def correct(self, target: str, attributes: list[str], reason: str, who: str) -> dict[str, Any]:
        """Correct `Keyword=Value` attributes of a study, series or instance in everything that leaves.

        `warnings` says in what the patient's other studies contradict it now.
        """
        changed = attributes_of(attributes)
        check_values(changed)
        found = target_of(self._archive.catalog, target)
        made = self._register.make(Verb.CORRECT, found, reason=reason, who=who, attributes=changed)
        warnings = [
            f"Other studies of this patient have another {word}: correct those too, or this one."
            for word in disagreement(self._archive.catalog, found[0], changed)
        ]
        return {**made, "warnings": warnings}

    def reject(self, target: str, reason: str, who: str, why: str = "quality") -> dict[str, Any]:
        """Hide a study, series or instance from every answer; its bytes stay.

        `why` is one of `RejectedFor`: it decides what becomes of it when it is sent again.
        """
        try:
            kind = RejectedFor(why)
        except ValueError:
            remedy = f"Say one of: {', '.join(RejectedFor)}."
            raise BadRequest(f"{why!r} is no kind of rejection.", remedy) from None
        found = target_of(self._archive.catalog, target)
        return self._register.make(Verb.REJECT, found, reason=reason, who=who, why=kind)

    def delete(self, target: str, reason: str, who: str) -> dict[str, Any]:
        """Delete a study, series or instance."""
        return self._register.make(
            Verb.DELETE, target_of(self._archive.catalog, target), reason=reason, who=who
        )

    def erase(self, target: str, reason: str, who: str) -> dict[str, Any]:
        """Erase a study, series or instance for good: bytes, rows, and every trace that names the patient."""
        return self._register.make(
            Verb.ERASE, target_of(self._archive.catalog, target), reason=reason, who=who
        )

    def hold(self, target: str, reason: str, who: str) -> dict[str, Any]:
        """Put a legal hold on a study, series or instance: nothing deletes it until that is undone."""
        return self._register.make(
            Verb.HOLD, target_of(self._archive.catalog, target), reason=reason, who=who
        )

    def confirm(self, wish: str, who: str) -> dict[str, Any]:
        """Have done, as the second person, what another one wished to delete or erase."""
        return self._register.confirm(wish, who=who)

    def deletions(self) -> dict[str, Any]:
        """Return what was ordered to go and how far it is, and what waits for a second person."""
        return Deletions(self._node, self._archive).told()

    def move_series(
        self, series: list[str], to: str, reason: str, who: str, attributes: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """Move series to another study, or with `to` empty to a new one with these `Keyword=Value`s."""
        changed = attributes_of(attributes or [])
        check_values(changed)
        if to and changed:
            raise BadRequest("Attributes are given to a new study only.", "Correct the study instead.")
        study = to or f"2.25.{uuid.uuid4().int}"
        catalog, found = self._archive.catalog, []
        for uid in series:
            target = target_of(catalog, uid)
            if len(target) != 2:
                raise BadRequest(f"{uid} is no series.", "Name Series Instance UIDs.")
            said = changed if to else {**self._corrected(target), **changed}
            found.append(((catalog.sent_in(*target), target[1]), said))
        if to and not catalog.select(Selection(studies=(to,))) and any(to != each[0] for each, _ in found):
            raise NotFound(f"Study {to} is not here.", "Look it up with: peerpacs find")
        return [
            self._register.make(Verb.MOVE, each, reason=reason, who=who, attributes=said, detail=study)
            for each, said in found
        ]

    def _corrected(self, target: tuple[str, ...]) -> Attributes:
        """Return what a series says of its study otherwise than its bytes do, and will in a new one too."""
        catalog, said = self._archive.catalog, Attributes()
        for entry in catalog.select(Selection(studies=target[:1], series=target[1:]))[:1]:
            for each in catalog.corrections(entry):
                said.update(each.attributes if len(each.target) == 1 else {})
        said.pop("0020000D", None)
        return said

    def join_studies(self, study: str, into: str, reason: str, who: str) -> list[dict[str, Any]]:
        """Move every series of a study into another one.

        Raises:
            NotFound: one of them is not here.
        """
        catalog = self._archive.catalog
        entries = [catalog.select(Selection(studies=(uid,))) for uid in (study, into)]
        if not all(entries) or study == into:
            raise NotFound("To join takes two studies that are here.", "Look them up with: peerpacs find")
        series = list(dict.fromkeys(f"{study}/{entry.SeriesInstanceUID}" for entry in entries[0]))
        return self.move_series(series, into, reason, who)

    def undo(self, decision: str, reason: str, who: str) -> dict[str, Any]:
        """Take a decision back; a beginning of its id that fits no other is enough."""
        return self._register.undo(decision, reason=reason, who=who)

    def trace(self, study: str) -> dict[str, Any]:
        """Tell the life of a study in sentences, oldest first."""
        lines = self._node.home / "audit"
        return life_of(study, self._archive.catalog, self._archive.held, lines, self._is_ours)

    def decisions(self, study: str) -> list[dict[str, Any]]:
        """Return what persons decided about a study, newest first, and what of it can be taken back."""
        return decisions_of(study, self._archive.catalog)

    def _is_ours(self, line: Line) -> bool:
        """Say whether a line of the audit, which all archives share, is about this one."""
        if line.called:
            return line.called in self._archive.plan.ae_titles
        return bool(line.detail.get("archive", DEFAULT) == self._archive.name)
