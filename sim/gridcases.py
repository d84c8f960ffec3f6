"""The cases of the grid: asking, following, fetching and healing between several nodes on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import ClassVar, Final

from . import clients, mirroring
from .association import STUDY_ROOT_FIND, Association
from .cases import CT_512_KB, Case, Contestant, Figures
from .clients import ClientError
from .grids import KNOWING, LIVE, Site, Sites, pair
from .gridsync import Heal, Lag, Snapshot
from .nearline import moved
from .pdu import Address, identifier
from .phantoms import SMALLEST, Study, study
from .report import Goal, Row
from .servers import Server, StoreSCP, wait

_SEED: Final = 61
_OWNERS: Final = 8
_DEADLINE: Final = 2.0
"""Seconds within which a question to owners ends."""


class Mirrors(Server):
    """Synthetic sites in this process: no network, but everything a question to the grid is answered by."""

    name = "PeerPACS"
    sites: ClassVar[int] = 31
    filled: mirroring.Filled | None = None

    def __init__(self, folder: Path, destination: Address) -> None:
        folder.mkdir(parents=True)
        self.folder = folder

    def start(self) -> float:
        """Nothing to start."""
        return 0.0

    def stop(self) -> None:
        """Close what was filled."""
        if self.filled:
            self.filled.close()

    def cpu_seconds(self) -> float:
        """No process of its own."""
        return 0.0


class TwoMirrors(Mirrors):
    """The asking site and one other."""

    sites = 1


@dataclass(slots=True)
class FederatedFind(Case):
    """Five questions with at most fifty matches to a mirror of many sites, and of one, of equal size."""

    series: int = 1_000_000
    rounds: int = 100
    name: str = "gridfind"
    is_fresh_each_run: bool = False

    @property
    def title(self) -> str:
        return f"Asking the synchronised catalog, {self.series} series"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("C-FIND, p95 of the slowest question", "ms", more_is_better=False, goal=Goal(at_most=20.0)),
            Row("C-FIND, median of all questions", "ms", more_is_better=False),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"32 sites": Mirrors, "2 sites": TwoMirrors}

    def load(self, server: Server) -> None:
        """Fill it once for all runs: a million series take a minute."""
        assert isinstance(server, Mirrors)
        server.filled = mirroring.Filled(server.folder, server.sites, self.series)

    def measure(self, server: Server, run: int) -> Figures:
        assert isinstance(server, Mirrors)
        assert server.filled
        found = server.filled.ask(self.rounds)
        return {
            self.rows[0].name: max(each.value for each in found if each.name.endswith(", p95")),
            self.rows[1].name: median(each.value for each in found if each.name.endswith(", median")),
        }


@dataclass(slots=True)
class LiveFind(Case):
    """Owners asked themselves, within one deadline: all answer at once, or one of them is stopped."""

    questions: int = 60
    name: str = "gridlive"
    is_fresh_each_run: bool = False
    _folders: list[Path] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"Asking {_OWNERS} owners live"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("all answer, p95", "ms", more_is_better=False, goal=Goal(at_most=40.0)),
            Row("all answer, median", "ms", more_is_better=False),
            Row("one is silent, slowest", "s", more_is_better=False, goal=Goal(at_most=_DEADLINE + 0.1)),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        names = ["asker", *(f"owner{n}" for n in range(_OWNERS))]
        return {"PeerPACS": lambda folder, destination: Sites(folder, destination, names)}

    def prepare(self, scratch: Path, destination: Address) -> None:
        self._folders = clients.write(self._studies(), scratch, _OWNERS)

    def load(self, server: Server) -> None:
        assert isinstance(server, Sites)
        for owner, folder in zip(server.others, self._folders, strict=True):
            clients.store(owner.address, [folder])
        for each in self._studies():
            wait(lambda each=each: server.first.finds(each.StudyInstanceUID))  # type: ignore[misc]

    def measure(self, server: Server, run: int) -> Figures:
        assert isinstance(server, Sites)
        times = sorted(self._asked(server.first, _OWNERS) for _ in range(self.questions))
        silent = server.others[-1]
        os.kill(silent.pid, signal.SIGSTOP)
        try:
            slowest = max(self._asked(server.first, _OWNERS) for _ in range(3))
        finally:
            os.kill(silent.pid, signal.SIGCONT)
        wait(lambda: server.first.metric("peer_up") == _OWNERS)
        figures = 1000 * times[int(0.95 * len(times))], 1000 * median(times), slowest
        return dict(zip((row.name for row in self.rows), figures, strict=True))

    def _asked(self, asker: Site, expected: int) -> float:
        """Return the seconds of one question; every site's study must be in the answer."""
        with Association(asker.grid, [STUDY_ROOT_FIND], calling=LIVE) as association:
            began = time.perf_counter()
            answers = association.find(
                identifier("STUDY", StudyInstanceUID="", Modality="CT", PatientName="")
            )
            seconds = time.perf_counter() - began
        if len(answers) != expected:
            raise ClientError(f"{len(answers)} of {expected} studies were in the answer.")
        return seconds

    def _studies(self) -> Iterator[Study]:
        return (study(_SEED, n, instances=1, size=SMALLEST) for n in range(_OWNERS))


@dataclass(slots=True)
class Nearline(Case):
    """C-MOVE of a study that lies at a peer, against C-MOVE of the same one from where it lies."""

    instances: int = 128
    repetitions: int = 3
    name: str = "nearline"
    is_fresh_each_run: bool = True
    _folders: list[Path] = field(default_factory=list)
    _sink: StoreSCP | None = None

    @property
    def title(self) -> str:
        return f"C-MOVE of a study of {self.instances} x 512 KB from a peer"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("first image", "ms", more_is_better=False, goal=Goal(at_most=150.0)),
            Row("whole study / local C-MOVE", "times", more_is_better=False, goal=Goal(at_most=3.0)),
            Row("the same, identity rewritten", "times", more_is_better=False),
            Row("again, from copies", "times", more_is_better=False),
            Row("local C-MOVE", "ms", more_is_better=False),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": pair}

    def prepare(self, scratch: Path, destination: Address) -> None:
        self._folders = clients.write(self._studies(), scratch / "files", 1)
        self._sink = StoreSCP(scratch / "sink", destination, forks=False)
        self._sink.start()

    def load(self, server: Server) -> None:
        assert isinstance(server, Sites)
        [owner] = server.others
        clients.store(owner.address, self._folders)
        for each in self._studies():
            wait(lambda each=each: server.first.finds(each.StudyInstanceUID))  # type: ignore[misc]
        wait(lambda: server.first.metric("peer_changes_behind") == 0)

    def measure(self, server: Server, run: int) -> Figures:
        assert isinstance(server, Sites)
        sink, asker, [owner] = self._sink, server.first, server.others
        assert sink is not None
        studies = list(self._studies())
        found: dict[str, list[tuple[float, float]]] = {"local": [], "near": [], "shown": [], "again": []}
        for same, other in zip(studies[::2], studies[1::2], strict=True):
            found["local"].append(moved(owner.address, same, sink, KNOWING))
            found["near"].append(moved(asker.grid, same, sink, KNOWING))
            found["shown"].append(moved(asker.grid, other, sink, "BENCHSCU"))
            found["again"].append(moved(asker.grid, same, sink, KNOWING))
        whole = {name: median(seconds for _, seconds in each) for name, each in found.items()}
        figures = (
            1000 * median(first for first, _ in found["near"]),
            whole["near"] / whole["local"],
            whole["shown"] / whole["local"],
            whole["again"] / whole["local"],
            1000 * whole["local"],
        )
        return dict(zip((row.name for row in self.rows), figures, strict=True))

    def finish(self) -> None:
        if self._sink:
            self._sink.stop()

    def _studies(self) -> Iterator[Study]:
        return (
            study(_SEED, n, instances=self.instances, size=CT_512_KB) for n in range(2 * self.repetitions)
        )


def on_grids(share: float) -> list[Case]:
    """Return the cases, each with a share of its full size."""
    return [
        FederatedFind(series=round(1_000_000 * share), rounds=round(100 * max(share, 0.2))),
        LiveFind(questions=round(100 * max(share, 0.2))),
        Lag(seconds=round(30 * max(share, 0.3))),
        Snapshot(studies=round(50_000 * share)),
        Nearline(repetitions=3 if share == 1 else 1),
        Heal(changed=round(10_000 * share)),
    ]
