"""Sharing a project with other sites: its key travels sealed, and counts when a person there says so.

An offer lies in the vault until then. Whoever gets the key exports under the same pseudonyms, UIDs and date
shifts; whoever gets none can order at those who have it, and receive what they release.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from anonymizer import PRESETS
from catalog import BadRequest, Clock, Contradiction, NotFound, NotPermitted, PacsError
from federation.export_messages import Offer
from federation.exports import PeerExports
from federation.trust.assertion import Asker, pseudonym_of
from federation.trust.boxes import open_box, seal_to
from federation.trust.certificates import parse, public_key
from federation.trust.keys import PrivateKey
from federation.trust.names import Identity
from node.contracts import Audit
from node.state import State

from .model import Project
from .projects import ProjectBook
from .sealing import Vault


class OfferRow(msgspec.Struct, frozen=True, kw_only=True):
    """An offer that waits for a person; the key in it is sealed by the node's vault."""

    project: str
    title: str
    profile: str
    policy: str
    ends: str
    key_id: str
    key: bytes
    partners: tuple[str, ...]
    sender: str
    name: str
    """How the sending node is called, and of which site it is."""
    when: float


class Around(NamedTuple):
    """What sharing needs of the node in its grid."""

    own_id: str
    key: Callable[[], PrivateKey]
    """The key of the node's certificate as it is now."""
    identify: Callable[[bytes], Identity]
    """Whom a certificate speaks for; raises NotPermitted."""
    node_id: Callable[[str], str]
    """The id of the node that a name or the beginning of an id names; raises NotFound."""
    name: Callable[[str], str]
    """How a node is called."""
    calls: PeerExports


class Partners:
    """Offers that were made and received, and who is in which project."""

    def __init__(
        self,
        state: State,
        projects: ProjectBook,
        vault: Vault,
        around: Callable[[], Around],
        audit: Audit,
        clock: Clock,
    ) -> None:
        """`around` raises NotFound while the node is in no grid."""
        self._offers = state.table("research-offers", OfferRow)
        self._projects = projects
        self._vault = vault
        self.around = around
        self._audit = audit
        self._clock = clock

    def asker(self, who: str, order: str = "") -> Asker:
        """Return on whose behalf peers are asked: they learn that it is the same person, and not who."""
        key = self._vault.derived(b"peerpacs research askers")
        return Asker(pseudonym_of(key, who), "researcher", "research", "", order[:32])

    def name(self, node_id: str) -> str:
        """Return how a node is called, its id if nobody here knows it."""
        try:
            return self.around().name(node_id)
        except PacsError:
            return node_id

    def share(self, name: str, peer: str, who: str, *, with_key: bool) -> dict[str, Any]:
        """Offer a project to a node; with the key it can export, without it only order and receive.

        Raises:
            NotFound: there is no such project or node, or this node has no key to give.
            Unavailable: the node is not connected.
        """
        around, project = self.around(), self._projects.find(name)
        node_id = around.node_id(peer)
        if node_id == around.own_id:
            raise BadRequest("That is this node itself.", "Name another; see: peerpacs peers")
        key = self._sealed(around, project, node_id) if with_key else b""
        partners = tuple(dict.fromkeys([*project.partners, node_id]))
        self._projects.change(name, lambda row: msgspec.structs.replace(row, partners=partners))
        told = self._offer(project, key, (around.own_id, *partners))
        try:
            reply = around.calls.offer(node_id, self.asker(who), told)
        except NotPermitted:
            # It is in force there with a key that somebody brought; there they have to name this node too.
            raise
        except PacsError:
            self._projects.change(name, lambda row: msgspec.structs.replace(row, partners=project.partners))
            raise
        detail = {"project": project.name, "node_id": node_id, "with_key": with_key, "who": who}
        self._audit.record("change", None, "project offered", detail)
        self._tell_others(around, project, node_id, (around.own_id, *partners), who)
        return {
            "project": project.name,
            "node_id": node_id,
            "name": around.name(node_id),
            "key": self._projects.key_id(project),
            "with_key": with_key,
            "is_in_force": reply.is_in_force,
        }

    def received(self, identity: Identity, told: Offer) -> bool:
        """Keep a peer's offer until a person decides; say whether the project is in force here already.

        Raises:
            Contradiction: there is a project of that name with another key.
            Damaged: the key was not sealed for this node.
        """
        around = self.around()
        partners = tuple(each for each in told.partners if each != around.own_id)
        if self._is_known(identity, told, partners):
            return True
        waiting = self._offers.get(_row_key(told.project))
        if waiting is not None and waiting.sender != identity.node_id:
            what = f"{waiting.name} offered a project {waiting.project} before, and nobody has decided."
            raise Contradiction(what, "Ask that site's people to accept or decline it.")
        # Who else came in is told without the key.
        key = waiting.key if waiting is not None and waiting.key_id == told.key_id else b""
        if told.key:
            opened = open_box(around.key(), told.key, _about(told.project, around.own_id))
            key = self._vault.seal(opened, f"offer {told.project}")
        row = OfferRow(
            project=told.project,
            title=told.title[:200],
            profile=told.profile,
            policy=told.policy,
            ends=told.ends,
            key_id=told.key_id,
            key=key,
            partners=tuple(dict.fromkeys([identity.node_id, *partners])),
            sender=identity.node_id,
            name=f"{identity.name} of {identity.site}" if identity.site else identity.name,
            when=self._clock(),
        )
        self._offers.put(_row_key(row.project), row)
        detail = {"project": row.project, "node_id": identity.node_id, "key": row.key_id}
        self._audit.record("change", None, "project offered by a peer", detail)
        return False

    def offers(self) -> list[dict[str, Any]]:
        """Return the offers that wait for a person."""
        return [_shown(row) for _, row in self._offers.scan()]

    def accept(self, name: str, who: str, **settings: Any) -> Project:
        """Take an offered project in; `settings` are the site's own, as approvers.

        Raises:
            NotFound: nobody offers it.
            BadRequest: a policy of that name is here already and says something else.
        """
        row = self._find(name)
        self._take_policy(row, who)
        told = {"title": row.title, "profile": row.profile, "ends": row.ends, **settings}
        told |= {"partners": list(row.partners)}
        if row.key:
            key = self._vault.open(row.key, f"offer {row.project}")
            project = self._projects.put(row.project, is_new=True, key=key, **told)
        else:
            project = self._projects.put(row.project, is_new=True, foreign_key=row.key_id, **told)
        self._offers.delete(_row_key(row.project))
        detail = {"project": project.name, "node_id": row.sender, "key": row.key_id, "who": who}
        self._audit.record("change", None, "offered project accepted", detail)
        return project

    def decline(self, name: str, who: str) -> dict[str, Any]:
        """Refuse an offered project; its key is destroyed here."""
        row = self._find(name)
        self._offers.delete(_row_key(row.project))
        detail = {"project": row.project, "node_id": row.sender, "who": who}
        self._audit.record("change", None, "offered project declined", detail)
        return _shown(row)

    def _sealed(self, around: Around, project: Project, node_id: str) -> bytes:
        self._projects.key(project.name)
        der = around.calls.certificate(node_id)
        if around.identify(der).node_id != node_id:
            raise NotPermitted("That node shows the certificate of another one.", "Tell the grid's admin.")
        content = self._projects.key_file(project.name).read_bytes()
        return seal_to(public_key(parse(der)), content, _about(project.name, node_id))

    def _offer(self, project: Project, key: bytes, partners: tuple[str, ...]) -> Offer:
        policy = ""
        if project.profile not in PRESETS:
            found = next(each for each in self._projects.policies() if each.name == project.profile)
            policy = json.dumps(found.document)
        return Offer(
            project=project.name,
            title=project.title,
            profile=project.profile,
            policy=policy,
            ends=project.ends,
            key_id=self._projects.key_id(project),
            key=key,
            partners=partners,
        )

    def _tell_others(
        self, around: Around, project: Project, new: str, partners: tuple[str, ...], who: str
    ) -> None:
        """Tell the other partners who came in; who does not hear it now hears it with the next one."""
        for node_id in project.partners:
            if node_id != new:
                try:
                    around.calls.offer(node_id, self.asker(who), self._offer(project, b"", partners))
                except PacsError as error:
                    detail = {"project": project.name, "node_id": node_id, "what": error.what}
                    self._audit.record("change", None, "partner not told of another", detail)

    def _is_known(self, identity: Identity, told: Offer, partners: tuple[str, ...]) -> bool:
        try:
            project = self._projects.find(told.project)
        except NotFound:
            return False
        if self._projects.key_id(project) != told.key_id:
            what = f"There is a project {project.name} here with another key."
            raise Contradiction(what, "Give one of the two another name.")
        if identity.node_id not in project.partners:
            # The id of a key stands in every manifest: it proves nothing.
            what = f"The project {project.name} is in force here, and {identity.name} is no partner of it."
            raise NotPermitted(what, f"There: peerpacs projects share {project.name} {identity.name}")
        known = tuple(dict.fromkeys([*project.partners, *partners]))
        if known != project.partners:
            self._projects.change(project.name, lambda row: msgspec.structs.replace(row, partners=known))
            detail = {"project": project.name, "node_id": identity.node_id, "partners": known}
            self._audit.record("change", None, "partners of a project told by one of them", detail)
        return True

    def _take_policy(self, row: OfferRow, who: str) -> None:
        if not row.policy:
            return
        known = {each.name: each.document for each in self._projects.policies()}
        document = json.loads(row.policy)
        if known.setdefault(row.profile, document) != document:
            what = f"A policy {row.profile} of this node says something else than the offered one."
            raise BadRequest(what, "Give yours another name, or ask the sender to.")
        self._projects.put_policy(row.profile, document, who)

    def _find(self, name: str) -> OfferRow:
        row = self._offers.get(_row_key(name))
        if row is None:
            raise NotFound(f"No site offers a project {name!r}.", "List offers: peerpacs projects offers")
        return row


def _row_key(name: str) -> bytes:
    return name.upper().encode()


def _about(project: str, node_id: str) -> str:
    return f"project {project} for {node_id}"


def _shown(row: OfferRow) -> dict[str, Any]:
    return {
        "project": row.project,
        "title": row.title,
        "profile": row.profile,
        "ends": row.ends,
        "key": row.key_id,
        "with_key": bool(row.key),
        "sender": row.name,
        "node_id": row.sender,
        "when": row.when,
    }
