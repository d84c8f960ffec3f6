"""What a person can ask about an archive's disks and the soundness of what lies on them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from catalog import BadRequest, NotFound
from node.scrub import Scrub
from node.storage import VolumeState, VolumeStore
from node.verification import Verification, Wish

if TYPE_CHECKING:
    from node.app import Archive

logger = logging.getLogger(__name__)

_NO_VOLUMES = "The objects of this archive lie in a bucket; only their spool is on a disk."
_STORAGE = "The objects of this archive are kept by the storage of this node, which is another process."
_STAYS = "Its volumes can be changed while [roles] has it run together with the catalog."
_USE = "Buckets need no volumes. How the bucket is: peerpacs archives list, peerpacs check"
_RUNS = Callable[[str, Verification], None]


class Storekeeping:
    """Verbs that take and return what JSON can say; `run` gives a verification a thread."""

    def __init__(self, archive: Archive, jobs: dict[str, Verification], run: _RUNS) -> None:
        self._archive = archive
        self._care = archive.care
        self._jobs = jobs
        self._run = run

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        own = (
            self.volumes,
            self.add_volume,
            self.drain_volume,
            self.set_read_only,
            self.remove_volume,
            self.start_verify,
            self.verify_progress,
            self.stop_verify,
            self.damaged,
        )
        return {verb.__name__: verb for verb in own}

    def summary(self) -> dict[str, Any]:
        """Return what a status says: volumes, days left, damage and the scrub."""
        care = self._care
        states = care.volumes.states() if care.volumes else ()
        room = sum(state.room.usable for state in states if state.state in ("ok", "full"))
        progress = care.scrub.progress
        return {
            "volumes": [self._told(state) for state in states],
            "days_left": care.intake.days_left(room) if states else None,
            "bytes_per_day": care.intake.per_day(),
            "damaged": sum(1 for _ in care.book),
            "scrub": {
                "since": progress.started or None,
                "read": progress.findings.bytes,
                "last": progress.finished or None,
                "troubles": [*_troubles(care.scrub), *(_troubles(care.sample) if care.sample else ())],
            },
        }

    def volumes(self) -> list[dict[str, Any]]:
        """Return the volumes of the archive: where, how full, and what may be done with them."""
        return [self._told(state) for state in self._volumes().states()]

    def add_volume(self, path: str, who: str) -> dict[str, Any]:
        """Take a folder in as a volume, or a known volume where its disk is mounted now.

        Raises:
            BadRequest: it cannot be one; the sentence says why.
            NotFound: there is no such folder.
        """
        volume = self._volumes().list.add(Path(path))
        self._record("volume added", path, who)
        return self._one(volume.number)

    def drain_volume(self, path: str, who: str, is_wanted: bool = True) -> dict[str, Any]:
        """Have everything on a volume moved to the others, or no longer."""
        number = self._named(path).volume.number
        self._volumes().list.mark(number, is_draining=is_wanted)
        if self._care.drain:
            self._care.drain.again()
        self._record("volume drained" if is_wanted else "volume no longer drained", path, who)
        return self._one(number)

    def set_read_only(self, path: str, who: str, is_wanted: bool) -> dict[str, Any]:
        """Have nothing written to a volume, or allow it again."""
        number = self._named(path).volume.number
        self._volumes().list.mark(number, is_read_only=is_wanted)
        self._record("volume read-only" if is_wanted else "volume writable", path, who)
        return self._one(number)

    def remove_volume(self, path: str, who: str, even_with_objects: bool = False) -> dict[str, Any]:
        """Forget a volume that is empty; one that is not, only if a person gives up what lies there.

        Raises:
            BadRequest: something lies there still.
        """
        state, store = self._named(path), self._volumes()
        number = state.volume.number
        if not even_with_objects:
            is_empty = state.state == "draining" and store.store(number).is_empty()
            if not is_empty or any(True for _ in self._care.rows.lying_on(number)):
                remedy = f"Run peerpacs storage drain {path} and wait until storage list says drained."
                raise BadRequest(f"{path} is not empty.", remedy)
        told = self._told(state)
        store.list.forget(number)
        store.states()
        self._record("volume removed", path, who, even_with_objects=even_with_objects)
        return told

    def start_verify(self, who: str, share: float = 1.0, since: int = 0, rate: float = 0.0) -> str:
        """Begin to verify the archive; return the name of the job. `rate` is in bytes per second.

        Raises:
            BadRequest: that makes no sense.
        """
        wish = Wish(share=share, since=since, bytes_per_second=rate)
        job = Verification(self._care.inspector, wish, self._archive.clock, self._care.is_busy)
        name = f"verify-{len(self._jobs) + 1}"
        self._jobs[name] = job
        self._archive.audit.record("verify", None, "started", {"who": who, "job": name})
        self._run(name, job)
        return name

    def verify_progress(self, name: str) -> dict[str, Any]:
        """Return how far a verification is.

        Raises:
            NotFound: there is none of that name since the node started.
        """
        return self._job(name).progress()

    def stop_verify(self, name: str) -> None:
        """End a verification. Raises as `verify_progress`."""
        self._job(name).stop()

    def damaged(self) -> list[dict[str, Any]]:
        """Return what is damaged: which instance, since when it is known, and what is wrong."""
        return [
            {
                "StudyInstanceUID": row.StudyInstanceUID,
                "SeriesInstanceUID": row.SeriesInstanceUID,
                "SOPInstanceUID": row.SOPInstanceUID,
                "sha256": row.holding.sha256.hex(),
                "bytes": row.holding.size,
                "found": row.found,
                "what": row.what,
            }
            for row in self._care.book
        ]

    def _job(self, name: str) -> Verification:
        job = self._jobs.get(name)
        if job is None:
            raise NotFound(f"There is no verification {name!r}.", "Begin one: peerpacs verify")
        return job

    def _volumes(self) -> VolumeStore:
        if self._care.volumes is None:
            raise BadRequest(*(_STORAGE, _STAYS) if self._care.is_elsewhere else (_NO_VOLUMES, _USE))
        return self._care.volumes

    def _named(self, path: str) -> VolumeState:
        """Return the volume in a folder, or of a number.

        Raises:
            NotFound: there is none.
        """
        for state in self._volumes().states():
            if path == str(state.volume.number) or Path(path).resolve() == self._folder(state):
                return state
        raise NotFound(f"This archive has no volume {path}.", "List them with: peerpacs storage list")

    def _one(self, number: int) -> dict[str, Any]:
        states = self._volumes().states()
        return self._told(next(state for state in states if state.volume.number == number))

    def _folder(self, state: VolumeState) -> Path:
        return Path(state.volume.path) if state.volume.number else self._archive.folder.resolve()

    def _told(self, state: VolumeState) -> dict[str, Any]:
        number, care = state.volume.number, self._care
        is_drained = (
            care.volumes is not None and state.state == "draining" and care.volumes.store(number).is_empty()
        )
        remaining = care.drain.remaining.get(number, []) if care.drain and state.volume.is_draining else []
        return {
            "number": number,
            "path": str(self._folder(state)),
            "state": "drained" if is_drained else state.state,
            "free": state.room.free,
            "size": state.room.size,
            "used": state.room.size - state.room.free,
            "stays": remaining,
            "problem": care.drain.problem if care.drain and state.volume.is_draining else "",
        }

    def _record(self, what: str, path: str, who: str, **more: Any) -> None:
        detail = {"who": who, "volume": str(path), **more}
        self._archive.audit.record("change", None, what, msgspec.to_builtins(detail))


def _troubles(scrub: Scrub) -> list[str]:
    return (scrub.progress.last or scrub.progress.findings).troubles
