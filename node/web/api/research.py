"""Research over REST: projects, exports and the review queue; whoever is logged in is who decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from catalog import NotFound, NotPermitted
from node.rights import Right

from . import research_answers as a
from .answers import Why
from .operation import Call, Operation
from .zipped import Member, Packed, file_member

_FREE: Final = ("download:", "archive:")
"""Targets that lie in no place of the machine and in no foreign system."""
_RESEARCH, _DECIDE, _MANAGE = Right.RESEARCH, Right.DECIDE, Right.MANAGE


def _put_project(call: Call) -> Any:
    told = {key: value for key, value in msgspec.structs.asdict(call.body()).items() if value is not None}
    name = call.named["project"]
    try:
        call.ask("project", name=name)
        is_new = False
    except NotFound:
        is_new = True
    return call.ask("put_project", name=name, who=call.person, is_new=is_new, **told)


def _project(call: Call) -> Any:
    return call.ask("project", name=call.named["project"])


def _projects(call: Call) -> Any:
    return call.ask("projects")


def _policy(call: Call) -> Any:
    return call.ask("describe_policy", project=call.named["project"])


def _share(call: Call) -> Any:
    told: a.Sharing = call.body()
    asked = {"peer": told.peer, "with_key": told.with_key, "who": call.person}
    return call.ask("share_project", name=call.named["project"], **asked)


def _offers(call: Call) -> Any:
    return call.ask("project_offers")


def _accept(call: Call) -> Any:
    told = {key: value for key, value in msgspec.structs.asdict(call.body()).items() if value}
    return call.ask("accept_project", name=call.named["offer"], who=call.person, **told)


def _decline(call: Call) -> Any:
    return call.ask("decline_project", name=call.named["offer"], who=call.person)


def _asked(told: a.Question) -> dict[str, Any]:
    asked: dict[str, Any] = {"query": told.query, "archive": told.archive, "profile": told.profile}
    return {**asked, "sites": told.sites, "wanted": msgspec.to_builtins(told.lines)}


def _preview(call: Call) -> Any:
    told: a.Question = call.body()
    return call.ask("preview_export", project=call.named["project"], who=call.person, **_asked(told))


def _order(call: Call) -> Any:
    told: a.ExportOrder = call.body()
    if told.target not in _FREE and not call.may(_MANAGE):
        what = f"Only who may manage the node has an export brought to {told.target}."
        raise NotPermitted(what, "Name download: or archive: as the target.")
    more = {"target": told.target, "purpose": told.purpose, "is_standing": told.is_standing}
    project = call.named["project"]
    export = call.ask("order_export", project=project, who=call.person, **_asked(told), **more)
    call.response.location = f"{call.request.path}/{export['id']}"
    return export


def _exports(call: Call) -> Any:
    project = call.named["project"].upper()
    return [each for each in call.ask("exports") if each["project"] == project]


def _found(call: Call) -> dict[str, Any]:
    """Return the export of the path, if it is one of the project's: the right was for that one."""
    export: dict[str, Any] = call.ask("export", id=call.named["export"])
    if export["project"] != call.named["project"].upper():
        raise NotFound(f"The project has no export {call.named['export']!r}.", "List them: GET .../exports")
    return export


def _judge(verb: str) -> Any:
    """Return a handler for what the project's people decide; if it names none, whoever may decide here."""

    def handle(call: Call) -> Any:
        export = _found(call)
        project = call.ask("project", name=export["project"])
        is_look = verb == "release_export" or export["standing"].startswith("waits for a look")
        named = project["reviewers" if is_look else "approvers"]
        if not named and not call.may(_DECIDE):
            raise NotPermitted(
                "The project names nobody for that.", "It is for somebody with the role admin."
            )
        told = {"why": call.body().reason} if call.operation.body is not None else {}
        return call.ask(verb, id=export["id"], who=call.person, **told)

    return handle


def _steer(verb: str) -> Any:
    """Return a handler for what whoever ordered an export may do with it, and whoever may decide here."""

    def handle(call: Call) -> Any:
        export = _found(call)
        if export["who"] != call.person and not call.may(_DECIDE):
            raise NotPermitted("Somebody else ordered this export.", "Ask that person, or an administrator.")
        return call.ask(verb, id=export["id"], who=call.person)

    return handle


def _zip(call: Call) -> None:
    export = _found(call)
    files = call.ask("released_files", id=export["id"], who=call.person)
    folder = Path(files["folder"])

    def members() -> Iterator[Member]:
        for name in files["names"]:
            yield file_member(name, folder / name)

    call.response.stream, call.response.content_type = Packed(members), "application/zip"
    call.response.downloadable_as = f"{export['project']}-{export['id'][:8]}.zip"


def _withdraw(call: Call) -> Any:
    told: a.Withdrawing = call.body()
    asked = {"subject": told.subject, "reason": told.reason, "issuer": told.issuer}
    return call.ask("withdraw_subject", project=call.named["project"], who=call.person, **asked)


def _quarantine(call: Call) -> Any:
    return call.ask("quarantine", project=call.named["project"])


def _held_id(call: Call) -> str:
    rows = call.ask("quarantine", project=call.named["project"])
    found = [row["id"] for row in rows if row["id"].startswith(call.named["held"])]
    if len(found) != 1:
        raise NotFound(f"Nothing is held there as {call.named['held']!r}.", "List it: GET .../quarantine")
    return str(found[0])


def _held(call: Call) -> Any:
    return call.ask("quarantined", id=_held_id(call), who=call.person)


def _rerun(call: Call) -> Any:
    told = msgspec.structs.asdict(call.body())
    return call.ask("rerun_quarantined", id=_held_id(call), who=call.person, **told)


def _reject(call: Call) -> Any:
    told: Why = call.body()
    return call.ask("reject_quarantined", id=_held_id(call), who=call.person, reason=told.reason)


_P, _E, _Q = "/projects/{project}", "/projects/{project}/exports", "/projects/{project}/quarantine"
_ONE, _HELD = f"{_E}/{{export}}", f"{_Q}/{{held}}"


def _row(
    method: str, path: str, right: Right, summary: str, handler: Any, answer: Any, **more: Any
) -> Operation:
    return Operation(method, path, right, summary, handler, answer, is_node=True, **more)


RESEARCH: Final = (
    _row("GET", "/projects", _MANAGE, "The research projects", _projects, list[a.Project]),
    _row("GET", _P, _RESEARCH, "One research project", _project, a.Project),
    _row("PUT", _P, _MANAGE, "Make or change a project", _put_project, a.Project, body=a.ProjectChange),
    _row("GET", f"{_P}/policy", _RESEARCH, "What happens to each attribute, in English", _policy, list[str]),
    _row("POST", f"{_P}/share", _MANAGE, "Offer it to another site", _share, a.Shared, body=a.Sharing),
    _row("GET", "/project-offers", _MANAGE, "Projects that other sites offer", _offers, list[a.Offer]),
    _row(
        "POST", "/project-offers/{offer}/accept", _MANAGE, "Take an offered project in", _accept, a.Project,
        body=a.Acceptance,
    ),
    _row("POST", "/project-offers/{offer}/decline", _MANAGE, "Refuse an offered project", _decline, a.Offer),
    _row(
        "POST", f"{_P}/preview", _RESEARCH, "Say what an export would hold", _preview, a.Preview,
        body=a.Question,
    ),
    _row("GET", _E, _RESEARCH, "The exports of a project", _exports, list[a.Export]),
    _row("POST", _E, _RESEARCH, "Order an export", _order, a.Export, body=a.ExportOrder, status=202),
    _row("GET", _ONE, _RESEARCH, "One export and how far it is", _found, a.Export),
    _row("POST", f"{_ONE}/approve", _RESEARCH, "Let it run", _judge("approve_export"), a.Export),
    _row("POST", f"{_ONE}/refuse", _RESEARCH, "Refuse it", _judge("refuse_export"), a.Export, body=Why),
    _row("POST", f"{_ONE}/release", _RESEARCH, "Let it go, after a look", _judge("release_export"), a.Export),
    _row("POST", f"{_ONE}/stop", _RESEARCH, "Stop it", _steer("stop_export"), a.Export),
    _row("POST", f"{_ONE}/finish", _RESEARCH, "Wait for no other site", _steer("finish_export"), a.Export),
    _row("POST", f"{_ONE}/retry", _RESEARCH, "Go on after a failure", _steer("retry_export"), a.Export),
    _row(
        "GET", f"{_ONE}/zip", _RESEARCH, "What was released, as a zip file, streamed", _zip, None,
        media_type="application/zip",
    ),
    _row(
        "POST", f"{_P}/withdrawals", _DECIDE, "Take a subject out, everywhere", _withdraw, a.Withdrawn,
        body=a.Withdrawing,
    ),
    _row("GET", _Q, _DECIDE, "What nothing vouches for", _quarantine, list[a.Held]),
    _row("GET", _HELD, _DECIDE, "One of it, with its attributes", _held, a.HeldWhole),
    _row("POST", f"{_HELD}/rerun", _DECIDE, "Run it again", _rerun, a.Curated, body=a.Rerun),
    _row("POST", f"{_HELD}/reject", _DECIDE, "Destroy it", _reject, a.Curated, body=Why),
)  # fmt: skip
