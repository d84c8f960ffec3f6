"""The statuses of DIMSE responses we send and understand, with the numbers of their tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from catalog import (
    BadRequest,
    Busy,
    Contradiction,
    NotFound,
    NotPermitted,
    OutOfSpace,
    PacsError,
    Unreadable,
)

SUCCESS: Final = 0x0000
PENDING: Final = 0xFF00
PENDING_WITHOUT_OPTIONAL_KEYS: Final = 0xFF01
CANCEL: Final = 0xFE00

# PS3.7 Annex C.
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
NO_SUCH_EVENT_TYPE: Final = 0x0113
INVALID_ARGUMENT: Final = 0x0115
INVALID_INSTANCE: Final = 0x0117
NO_SUCH_SOP_CLASS: Final = 0x0118
CLASS_INSTANCE_CONFLICT: Final = 0x0119
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NO_SUCH_ACTION: Final = 0x0123
NOT_AUTHORIZED: Final = 0x0124
DUPLICATE_INVOCATION: Final = 0x0210
UNRECOGNIZED_OPERATION: Final = 0x0211
MISTYPED_ARGUMENT: Final = 0x0212
RESOURCE_LIMITATION: Final = 0x0213

# PS3.4 Table B.2-1 (storage), C.4-1 (find), C.4-2 (move) and C.4-3 (get).
OUT_OF_RESOURCES: Final = 0xA700
CANNOT_COUNT_MATCHES: Final = 0xA701
CANNOT_PERFORM_SUBOPERATIONS: Final = 0xA702
DESTINATION_UNKNOWN: Final = 0xA801
IDENTIFIER_DOES_NOT_MATCH: Final = 0xA900
UNABLE_TO_PROCESS: Final = 0xC000
SUBOPERATIONS_WITH_FAILURES: Final = 0xB000
MATCHES_MAY_BE_MISSING: Final = 0xB001
"""A warning, for those who agreed to it: PS3.4 has none for an answer that stands on old copies."""

_BY_ERROR: Final[Mapping[type[PacsError], int]] = {
    BadRequest: IDENTIFIER_DOES_NOT_MATCH,
    Contradiction: IDENTIFIER_DOES_NOT_MATCH,
    NotPermitted: NOT_AUTHORIZED,
    OutOfSpace: OUT_OF_RESOURCES,
    Busy: OUT_OF_RESOURCES,
    Unreadable: UNABLE_TO_PROCESS,
    NotFound: UNABLE_TO_PROCESS,
}


def status_of(error: Exception) -> int:
    """Return the status of a C-FIND, C-MOVE or C-GET that ends with this error."""
    for kind in type(error).__mro__:
        if kind in _BY_ERROR:
            return _BY_ERROR[kind]
    return UNABLE_TO_PROCESS


def is_warning(status: int) -> bool:
    """Whether a C-STORE with this status was done: PS3.7 Annex C.4, the B range, 0001, 0107 and 0116."""
    return status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116)
