"""Tables of what can be set, and of the Application Entities that a configuration makes."""

from __future__ import annotations

from node.config import Config
from node.sections import GRID_SUFFIX, REJECTED_SUFFIX

from .markdown import table, yes


def entities(config: Config) -> str:
    """Return the table of Application Entities."""
    title = config.node.ae_title
    rows = [
        (
            f"`{title}`",
            "what this node holds: storage, query and retrieve; and it calls other AEs by this title",
        ),
        (f"`{title}{GRID_SUFFIX}`", "what all sites hold, as far as each grants it: query and retrieve"),
        (f"`{title}{REJECTED_SUFFIX}`", "what was rejected here: query and retrieve"),
        ("of an archive (`peerpacs archives`)", "what that archive holds, as the first of this table"),
        (
            "of a research project (`peerpacs projects`)",
            "its de-identified set: storage by listed senders, query and retrieve (4.1.2)",
        ),
    ]
    return table("4-1", "Application Entities", ("AE title", "Scope"), rows)


def of_the_node(config: Config) -> str:
    """Return the table of settings with the values of this node."""
    dicom = config.dicom
    rows = [
        ("AE title of the archive", "`node.ae_title`", config.node.ae_title, "at most 11 characters"),
        ("TCP port for DICOM", "`dicom.port`", dicom.port, "0 = none; 104 and 11112 are customary"),
        ("TCP port for DICOM over TLS", "`tls.port`", config.tls.port, "0 = none; 2762 is registered for it"),
        ("Certificates of callers", "`tls.client_certificates`", config.tls.client_certificates, "see 8.2"),
        ("Address to listen on", "`dicom.host`", dicom.host, ""),
        ("Maximum PDU length received", "`dicom.max_pdu`", dicom.max_pdu, "bytes"),
        ("SOP Classes and syntaxes of no table", "`dicom.accept_unknown`", yes(dicom.accept_unknown), ""),
        ("Senders that are not known", "`senders.unknown_senders`", config.senders.unknown_senders.value, ""),
        ("Issuer of Patient IDs without one", "`node.issuer`", config.node.issuer or "none", ""),
    ]
    heads = ("What", "Key of peerpacs.toml", "Value", "")
    return table("6-1", "Parameters of the node", heads, rows)
