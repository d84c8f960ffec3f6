"""The decisions in force about a study, and what they do to what is answered.

Decisions are evaluated in the order of their time. What is undone is evaluated as if it had never been
said, so undo restores the old state exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from .attributes import BY_TAG, Level
from .errors import BadRequest, NotFound
from .model import Attributes, Decision, Entry, PatientKey, RejectedFor, Standing, Verb
from .order import first_value
from .rows import DECISION_CODEC, NAMES_CODEC, DecisionRow
from .truth import DECIDED, DECISION, Reads

PATIENT_IDENTITY: Final = ("00100020", "00100021", "00100010", "00100030", "00100040")
"""PatientID, IssuerOfPatientID, PatientName, PatientBirthDate, PatientSex."""
_OF_THE_STUDY: Final = frozenset({Level.PATIENT, Level.STUDY})
_IDENTIFIERS: Final = frozenset({"0020000D", "0020000E", "00080018", "00080016"})
_UID: Final = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_PATIENT_ID, _ISSUER = "00100020", "00100021"


class Preference(NamedTuple):
    """A person's choice among the versions of an instance; the latest is the largest."""

    when: int
    order: int
    SOPInstanceUID: str
    sha256: bytes


HIDING: Final = frozenset({Verb.REJECT, Verb.DELETE, Verb.ERASE})
"""Decisions after which nobody sees what they are about."""


class _Hiding:
    """A decision that hides something, made ready to be compared with thousands of instances."""

    def __init__(self, decision: Decision) -> None:
        self.verb = decision.verb
        self.when = decision.when
        self.target = decision.target
        self.depth = len(decision.target)
        self.is_past = self.verb is Verb.DELETE or decision.why == RejectedFor.EXPIRED
        """Whether what comes later is not covered."""
        self._only = frozenset(decision.detail.split()) if self.verb is Verb.REJECT else frozenset[str]()
        self.is_whole = not self._only

    def names(self, uids: tuple[str, str, str]) -> bool:
        return uids[: self.depth] == self.target and (self.is_whole or uids[2] in self._only)

    def covers(self, entry: Entry) -> bool:
        if self.is_past and entry.received > self.when:
            return False
        return self.names((entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID))


class Decided:
    """The decisions about one study that are in force."""

    def __init__(self, rows: Iterable[DecisionRow]) -> None:
        ordered = sorted(rows, key=lambda row: (row.decision.when, row.order))
        self.all = [row.decision for row in ordered]
        self._corrections: list[Decision] = []
        self._hidings: list[_Hiding] = []
        self.moves: dict[tuple[str, ...], Decision] = {}
        """The latest that moves a series, by where that was sent: out of this study, or into it."""
        self.holds: list[Decision] = []
        """Legal holds."""
        self.preferences: list[Preference] = []
        undone = self._undone = _undone(self.all)
        for row in ordered:
            decision = row.decision
            if decision.id in undone:
                continue
            if decision.verb is Verb.CORRECT:
                self._corrections.append(decision)
            elif decision.verb in HIDING:
                self._hidings.append(_Hiding(decision))
            elif decision.verb is Verb.HOLD:
                self.holds.append(decision)
            elif decision.verb is Verb.MOVE:
                self.moves[decision.target] = decision
            elif decision.verb is Verb.PREFER:
                version = bytes.fromhex(decision.detail)
                self.preferences.append(Preference(decision.when, row.order, decision.target[-1], version))

    def hides(self, entry: Entry) -> bool:
        """Say whether the instance is rejected, deleted or erased.

        A rejection covers what arrives later, unless the time was over; that and a deletion only what was
        received up to it, because after it the same study may be sent again.
        """
        return any(hiding.covers(entry) for hiding in self._hidings)

    def hiding(self, target: tuple[str, ...]) -> set[Verb]:
        """Return how a study or series is hidden as a whole: rejected, deleted, both, or not at all."""
        return {each.verb for each in self._hidings if each.is_whole and target[: each.depth] == each.target}

    def deletes(self, entry: Entry) -> bool:
        """Say whether what hides the instance lets it come back as new: its bytes may be gone."""
        return any(hiding.is_past and hiding.covers(entry) for hiding in self._hidings)

    def is_in_force(self, decision: Decision) -> bool:
        """Say whether a decision was taken in here, and not taken back."""
        return decision.id not in self._undone and any(each.id == decision.id for each in self.all)

    def is_covered(self, decision: Decision, entry: Entry) -> bool:
        """Say whether a deletion or erasure that is in force is about this instance."""
        return self.is_in_force(decision) and _Hiding(decision).covers(entry)

    def rejects(self, entry: Entry) -> bool:
        """Say whether the instance is rejected, and neither deleted nor erased."""
        verbs = {hiding.verb for hiding in self._hidings if hiding.covers(entry)}
        return verbs == {Verb.REJECT}

    def standing(self, uids: tuple[str, str, str]) -> Standing:
        """Return what was decided about an instance that arrives now."""
        verbs = {each.verb for each in self._hidings if not each.is_past and each.names(uids)}
        if Verb.ERASE in verbs:
            return Standing.ERASED
        if verbs:
            return Standing.REJECTED
        identity = set(PATIENT_IDENTITY) & self.corrections(*uids).keys()
        return Standing.CORRECTED if identity else Standing.PLAIN

    def settles_patient_of(self, entry: Entry) -> bool:
        """Say whether an instance of another patient than its study's raises no alarm (any more)."""
        return self.hides(entry) or any(
            len(correction.target) == 1
            and entry.received <= correction.when
            and not set(PATIENT_IDENTITY).isdisjoint(correction.attributes)
            for correction in self._corrections
        )

    @property
    def corrects(self) -> bool:
        """Whether any correction of the study, or of something in it, is in force, or a series was moved."""
        return bool(self._corrections or self.moves)

    @property
    def overlay(self) -> bytes:
        """What changes with every correction or move that is in force; empty without one."""
        ids = [each.id for each in (*self._corrections, *self.moves.values())]
        return sha256("".join(ids).encode()).digest()[:8] if ids else b""

    def move_of(self, study: str, series: str) -> Decision | None:
        """Return the decision by which a series lies in this study though it was sent in another."""
        for move in self.moves.values():
            if move.detail == study and move.target[1] == series and move.target[0] != study:
                return move
        return None

    def in_force(self, entry: Entry) -> list[Decision]:
        """Return the corrections of an instance, its series and study, oldest first."""
        uids = (entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID)
        return [each for each in self._corrections if uids[: len(each.target)] == each.target]

    def corrections(self, *uids: str) -> Attributes:
        """Return every corrected attribute of the study, series or instance; the newest wins."""
        merged: Attributes = {}
        for correction in self._corrections:
            if uids[: len(correction.target)] == correction.target:
                merged.update(correction.attributes)
        return merged

    def within(self, study: str, series: str) -> list[Decision]:
        """Return the corrections of a series, of its study, and of anything in it."""
        uids = (study, series)
        return [each for each in self._corrections if uids[: len(each.target)] == each.target[:2]]

    def of_the_study(self, uid: str) -> Attributes:
        """Return the corrections that change what is answered about the study or its patient."""
        found = self.corrections(uid)
        return {tag: value for tag, value in found.items() if _level(tag) in _OF_THE_STUDY}

    def of_the_series(self, study: str, series: str) -> Attributes:
        """Return the corrections that change the series' attributes of the fixed table."""
        found = self.corrections(study, series)
        return {tag: value for tag, value in found.items() if _level(tag) is Level.SERIES}


def _undone(decisions: list[Decision]) -> set[str]:
    undone: set[str] = set()
    for decision in reversed(decisions):
        if decision.verb is Verb.UNDO and decision.id not in undone:
            undone.add(decision.detail)
    return undone


def _level(tag: str) -> Level | None:
    row = BY_TAG.get(tag)
    return row.level if row else None


def load(reads: Reads, StudyInstanceUID: str) -> Decided:
    """Return the decisions about a study."""
    return Decided(_rows(reads, StudyInstanceUID))


def _rows(reads: Reads, StudyInstanceUID: str) -> Iterable[DecisionRow]:
    """Yield the decisions under a study, and those about series that lie in it and did not always."""
    own = list(_rows_under(reads, StudyInstanceUID))
    yield from own
    for target in {row.decision.target for row in own if row.decision.verb is Verb.MOVE}:
        yield from _brought_along(reads, StudyInstanceUID, target)


def _brought_along(reads: Reads, StudyInstanceUID: str, target: tuple[str, ...]) -> Iterable[DecisionRow]:
    """Yield what was decided about a moved series in each study that it lay in before it came to this one.

    `target` is the study in which it was sent, and the series.
    """
    at_home = list(_rows_under(reads, target[0]))
    known = Decided(at_home)
    move = known.moves.get(target)
    if (move.detail if move else target[0]) != StudyInstanceUID:
        return
    if move and target[0] != StudyInstanceUID:
        yield from _held_before(reads, known, move)
    places = {target[0], *(each.detail for each in known.all if _moves(each, target))}
    for place in places - {StudyInstanceUID}:
        for row in at_home if place == target[0] else _rows_under(reads, place):
            decision = row.decision
            if decision.target[:2] == (place, target[1]) and decision.verb is not Verb.MOVE:
                moved = (StudyInstanceUID, *decision.target[1:])
                yield DecisionRow(msgspec.structs.replace(decision, target=moved), row.order)


def _held_before(reads: Reads, sent_in: Decided, move: Decision) -> Iterable[DecisionRow]:
    """Yield the legal holds on studies that a series was in before it was moved: they go on holding it."""
    others = {each.detail for each in sent_in.all if _moves(each, move.target)}
    known = [Decided(_rows_under(reads, study)) for study in others - {move.detail, move.target[0]}]
    for decided in (sent_in, *known):
        for hold in decided.holds:
            if len(hold.target) == 1 and hold.when <= move.when:
                target = (move.detail, move.target[1])
                yield DecisionRow(msgspec.structs.replace(hold, target=target), 0)


def _moves(decision: Decision, target: tuple[str, ...]) -> bool:
    return decision.verb is Verb.MOVE and decision.target == target


def place_of(reads: Reads, StudyInstanceUID: str, SeriesInstanceUID: str) -> str:
    """Return the study in which a series lies now that was sent in this one, or lay in it for a time."""
    for row in _rows_under(reads, StudyInstanceUID):
        target = row.decision.target
        if row.decision.verb is Verb.MOVE and target[1] == SeriesInstanceUID:
            move = Decided(_rows_under(reads, target[0])).moves.get(target)
            return move.detail if move else target[0]
    return StudyInstanceUID


def _rows_under(reads: Reads, StudyInstanceUID: str) -> Iterable[DecisionRow]:
    stored = reads.get(DECIDED + StudyInstanceUID.encode())
    for id in NAMES_CODEC.unpack(stored) if stored else ():
        row = reads.get(DECISION + id.encode())
        if row is not None:
            yield DECISION_CODEC.unpack(row)


def corrected_patient(key: PatientKey, corrections: Attributes, study: str) -> PatientKey | None:
    """Return the patient after the corrections, or None when they leave the patient alone."""
    if _PATIENT_ID not in corrections and _ISSUER not in corrections:
        return None
    id, issuer = key.PatientID, key.IssuerOfPatientID
    if _PATIENT_ID in corrections:
        id = str(first_value(corrections, _PATIENT_ID) or "")
    if _ISSUER in corrections:
        issuer = str(first_value(corrections, _ISSUER) or "")
    return PatientKey(issuer, id, "" if id else study)


def check(decision: Decision) -> None:
    """Refuse what cannot be decided.

    Raises:
        BadRequest: with the offending tags.
    """
    if decision.verb in (Verb.RELEASE, Verb.DISCARD):
        raise BadRequest(
            "Held instances are not in the catalog.", "Release or discard them where they are held."
        )
    if not 1 <= len(decision.target) <= 3 and decision.verb is not Verb.UNDO:
        raise BadRequest("A decision names a study, a series or an instance.", "Give one to three UIDs.")
    if decision.verb is Verb.CORRECT:
        _check_correction(decision)
    if decision.verb is Verb.MOVE and (len(decision.target) != 2 or not _UID.fullmatch(decision.detail)):
        raise BadRequest("To move takes a series and a study.", "Name a Study Instance UID for it.")
    if decision.verb is Verb.PREFER and (len(decision.target) != 3 or not _is_sha256(decision.detail)):
        raise BadRequest(
            "To prefer a version takes its instance and the SHA-256 of its file.",
            "`peerpacs conflicts` shows both.",
        )


def _check_correction(decision: Decision) -> None:
    tags = set(decision.attributes)
    if offending := tags & _IDENTIFIERS:
        raise BadRequest(
            "The UIDs of a study, series or instance cannot be corrected.",
            "Reject it and send it again under the right UIDs.",
            tuple(sorted(offending)),
        )
    too_high = {tag for tag in tags if _level(tag) in _OF_THE_STUDY} if len(decision.target) > 1 else set()
    if len(decision.target) > 2:
        too_high |= {tag for tag in tags if _level(tag) is Level.SERIES}
    if too_high:
        raise BadRequest(
            "Patient and study attributes belong to a whole study, series attributes to a whole series.",
            "Correct the study or the series.",
            tuple(sorted(too_high)),
        )


def _is_sha256(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == 32
    except ValueError:
        return False


def not_here(target: tuple[str, ...]) -> NotFound:
    """Return the error for a decision about something that is not in the catalog."""
    what = ("study", "series", "instance")[len(target) - 1] if 1 <= len(target) <= 3 else "decision"
    return NotFound(f"There is no such {what} here.", "Check the UIDs, for example with `peerpacs find`.")
