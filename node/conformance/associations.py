"""Tables of how associations are made and limited, and what they are answered."""

from __future__ import annotations

from typing import Final

from node.config import Config
from node.dimse import Limits
from node.dimse.commands import (
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
)
from node.dimse.dialing import MAX_CONTEXTS
from node.dimse.meanings import MEANINGS
from node.dimse.negotiation import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTANCE,
    IMPLEMENTATION_VERSION,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    USER_REJECTION,
)
from node.dimse.pdu import DICOM_APPLICATION_CONTEXT
from node.dimse.session import REJECTION_REASONS
from node.storage import IMPLEMENTATION_CLASS_UID

from .markdown import table

_SERVICES: Final = {
    C_ECHO_RQ: "C-ECHO",
    C_STORE_RQ: "C-STORE",
    C_FIND_RQ: "C-FIND",
    C_MOVE_RQ: "C-MOVE",
    C_GET_RQ: "C-GET",
    N_ACTION_RQ: "N-ACTION",
    N_EVENT_REPORT_RQ: "N-EVENT-REPORT",
}
_REJECTIONS: Final = {
    (1, 2): (1, "application-context-name-not-supported", "It is not DICOM's."),
    (1, 3): (
        1,
        "calling-AE-title-not-recognized",
        "The caller gives no AE title, is known at another address, or has no services; "
        "or it is unknown and may use nothing of what it proposes.",
    ),
    (1, 7): (
        1,
        "called-AE-title-not-recognized",
        "No AE here has that title, or not for the caller.",
    ),
    (2, 2): (1, "protocol-version-not-supported", "Bit 0 of the version is not set."),
    (3, 1): (2, "temporary-congestion", "Associations come too fast, or the node stops."),
    (3, 2): (2, "local-limit-exceeded", "A limit of table 7-2 is reached."),
}
_RESULTS: Final = {
    ACCEPTANCE: ("acceptance", "The node serves this SOP Class in this transfer syntax."),
    USER_REJECTION: ("user-rejection", "The device book does not allow the caller this service."),
    ABSTRACT_SYNTAX_NOT_SUPPORTED: (
        "abstract-syntax-not-supported",
        "The SOP Class is in none of the tables 5-1.",
    ),
    TRANSFER_SYNTAXES_NOT_SUPPORTED: (
        "transfer-syntaxes-not-supported",
        "None of those proposed is in table 5-2 for this service, or allowed to this device.",
    ),
}


def parameters(config: Config) -> str:
    """Return the table of association parameters."""
    dicom, others = config.dicom, Limits()
    rows = [
        ("Application Context Name", DICOM_APPLICATION_CONTEXT),
        ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name", IMPLEMENTATION_VERSION),
        ("Maximum PDU length received", f"{dicom.max_pdu} bytes (`dicom.max_pdu`)"),
        ("Maximum PDU length sent", "what the peer announces; 0 means no limit"),
        ("ARTIM timeout", f"{dicom.artim_timeout:g} s (`dicom.artim_timeout`)"),
        ("Timeout within a message", f"{dicom.network_timeout:g} s (`dicom.network_timeout`)"),
        ("Timeout between messages", f"{dicom.idle_timeout:g} s (`dicom.idle_timeout`)"),
        ("Timeout for a connection and its A-ASSOCIATE-AC", f"{dicom.connect_timeout:g} s"),
        ("Timeout for the response to a C-STORE sent", f"{others.response:g} s"),
        ("Asynchronous operations window", "1, 1: none"),
    ]
    return table("7-1", "Association parameters", ("Name", "Value"), rows)


def limits(config: Config) -> str:
    """Return the table of what a peer may use at most."""
    dicom, others = config.dicom, Limits()
    rows = [
        ("Associations accepted at once", dicom.max_associations),
        ("of them from one calling AE title", dicom.max_associations_per_ae),
        ("of them from one address", dicom.max_associations_per_address),
        ("New associations a second from one address", dicom.max_new_associations_per_second),
        ("Presentation contexts proposed at once", MAX_CONTEXTS),
        ("Length of an A-ASSOCIATE-RQ in bytes", others.associate_request),
        ("Length of an identifier in bytes", others.identifier),
        ("Length of a data set in bytes", others.data_set),
    ]
    return table("7-2", "Limits", ("What", "At most"), rows)


def rejections() -> str:
    """Return the table of the A-ASSOCIATE-RJs that are sent."""
    rows = [(_REJECTIONS[pair][0], *pair, *_REJECTIONS[pair][1:]) for pair in REJECTION_REASONS]
    heads = ("Result", "Source", "Reason", "Meaning", "When")
    return table("7-3", "A-ASSOCIATE-RJ, PS3.8 Table 9-21 (1 = permanent, 2 = transient)", heads, rows)


def context_results() -> str:
    """Return the table of results of presentation contexts."""
    rows = [(result, *told) for result, told in _RESULTS.items()]
    heads = ("Result", "Meaning", "When")
    return table("7-4", "Results of presentation contexts, PS3.8 Table 9-18", heads, rows)


def statuses() -> str:
    """Return a table of the statuses answered for each service."""
    heads = ("Status", "Class", "Meaning", "When it is answered")
    parts = []
    for number, (field, meanings) in enumerate(MEANINGS.items(), start=5):
        rows = [(f"{one.status:04X}", one.severity, one.name, one.when) for one in meanings]
        role = "SCU" if field == N_EVENT_REPORT_RQ else "SCP"
        parts.append(table(f"7-{number}", f"{_SERVICES[field]} as {role}", heads, rows))
    return "\n".join(parts)
