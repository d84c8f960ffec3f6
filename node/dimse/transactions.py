"""The data sets of Storage Commitment: what is asked, and what came of it (PS3.4 J.3, PS3.3 C.14)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from catalog import Attributes, PacsError, decode_identifier, encode_identifier
from node.contracts import CommitmentResult, Reference

LARGEST: Final = 8 << 20
"""Bytes of a data set: 60 000 references."""
MOST_REFERENCES: Final = 50_000

_TRANSACTION: Final = "00081195"
_REFERENCED: Final = "00081199"
_FAILED: Final = "00081198"
_CLASS: Final = "00081150"
_INSTANCE: Final = "00081155"
_REASON: Final = "00081197"
_RETRIEVE_AE: Final = "00080054"
_UNKNOWN_REASON: Final = 0x0110
_UID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")
"""As lenient as C-STORE: what could be stored under its UID can be asked for under it."""


class Malformed(Exception):
    """A data set that cannot be meant: what is wrong in at most 64 characters."""


class TooMany(Exception):
    """More references than are taken in one request."""


def encode_request(TransactionUID: str, references: Iterable[Reference], TransferSyntaxUID: str) -> bytes:
    """Return the data set of an N-ACTION-RQ, PS3.4 Table J.3-1."""
    return encode_identifier(
        {_TRANSACTION: _uid(TransactionUID), _REFERENCED: _sequence(_item(each) for each in references)},
        TransferSyntaxUID,
    )


def decode_request(data: bytes, TransferSyntaxUID: str) -> tuple[str, list[Reference]]:
    """Return the Transaction UID and the references, each once, in the order they were named.

    Raises:
        Malformed: it is no such data set, or one that names nothing.
        TooMany: it names more than is taken in one request.
    """
    attributes = _decoded(data, TransferSyntaxUID)
    transaction = _one_uid(attributes, _TRANSACTION, "Transaction UID (0008,1195)")
    items = _items(attributes, _REFERENCED, "Referenced SOP Sequence (0008,1199)")
    if not items:
        raise Malformed("Referenced SOP Sequence (0008,1199) names nothing")
    if len(items) > MOST_REFERENCES:
        raise TooMany(f"More than {MOST_REFERENCES} references in one request")
    return transaction, list(dict.fromkeys(_reference(item) for item in items))


def encode_result(result: CommitmentResult, TransferSyntaxUID: str) -> bytes:
    """Return the data set of an N-EVENT-REPORT-RQ, PS3.4 Table J.3-3: Retrieve AE Title outside the items."""
    attributes: Attributes = {_TRANSACTION: _uid(result.TransactionUID)}
    if result.committed:
        attributes[_REFERENCED] = _sequence(_item(each) for each in result.committed)
        if result.RetrieveAETitle:
            attributes[_RETRIEVE_AE] = {"vr": "AE", "Value": [result.RetrieveAETitle]}
    if result.failed:
        attributes[_FAILED] = _sequence(
            _item(each) | {_REASON: {"vr": "US", "Value": [reason]}} for each, reason in result.failed
        )
    return encode_identifier(attributes, TransferSyntaxUID)


def decode_result(data: bytes, TransferSyntaxUID: str) -> CommitmentResult:
    """Return what an N-EVENT-REPORT-RQ says; what it names as committed and as failed has failed.

    Raises:
        Malformed: it is no such data set.
    """
    attributes = _decoded(data, TransferSyntaxUID)
    failed: dict[Reference, int] = {}
    for item in _items(attributes, _FAILED, "Failed SOP Sequence (0008,1198)"):
        reason = (item.get(_REASON, {}).get("Value") or [None])[0]
        failed[_reference(item)] = reason if isinstance(reason, int) else _UNKNOWN_REASON
    named = _items(attributes, _REFERENCED, "Referenced SOP Sequence (0008,1199)")
    committed = dict.fromkeys(_reference(item) for item in named)
    title = (attributes.get(_RETRIEVE_AE, {}).get("Value") or [""])[0]
    return CommitmentResult(
        _one_uid(attributes, _TRANSACTION, "Transaction UID (0008,1195)"),
        tuple(each for each in committed if each not in failed),
        tuple(failed.items()),
        title.strip() if isinstance(title, str) else "",
    )


def _decoded(data: bytes, TransferSyntaxUID: str) -> Attributes:
    try:
        return decode_identifier(data, TransferSyntaxUID, LARGEST)
    except PacsError:
        raise Malformed("The data set cannot be read") from None


def _uid(uid: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [uid]}


def _sequence(items: Iterable[Attributes]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(items)}


def _item(reference: Reference) -> Attributes:
    return {_CLASS: _uid(reference.SOPClassUID), _INSTANCE: _uid(reference.SOPInstanceUID)}


def _items(attributes: Attributes, tag: str, name: str) -> list[Attributes]:
    content = attributes.get(tag, {"vr": "SQ"})
    items = content.get("Value", [])
    if content["vr"] != "SQ" or not all(isinstance(item, dict) for item in items):
        raise Malformed(f"{name} is broken")
    return list(items)


def _reference(item: Attributes) -> Reference:
    return Reference(
        _one_uid(item, _CLASS, "Referenced SOP Class UID (0008,1150)"),
        _one_uid(item, _INSTANCE, "Referenced SOP Instance UID (0008,1155)"),
    )


def _one_uid(attributes: Attributes, tag: str, name: str) -> str:
    values = attributes.get(tag, {}).get("Value") or []
    value = values[0].rstrip("\0 ") if len(values) == 1 and isinstance(values[0], str) else ""
    if not _UID.fullmatch(value):
        raise Malformed(f"{name} is missing or no UID")
    return value
