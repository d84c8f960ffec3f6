"""Lines of the audit as audit messages of PS3.15 A.5 (IHE ATNA): who did what to which study, from where.

Codes are those of PS3.16 CID 400 to 405. Lines that are about the node's own work alone have none.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from .audit import Line

_MINOR, _SERIOUS, _GOOD = "4", "8", "0"


class Kind(NamedTuple):
    """What kind of message an event becomes: Event ID, its type, and what was done (C, R, U, D, E)."""

    code: str
    meaning: str
    action: str
    type_code: str = ""
    type_meaning: str = ""


_TRANSFERRED: Final = Kind("110104", "DICOM Instances Transferred", "C")
_SENT: Final = Kind("110104", "DICOM Instances Transferred", "R")
_ACCESSED: Final = Kind("110103", "DICOM Instances Accessed", "R")
_CHANGED: Final = Kind("110103", "DICOM Instances Accessed", "U")
_DELETED: Final = Kind("110105", "DICOM Study Deleted", "D")
_RESTRICTED: Final = Kind("110113", "Security Alert", "E", "110132", "Use of Restricted Function")
_CONFIGURED: Final = Kind("110113", "Security Alert", "E", "110129", "Security Configuration")
_NODE: Final = Kind("110113", "Security Alert", "E", "110126", "Node Authentication")
_ALARM: Final = Kind("110113", "Security Alert", "E", "110131", "Software Configuration")
KINDS: Final[dict[str, Kind]] = {
    "start": Kind("110100", "Application Activity", "E", "110120", "Application Start"),
    "stop": Kind("110100", "Application Activity", "E", "110121", "Application Stop"),
    "login": Kind("110114", "User Authentication", "E", "110122", "Login"),
    "refusal": _NODE,
    "association": _NODE,
    "store": _TRANSFERRED,
    "find": Kind("110112", "Query", "E"),
    "get": _SENT,
    "move": _SENT,
    "retrieve": _SENT,
    "objects": _SENT,
    "forward": _SENT,
    "transfer": _SENT,
    "access": _ACCESSED,
    "decision": _CHANGED,
    "disposal": _DELETED,
    "import": Kind("110107", "Import", "C"),
    "export": Kind("110106", "Export", "R"),
    "backup": Kind("110106", "Export", "R"),
    "restore": Kind("110107", "Import", "C"),
    "change": _CONFIGURED,
    "escrow": _RESTRICTED,
    "quarantine": _RESTRICTED,
    "alarm": _ALARM,
}
_BAD: Final = ("refused", "failure", "failed")
_STUDIES: Final = ("StudyInstanceUID", "study", "studies")


def is_told(line: Line) -> bool:
    """Say whether a line becomes a message: one about an association does only if that was refused."""
    return line.event in KINDS and (line.event != "association" or line.outcome == "refused")


class Sender(NamedTuple):
    """The node as audit source."""

    name: str
    site: str
    node_id: str


def message(line: Line, sender: Sender) -> bytes:
    """Return the message of a line for which `is_told`, as XML."""
    kind = KINDS[line.event]
    if line.event == "decision" and str(line.detail.get("verb", "")).lower() == "delete":
        kind = _DELETED
    if line.event == "login" and line.outcome == "logged out":
        kind = kind._replace(type_code="110123", type_meaning="Logout")
    root = Element("AuditMessage")
    told = {
        "EventActionCode": kind.action,
        "EventDateTime": line.time,
        "EventOutcomeIndicator": _indicator(line),
    }
    event = SubElement(root, "EventIdentification", told)
    _code(event, "EventID", kind.code, kind.meaning)
    if kind.type_code:
        _code(event, "EventTypeCode", kind.type_code, kind.type_meaning)
    SubElement(event, "EventOutcomeDescription").text = f"{line.event}: {line.outcome}"
    for participant in _participants(line, sender, is_coming=kind.action == "C"):
        participant(root)
    source = SubElement(root, "AuditSourceIdentification", _source(sender))
    SubElement(source, "AuditSourceTypeCode", {"code": "4"})
    for uid in _studies(line.detail):
        _object(root, uid, "110180", "Study Instance UID", role="3", line=line)
    if line.event == "find":
        _object(root, "1.2.840.10008.5.1.4.1.2.2.1", "110181", "SOP Class UID", role="24", line=line)
    if kind.code == "110113":
        _object(root, sender.node_id, "110182", "Node ID", role="13", line=line)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=False)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + text


def _indicator(line: Line) -> str:
    if line.event == "alarm":
        return _SERIOUS
    return _MINOR if any(word in line.outcome for word in _BAD) else _GOOD


def _source(sender: Sender) -> dict[str, str]:
    told = {"AuditSourceID": sender.name}
    return {"AuditEnterpriseSiteID": sender.site, **told} if sender.site else told


def _participants(line: Line, sender: Sender, *, is_coming: bool) -> Iterator[Callable[[Element], None]]:
    """Yield whoever asked and this node, with the roles that the direction gives them."""
    roles = ("110153", "Source Role ID"), ("110152", "Destination Role ID")
    theirs, ours = roles if is_coming else roles[::-1]
    who = line.user or str(line.detail.get("who", "")) or line.ae
    if who or line.address:
        yield lambda root: _participant(root, line, who or line.address, theirs)

    def node(root: Element) -> None:
        told = {"UserID": sender.node_id, "AlternativeUserID": line.called or sender.name}
        told["UserIsRequestor"] = "false" if who else "true"
        made = SubElement(root, "ActiveParticipant", told)
        _code(made, "RoleIDCode", *(ours if line.event not in ("start", "stop") else _APPLICATION))

    yield node


_APPLICATION: Final = ("110150", "Application")


def _participant(root: Element, line: Line, who: str, role: tuple[str, str]) -> None:
    told = {"UserID": who, "UserIsRequestor": "true"}
    if line.ae and line.ae != who:
        told["AlternativeUserID"] = line.ae
    if line.address:
        told |= {"NetworkAccessPointID": line.address, "NetworkAccessPointTypeCode": "2"}
    _code(SubElement(root, "ActiveParticipant", told), "RoleIDCode", *role)


def _studies(detail: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for key in _STUDIES:
        value = detail.get(key, ())
        found += [value] if isinstance(value, str) else [each for each in value if isinstance(each, str)]
    return list(dict.fromkeys(uid for uid in found if uid))


def _object(root: Element, id: str, code: str, meaning: str, *, role: str, line: Line) -> None:
    told = {
        "ParticipantObjectID": id,
        "ParticipantObjectTypeCode": "2",
        "ParticipantObjectTypeCodeRole": role,
    }
    made = SubElement(root, "ParticipantObjectIdentification", told)
    _code(made, "ParticipantObjectIDTypeCode", code, meaning)
    if code == "110181":
        # The keys of a question tell of patients; that one was asked, and how it ended, is enough.
        SubElement(made, "ParticipantObjectQuery").text = ""
    else:
        SubElement(made, "ParticipantObjectName").text = meaning
    sequence = base64.b64encode(str(line.sequence).encode()).decode()
    SubElement(made, "ParticipantObjectDetail", {"type": "audit sequence", "value": sequence})


def _code(above: Element, name: str, code: str, meaning: str) -> None:
    SubElement(above, name, {"csd-code": code, "codeSystemName": "DCM", "originalText": meaning})
