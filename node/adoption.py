"""Whose the imported studies are: a person says it once, and it becomes a correction of each study.

The files stay what they are, and the decision lies beside them, so that a rebuild says the same and it can be
taken back like any other.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, Protocol

from catalog import Attributes, BadRequest, Level, Query, Selection, Verb
from catalog.order import decoded, first_value
from catalog.statements import Stated
from node.register import Register

_PATIENT_ID = "00100020"
_ISSUER = "00100021"
_LONGEST = 64
_OF_PATIENT = ("00100010", _PATIENT_ID, _ISSUER, "00100030", "00100040")
"""Patient's Name, ID, Issuer of Patient ID, Birth Date and Sex."""


class Own(Protocol):
    """The archive's catalog, as much of it as is asked here."""

    def stated(self, StudyInstanceUID: str) -> Stated | None:
        """Return what is stated about a study."""

    def select(self, selection: Selection) -> list[Any]:
        """Return the instances that unique keys name."""

    def find(self, query: Query) -> Any:
        """Yield what matches."""


class Adoption:
    """Corrects each study of one import; any thread may call."""

    def __init__(
        self, catalog: Own, register: Register, issuer: str, patient: str, source: str, who: str
    ) -> None:
        """`issuer` is whose Patient IDs are that come without one, `patient` whose all is; empty: not said.

        Raises:
            BadRequest: several patients have that ID here, or what was said is no value of LO (PS3.5 6.2).
        """
        for what, said in (("issuer", issuer), ("Patient ID", patient)):
            if len(said) > _LONGEST or "\\" in said or not said.isprintable():
                rule = f"at most {_LONGEST} characters, no backslash, no control character"
                raise BadRequest(f"{said!r} is no {what}: {rule}.", "Write it as the worklist does.")
        self._catalog = catalog
        self._register = register
        self._issuer = issuer
        self._source = source
        self._who = who
        self._patient = self._known(patient) if patient else {}
        self._seen: set[str] = set()
        self._lock = Lock()

    def _known(self, patient: str) -> Attributes:
        """Return the attributes of a patient who is here; of one who is not, the ID alone."""
        keys: Attributes = {tag: {"vr": vr} for tag, vr in zip(_OF_PATIENT, _VRS, strict=True)}
        keys[_PATIENT_ID] = {"vr": "LO", "Value": [patient]}
        if self._issuer:
            keys[_ISSUER] = {"vr": "LO", "Value": [self._issuer]}
        found = list(self._catalog.find(Query(level=Level.PATIENT, keys=keys)))
        found = [each for each in found if first_value(each, _PATIENT_ID) == patient]
        if len(found) > 1:
            raise BadRequest(f"Several patients have the ID {patient} here.", "Name the --issuer as well.")
        if found:
            return {tag: found[0][tag] for tag in _OF_PATIENT if found[0].get(tag, {}).get("Value")}
        return {tag: keys[tag] for tag in (_PATIENT_ID, _ISSUER) if keys[tag].get("Value")}

    def adopt(self, study: str) -> str:
        """Say of a study of which something was just stored whose it is; return what is odd about that."""
        with self._lock:
            if study in self._seen or not (self._issuer or self._patient):
                return ""
            self._seen.add(study)
        stated = self._catalog.stated(study)
        if stated is None:
            return ""
        attributes = decoded(stated.study.attributes)
        wanted = self._patient or self._of_issuer(attributes)
        wanted = {
            tag: content
            for tag, content in wanted.items()
            if attributes.get(tag, {}).get("Value") != content["Value"]
        }
        if not wanted:
            return ""
        others = {entry.source for entry in self._catalog.select(Selection(studies=(study,)))} - {
            self._source
        }
        if others:
            return "Its study is here from elsewhere too, so whose it is was left as it is."
        reason = "imported as of this patient" if self._patient else "imported as of this issuer"
        self._register.make(Verb.CORRECT, (study,), reason=reason, who=self._who, attributes=wanted)
        return ""

    def _of_issuer(self, attributes: Attributes) -> Attributes:
        if first_value(attributes, _ISSUER) or not first_value(attributes, _PATIENT_ID):
            return {}
        return {_ISSUER: {"vr": "LO", "Value": [self._issuer]}}


_VRS = ("PN", "LO", "LO", "DA", "CS")
