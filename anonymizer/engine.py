"""The pipeline for one instance: admit, pixels, tags, identity, markers, seal (PS3.15 Annex E).

It fails closed. Whatever it cannot vouch for raises Quarantined with a reason; an error nobody foresaw
does too. The source is never altered, nothing is asked of a network or a clock, and the same instance,
policy and key always give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from anonymizer import markers, ocr, pixels, structured
from anonymizer.actions import Memory, Work
from anonymizer.assignment import NOTHING, Assignment, Label
from anonymizer.elements import PIXEL_DATA, Element, Item, Part10, read_part10, text_value, write_part10
from anonymizer.iod import Path, is_supported, must_have_pixels, types_of
from anonymizer.keys import ProjectKey
from anonymizer.policy import Policy
from anonymizer.private import safe_list
from anonymizer.quarantine import Quarantined, Reason
from anonymizer.subject import Subject, subject_of
from anonymizer.table import Option
from anonymizer.text import Identifiers

_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_STUDY, _SERIES, _ACCESSION = 0x0020000D, 0x0020000E, 0x00080050
_REFERENCED = 0x00081155
_SUBJECT_ID, _TIME_POINT = 0x00120040, 0x00120050
_PATIENT_ID, _ENCAPSULATED = 0x00100020, 0x00420011
_HEAD = ("HEAD", "BRAIN", "SKULL", "FACE", "NECK", "ORBIT", "JAW", "SINUS", "EAR", "EYE")

_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)
_PLACEHOLDERS = {"application/pdf": _PDF, "model/stl": b"\0" * 84}


@dataclass(frozen=True, slots=True)
class Deidentified:
    """A de-identified instance and the account of how it came about.

    `old_uids` (Study, Series, SOP Instance) and `old_references` (SOP Instances) are for the site's own
    record and the batch's checks; no other field holds an old value.
    """

    file: Part10
    subject: str
    study: str
    series: str
    instance: str
    codes: tuple[str, ...]
    boxes: tuple[pixels.Box, ...]
    counts: Counter[str]
    log: tuple[tuple[Path, int, str], ...]
    unknown_words: frozenset[str]
    has_face_risk: bool
    is_by_ocr: bool
    accession: str
    was_ours: bool
    old_uids: tuple[str, str, str]
    references: tuple[str, ...]
    old_references: tuple[str, ...]

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The Part 10 file."""
        return write_part10(self.file)


class Engine:
    """De-identifies instances under one policy with one project key."""

    def __init__(self, policy: Policy, key: ProjectKey, assignment: Assignment = NOTHING) -> None:
        self.policy = policy
        self.key = key
        self.assignment = assignment
        self._memory = Memory()
        self._safe = safe_list(policy.document["private"]["list"])

    def subject(self, root: Item) -> Subject:
        """Who an instance is about; raises Quarantined if that cannot be told."""
        subject = subject_of(
            root,
            strips_zeros=self.policy.document["leading_zeros"] == "strip",
            keeps_places=self.policy.shows(Option.RETAIN_INSTITUTION_IDENTITY),
            issuer=self.assignment.issuer_of(text_value(root, _STUDY)),
        )
        return subject._replace(identity=self.assignment.same.get(subject.identity, subject.identity))

    def is_suspect(self, data: bytes | memoryview, known: Identifiers | None = None) -> bool:
        """Whether OCR must read each image of this one's series: it names the subject, or cannot be read.

        `known` as for `deidentify`.
        """
        try:
            source = read_part10(data)
            if not pixels.needs_sample(source.root, self.policy):
                return False
            if markers.is_sealed(source.root, self.policy, self.key):
                return False
            found = self.subject(source.root).identifiers
            return ocr.names_subject(source, data, found | known if known else found)
        except Exception:
            # Whatever it is, reading each image will tell, and hold it.
            return True

    def deidentify(
        self,
        data: bytes | memoryview,
        known: Identifiers | None = None,
        suspects: frozenset[str] | None = None,
    ) -> Deidentified:
        """The de-identified instance; raises Quarantined with the reason if there can be none.

        `known` is what the batch has learned about this subject from its other instances, `suspects` the
        Series Instance UIDs for which `is_suspect` was true of an image; None = this image is its own sample.
        """
        try:
            return self._deidentify(data, known, suspects)
        except Quarantined:
            raise
        except Exception as error:
            sentence = f"The engine did not foresee this instance ({type(error).__name__})."
            raise Quarantined(Reason.INTERNAL_ERROR, sentence) from error

    def _deidentify(
        self, data: bytes | memoryview, known: Identifiers | None, suspects: frozenset[str] | None
    ) -> Deidentified:
        source = read_part10(data)
        root = source.root
        is_ours = markers.is_sealed(root, self.policy, self.key)
        self._admit(root)
        was_cleaned = is_ours and markers.claims(root, Option.CLEAN_PIXEL_DATA)
        look = partial(ocr.text_boxes, source, data, ocr.SURE_ENOUGH_TO_BLANK)
        is_suspect = (
            self.is_suspect(data, known) if suspects is None else text_value(root, _SERIES) in suspects
        )
        plan = pixels.plan(
            root, self.policy, look, is_ours=is_ours, was_cleaned=was_cleaned, is_suspect=is_suspect
        )
        work = self._work(root, known, is_ours=is_ours)
        copy = work.root(root)
        if work.unknown_words and self.policy.document["text"]["review"] == "hold":
            raise Quarantined(
                Reason.TEXT_REVIEW_PENDING,
                "Its free text has words that nobody has approved for the project.",
            )
        placeholder = self._placeholder(root)
        if _ENCAPSULATED in copy and placeholder is not None:
            copy[_ENCAPSULATED] = Element("OB", placeholder)
        transfer_syntax = pixels.carry_out(plan, copy, source, data)
        codes = self._mark(root, copy, work, plan)
        file = Part10(markers.file_meta(copy, transfer_syntax), copy, transfer_syntax)
        if plan.is_by_ocr and ocr.text_boxes(file, b"".join(write_part10(file)), ocr.SURE_ENOUGH_TO_HOLD):
            raise Quarantined(Reason.BURNED_IN_RISK, "OCR still reads text after what it found was blanked.")
        return _account(root, file, work, plan, codes)

    def _work(self, root: Item, known: Identifiers | None, *, is_ours: bool) -> Work:
        subject = Subject("", Identifiers()) if is_ours else self._identified(root, known)
        types = types_of(text_value(root, _SOP_CLASS), root)
        work = Work(self.policy, self.key, self._safe, subject, types, self._memory, is_ours=is_ours)
        if structured.CONTENT_SEQUENCE in root:
            work.may_drop = not structured.uses_references(root)
        return work

    def _mark(self, root: Item, copy: Item, work: Work, plan: pixels.Plan) -> list[str]:
        """Gives the copy its identity, markers and seal, and returns the claimed codes."""
        old = text_value(root, _PATIENT_ID)
        pseudonym = old if work.is_ours else self.key.subject(work.subject.identity)
        label = self.assignment.label(work.subject.identity, text_value(root, _STUDY))
        if work.is_ours:
            label = Label(text_value(root, _SUBJECT_ID), text_value(root, _TIME_POINT))
        accession = self._accession(root, is_ours=work.is_ours)
        markers.set_identity(copy, self.policy, pseudonym, accession, label)
        facts = markers.Facts(
            pixels_cleaned=plan.is_cleaned,
            pixels_changed=bool(plan.boxes),
            holds_device_dates=markers.device_dates_in(root),
        )
        codes = markers.add_markers(copy, self.policy, facts)
        markers.add_seal(copy, self.key)
        return codes

    def _admit(self, root: Item) -> None:
        if not is_supported(text_value(root, _SOP_CLASS)):
            raise Quarantined(
                Reason.UNSUPPORTED_SOP_CLASS,
                "Its SOP Class is private, retired or not known to this edition.",
            )
        if must_have_pixels(text_value(root, _SOP_CLASS)) and PIXEL_DATA not in root:
            raise Quarantined(Reason.UNREADABLE, "It is an image by its SOP Class and has no pixel data.")
        if not all(_uids(root)):
            raise Quarantined(Reason.UNREADABLE, "It lacks a Study, Series or SOP Instance UID.")
        if structured.CONTENT_SEQUENCE in root and not self.policy.shows(Option.CLEAN_STRUCTURED_CONTENT):
            raise Quarantined(
                Reason.SR_WITHOUT_OPTION, "It is a structured report, and the policy does not choose 113104."
            )
        if _ENCAPSULATED in root and self._placeholder(root) is None:
            raise Quarantined(Reason.ENCAPSULATED, "It holds a document that nothing here can look into.")
        is_strict = self.policy.document["faces"] == "quarantine" or self.policy.shows(
            Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES
        )
        if is_strict and _has_face_risk(root):
            raise Quarantined(
                Reason.FACE_RISK, "It is a thin slice of a head, from which a face can be rebuilt."
            )

    def _identified(self, root: Item, known: Identifiers | None) -> Subject:
        subject = self.subject(root)
        if not subject.identity:
            raise Quarantined(
                Reason.NO_SUBJECT_IDENTITY, "It has no Patient ID, so no pseudonym can be given."
            )
        return subject if known is None else Subject(subject.identity, subject.identifiers | known)

    def _accession(self, root: Item, *, is_ours: bool) -> str:
        number = text_value(root, _ACCESSION)
        if not number or self.policy.document["accession"] == "empty":
            return ""
        return number if is_ours else self.key.accession(number)

    def _placeholder(self, root: Item) -> bytes | None:
        if self.policy.document["encapsulated"] != "placeholder":
            return None
        return _PLACEHOLDERS.get(text_value(root, 0x00420012).lower())


def _account(source: Item, file: Part10, work: Work, plan: pixels.Plan, codes: list[str]) -> Deidentified:
    study, series, instance = _uids(file.root)
    return Deidentified(
        file=file,
        subject=text_value(file.root, _PATIENT_ID),
        study=study,
        series=series,
        instance=instance,
        codes=tuple(codes),
        boxes=plan.boxes,
        counts=work.counts,
        log=tuple(work.log),
        unknown_words=frozenset(work.unknown_words),
        has_face_risk=_has_face_risk(file.root),
        is_by_ocr=plan.is_by_ocr,
        accession=text_value(file.root, _ACCESSION),
        was_ours=work.is_ours,
        old_uids=_uids(source),
        references=tuple(_references(file.root)),
        old_references=tuple(_references(source)),
    )


def _uids(root: Item) -> tuple[str, str, str]:
    return text_value(root, _STUDY), text_value(root, _SERIES), text_value(root, _SOP_INSTANCE)


def _references(item: Item) -> Iterator[str]:
    """The Referenced SOP Instance UIDs at any depth."""
    if _REFERENCED in item:
        yield text_value(item, _REFERENCED)
    for element in item.values():
        if isinstance(element.value, tuple):
            for nested in element.value:
                yield from _references(nested)


def _has_face_risk(root: Item) -> bool:
    """Whether this is a CT, MR or PET slice of 2 mm or less of a head, or of a part it does not name."""
    if text_value(root, 0x00080060) not in ("CT", "MR", "PT"):
        return False
    try:
        thickness = float(text_value(root, 0x00180050) or 0)
    except ValueError:
        thickness = 0
    part = text_value(root, 0x00180015).upper()
    return 0 < thickness <= 2 and (not part or any(name in part for name in _HEAD))
