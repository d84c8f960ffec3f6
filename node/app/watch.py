"""What watchers see of a node: its numbers, what must be well for it to be ready, and who must turn."""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from catalog import Availability
from node.certificates import describe
from node.importer import Fate, ImportJob
from node.measures import Measures, Sample
from node.sections import Config
from node.storage import VolumeStore
from node.watching import Check, Heartbeats, Pages, Readiness, WatchServer
from node.watching.exposition import Exposition
from node.watching.readiness import has_room, is_writable

from .archive import Archive
from .gateways import Front
from .settings import MB

logger = logging.getLogger(__name__)


class Watch:
    """Puts together what is read of one node; the web asks `pages`, other parts add to `measures`."""

    def __init__(
        self,
        archives: Mapping[str, Archive],
        dimse: Front,
        jobs: Mapping[str, ImportJob],
        home: Path,
        config: Config,
    ) -> None:
        """Take the node's parts."""
        self._archives, self._jobs = archives, jobs
        self._least = config.storage.stop_below_mb * MB
        self._certificate = home / config.tls.certificate_file if config.tls.port else None
        self.measures = Measures()
        self.hearts = Heartbeats(time.monotonic)
        for source in (_build, dimse.samples, self._imported, self._kept, self._uploads, self._certificates):
            self.measures.add(source)
        checks = [
            Check("catalog", self._catalogs),
            Check("storage", self._stores),
            Check("disk", self._disks),
        ]
        if config.dicom.port or config.tls.port:
            checks.append(Check("dicom", lambda: "" if dimse.is_listening() else "nobody listens"))
            self.hearts.ask("dimse-acceptor", dimse.is_turning)
        self.readiness = Readiness(checks)
        self.pages = Pages(Exposition(self.measures), self.readiness, time.monotonic)
        self.server = WatchServer(self.pages, time.monotonic)

    def watch_threads(self, threads: Iterable[threading.Thread]) -> None:
        """Have the watchdog ask whether these threads still live, and whether the catalogs can be read."""
        expected = tuple(threads)
        self.hearts.ask("threads", lambda: all(thread.is_alive() for thread in expected))
        self.hearts.ask("catalog", lambda: not self._catalogs())

    def listen(self, host: str, port: int) -> int:
        """Bind the watchers' address; return the port, or 0 when it is taken: that stops no node."""
        try:
            return self.server.listen(host, port)
        except OSError as error:
            logger.error(
                "Port %d on %s cannot be opened: %s. The node runs, but /metrics, /livez and /readyz are not "
                "there. Stop what listens there (peerpacs check names it), or set watch.port.",
                port, host, error.strerror,
            )  # fmt: skip
            return 0

    def _catalogs(self) -> str:
        for archive in tuple(self._archives.values()):
            archive.catalog.head()
        return ""

    def _stores(self) -> str:
        for archive in tuple(self._archives.values()):
            archive.ground.look()
        folders = [archive.folder / "incoming" for archive in tuple(self._archives.values())]
        return next((f"{folder}: {why}" for folder in folders if (why := is_writable(folder))), "")

    def _disks(self) -> str:
        return next(
            (why for archive in tuple(self._archives.values()) if (why := self._is_full(archive))), ""
        )

    def _is_full(self, archive: Archive) -> str:
        if not isinstance(archive.segments, VolumeStore):
            return has_room(archive.folder, self._least)
        states = [each.state for each in archive.segments.states()]
        if "ok" in states:
            return ""
        if states == ["full"]:
            return has_room(archive.folder, self._least) or "it was full, and has not enough room again"
        return f"no volume of {archive.name} takes objects: {', '.join(states)}"

    def _imported(self) -> Iterator[Sample]:
        jobs = tuple(self._jobs.values())
        yield Sample("instances_received_total", sum(job.counts[Fate.STORED] for job in jobs), ("import",))
        yield Sample("received_bytes_total", sum(job.stored_bytes for job in jobs), ("import",))

    def _kept(self) -> Iterator[Sample]:
        free: dict[int, int] = {}
        for archive in tuple(self._archives.values()):
            for folder in _folders(archive):
                free[folder.stat().st_dev] = _free(folder)
            instances, bucket = archive.catalog.totals().instances, archive.bucket
            online = min(instances, bucket.count_here()) if bucket and bucket.away() else instances
            yield Sample("holdings", online, (Availability.ONLINE,))
            yield Sample("holdings", instances - online, (Availability.UNAVAILABLE,))
        yield Sample("store_free_bytes", sum(free.values()))

    def _uploads(self) -> Iterator[Sample]:
        buckets = [archive.bucket for archive in tuple(self._archives.values()) if archive.bucket]
        if buckets:
            yield Sample("uploads_waiting", sum(bucket.waiting() for bucket in buckets))
            # The same number of several sources is summed, but an age is the greatest.
            yield Sample("upload_wait_seconds", max(bucket.behind() for bucket in buckets))

    def _certificates(self) -> Iterator[Sample]:
        if self._certificate is not None:
            yield Sample("certificate_expiry_timestamp_seconds", describe(self._certificate).ends, ("",))


def _build() -> Iterator[Sample]:
    yield Sample("build_info", 1, (version("peerpacs"), platform.python_version()))


def _folders(archive: Archive) -> list[Path]:
    """Return where the archive's objects lie, missing volumes left out."""
    if not isinstance(archive.segments, VolumeStore):
        return [archive.folder]
    objects = archive.folder / "objects"
    states = archive.segments.states()
    return [each.volume.folder(objects) for each in states if each.state != "missing"]


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
