"""What another PACS says it has, by C-FIND of the Study Root model, level by level (PS3.4 C.6.2).

Only hierarchical questions with unique keys above are asked, which every PACS must answer (PS3.4 C.4.1.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from catalog import Attributes, BadRequest, texts
from catalog.attributes import BY_KEYWORD
from node.dimse import Requestor
from node.dimse.statuses import SUCCESS

_STUDY: Final = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "PatientName", "PatientID",
    "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyDescription", "StudyID",
    "ReferringPhysicianName",
)  # fmt: skip
_SERIES: Final = ("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined")
_IMAGE: Final = ("SOPInstanceUID", "SOPClassUID", "InstanceNumber")
MODALITIES: Final = "00080061"
STUDY: Final = "0020000D"
SERIES: Final = "0020000E"
INSTANCE: Final = "00080018"
CLASS: Final = "00080016"
SERIES_COUNT: Final = "00201209"
"""Number of Series Related Instances, which a PACS need not answer."""
RAISE: Final = "Raise its limit of answers (Orthanc: LimitFindResults, LimitFindInstances), then try again."
"""What helps where a list is cut short."""
_MOST: Final = 1_000_000
"""Answers after which a list is one that never ends."""


class Listing:
    """Asks one PACS; every method raises what `Requestor.find` raises."""

    def __init__(self, requestor: Requestor, *, is_whole: bool = False) -> None:
        """With `is_whole`, a list that the PACS cuts short raises BadRequest at its end."""
        self.cut = ""
        """How a list was cut short: what is not in it may be there all the same; empty while none was."""
        self._requestor = requestor
        self._is_whole = is_whole

    def studies(self, keys: Attributes) -> Iterator[Attributes]:
        """Yield the studies that keys of the study level mean."""
        asked = _asked("STUDY", _STUDY) | {MODALITIES: {"vr": "CS"}} | keys
        yield from self._told(asked)

    def series(self, StudyInstanceUID: str) -> list[Attributes]:
        """Return the series of a study."""
        asked = _asked("SERIES", _SERIES) | {STUDY: _uid(StudyInstanceUID), SERIES_COUNT: {"vr": "IS"}}
        return list(self._told(asked))

    def instances(self, StudyInstanceUID: str, SeriesInstanceUID: str) -> list[Attributes]:
        """Return the instances of a series."""
        above = {STUDY: _uid(StudyInstanceUID), SERIES: _uid(SeriesInstanceUID)}
        return list(self._told(_asked("IMAGE", _IMAGE) | above))

    def _told(self, identifier: Attributes) -> Iterator[Attributes]:
        found, count = self._requestor.find(identifier), 0
        for each in islice(found, _MOST):
            count += 1
            yield each
        # What ends with FE00 or a warning is not all there is (PS3.4 C.4.1.1.4): a limit was met.
        if found.status == SUCCESS:
            return
        level = identifier["00080052"]["Value"][0]
        peer, status = self._requestor.peer, f"{found.status:04X}"
        self.cut = f"{peer} cut its list of the level {level} short: {status} after {count} answers."
        if self._is_whole:
            raise BadRequest(self.cut, RAISE)


def value(attributes: Attributes, tag: str) -> str:
    """Return the first value of an attribute as text, or empty."""
    content = attributes.get(tag) or {}
    found = texts(content) if content.get("Value") else []
    return str(found[0]).strip(" \0") if found else ""


def _asked(level: str, keywords: tuple[str, ...]) -> Attributes:
    rows = (BY_KEYWORD[keyword] for keyword in keywords)
    asked: Attributes = {row.tag: {"vr": row.vr} for row in rows}
    return {"00080052": {"vr": "CS", "Value": [level]}} | asked


def _uid(*values: str) -> dict[str, object]:
    return {"vr": "UI", "Value": list(values)}


def where(StudyInstanceUID: str, SeriesInstanceUID: str = "", *SOPInstanceUIDs: str) -> Attributes:
    """Return the Identifier of a C-MOVE or C-GET of the lowest level that is named.

    Of the instances there may be several, PS3.4 C.2.2.2.2.
    """
    level = "IMAGE" if SOPInstanceUIDs else "SERIES" if SeriesInstanceUID else "STUDY"
    above = {STUDY: _uid(StudyInstanceUID)} if StudyInstanceUID else {}
    above |= {SERIES: _uid(SeriesInstanceUID)} if SeriesInstanceUID else {}
    below = {INSTANCE: _uid(*SOPInstanceUIDs)} if SOPInstanceUIDs else {}
    return {"00080052": {"vr": "CS", "Value": [level]}} | above | below
