"""The cases that only our node is put to: half a million instances, and one of two gigabytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Final

from . import clients
from .association import STUDY_ROOT_GET, Association
from .cases import Case, Contestant, Figures
from .clients import ClientError
from .filling import fill_server
from .pdu import Address, identifier
from .phantoms import Instance, instances, study
from .report import Goal, Row
from .servers import PeerPACS, Server, settle

MEGABYTE: Final = 1 << 20


@dataclass(slots=True)
class Loaded(Case):
    """How fast a node with half a million instances takes more, and how soon it is ready."""

    count: int = 500_000
    sent: int = 4000
    """Small instances sent in each run, in half as many studies."""
    name: str = "loaded"
    is_fresh_each_run: bool = False
    _scratch: Path = field(default_factory=Path)

    @property
    def title(self) -> str:
        return f"Our node with {self.count} instances and with none"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("small instances, 4 associations", "/s", more_is_better=True, goal=Goal(at_least=0.85)),
            Row("start to ready", "s", more_is_better=False, goal=Goal(at_most=3)),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"full": _Full, "empty": PeerPACS}

    def prepare(self, scratch: Path, destination: Address) -> None:
        self._scratch = scratch

    def load(self, server: Server) -> None:
        if not isinstance(server, _Full):
            return
        fill_server(server, self._scratch / "shared", self.count, _FILLED_SEED)

    def measure(self, server: Server, run: int) -> Figures:
        studies = (study(_SENT_SEED, run * self.sent + n, instances=2) for n in range(self.sent // 2))
        with TemporaryDirectory(dir=self._scratch) as folder:
            folders = clients.write(studies, Path(folder), 4)
            settle([server])
            seconds = clients.store(server.address, folders)
        settle([server])
        server.stop()
        return {"small instances, 4 associations": self.sent / seconds, "start to ready": server.start()}


_FILLED_SEED, _SENT_SEED = 6, 7


class _Full(PeerPACS):
    """A node whose catalog is filled before it is measured."""


@dataclass(slots=True)
class Memory(Case):
    """What the node holds while one large multi-frame object arrives by C-STORE and leaves by C-GET."""

    frames: int = 2048
    name: str = "memory"
    is_fresh_each_run: bool = True

    @property
    def title(self) -> str:
        return f"Anonymous memory (RssAnon) with one object of {self.frames} MB"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("idle", "MB", more_is_better=False, goal=Goal(at_most=150)),
            *COMING_AND_GOING,
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": PeerPACS}

    def measure(self, server: Server, run: int) -> Figures:
        described = study(run, 0, modality="XA", frames=self.frames, size=self.frames * MEGABYTE + 8192)
        large = next(instances(described))
        return {
            "idle": server.anonymous_memory() / MEGABYTE,
            **comes_and_goes(
                server,
                self.frames,
                lambda: arrive(server.address, large),
                lambda: leave(server.address, described.StudyInstanceUID, large),
            ),
        }


COMING_AND_GOING: Final = (
    Row("growth while it arrives", "MB", more_is_better=False, goal=Goal(at_most=64)),
    Row("growth while it leaves", "MB", more_is_better=False, goal=Goal(at_most=64)),
    Row("arriving", "MB/s", more_is_better=True),
    Row("leaving", "MB/s", more_is_better=True),
)


def comes_and_goes(
    server: Server, megabytes: int, arrives: Callable[[], object], leaves: Callable[[], object]
) -> Figures:
    """Return a figure for each row of `COMING_AND_GOING` from one object of so many megabytes."""
    idle = server.anonymous_memory()
    arriving, arrival = watched(server, arrives)
    leaving, departure = watched(server, leaves)
    return {
        "growth while it arrives": (arriving - idle) / MEGABYTE,
        "growth while it leaves": (leaving - idle) / MEGABYTE,
        "arriving": megabytes / arrival,
        "leaving": megabytes / departure,
    }


def arrive(address: Address, large: Instance) -> None:
    """Send one instance by C-STORE.

    Raises:
        ClientError: it was not accepted.
    """
    with Association(address, sends=[large.SOPClassUID]) as association:
        if status := association.store(large):
            raise ClientError(f"C-STORE of {large.size} bytes ended with status {status:04X}.")


def leave(address: Address, StudyInstanceUID: str, large: Instance) -> None:
    """Have it back by C-GET, and drop it.

    Raises:
        ClientError: it did not come whole.
    """
    wanted = identifier("STUDY", StudyInstanceUID=StudyInstanceUID)
    with Association(address, [STUDY_ROOT_GET], receives=[large.SOPClassUID]) as association:
        got = association.get(wanted)
    if got.instances != 1 or got.size != large.size - large.data_set_offset or got.status:
        raise ClientError(f"C-GET of {large.size} bytes brought {got}.")


def watched(server: Server, action: Callable[[], object]) -> tuple[int, float]:
    """Return the most anonymous memory the server had during the action, in bytes, and its seconds."""
    over = Event()
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(_most_memory, server, over)
        began = time.perf_counter()
        try:
            action()
        finally:
            over.set()
        return watching.result(), time.perf_counter() - began


def _most_memory(server: Server, over: Event) -> int:
    most = server.anonymous_memory()
    while not over.wait(0.01):
        most = max(most, server.anonymous_memory())
    return most
