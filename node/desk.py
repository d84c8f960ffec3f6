"""What a person can ask of a node, as verbs that take and return what JSON can say.

The same table serves a running node's control socket and a command that opens the home by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from catalog import BadRequest
from node.archive_desk import ArchiveDesk
from node.archives import Plan
from node.authority_desk import AuthorityDesk
from node.book_desk import BookDesk
from node.certificates import describe
from node.copies.desk import CopiesDesk
from node.grid_desk import GridDesk
from node.grid_health import GridHealth
from node.neighbour_desk import NeighbourDesk
from node.research.senders import RESEARCH_VERBS
from node.retirement import Retirement
from node.transfers.model import Standing

if TYPE_CHECKING:
    from node.app import Archive, Node


_RETIRED: Final = "This node is retired and takes nothing new. To go on with it: peerpacs retire --off"


class Desk:
    """The verbs of one node, and the way to those of its archives."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def verbs(self) -> Verbs:
        """Return every verb by name."""
        return Verbs(self)

    def own(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs that are about the whole node."""
        verbs = (
            self.status,
            self.readiness,
            self.notices,
            self.archives,
            self.put_archive,
            self.peer,
            self.drain,
            self.retire,
        )
        node, grid = self._node, self._grid()
        near = NeighbourDesk(node.neighbourhood, node.audit, grid.node_id, node.clock)
        own = {verb.__name__: verb for verb in verbs}
        copies = CopiesDesk(node.neighbourhood.copying, node.audit).verbs()
        return own | grid.verbs() | near.verbs() | self._papers() | self._rules() | copies

    def _rules(self) -> dict[str, Callable[..., Any]]:
        return self._node.routed.desk() | self._node.old.verbs() | self._node.migrations.verbs()

    def _grid(self) -> GridDesk:
        node = self._node
        grid = GridDesk(node.grid, node.audit)
        grid.archive = lambda name: node.archive(name).plan.name
        grid.lag = NeighbourDesk(node.neighbourhood, node.audit, grid.node_id, node.clock).lag
        return grid

    def _grid_health(self) -> GridHealth:
        node = self._node
        return GridHealth(node.grid, self._grid(), node.neighbourhood.conflicts, node.clock)

    def peer(self, peer: str) -> dict[str, Any]:
        """Say of one peer all that this node can find out: how it is reached, and what each may do."""
        return self._grid_health().peer(peer)

    def notices(self) -> list[str]:
        """Return what a person should know of the grid although the node can do its work."""
        since = Retirement(self._node.state, self._node.clock).since
        retired = [_RETIRED] if since is not None else []
        health = self._grid_health().problems()
        return retired + [f"grid: {each['what']} {each['next']}".rstrip() for each in health]

    def _book(self) -> BookDesk:
        node = self._node
        return BookDesk(node.home, node.grid, node.devices, node.state, node.audit, node.clock)

    def _papers(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs about what an authority signs for all."""
        node = self._node
        return self._book().verbs() | AuthorityDesk(node.grid, node.audit, node.clock).verbs()

    def research(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs about research; its libraries are loaded when it is first asked."""
        return self._node.research.desk.verbs()

    def of(self, archive: str) -> ArchiveDesk:
        """Return the desk of an archive; empty means the default one.

        Raises:
            NotFound: there is none of that name.
        """
        return ArchiveDesk(self._node, self._node.archive(archive))

    def retire(self, who: str, is_wanted: bool) -> None:
        """Have the node take nothing new, over starts too, or take it again."""
        node = self._node
        retirement = Retirement(node.state, node.clock)
        if is_wanted:
            retirement.begin(who)
        else:
            retirement.end()
        node.audit.record("change", None, "retired" if is_wanted else "not retired any more", {"who": who})

    def drain(self, who: str = "", is_wanted: bool | None = None) -> dict[str, Any]:
        """Have the node take no new work, or take it again; say what is under way."""
        node = self._node
        if is_wanted is not None:
            if is_wanted:
                node.drain.begin(who, node.clock())
            else:
                node.drain.end()
                node.transfers.on_waiting()
            event = "draining began" if is_wanted else "draining ended"
            node.audit.record("change", None, event, {"who": who})
        buckets = [archive.bucket for archive in node.archives.values() if archive.bucket]
        return {
            "since": node.drain.since,
            "under_way": {
                "association": node.dimse.counters().get("open", 0),
                "peer request": node.neighbourhood.fetching.lanes.waited_for,
                "transfer": node.transfers.counts().get(Standing.RUNNING, 0),
                "import": sum(not job.is_over for job in node.imports.jobs.values()),
                "upload": sum(bucket.waiting() for bucket in buckets),
            },
        }

    def readiness(self) -> dict[str, str]:
        """Say of each thing that must be well what is wrong with it, or nothing."""
        return {found.name: found.why for found in self._node.watch.readiness.findings()}

    def status(self) -> dict[str, Any]:
        """Say how the node is: its name, what it holds, what waits for a person, and who was refused."""
        node = self._node
        held, rejected = (review := self.of("").review).held(), review.rejected()
        totals, storage = node.catalog.totals(), self.of("").storekeeping.summary()
        return {
            "name": node.config.node.name,
            "ae_title": node.config.node.ae_title,
            "node_id": node.config.node.node_id,
            "ports": node.ports,
            "started": node.started if node.ports else None,
            "archive": {
                "studies": totals.studies,
                "series": totals.series,
                "instances": totals.instances,
                "bytes": totals.size,
            },
            "disk": _disk(node, storage["volumes"]),
            "storage": storage,
            "archives": self.archives(),
            "associations": node.dimse.counters(),
            "tls": self._tls(),
            "published": self._book().news(),
            "draining": node.drain.since,
            "closed": node.closed.why,
            "grid": self._grid_health().problems(),
            "conflicts": totals.open_conflicts,
            "held": {
                "senders": sorted({row["source"] for row in held}),
                "instances": sum(row["instances"] for row in held),
                "bytes": sum(row["bytes"] for row in held),
            },
            "rejected": {"files": len(rejected), "bytes": sum(row["size"] for row in rejected)},
            "commitments": [
                row for archive in node.archives.values() for row in archive.commitment.waiting()
            ],
            "transfers": {standing.value: count for standing, count in node.transfers.counts().items()},
            "old_pacs": node.old.told(),
            "routes_waiting": node.routed.routing.waiting(),
            "migrations": [row for row in node.migrations.migrations() if not row["is_over"]],
            "refusals": [msgspec.to_builtins(refusal) for refusal in node.access.refusals.last()],
        }

    def _tls(self) -> dict[str, Any] | None:
        """Say which certificate lies there, and why it is not in use if it is not; None without TLS."""
        node = self._node
        if not node.config.tls.port:
            return None
        problem = node.credentials.problem()
        try:
            shown = describe(node.home / node.config.tls.certificate_file)
        except BadRequest as error:
            return {"problem": problem or error.what}
        return {**shown._asdict(), "problem": problem}

    def archives(self) -> list[dict[str, Any]]:
        """Return every archive: its plan, and what it holds."""
        return [_told(archive) for archive in self._node.archives.values()]

    def put_archive(self, name: str, who: str, is_new: bool, s3: list[str], **changes: Any) -> dict[str, Any]:
        """Make an archive, or change one; what is not named stays as it is.

        Raises:
            BadRequest: the plan contradicts itself, another archive, or what is there.
            NotFound: there is no such archive to change, or no credentials for its bucket.
        """
        node = self._node
        if is_new and name in node.archives:
            raise BadRequest(
                f"There is an archive {name} already.", f"Change it: peerpacs archives edit {name}"
            )
        old = {} if is_new else msgspec.to_builtins(node.archive(name).plan)
        try:
            plan = msgspec.convert({"name": name, "ae_titles": [], **old, **changes}, Plan)
        except msgspec.ValidationError as error:
            raise BadRequest(
                f"That cannot be an archive: {error}.", "See: peerpacs archives --help"
            ) from None
        if s3:
            plan = msgspec.structs.replace(plan, s3=node.book.with_s3(s3))
        node.put_archive(plan)
        outcome = "made" if is_new else "changed"
        node.audit.record("change", None, f"archive {outcome}", {"who": who, "archive": name})
        return {"outcome": outcome, **_told(node.archive(name))}


class Verbs(Mapping[str, Callable[..., Any]]):
    """The node's verbs and its default archive's by name, those of another archive as `archive/verb`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __getitem__(self, name: str) -> Callable[..., Any]:
        archive, _, verb = name.rpartition("/")
        own = self._desk.own()
        if archive and (verb in own or verb in RESEARCH_VERBS):
            what = f"{verb.replace('_', ' ')} is about the whole node, not about one archive."
            raise BadRequest(what, "Leave out --archive.")
        if verb in RESEARCH_VERBS:
            return self._desk.research()[verb]
        return own[verb] if verb in own else self._desk.of(archive).verbs()[verb]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._desk.own(), *RESEARCH_VERBS, *self._desk.of("").verbs())))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _disk(node: Node, volumes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how full the disks of the default archive are together; of a bucket, its spool's."""
    enough = node.config.storage.resume_above_mb << 20
    if volumes:
        is_full = not any(volume["state"] == "ok" for volume in volumes)
        return {
            **{key: sum(volume[key] for volume in volumes) for key in ("free", "size")},
            "is_full": is_full,
            "resume_above": enough,
        }
    disk = os.statvfs(node.main.folder)
    free = disk.f_bavail * disk.f_frsize
    is_full = free < node.config.storage.stop_below_mb << 20
    return {"free": free, "size": disk.f_blocks * disk.f_frsize, "is_full": is_full, "resume_above": enough}


def _told(archive: Archive) -> dict[str, Any]:
    totals = archive.catalog.totals()
    bucket = archive.bucket
    return {
        **msgspec.to_builtins(archive.plan),
        "studies": totals.studies,
        "series": totals.series,
        "instances": totals.instances,
        "bytes": totals.size,
        "stored_bytes": archive.quota.used(),
        "is_nearly_full": archive.quota.is_nearly_full,
        "clock": archive.clock_guard.doubt(),
        "bucket": bucket
        and {
            "is_online": bucket.away() is None,
            "waiting": bucket.waiting(),
            "behind": bucket.behind(),
            "trouble": bucket.trouble,
        },
    }
