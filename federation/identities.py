"""Whose patient is meant: identities are (issuer, id), linked by people, never merged by likeness.

A Patient ID that a device asks for without an issuer is one of its own issuer (PS3.4 C.6.1), or of an
identity linked to such a one; the same number at another hospital is somebody else. Everything here is a
pure function over links, so that rows and objects are rewritten by the same rule.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, NamedTuple

from catalog import Attributes, BadRequest, Matching, PatientKey, Query, compile_matcher, is_universal, texts

PATIENT_ID: Final = "00100020"
ISSUER: Final = "00100021"
_LONGEST: Final = 64
"""Characters of a value of VR LO, PS3.5 6.2."""
Identity = tuple[str, str]
"""(IssuerOfPatientID, PatientID)."""


class ForeignIds(StrEnum):
    """How a device is shown the Patient ID of a patient its issuer does not know."""

    PREFIX = "prefix"
    """As ISSUER/ID, for devices that look at the Patient ID alone."""
    KEEP = "keep"
    """As it is, for devices that understand Issuer of Patient ID."""


class Asker(NamedTuple):
    """Who asks, as far as it decides what a Patient ID means and how one is shown."""

    issuer: str = ""
    """The issuer it means when it names none; empty: it knows no issuers at all."""
    all_issuers: bool = False
    """Whether a Patient ID without an issuer may mean any hospital's."""
    foreign_ids: ForeignIds = ForeignIds.PREFIX


class Links:
    """Which identities belong to one person, by what people said; looked up, never guessed."""

    def __init__(self, pairs: Iterable[tuple[Identity, Identity]] = ()) -> None:
        self._group: dict[Identity, frozenset[Identity]] = {}
        for one, other in pairs:
            united = self.of(one) | self.of(other)
            for identity in united:
                self._group[identity] = united

    def of(self, identity: Identity) -> frozenset[Identity]:
        """Return every identity of the person, the given one among them."""
        return self._group.get(identity) or frozenset((identity,))

    def groups(self) -> set[frozenset[Identity]]:
        """Return the persons who have several identities."""
        return set(self._group.values())

    def person(self, patient: PatientKey) -> tuple[str, ...]:
        """Return a name that two patients share exactly if they are one person."""
        if not patient.PatientID:
            return ("", "", patient.anonymous_study)
        return min(self.of((patient.IssuerOfPatientID, patient.PatientID)))


NO_LINKS: Final = Links()


def read_links(text: str) -> list[tuple[Identity, Identity]]:
    """Return the links of a CSV feed: issuer, id, issuer, id in each line, after an optional header.

    Raises:
        BadRequest: a line has other fields, or an empty one.
    """
    found = []
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        fields = [field.strip() for field in row]
        if not fields or fields[0].startswith("#") or (number == 1 and "issuer" in fields[0].casefold()):
            continue
        if len(fields) != 4 or not all(fields):
            raise BadRequest(
                f"Line {number} of the links is not: issuer, id, issuer, id.",
                "Correct it; none was taken in.",
            )
        found.append(((fields[0], fields[1]), (fields[2], fields[3])))
    return found


class Shown(NamedTuple):
    """A patient as a device is shown it."""

    IssuerOfPatientID: str
    PatientID: str
    is_foreign: bool
    """Whether neither it nor an identity linked to it is of the device's issuer."""


def shown(patient: PatientKey, asker: Asker, links: Links = NO_LINKS) -> Shown:
    """Return the identity under which the device sees the patient."""
    issuer, id = patient.IssuerOfPatientID, patient.PatientID
    if not id or issuer == asker.issuer or not asker.issuer:
        return Shown(issuer, id, False)
    own = sorted(id for linked, id in links.of((issuer, id)) if linked == asker.issuer)
    if own:
        return Shown(asker.issuer, own[0], False)
    if asker.foreign_ids is ForeignIds.KEEP:
        return Shown(issuer, id, True)
    return Shown(issuer, prefixed(issuer, id), True)


def prefixed(issuer: str, id: str) -> str:
    """Return ISSUER/ID; where that is too long for its VR, with a hash in place of what does not fit."""
    whole = f"{issuer}/{id}"
    if len(whole) <= _LONGEST:
        return whole
    digest = sha256(whole.encode()).hexdigest()[:16]
    return f"{whole[: _LONGEST - 17]}~{digest}"


def rewritten(attributes: Attributes, seen: Shown) -> Attributes:
    """Return the attributes, of a row or an object, with the patient's identity as the device sees it."""
    if not seen.PatientID:
        return attributes
    changed = {**attributes, PATIENT_ID: {"vr": "LO", "Value": [seen.PatientID]}}
    if seen.IssuerOfPatientID:
        changed[ISSUER] = {"vr": "LO", "Value": [seen.IssuerOfPatientID]}
    return changed


class IdentityTest:
    """The keys Patient ID and Issuer of Patient ID of one question, with what this device means by them."""

    def __init__(self, query: Query, asker: Asker, links: Links) -> None:
        keys: Attributes = {
            tag: query.keys[tag]
            for tag in (PATIENT_ID, ISSUER)
            if tag in query.keys and not is_universal(query.keys[tag])
        }
        self._test: Callable[[Attributes], bool] | None = (
            compile_matcher(keys, Matching.PLAIN) if keys else None
        )
        self._ids = tuple(text.strip() for text in texts(keys[PATIENT_ID])) if PATIENT_ID in keys else ()
        self._tells_issuer = ISSUER in keys
        self._issuers = [text.strip() for text in texts(keys[ISSUER])] if ISSUER in keys else [asker.issuer]
        self._asker = asker
        self._links = links

    def accepts(self, patient: PatientKey, seen: Shown) -> bool:
        """Say whether the keys mean this patient."""
        if self._test is None:
            return True
        if not seen.is_foreign and self._test(_as_keys(seen.IssuerOfPatientID, seen.PatientID)):
            return True
        whole = prefixed(patient.IssuerOfPatientID, patient.PatientID)
        if patient.PatientID and whole in self._ids:
            return True
        if not (self._tells_issuer or self._asker.all_issuers):
            return False
        return self._test(_as_keys(patient.IssuerOfPatientID, patient.PatientID))

    def identities(self, ids: Iterable[str]) -> list[Identity]:
        """Return the identities that exact Patient IDs mean, links included."""
        found: set[Identity] = set()
        for id in ids:
            if not id:
                continue
            for issuer in self._issuers:
                found |= self._links.of((issuer, id))
            if "/" in id:
                issuer, _, foreign = id.partition("/")
                found.add((issuer, foreign))
        return sorted(found)

    def proposed(self) -> dict[str, Any] | None:
        """Return the Patient ID key that every patient it means is found by; None: do not narrow by it."""
        if not self._ids:
            return None
        values = set(self._ids)
        for id in self._ids:
            if "/" in id:
                # What a device was shown as ISSUER/ID it may ask for; too long a one cannot be taken apart.
                values |= {id[at + 1 :] for at, mark in enumerate(id) if mark == "/"}
                if len(id) == _LONGEST and "~" in id:
                    return None
            if set(id) & set("*?"):
                if self._links is not NO_LINKS:
                    return None
                continue
            values |= {linked for _, linked in self._links.of((self._asker.issuer, id))}
        return {"vr": "LO", "Value": sorted(value for value in values if value)}


def _as_keys(issuer: str, id: str) -> Attributes:
    return {
        PATIENT_ID: {"vr": "LO", "Value": [id]} if id else {"vr": "LO"},
        ISSUER: {"vr": "LO", "Value": [issuer]} if issuer else {"vr": "LO"},
    }
