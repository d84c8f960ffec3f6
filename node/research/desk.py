"""What a person can ask about research, as verbs that take and return what JSON can say."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from anonymizer import describe
from catalog import BadRequest, NotFound
from node.contracts import Audit

from .curating import Curating
from .everywhere import Everywhere
from .exports import ExportBook
from .gathering import Gathering
from .model import Export, Held, Project
from .ordering import Ordering, Question
from .partners import Partners
from .projects import ProjectBook
from .quarantine import Quarantine
from .sealing import Escrow, open_escrow, read_holder
from .serving import Serving
from .withdrawing import Withdrawals
from .work import Exporter


class Room(NamedTuple):
    """The parts that the verbs use."""

    projects: ProjectBook
    exports: ExportBook
    ordering: Ordering
    exporter: Exporter
    quarantine: Quarantine
    curating: Curating
    audit: Audit
    records: Path
    partners: Partners
    everywhere: Everywhere
    gathering: Gathering
    serving: Serving
    withdrawals: Withdrawals
    put_archive: Callable[[Project, str], str]
    """Has a project's archive answer to an AE title; returns the archive's name."""
    wake: Callable[[], None]
    """Has somebody work on exports now."""


class ResearchDesk:
    """The verbs about projects, exports and what is held back."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        own = (
            self.projects,
            self.project,
            self.put_project,
            self.put_policy,
            self.describe_policy,
            self.preview_export,
            self.order_export,
            self.exports,
            self.export,
            self.approve_export,
            self.refuse_export,
            self.release_export,
            self.stop_export,
            self.finish_export,
            self.retry_export,
            self.released_files,
            self.share_project,
            self.project_offers,
            self.accept_project,
            self.decline_project,
            self.withdraw_subject,
            self.open_escrow,
            self.quarantine,
            self.quarantined,
            self.rerun_quarantined,
            self.reject_quarantined,
        )
        return {verb.__name__: verb for verb in own}

    def projects(self) -> list[dict[str, Any]]:
        """Return every project, with how much of it waits for somebody."""
        return [self._project(project) for project in self._room.projects]

    def project(self, name: str) -> dict[str, Any]:
        """Return one project."""
        return self._project(self._room.projects.find(name))

    def put_project(
        self, name: str, who: str, is_new: bool, key_file: str = "", ae_title: str = "", **changes: Any
    ) -> dict[str, Any]:
        """Make a project, or change one; what is not named stays as it is."""
        room = self._room
        key = Path(key_file) if key_file else None
        if "trusted" in changes:
            changes["trusted"] = [self._node_in(word) for word in changes["trusted"]]
        holders = changes.pop("holders", None)
        if holders:
            known = {} if is_new else dict(room.projects.find(name).holders)
            changes["holders"] = known | holders
        project = room.projects.put(name, is_new=is_new, key_file=key, **changes)
        if ae_title:
            archive = room.put_archive(project, ae_title)
            project = room.projects.put(name, is_new=False, archive=archive)
        if is_new:
            # From now on peers may order.
            room.wake()
        outcome = "made" if is_new else "changed"
        room.audit.record("change", None, f"project {outcome}", {"project": project.name, "who": who})
        return {"outcome": outcome, **self._project(project)}

    def put_policy(self, name: str, document: Any, who: str) -> dict[str, Any]:
        """Put in a policy of the node's own, under a name that projects can use."""
        row = self._room.projects.put_policy(name, document, who)
        detail = {"policy": name, "digest": row.digest, "who": who}
        self._room.audit.record("change", None, "policy put in", detail)
        return {"name": name, "digest": row.digest}

    def describe_policy(self, project: str, profile: str = "") -> list[str]:
        """Say in English what happens to each attribute of a project's instances."""
        projects = self._room.projects
        return list(describe(projects.policy(projects.find(project), profile)))

    def preview_export(
        self,
        project: str,
        archive: str = "",
        query: list[str] | None = None,
        wanted: list[dict[str, Any]] | None = None,
        who: str = "",
        profile: str = "",
        sites: list[str] | None = None,
    ) -> dict[str, Any]:
        """Say what an export would hold, a row for each site; nothing runs."""
        question = Question(archive, query or [], wanted or [])
        return self._room.everywhere.preview(project, question, who, profile, sites or [])

    def order_export(
        self,
        project: str,
        target: str,
        who: str,
        archive: str = "",
        query: list[str] | None = None,
        wanted: list[dict[str, Any]] | None = None,
        sites: list[str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Order an export at the sites of its project; it runs at once unless somebody has to approve it."""
        room, question = self._room, Question(archive, query or [], wanted or [])
        parts = room.everywhere.sites(room.projects.find(project), sites or [])
        if parts:
            profile = str(more.get("profile", ""))
            told = room.everywhere.preview(project, question, who, profile, sites or [])
            export = room.everywhere.order(project, question, target, who, parts, **more)
        else:
            export, told = room.ordering.order(project, question, target, who, **more)
        room.wake()
        return {**self._told(export), "preview": told}

    def exports(self) -> list[dict[str, Any]]:
        """Return all exports, the oldest first."""
        return [self._told(export) for export in self._room.exports.all()]

    def export(self, id: str) -> dict[str, Any]:
        """Return one export and how far it is; a beginning of its id is enough."""
        return self._told(self._room.exports.find(id))

    def approve_export(self, id: str, who: str) -> dict[str, Any]:
        """Let an export run that waits for approval."""
        export = self._room.ordering.approve(id, who)
        self._room.wake()
        return self._told(export)

    def refuse_export(self, id: str, who: str, why: str) -> dict[str, Any]:
        """Refuse an export that waits for approval or for a look."""
        return self._told(self._room.exports.refuse(id, self._project_of(id), who, why))

    def release_export(self, id: str, who: str) -> dict[str, Any]:
        """Let a staged export go out, after a person looked at it."""
        export = self._room.exports.release(id, self._project_of(id), who)
        self._room.wake()
        return self._told(export)

    def stop_export(self, id: str, who: str) -> dict[str, Any]:
        """Stop an export, at every site; nothing more of it goes out."""
        export = self._room.exports.stop(id, who)
        self._room.gathering.stop(export)
        return self._told(export)

    def finish_export(self, id: str, who: str) -> dict[str, Any]:
        """Let an export of several sites go out with what is there; the other sites are not waited for."""
        export = self._room.gathering.finish(id, who)
        self._room.audit.record("export", None, "not waited for", {"export": export.id, "who": who})
        return self._told(export)

    def released_files(self, id: str, who: str) -> dict[str, Any]:
        """Return where the files of a release lie that waits to be taken, and put on record who takes it."""
        room = self._room
        export = room.exports.find(id)
        given = room.serving.given(export)
        room.audit.record(
            "export", None, "taken", {"export": export.id, "project": export.project, "who": who}
        )
        return {"folder": str(given.folder), "names": list(given.names)}

    def share_project(self, name: str, peer: str, who: str, with_key: bool = True) -> dict[str, Any]:
        """Offer a project to a node at another site, with its key or only to order and receive."""
        return self._room.partners.share(name, peer, who, with_key=with_key)

    def project_offers(self) -> list[dict[str, Any]]:
        """Return the projects that other sites offer and nobody here has decided about."""
        return self._room.partners.offers()

    def accept_project(self, name: str, who: str, **settings: Any) -> dict[str, Any]:
        """Take an offered project in; its key counts from now on."""
        project = self._room.partners.accept(name, who, **settings)
        self._room.wake()
        return {"outcome": "accepted", **self._project(project)}

    def decline_project(self, name: str, who: str) -> dict[str, Any]:
        """Refuse an offered project."""
        return self._room.partners.decline(name, who)

    def retry_export(self, id: str, who: str) -> dict[str, Any]:
        """Go on with an export that failed or was stopped."""
        export = self._room.exports.retry(id, who)
        self._room.wake()
        return self._told(export)

    def withdraw_subject(
        self, subject: str, who: str, reason: str, project: str = "", issuer: str = "", archive: str = ""
    ) -> dict[str, Any]:
        """Take a subject out of one project or all, at every site; it is a pseudonym or a Patient ID."""
        done = self._room.withdrawals.withdraw(subject, who, reason, project, issuer, archive)
        return {"projects": done}

    def open_escrow(
        self, id: str, keys: dict[str, tuple[str, str]], who: str, reason: str
    ) -> list[dict[str, str]]:
        """Return who the pseudonyms of an export are, with the keys of two holders.

        `keys` gives each holder's key file, in base64, and passphrase.
        """
        if not reason:
            raise BadRequest("Opening an escrow needs a reason.", "Say it with --reason.")
        export = self._room.exports.find(id)
        path = self._room.records / export.project / f"{export.id}.escrow"
        if not path.is_file():
            what = f"Export {export.id[:8]} has no escrow: the project named no two holders then."
            raise NotFound(what, f"peerpacs projects edit {export.project} --holder NAME=PUBLIC-KEY")
        escrow = msgspec.msgpack.decode(path.read_bytes(), type=Escrow)
        detail = {"export": export.id, "project": export.project, "holders": sorted(keys), "who": who}
        try:
            private = {name: read_holder(base64.b64decode(key), word) for name, (key, word) in keys.items()}
            table = open_escrow(escrow, private)
        except Exception:
            self._room.audit.record("escrow", None, "refused", detail)
            raise
        self._room.audit.record("escrow", None, "opened", {**detail, "reason": reason})
        return msgspec.json.decode(table, type=list[dict[str, str]])

    def quarantine(self, project: str = "") -> list[dict[str, Any]]:
        """Return what is held back, the oldest first."""
        return [msgspec.to_builtins(held) for held in self._room.quarantine.all(project.upper())]

    def quarantined(self, id: str, who: str) -> dict[str, Any]:
        """Return one instance that is held, with its attributes as they came."""
        return self._room.curating.show(self._find(id), who)

    def rerun_quarantined(
        self,
        id: str,
        who: str,
        boxes: list[list[int]] | None = None,
        is_clean: bool = False,
        words: list[str] | None = None,
        reason: str = "",
    ) -> dict[str, Any]:
        """Run an instance again, after its equipment got a rule or its words were allowed."""
        return self._room.curating.rerun(self._find(id), who, boxes or [], is_clean, words or [], reason)

    def reject_quarantined(self, id: str, who: str, reason: str) -> dict[str, Any]:
        """Destroy what is held of an instance."""
        return self._room.curating.reject(self._find(id), who, reason)

    def _node_in(self, word: str) -> str:
        """Return `+id` for `+name`."""
        sign = word[:1] if word[:1] in "+-" else ""
        return sign + self._room.partners.around().node_id(word.removeprefix(sign))

    def _find(self, id: str) -> Held:
        return self._room.quarantine.find(id)

    def _project_of(self, id: str) -> Project:
        return self._room.projects.find(self._room.exports.find(id).project)

    def _project(self, project: Project) -> dict[str, Any]:
        room = self._room
        exports = [export for export in room.exports.all() if export.project == project.name]
        return {
            **msgspec.to_builtins(project),
            "key": room.projects.key_id(project),
            "partners": [{"node_id": id, "name": room.partners.name(id)} for id in project.partners],
            "policy": room.projects.policy(project).digest,
            "exports": len(exports),
            "held": len(room.quarantine.all(project.name)),
            "withdrawn": len(room.projects.withdrawals(project.name)),
        }

    def _told(self, export: Export) -> dict[str, Any]:
        told: dict[str, Any] = msgspec.to_builtins(export)
        step, done, total = self._room.exporter.progress.get(export.id, ("", 0, 0))
        told["progress"] = {"step": step, "done": done, "total": total}
        told["release"] = str(self._room.exporter.folder_of(export) / "release")
        return told
