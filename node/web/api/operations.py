"""The table of operations: what is asked, the verb that answers it, and the right it needs."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any, Final

import msgspec

from node.audit import Line
from node.contracts import Device
from node.rights import Right

from .. import storing
from ..body import Body
from ..gateway import BODY
from ..problems import Malformed
from . import answers as a
from . import deciding as d
from .everywhere import EVERYWHERE
from .grid import GRID
from .operation import Call, Operation
from .operation import verb as _verb
from .people import PEOPLE
from .research import RESEARCH
from .session import ComingBack, begin_oidc, change_password, end_oidc, log_in, log_out, session_now
from .standing import STANDING
from .studies import changes, dictionary, studies, study, study_zip, viewer_link
from .traffic import traffic

_READ, _FIND, _DECIDE = Right.RETRIEVE, Right.SEARCH, Right.DECIDE
_SEND, _MANAGE, _WATCH = Right.TRANSFER, Right.MANAGE, Right.WATCH
_FILE: Final = "application/dicom"


def _page(call: Call) -> None:
    page = call.backing.page(call.request.relative_uri)
    call.response.status = page.status
    call.response.data, call.response.content_type = page.body, page.content_type


def _store(call: Call) -> None:
    """Take in one file as it is, without multipart around it."""
    body: Body = call.request.env[BODY]
    if body.length == 0:
        raise Malformed("The request has no body.", "curl --data-binary @file.dcm -H 'Content-Type: ...'")
    storing.store_one(call.exchange())


def _forward(call: Call) -> Any:
    transfer = _verb("forward", who=True)(call)
    call.response.location = f"{call.request.path}/{transfer['id']}"
    return transfer


def _correct(call: Call) -> Any:
    order: d.Correcting = call.body()
    target = "/".join(part for part in (call.named["study"], order.below) if part)
    return call.ask("correct", target=target, attributes=order.attributes, reason=order.reason, who=call.who)


def _import(call: Call) -> a.Job:
    order: a.ImportOrder = call.body()
    told = {"issuer": order.issuer, "patient": order.patient}
    name = call.ask("start_import", source=order.source, **told, who=call.who)
    url = f"{call.request.path}/{name}"
    call.response.location = url
    call.services.audit.record(
        "change", call.visitor.caller, "import started", {"via": "web", "job": name, "who": call.who}
    )
    return a.Job(id=name, url=url)


def _devices(call: Call) -> list[Device]:
    return list(call.backing.devices)


def _device(call: Call) -> Device:
    return call.backing.devices.find(call.named["ae_title"])


def _put_device(call: Call) -> Device:
    row = msgspec.structs.asdict(call.body())
    device = call.backing.devices.put(Device(ae_title=call.named["ae_title"], **row))
    _told_of(call, "device changed", device)
    return device


def _remove_device(call: Call) -> None:
    _told_of(call, "device removed", call.backing.devices.remove(call.named["ae_title"]))


def _echo(call: Call) -> a.Echo:
    return a.Echo(seconds=call.backing.echo(_device(call)))


def _told_of(call: Call, what: str, device: Device) -> None:
    call.backing.forget_refusals(device.ae_title)
    detail = {"via": "web", "who": call.who, "device": msgspec.to_builtins(device)}
    call.services.audit.record("change", call.visitor.caller, what, detail)


def _audit(call: Call) -> list[Line]:
    wanted: a.AuditQuery = call.query()
    lines = (
        line
        for line in call.backing.audit_lines(wanted.word)
        if line.sequence > wanted.since
        and (not wanted.event or line.event == wanted.event)
        and (not wanted.user or line.user == wanted.user)
        and (not wanted.outcome or line.outcome == wanted.outcome)
    )
    return [*deque(lines, wanted.limit)][::-1] if wanted.newest else list(islice(lines, wanted.limit))


def _verification(call: Call) -> a.AuditCheck:
    found = call.backing.verify_audit()
    breaks = [a.AuditBreak(**each._asdict()) for each in found.breaks]
    return a.AuditCheck(lines=found.lines, last=found.last, breaks=breaks)


def _transfers(call: Call) -> Any:
    query: a.OverQuery = call.query()
    return call.ask("transfers", is_over_too=query.over)


_T, _ID = "/transfers", "/transfers/{id}"
_HELD, _SHELF, _CONFLICTS = "/held", "/rejected", "/conflicts"


def _act(word: str, verb: str, summary: str, body: type[msgspec.Struct] | None = None) -> Operation:
    return Operation("POST", f"{_ID}/{word}", _SEND, summary, _verb(verb, who=True), a.Transfer, body=body)


TABLE: Final = (
    Operation("POST", "/session", None, "Log in", log_in, a.SessionNow, body=a.Login, is_node=True),
    Operation(
        "GET", "/session/oidc", None, "Log in at the hospital's identity provider", begin_oidc, status=302,
        is_node=True,
    ),
    Operation(
        "GET", "/session/oidc/callback", None, "Come back from there", end_oidc, query=ComingBack,
        is_node=True, media_type="text/html",
    ),
    Operation("GET", "/session", None, "Who is logged in", session_now, a.SessionNow, is_node=True),
    Operation("DELETE", "/session", None, "Log out", log_out, status=204, is_node=True),
    Operation(
        "PUT", "/session/password", None, "Set a password of one's own", change_password, a.SessionNow,
        body=a.NewPassword, is_node=True,
    ),
    Operation("GET", "/livez", None, "Whether it lives", _page, is_node=True, media_type="text/plain"),
    Operation("GET", "/readyz", None, "Whether it is ready", _page, is_node=True, media_type="text/plain"),
    Operation(
        "GET", "/metrics", _WATCH, "Numbers for Prometheus", _page, is_node=True, media_type="text/plain"
    ),
    Operation(
        "GET", "/status", _WATCH, "How the node is", _verb("status"), dict[str, Any], is_node=True,
        is_polled=True,
    ),
    Operation(
        "GET", "/studies", _FIND, "Find studies", studies, list[a.Attributes], query=a.StudyQuery,
        is_polled=True,
    ),
    Operation("GET", "/studies/{study}", _FIND, "One study", study, a.Study),
    Operation(
        "GET", "/studies/{study}/zip", _READ, "A study as a zip file, streamed", study_zip,
        query=a.ZipQuery, media_type="application/zip",
    ),
    Operation(
        "POST", "/studies/{study}/viewer-link", _READ, "A link for a viewer that brings no cookie, as Weasis",
        viewer_link, a.ViewerUrl, body=a.ViewerWish, is_secret=True,
    ),
    Operation(
        "POST", "/series/move", _DECIDE, "Move series to another study, or split them off",
        _verb("move_series", who=True), list[dict[str, Any]], body=d.Moving,
    ),
    Operation(
        "POST", "/studies/{study}/join", _DECIDE, "Make it one with another study",
        _verb("join_studies", who=True), list[dict[str, Any]], body=d.Joining,
    ),
    Operation(
        "GET", "/studies/{study}/life", Right.AUDIT, "What happened to a study", _verb("trace"), a.Life
    ),
    Operation(
        "GET", "/studies/{study}/decisions", _DECIDE, "What was decided about a study", _verb("decisions"),
        list[d.Decided],
    ),
    Operation(
        "GET", "/dictionary", _FIND, "Keywords of the tags of the standard", dictionary, dict[str, str]
    ),
    Operation(
        "GET", "/traffic", _FIND, "Which series arrived when", traffic, a.Traffic, query=a.TrafficQuery,
        is_polled=True,
    ),
    Operation("GET", "/changes", _FIND, "What changed since", changes, a.Changes, query=a.ChangesQuery),
    Operation(
        "POST", "/instances", Right.STORE, "Store one DICOM file, sent as it is", _store,
        media_type="application/dicom+json", takes=_FILE,
    ),
    Operation(
        "GET", _T, _SEND, "What is sent", _transfers, list[a.Transfer], query=a.OverQuery,
        is_polled=True,
    ),
    Operation("POST", _T, _SEND, "Send to a device", _forward, a.Transfer, body=a.Forward, status=202),
    Operation("GET", _ID, _SEND, "One transfer, with what failed", _verb("transfer"), a.TransferWhole),
    _act("pause", "pause_transfer", "Let it rest"),
    _act("resume", "resume_transfer", "Go on with it"),
    _act("cancel", "cancel_transfer", "Give it up"),
    _act("retry", "retry_transfer", "Send what failed once more"),
    _act("raise", "raise_transfer", "Move it to another lane", a.Lane),
    Operation(
        "GET", _HELD, _DECIDE, "What unknown senders stored", _verb("held"), list[a.HeldRow],
        is_polled=True,
    ),
    Operation(
        "POST", f"{_HELD}/release", _DECIDE, "Let it into the archive", _verb("release", who=True),
        a.Judged, body=a.HeldVerdict,
    ),
    Operation(
        "POST", f"{_HELD}/discard", _DECIDE, "Throw it away for good", _verb("discard", who=True),
        a.Judged, body=a.HeldVerdict,
    ),
    Operation(
        "GET", _SHELF, _DECIDE, "Data sets that could not be taken", _verb("rejected"), list[a.RejectedRow],
        is_polled=True,
    ),
    Operation(
        "POST", f"{_SHELF}/{{name}}/retake", _DECIDE, "Take it in after all", _verb("retake", who=True),
        a.Shelved,
    ),
    Operation(
        "DELETE", f"{_SHELF}/{{name}}", _DECIDE, "Delete it for good", _verb("throw_away", who=True),
        a.Shelved,
    ),
    Operation(
        "GET", _CONFLICTS, _DECIDE, "UIDs that several versions claim", _verb("conflicts"),
        list[a.ConflictRow], query=a.ResolvedQuery, is_polled=True
    ),
    Operation(
        "GET", f"{_CONFLICTS}/{{sop}}", _DECIDE, "One conflict and its differences", _verb("conflict"),
        a.ConflictWhole,
    ),
    Operation(
        "POST", f"{_CONFLICTS}/{{sop}}/prefer", _DECIDE, "Prefer one version", _verb("prefer", who=True),
        dict[str, Any], body=a.Preference,
    ),
    Operation(
        "POST", "/studies/{study}/reject", _DECIDE, "Hide a study", _verb("reject", who=True, study="target"),
        dict[str, Any], body=d.Rejecting,
    ),
    Operation(
        "POST", "/studies/{study}/correct", _DECIDE, "Correct attributes in all that leaves", _correct,
        dict[str, Any], body=d.Correcting,
    ),
    Operation(
        "POST", "/studies/{study}/delete", _DECIDE, "Delete a study",
        _verb("delete", who=True, study="target"), dict[str, Any], body=a.Why,
    ),
    Operation(
        "POST", "/studies/{study}/erase", _DECIDE, "Erase a study for good",
        _verb("erase", who=True, study="target"), dict[str, Any], body=a.Why,
    ),
    Operation(
        "POST", "/studies/{study}/hold", _DECIDE, "Put a legal hold on a study",
        _verb("hold", who=True, study="target"), dict[str, Any], body=a.Why,
    ),
    Operation(
        "GET", "/deletions", _DECIDE, "What was ordered to go, and how far it is", _verb("deletions"),
        dict[str, Any],
    ),
    Operation(
        "POST", "/deletions/{wish}/confirm", _DECIDE, "Be the second person", _verb("confirm", who=True),
        dict[str, Any],
    ),
    Operation(
        "GET", "/retention", _DECIDE, "How long studies are kept", _verb("retention"), dict[str, Any]
    ),
    Operation(
        "GET", "/retention-plan", _DECIDE, "What would go by the rules; nothing is done",
        _verb("retention_plan"), dict[str, Any], query=d.PlanQuery,
    ),
    Operation(
        "PUT", "/retention/{name}", _DECIDE, "Make a rule, which works once it is activated",
        _verb("put_retention", who=True), dict[str, Any], body=d.RuleOrder,
    ),
    Operation(
        "POST", "/retention/{name}/activate", _DECIDE, "Let a rule work",
        _verb("activate_retention", who=True), dict[str, Any],
    ),
    Operation(
        "DELETE", "/retention/{name}", _DECIDE, "Remove a rule",
        _verb("remove_retention", who=True), status=204,
    ),
    Operation(
        "POST", "/retention-clock", _DECIDE, "Say that the node's clock is right, though it was doubted",
        _verb("believe_clock", who=True), status=204,
    ),
    Operation(
        "POST", "/decisions/{decision}/undo", _DECIDE, "Take a decision back", _verb("undo", who=True),
        dict[str, Any], body=a.Why,
    ),
    Operation(
        "GET", "/devices", _MANAGE, "The device book", _devices, list[Device], is_node=True,
        is_polled=True,
    ),
    Operation("GET", "/devices/{ae_title}", _MANAGE, "One device", _device, Device, is_node=True),
    Operation(
        "PUT", "/devices/{ae_title}", _MANAGE, "Allow or change a device", _put_device, Device,
        body=a.DeviceRow, is_node=True,
    ),
    Operation(
        "POST", "/devices/{ae_title}/echo", _MANAGE, "Call a device with C-ECHO", _echo, a.Echo, is_node=True
    ),
    Operation(
        "DELETE", "/devices/{ae_title}", _MANAGE, "Forget a device", _remove_device, status=204, is_node=True
    ),
    Operation(
        "GET", "/archives", _MANAGE, "The archives and what they hold", _verb("archives"),
        list[a.ArchiveRow], is_node=True,
    ),
    Operation(
        "GET", "/audit/verification", Right.AUDIT, "Whether the audit is as it was written", _verification,
        a.AuditCheck, is_node=True,
    ),
    Operation(
        "GET", "/audit", Right.AUDIT, "Who did what, oldest first", _audit, list[Line],
        query=a.AuditQuery, is_node=True,
    ),
    Operation(
        "GET", "/imports", _MANAGE, "The imports since the node started", _verb("imports"),
        list[dict[str, Any]], is_polled=True,
    ),
    Operation(
        "POST", "/imports", _MANAGE, "Import a folder, zip file or DICOMDIR of the node's machine", _import,
        a.Job, body=a.ImportOrder, status=202,
    ),
    Operation(
        "GET", "/imports/{name}", _MANAGE, "How far an import is", _verb("import_progress"), dict[str, Any]
    ),
    Operation("DELETE", "/imports/{name}", _MANAGE, "Stop an import", _verb("stop_import"), status=204),
    *PEOPLE,
    *EVERYWHERE,
    *GRID,
    *RESEARCH,
    *STANDING,
)  # fmt: skip
