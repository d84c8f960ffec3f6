"""Rejection notes: Key Object Selection Documents that say which instances are rejected, and why.

IHE RAD TF-2 4.66 (Rejection Note Stored), PS3.16 CID 7011 (Rejected for Quality Reasons), PS3.3 A.35.4.
"""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from typing import Final, NamedTuple

from pydicom import dcmread
from pydicom.dataset import Dataset

from catalog import Header, RejectedFor, Unreadable

KEY_OBJECTS: Final = "1.2.840.10008.5.1.4.1.1.88.59"
"""Key Object Selection Document Storage."""
CODES: Final = {
    "113001": RejectedFor.QUALITY,
    "113037": RejectedFor.SAFETY,
    "113038": RejectedFor.WORKLIST,
    "113039": RejectedFor.EXPIRED,
}
"""Code Values of scheme DCM, PS3.16 CID 7011."""


class RejectionNote(NamedTuple):
    """Which instances a Key Object rejects, itself among them, by study and series."""

    SOPInstanceUID: str
    why: RejectedFor
    rejected: dict[tuple[str, str], tuple[str, ...]]

    @property
    def instances(self) -> int:
        """Instances besides the note itself."""
        return sum(map(len, self.rejected.values())) - 1

    def id_for(self, target: tuple[str, str]) -> str:
        """Return the id of what the note decides about a series: the same whenever it is sent."""
        return sha256("\0".join((self.SOPInstanceUID, *target)).encode()).hexdigest()[:32]


def read_note(part10: bytes, header: Header) -> RejectionNote | None:
    """Return what a Key Object rejects; None for one that was made for another purpose, or names nothing.

    Raises:
        Unreadable: it is no data set.
    """
    try:
        return _read(dcmread(BytesIO(part10)), header)
    except Exception as error:
        raise Unreadable("The Key Object cannot be read.", "Nothing is rejected; mend its sender.") from error


def _read(dataset: Dataset, header: Header) -> RejectionNote | None:
    title = next(iter(dataset.get("ConceptNameCodeSequence") or ()), Dataset())
    why = CODES.get(str(title.get("CodeValue", "")))
    if why is None or title.get("CodingSchemeDesignator") != "DCM":
        return None
    found: dict[tuple[str, str], list[str]] = {}
    for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            uids = [str(item.ReferencedSOPInstanceUID) for item in series.get("ReferencedSOPSequence") or ()]
            target = str(study.get("StudyInstanceUID", "")), str(series.get("SeriesInstanceUID", ""))
            if uids and all(target):
                found.setdefault(target, []).extend(uids)
    if not found:
        return None
    own = header.StudyInstanceUID, header.SeriesInstanceUID
    found.setdefault(own, []).append(header.SOPInstanceUID)
    return RejectionNote(header.SOPInstanceUID, why, {key: tuple(uids) for key, uids in found.items()})
