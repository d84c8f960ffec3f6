"""What a person can ask about the catalogs of peers and about linked patients, as verbs for JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from catalog import Unavailable
from federation.announcing import Follower
from federation.identities import read_links
from federation.neighbours import Lag
from node.audit import AuditLog
from node.grid_conflicts import GridConflicts
from node.patient_links import PatientLinks

_CHANGE = "change"


class Around(Protocol):
    """As much as is asked of the node's neighbourhood."""

    links: PatientLinks
    conflicts: GridConflicts

    def lags(self, node_id: str) -> list[Lag]:
        """Return how far this node is with a peer's catalog; nothing while it does not run."""

    def followers(self, node_id: str) -> list[Follower]:
        """Return how far a peer is with this node's catalog."""

    def leave(self, who: str, is_forced: bool) -> dict[str, Any]:
        """Go out of the grid; raises Unavailable while the node does not run."""

    def allow(self, node_id: str) -> int:
        """Let studies vanish that a peer states no more."""


class NeighbourDesk:
    """The verbs of what is followed, and of links between patients."""

    def __init__(self, around: Around, audit: AuditLog, find: Callable[[str], str], now: Callable[[], float]):
        """`find` returns the id of the node that a name names."""
        self._around, self._audit, self._find, self._now = around, audit, find, now

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        own = (
            self.peer_allow,
            self.leave_grid,
            self.grid_conflicts,
            self.patient_links,
            self.link_patients,
            self.unlink_patients,
        )
        return {verb.__name__: verb for verb in own}

    def lag(self, node_id: str) -> dict[str, Any]:
        """Return how far this node is with a peer's catalog, and the peer with this node's."""
        return {
            "lag": [each._asdict() for each in self._around.lags(node_id)],
            "their_lag": [each._asdict() for each in self._around.followers(node_id)],
        }

    def leave_grid(self, who: str, is_forced: bool = False) -> dict[str, Any]:
        """Go out of the grid; the others drop what they have of this node."""
        return self._around.leave(who, is_forced)

    def peer_allow(self, peer: str, who: str) -> dict[str, Any]:
        """Let studies vanish that a peer states no more; they waited for a person's word."""
        node_id = self._find(peer)
        studies = self._around.allow(node_id)
        detail = {"who": who, "node_id": node_id, "studies": studies}
        self._audit.record(_CHANGE, None, "studies of a peer may vanish", detail)
        return {"node_id": node_id, "studies": studies}

    def grid_conflicts(self) -> list[dict[str, Any]]:
        """Return studies under whose UID different nodes state different patients, or keep other bytes."""
        return [
            {
                "StudyInstanceUID": each.StudyInstanceUID,
                "nodes": list(each.nodes),
                "names": self._around.conflicts.names(each),
                "since": each.since,
                "instances": list(each.instances),
            }
            for each in self._around.conflicts.all()
        ]

    def patient_links(self) -> list[dict[str, Any]]:
        """Return the links between patients."""
        return [
            {"one": list(link.one), "other": list(link.other), "who": link.who, "when": link.when}
            for link in self._around.links.all()
        ]

    def link_patients(self, who: str, pairs: list[list[str]], feed: str = "") -> dict[str, int]:
        """Say that identities belong to one person: (issuer, id, issuer, id) each, or a CSV feed of them."""
        told = [((a, b), (c, d)) for a, b, c, d in pairs] + read_links(feed)
        new = self._around.links.add(told, who, int(self._now()))
        self._audit.record(_CHANGE, None, "patients linked", {"who": who, "links": new})
        return {"told": len(told), "new": new}

    def unlink_patients(self, who: str, one: list[str], other: list[str]) -> None:
        """Take a link back."""
        self._around.links.remove((one[0], one[1]), (other[0], other[1]))
        self._audit.record(_CHANGE, None, "patients unlinked", {"who": who, "links": 1})


def not_running() -> Unavailable:
    """Return what is answered where only a running node can."""
    return Unavailable("This node does not run, so it follows nobody.", "peerpacs run")
