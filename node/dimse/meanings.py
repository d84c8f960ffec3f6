"""What each status means that a service here answers, and what is made of those that peers answer.

The Conformance Statement prints these tables, and a test provokes the rows on the wire. Who answers a status
that is not here adds its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from .commands import (
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
)
from .statuses import (
    CANCEL,
    CANNOT_COUNT_MATCHES,
    CANNOT_PERFORM_SUBOPERATIONS,
    CLASS_INSTANCE_CONFLICT,
    DESTINATION_UNKNOWN,
    DUPLICATE_INVOCATION,
    IDENTIFIER_DOES_NOT_MATCH,
    INVALID_ARGUMENT,
    INVALID_INSTANCE,
    MATCHES_MAY_BE_MISSING,
    MISTYPED_ARGUMENT,
    NO_SUCH_ACTION,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_INSTANCE,
    NO_SUCH_SOP_CLASS,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_WITHOUT_OPTIONAL_KEYS,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SOP_CLASS_NOT_SUPPORTED,
    SUBOPERATIONS_WITH_FAILURES,
    SUCCESS,
    UNABLE_TO_PROCESS,
    UNRECOGNIZED_OPERATION,
)


class Meaning(NamedTuple):
    """One status of one service: its number, its class, its name in the standard, and when it is answered."""

    status: int
    severity: str
    name: str
    when: str


_DATA_SET_DOES_NOT_MATCH: Final = 0xA900
_DATA_SET_DOES_NOT_MATCH_WARNING: Final = 0xB007
_NOT_THE_CONTEXTS: Final = Meaning(
    SOP_CLASS_NOT_SUPPORTED,
    "Failure",
    "SOP Class not supported",
    "The Affected SOP Class UID is not the abstract syntax of the presentation context.",
)
_MAY_NOT: Final = Meaning(
    NOT_AUTHORIZED,
    "Failure",
    "Not authorized",
    "The device book does not allow the caller this service (any more).",
)
_NO_DATA_SET: Final = Meaning(
    MISTYPED_ARGUMENT, "Failure", "Mistyped argument", "The request comes without the data set it needs."
)
_NO_OPERATION: Final = Meaning(
    UNRECOGNIZED_OPERATION,
    "Failure",
    "Unrecognized operation",
    "The request belongs to another SOP Class than that of the presentation context.",
)
_BAD_IDENTIFIER: Final = Meaning(
    IDENTIFIER_DOES_NOT_MATCH,
    "Failure",
    "Identifier does not match SOP Class",
    "The level is missing or not one of the model; a unique key above the level lacks its single value; a "
    "key has a value its VR does not allow. Offending Element names the keys, Error Comment the fault.",
)
_UNREADABLE: Final = Meaning(
    UNABLE_TO_PROCESS,
    "Failure",
    "Unable to process",
    "The identifier cannot be read, or the node failed; its log says more.",
)

_ECHO: Final = (
    Meaning(SUCCESS, "Success", "Success", "The node is there."),
    _NOT_THE_CONTEXTS,
    _NO_OPERATION,
    Meaning(MISTYPED_ARGUMENT, "Failure", "Mistyped argument", "The request comes with a data set."),
)
_STORE: Final = (
    Meaning(
        SUCCESS,
        "Success",
        "Success",
        "The instance and its catalog entry are on disk. Also when exactly these bytes were there before, "
        "when other content is known under the UID (both are kept), and when a person must release it first.",
    ),
    Meaning(
        _DATA_SET_DOES_NOT_MATCH_WARNING,
        "Warning",
        "Data set does not match SOP Class",
        "The data set is cut short; it is on disk as it came.",
    ),
    Meaning(
        OUT_OF_RESOURCES,
        "Failure",
        "Out of resources",
        "Free space is below the mark, a quota is used up, or the disk failed. Nothing was kept; send again.",
    ),
    Meaning(
        _DATA_SET_DOES_NOT_MATCH,
        "Failure",
        "Data set does not match SOP Class",
        "A UID of the data set is missing or is not the one the command names. The data set is set aside.",
    ),
    Meaning(
        UNABLE_TO_PROCESS,
        "Failure",
        "Cannot understand",
        "The data set cannot be read in the negotiated transfer syntax. It is set aside for a person.",
    ),
    Meaning(PROCESSING_FAILURE, "Failure", "Processing failure", "The node failed; its log says more."),
    Meaning(
        INVALID_INSTANCE,
        "Failure",
        "Invalid SOP Instance",
        "The Affected SOP Instance UID is missing or not a UID.",
    ),
    _NOT_THE_CONTEXTS._replace(when=_NOT_THE_CONTEXTS.when[:-1] + ", or the caller gave up the SCU role."),
    _MAY_NOT,
    _NO_DATA_SET,
    _NO_OPERATION,
)
_FIND: Final = (
    Meaning(PENDING, "Pending", "Pending", "A match; every key with a value was heeded."),
    Meaning(
        PENDING_WITHOUT_OPTIONAL_KEYS,
        "Pending",
        "Pending, optional keys not supported",
        "A match; a key with a value was ignored, because its VR cannot be matched.",
    ),
    Meaning(
        SUCCESS,
        "Success",
        "Success",
        "There are no (more) matches. From the grid an Error Comment may say whose copies are old.",
    ),
    Meaning(
        MATCHES_MAY_BE_MISSING,
        "Warning",
        "Matches may be missing",
        "Only to devices that agreed to it: the grid's answer stands on old copies of sites that the Error "
        "Comment names, or lacks them.",
    ),
    Meaning(CANCEL, "Cancel", "Matching terminated", "The caller sent C-CANCEL."),
    Meaning(
        OUT_OF_RESOURCES,
        "Failure",
        "Out of resources",
        "The identifier is longer than the node takes, or the node has no room for the question now. From "
        "the grid: there is no copy of a site that the Error Comment names, or it cannot judge the question.",
    ),
    _BAD_IDENTIFIER,
    _UNREADABLE,
    _NOT_THE_CONTEXTS,
    _MAY_NOT,
    _NO_DATA_SET,
    _NO_OPERATION,
)
_GET: Final = (
    Meaning(PENDING, "Pending", "Sub-operations are continuing", "At the start, then about once a second."),
    Meaning(
        SUCCESS,
        "Success",
        "Sub-operations complete, no failures or warnings",
        "Everything was taken, or nothing matches (all counters are 0).",
    ),
    Meaning(
        SUBOPERATIONS_WITH_FAILURES,
        "Warning",
        "Sub-operations complete, one or more failures or warnings",
        "Some instances were taken; Failed SOP Instance UID List names those that were not.",
    ),
    Meaning(
        CANNOT_PERFORM_SUBOPERATIONS,
        "Failure",
        "Out of resources, unable to perform sub-operations",
        "No instance could be given; Error Comment has the first reason.",
    ),
    Meaning(CANCEL, "Cancel", "Sub-operations terminated", "The caller sent C-CANCEL."),
    Meaning(
        CANNOT_COUNT_MATCHES,
        "Failure",
        "Out of resources, unable to calculate number of matches",
        "The identifier is longer than the node takes, or the node has no room for the request now.",
    ),
    _BAD_IDENTIFIER,
    _UNREADABLE,
    _NOT_THE_CONTEXTS,
    _MAY_NOT,
    _NO_DATA_SET,
    _NO_OPERATION,
)
_MOVE: Final = (
    *_GET,
    Meaning(
        DESTINATION_UNKNOWN,
        "Failure",
        "Move destination unknown",
        "The device book has no host and port for it, or does not let the caller move to it.",
    ),
)

_TARGET: Final = (
    Meaning(NO_SUCH_INSTANCE, "Failure", "No such SOP Instance", "It is not the well-known one."),
    Meaning(INVALID_INSTANCE, "Failure", "Invalid SOP Instance", "The request names no SOP Instance."),
    Meaning(NO_SUCH_SOP_CLASS, "Failure", "No such SOP Class", "It is not that of the presentation context."),
    Meaning(
        CLASS_INSTANCE_CONFLICT,
        "Failure",
        "Class-Instance conflict",
        "The SOP Instance is the well-known one of another SOP Class.",
    ),
)
_NO_ACTION: Final = Meaning(
    UNRECOGNIZED_OPERATION,
    "Failure",
    "Unrecognized operation",
    "It is neither N-ACTION nor N-EVENT-REPORT, or the requestor gave up the role for it.",
)
_BROKEN: Final = Meaning(PROCESSING_FAILURE, "Failure", "Processing failure", "The node failed; see its log.")
_ACTION: Final = (
    Meaning(SUCCESS, "Success", "Success", "The request is on disk; its result follows."),
    _BROKEN,
    *_TARGET,
    Meaning(
        INVALID_ARGUMENT,
        "Failure",
        "Invalid argument value",
        "There is no Transaction UID, no reference, a reference without a UID, or the data set is broken.",
    ),
    Meaning(NO_SUCH_ACTION, "Failure", "No such action", "The Action Type ID is not 1."),
    _MAY_NOT,
    Meaning(
        DUPLICATE_INVOCATION,
        "Failure",
        "Duplicate invocation",
        "The Transaction UID is in use for other references; once that is over, the result is reason 0131.",
    ),
    _NO_ACTION,
    _NO_DATA_SET,
    Meaning(
        RESOURCE_LIMITATION,
        "Failure",
        "Resource limitation",
        "More than 50 000 references or 8 MB, too many open requests, or the disk is full.",
    ),
)
_REPORT: Final = (
    Meaning(SUCCESS, "Success", "Success", "The result is on disk."),
    _BROKEN,
    *_TARGET,
    Meaning(NO_SUCH_EVENT_TYPE, "Failure", "No such event type", "The Event Type ID is neither 1 nor 2."),
    Meaning(
        INVALID_ARGUMENT,
        "Failure",
        "Invalid argument value",
        "The data set is broken, or nothing was asked of that AE title under the Transaction UID.",
    ),
    _NO_ACTION,
)

MEANINGS: Final[Mapping[int, tuple[Meaning, ...]]] = {
    C_ECHO_RQ: _ECHO,
    C_STORE_RQ: _STORE,
    C_FIND_RQ: _FIND,
    C_MOVE_RQ: _MOVE,
    C_GET_RQ: _GET,
    N_ACTION_RQ: _ACTION,
    N_EVENT_REPORT_RQ: _REPORT,
}
"""By the Command Field of the request, PS3.4 Tables B.2-1, C.4-1, C.4-2 and C.4-3, PS3.7 Annex C."""
