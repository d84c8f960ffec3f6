"""The catalog's nouns: who a patient is, what an instance is, what is asked and what is found.

Attributes are DICOM JSON (PS3.18 Annex F) as Python dicts: `{"00100020": {"vr": "LO", "Value": ["4711"]}}`,
PN values as `{"Alphabetic": ...}`. That is the only form the matcher sees; bytes stay at the borders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntFlag, StrEnum
from typing import Any, NamedTuple

import msgspec

from .attributes import Level

Attributes = dict[str, dict[str, Any]]
Clock = Callable[[], float]
"""Returns Unix time in seconds; passed in, so that a grid can run in virtual time."""


class PatientKey(NamedTuple):
    """A patient is (issuer, id) everywhere; a patient without a usable id is one per study."""

    IssuerOfPatientID: str
    PatientID: str
    anonymous_study: str = ""
    """StudyInstanceUID when PatientID is empty or a placeholder, else empty."""


class Availability(StrEnum):
    """Instance Availability (0008,0056), PS3.3 C.4.23.1.1."""

    ONLINE = "ONLINE"
    NEARLINE = "NEARLINE"
    OFFLINE = "OFFLINE"
    UNAVAILABLE = "UNAVAILABLE"


class Holding(msgspec.Struct, frozen=True, array_like=True):
    """Where one file lies: its SHA-256, the store's own word for the place, and its length in bytes."""

    sha256: bytes
    where: bytes
    size: int


class Entry(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One stored version of a SOP Instance: what it is and where its bytes are."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    SOPClassUID: str
    TransferSyntaxUID: str
    holding: Holding
    received: int
    """Milliseconds since 1970, by this node's clock."""
    source: str
    """The calling AE title it came from, or the name of the import."""
    InstanceNumber: str = ""
    NumberOfFrames: str = ""
    Rows: int = 0
    Columns: int = 0
    role: str = ""
    """Empty for the node's own copy; later `cache` or `replica`."""


class Arrival(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One durable instance, handed to the catalog to be recorded; the JSON is of the fixed table."""

    entry: Entry
    patient: PatientKey
    study: bytes
    """DICOM JSON of the patient- and study-level attributes."""
    series: bytes
    """DICOM JSON of the series-level attributes."""


class Recorded(StrEnum):
    """What became of an arrival."""

    NEW = "new"
    SAME = "same"
    """Equal bytes were here already; nothing changed."""
    OTHER_VERSION = "other version"
    """The SOP Instance UID is known with other bytes; both are kept, the first received preferred."""


class Move(NamedTuple):
    """The bytes of one version that lie in another place now, or as well."""

    SOPInstanceUID: str
    was: Holding
    now: Holding


class Moved(StrEnum):
    """What became of a move."""

    NOW = "moved"
    BEFORE = "moved before"
    ELSEWHERE = "elsewhere"
    """The version's row names a third place."""
    UNKNOWN = "unknown"
    """No row is about these bytes."""


class Matching(IntFlag):
    """What extended negotiation switched on, PS3.4 C.5.1.1 Table C.5-2."""

    PLAIN = 0
    RELATIONAL = 1
    COMBINED_DATE_TIME = 2


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A C-FIND or QIDO-RS question after its Identifier was understood.

    `keys` are the matching and return keys as received (an empty element is a return key); the keys of
    levels above are in it. `issuers` narrows the patients: None means every issuer.
    """

    level: Level
    keys: Attributes
    matching: Matching = Matching.PLAIN
    patient_root: bool = True
    issuers: tuple[str, ...] | None = None
    limit: int = 0
    """At most so many answers; 0 means all."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances a retrieve names, by unique keys only; empty does not narrow (PS3.4 C.4.2.2.1)."""

    patient: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    issuers: tuple[str, ...] | None = None


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One live row of the change log: the newest statement about `key` (a study, or a study and a series)."""

    seq: int
    key: bytes
    row: bytes
    """The row exactly as it goes over the wire and into digests; for a tombstone empty, or one byte."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The end of a share's log: a chain value proves that two logs are the same up to `seq`."""

    epoch: int
    seq: int
    chain: bytes


class Verb(StrEnum):
    """What a person can decide about a study, series or instance without changing its stored bytes."""

    CORRECT = "correct"
    REJECT = "reject"
    DELETE = "delete"
    ERASE = "erase"
    HOLD = "hold"
    """A legal hold: while it stands, nothing of it is deleted or erased."""
    MOVE = "move"
    """A series belongs to another study: `target` is where it was sent, `detail` the StudyInstanceUID."""
    PREFER = "prefer"
    RELEASE = "release"
    DISCARD = "discard"
    NOTE = "note"
    """A row of the node's state that must outlive it, see `node.journal`; about no study."""
    UNDO = "undo"


class RejectedFor(StrEnum):
    """Why something is rejected; IHE RAD TF-2 4.66 and PS3.16 CID 7011 give each a code."""

    QUALITY = "quality"
    SAFETY = "safety"
    WORKLIST = "worklist"
    EXPIRED = "expired"
    """Its time is over: unlike the others it may come back as new when it is sent again."""


class Standing(StrEnum):
    """What persons decided about something that is sent (again)."""

    PLAIN = "plain"
    CORRECTED = "corrected"
    REJECTED = "rejected"
    ERASED = "erased"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A person's decision, kept in the segments as JSON, so that the catalog can be made again from them.

    `target` is (StudyInstanceUID,), (Study, Series) or (Study, Series, SOP Instance). CORRECT carries the
    new `attributes`; PREFER the hexadecimal SHA-256 of the version to prefer; UNDO the `id` it takes back;
    REJECT may name some SOP Instance UIDs of its target, with spaces between.
    """

    id: str
    verb: Verb
    target: tuple[str, ...]
    reason: str
    who: str
    when: int
    """Milliseconds since 1970."""
    attributes: Mapping[str, dict[str, Any]] = {}
    detail: str = ""
    why: str = ""
    """Of REJECT: a `RejectedFor`."""


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Two things that claim one UID; `differences` names attributes by keyword, or `PixelData`."""

    SOPInstanceUID: str
    versions: tuple[Entry, ...]
    """The preferred one first."""
    differences: tuple[str, ...]
    since: int
    resolved: bool = False
