"""What exists and who holds it: model, matching, the two contracts, and the LMDB + Tantivy catalog."""

from .attributes import BY_KEYWORD, BY_TAG, FIXED_TABLE, UNIQUE_KEY, Attribute, Level
from .contracts import Catalog, CatalogWriter, Incoming, ObjectStore, Origin, Reader
from .dataset import describe
from .elements import MoreNeeded
from .errors import (
    BadRequest,
    Busy,
    Contradiction,
    Damaged,
    NotFound,
    NotPermitted,
    OutOfSpace,
    PacsError,
    Unavailable,
    Unreadable,
)
from .header import Header, scan
from .identifier import decode_identifier, encode_identifier
from .lmdb_catalog import LmdbCatalog
from .matching import compile_matcher, is_universal, matches
from .model import (
    Arrival,
    Attributes,
    Availability,
    Change,
    Clock,
    Conflict,
    Decision,
    Entry,
    Head,
    Holding,
    Matching,
    PatientKey,
    Query,
    Recorded,
    Selection,
    Verb,
)
from .question import answer, is_fully_supported, selection, understand
from .values import texts

__all__ = [
    "BY_KEYWORD",
    "BY_TAG",
    "FIXED_TABLE",
    "UNIQUE_KEY",
    "Arrival",
    "Attribute",
    "Attributes",
    "Availability",
    "BadRequest",
    "Busy",
    "Catalog",
    "CatalogWriter",
    "Change",
    "Clock",
    "Conflict",
    "Contradiction",
    "Damaged",
    "Decision",
    "Entry",
    "Head",
    "Header",
    "Holding",
    "Incoming",
    "Level",
    "LmdbCatalog",
    "Matching",
    "MoreNeeded",
    "NotFound",
    "NotPermitted",
    "ObjectStore",
    "Origin",
    "OutOfSpace",
    "PacsError",
    "PatientKey",
    "Query",
    "Reader",
    "Recorded",
    "Selection",
    "Unavailable",
    "Unreadable",
    "Verb",
    "answer",
    "compile_matcher",
    "decode_identifier",
    "describe",
    "encode_identifier",
    "is_fully_supported",
    "is_universal",
    "matches",
    "scan",
    "selection",
    "texts",
    "understand",
]
