"""Corrections on the way out: the stored bytes stay as they are, what leaves carries what a person decided.

Only the header is decoded; Pixel Data and what follows are passed on as they were stored. Every change is
told in Original Attributes Sequence (0400,0561), PS3.3 C.12.1.1.9.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Final

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from catalog import Decision

_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_TEXT_VR: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""The VRs that Specific Character Set governs, PS3.5 6.1.2.2."""
MODIFYING: Final = "CORRECT"
COERCING: Final = "COERCE"
"""Reason for the Attribute Modification (0400,0565): a person's word, or another hospital's identifiers."""


def correct(
    data: bytes,
    TransferSyntaxUID: str,
    corrections: Sequence[Decision],
    system: str,
    reason: str = MODIFYING,
) -> bytes:
    """Return the header, or the whole deflated data set, with the corrections applied in their order.

    `data` ends before Pixel Data (or is whole, when deflated); `system` names this node.
    """
    if TransferSyntaxUID == _DEFLATED:
        plain = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
        corrected = correct(plain, "1.2.840.10008.1.2.1", corrections, system, reason)
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = packer.compress(corrected) + packer.flush()
        return packed + b"\0" * (len(packed) % 2)
    syntax = UID(TransferSyntaxUID)
    is_implicit = syntax == "1.2.840.10008.1.2"
    is_little = syntax != "1.2.840.10008.1.2.2"
    dataset = read_dataset(BytesIO(data), is_implicit, is_little)
    changes = [(decision, Dataset.from_json(dict(decision.attributes))) for decision in corrections]
    if any(_needs_unicode(change) for _, change in changes):
        _recode_as_unicode(dataset)
    for decision, change in changes:
        _apply(dataset, decision, change, system, reason)
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = is_implicit, is_little
    write_dataset(out, dataset)
    return out.getvalue()


def _apply(dataset: Dataset, decision: Decision, change: Dataset, system: str, reason: str) -> None:
    before = Dataset()
    for element in change:
        known = dataset.get(element.tag)
        before.add(known if known is not None else DataElement(element.tag, element.VR, None))
        dataset.add(DataElement(element.tag, _vr(element, known), element.value))
    item = Dataset()
    item.SourceOfPreviousValues = ""
    when = datetime.fromtimestamp(decision.when / 1000, UTC)
    item.AttributeModificationDateTime = when.strftime("%Y%m%d%H%M%S.%f+0000")
    item.ModifyingSystem = system
    item.ReasonForTheAttributeModification = reason
    item.ModifiedAttributesSequence = [before]
    earlier = dataset.get("OriginalAttributesSequence") or []
    dataset.OriginalAttributesSequence = [*earlier, item]


def _vr(element: DataElement, known: DataElement | None) -> str:
    """Keep the VR the data set uses; a decision made in JSON may not know it."""
    if known is not None and known.VR != "UN":
        return str(known.VR)
    return str(element.VR) if element.VR != "UN" else dictionary_VR(element.tag)


def _needs_unicode(change: Dataset) -> bool:
    return any(element.VR in _TEXT_VR and not str(element.value).isascii() for element in change.iterall())


def _recode_as_unicode(dataset: Dataset) -> None:
    dataset.decode()
    for nested in dataset.iterall():
        if nested.tag == 0x00080005:
            nested.value = "ISO_IR 192"
    dataset.SpecificCharacterSet = "ISO_IR 192"
