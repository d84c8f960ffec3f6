"""What a share's view makes of the rows of the change log, before anything leaves the node; pure.

A row that a view does not show becomes the tombstone LEFT_SHARE: so a share can be narrowed and the peer
forgets. Keys are those of the log: `study` or `study NUL series`.
"""

from __future__ import annotations

import hmac
import json
from typing import Final

import msgspec

from catalog import PatientKey, texts
from catalog.statements import (
    LEFT_SHARE,
    SeriesStatement,
    StudyStatement,
    is_tombstone,
    read_series,
    read_study,
)

from .policy import Share, View

HASH_SIZE: Final = 16
"""Bytes of a keyed hash: of a hundred million, none meets another."""
_ACCESSION: Final = "00080050"
_encode: Final = msgspec.msgpack.Encoder().encode


class ExactStatement(msgspec.Struct, array_like=True, frozen=True):
    """A study as a peer with an `exact` grant has it: enough to know whom to ask, and for nothing else."""

    version: int
    study: bytes
    patient: bytes
    """Empty when the patient has no usable id."""
    accession: bytes
    """Empty when there is none."""


class ExactHashes:
    """The keyed hashes of one share; the owner and its granted peers have the key, and compute the same."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def study(self, StudyInstanceUID: str) -> bytes:
        """Return the hash of a study's UID."""
        return self._hash("study", StudyInstanceUID)

    def patient(self, IssuerOfPatientID: str, PatientID: str) -> bytes:
        """Return the hash of a patient, or nothing for one without an id."""
        return self._hash("patient", IssuerOfPatientID, PatientID.strip(" ")) if PatientID.strip(" ") else b""

    def accession(self, AccessionNumber: str) -> bytes:
        """Return the hash of an accession number, or nothing."""
        number = AccessionNumber.strip(" ")
        return self._hash("accession", number) if number else b""

    def _hash(self, *parts: str) -> bytes:
        return hmac.digest(self._key, "\0".join(parts).encode(), "sha256")[:HASH_SIZE]


def share_key(secret: bytes, share: Share) -> bytes:
    """Return the key of a share's hashes; `secret` is the owner's own, and never leaves it."""
    return hmac.digest(secret, b"exact\0" + share.archive.encode() + b"\0" + share.name.encode(), "sha256")


class Projection:
    """One share's view of rows: what its log, digests and snapshots are made of."""

    def __init__(self, share: Share, key: bytes = b"") -> None:
        """`key` is the share's (`share_key`), for the view `exact`."""
        self._view = share.view
        self._hashes = ExactHashes(key)

    def key(self, key: bytes) -> bytes:
        """Return the key under which the row is known in this share."""
        if self._view is View.EXACT:
            study, separator, series = key.partition(b"\0")
            # As text: a zero byte in a key would begin the name of a series.
            hashed = self._hashes.study(study.decode()).hex().encode()
            return (
                hashed + separator + (self._hashes.study(series.decode()).hex().encode() if series else b"")
            )
        return key

    def row(self, key: bytes, row: bytes) -> bytes:
        """Return the row as this share shows it; LEFT_SHARE when it does not, tombstones as they are."""
        if is_tombstone(row) or self._view is View.FULL:
            return row
        if self._view in (View.COUNTS, View.DEID_ONLY):
            return LEFT_SHARE
        if b"\0" in key:
            return self._minimal_series(read_series(row)) if self._view is View.MINIMAL else LEFT_SHARE
        study = read_study(row)
        return self._minimal_study(study) if self._view is View.MINIMAL else self._exact(study)

    def _minimal_study(self, study: StudyStatement) -> bytes:
        uid = study.StudyInstanceUID
        return _encode(
            msgspec.structs.replace(study, patient=PatientKey("", "", uid), attributes=_only("0020000D", uid))
        )

    def _minimal_series(self, series: SeriesStatement) -> bytes:
        only = _only("0020000E", series.SeriesInstanceUID)
        return _encode(msgspec.structs.replace(series, attributes=only))

    def _exact(self, study: StudyStatement) -> bytes:
        patient, attributes = study.patient, json.loads(study.attributes or b"{}")
        accessions = texts(attributes.get(_ACCESSION, {"vr": "SH"}))
        return _encode(
            ExactStatement(
                study.version,
                self._hashes.study(study.StudyInstanceUID),
                self._hashes.patient(patient.IssuerOfPatientID, patient.PatientID),
                self._hashes.accession(accessions[0] if accessions else ""),
            )
        )


def _only(tag: str, uid: str) -> bytes:
    return json.dumps({tag: {"vr": "UI", "Value": [uid]}}, separators=(",", ":")).encode()
