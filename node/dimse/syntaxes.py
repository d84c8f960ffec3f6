"""The abstract and transfer syntaxes this node speaks, from pydicom's and pynetdicom's tables of PS3.6."""

from __future__ import annotations

from typing import Final

from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]
from pynetdicom.presentation import AllStoragePresentationContexts, StoragePresentationContexts

from catalog import Matching

from .commands import C_FIND_RQ, C_GET_RQ, C_MOVE_RQ

VERIFICATION: Final = "1.2.840.10008.1.1"
PATIENT_ROOT: Final = "1.2.840.10008.5.1.4.1.2.1"
STUDY_ROOT: Final = "1.2.840.10008.5.1.4.1.2.2"
SERVICE_SUFFIX: Final = {C_FIND_RQ: ".1", C_MOVE_RQ: ".2", C_GET_RQ: ".3"}
QUERY_RETRIEVE: Final = {
    root + suffix: request
    for root in (PATIENT_ROOT, STUDY_ROOT)
    for request, suffix in SERVICE_SUFFIX.items()
}
"""SOP Class to the request it is for, PS3.4 C.6.1.3 and C.6.2.3."""

COMMITMENT: Final = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model, PS3.4 J.3.5."""
COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""Its one well-known SOP Instance."""

NOT_STORAGE: Final = frozenset((VERIFICATION, COMMITMENT, *QUERY_RETRIEVE))
"""Every other abstract syntax that is accepted is a storage class."""

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
UNCOMPRESSED: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
FOR_IDENTIFIERS: Final = frozenset((EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED))

_NOT_A_PATIENTS: Final = (
    "Media Storage Directory", "Storage Commitment", "Hanging Protocol", "Color Palette", "Implant",
    "Generic Implant", "Inventory", "CT Defined Procedure", "XA Defined Procedure", "Protocol Approval",
)  # fmt: skip
_NOT_STORABLE: Final = ("1.2.840.10008.1.2.6.", "1.2.840.10008.1.2.7.", "1.2.840.10008.1.20")


def _is_patient_storage(name: str, kind: str, part: str) -> bool:
    return kind == "SOP Class" and "Storage" in name and not part and not name.startswith(_NOT_A_PATIENTS)


STORAGE: Final = frozenset(
    uid for uid, (name, kind, part, *_) in UID_dictionary.items() if _is_patient_storage(name, kind, part)
) | frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
"""Every patient storage SOP Class, retired ones included: archives that move house still hold them.

Left out are what is no patient's (PS3.4 Annex GG) and the classes of baggage and material testing.
"""
COMMON_STORAGE: Final = tuple(str(context.abstract_syntax) for context in StoragePresentationContexts)
"""The classes of today."""
COMMON_IMAGES: Final = tuple(
    f"1.2.840.10008.5.1.4.1.1.{tail}"
    for tail in ("2", "4", "1", "1.1", "1.2", "6.1", "3.1", "7", "20", "128")
)
"""CT, MR, CR, DX, MG, US, US multi-frame, SC, NM, PET: mostly what compressed instances are."""
COMMON_COMPRESSION: Final = tuple(
    f"1.2.840.10008.1.2.{tail}" for tail in ("4.70", "4.90", "4.80", "5", "4.50", "4.91")
)

TRANSFER_SYNTAXES: Final = frozenset(
    uid
    for uid, (_, kind, *_) in UID_dictionary.items()
    if kind == "Transfer Syntax" and not uid.startswith(_NOT_STORABLE)
)


def is_unknown(uid: str) -> bool:
    """Whether no table has this SOP Class or transfer syntax: private, or newer than the tables."""
    return uid not in UID_dictionary


def matching_of(extended: bytes) -> Matching:
    """Return what the requestor's extended negotiation of a FIND, MOVE or GET switches on, PS3.4 C.5.1.1."""
    return Matching(sum(bit for bit, asked in zip(Matching, extended, strict=False) if asked == 1))
