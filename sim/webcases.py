"""The cases of DICOMweb: storing, retrieving, metadata and searching over HTTP, one connection each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

from .capacity import COMING_AND_GOING, MEGABYTE, comes_and_goes
from .cases import CT_512_KB, Case, Contestant, Figures, Filled
from .clients import ClientError
from .finding import OVER_ALL, Population
from .pdu import Address
from .phantoms import SMALLEST, Instance, Study, instances, study
from .report import Goal, Measured, Row, median_of_ratios
from .servers import Server
from .web import AS_STORED, RELATED, Client, WebOrthanc, WebPeerPACS, related, web_port

_SEED: Final = 6
_FRAME: Final = "multipart/related; type=application/octet-stream; transfer-syntax=*"
_CONTESTANTS: Final[dict[str, Contestant]] = {"PeerPACS": WebPeerPACS, "Orthanc": WebOrthanc}


def _body(files: list[bytes]) -> bytes:
    return b"".join(related([[file] for file in files])[0])


@dataclass(slots=True)
class WebStore(Case):
    """STOW-RS in requests of ten instances, one after the other over one connection, into empty storage."""

    count: int = 1000
    name: str = "stow"
    is_fresh_each_run: bool = True
    _bodies: list[bytes] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"STOW-RS, {self.count} x 512 KB in requests of 10"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("STOW-RS", "/s", more_is_better=True, goal=Goal(at_least=2.5)),
            Row("server CPU for each", "ms", more_is_better=False),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return _CONTESTANTS

    def prepare(self, scratch: Path, destination: Address) -> None:
        described = study(_SEED, 0, instances=self.count, size=CT_512_KB)
        files = [instance.part10() for instance in instances(described)]
        self._bodies = [_body(files[start : start + 10]) for start in range(0, len(files), 10)]

    def measure(self, server: Server, run: int) -> Figures:
        with Client(web_port(server)) as client:
            before, began = server.cpu_seconds(), time.perf_counter()
            for body in self._bodies:
                client.post("/studies", body, len(body), RELATED)
            seconds = time.perf_counter() - began
            used = server.cpu_seconds() - before
            uid = study(_SEED, 0, instances=1).StudyInstanceUID
            [found] = json.loads(client.read(f"/studies?StudyInstanceUID={uid}&includefield=00201208"))
        if int(found["00201208"]["Value"][0]) != self.count:
            raise ClientError(f"{server.name} has {found['00201208']}; {self.count} were sent and accepted.")
        return {"STOW-RS": self.count / seconds, "server CPU for each": 1000 * used / self.count}

    def finish(self) -> None:
        self._bodies = []


@dataclass(slots=True)
class WebRetrieve(Filled):
    """WADO-RS of one study from a server that was just started, then again and again, and frame by frame."""

    instances: int = 128
    repetitions: int = 5
    name: str = "wado"

    @property
    def title(self) -> str:
        return f"WADO-RS, a study of {self.instances} x 512 KB as it is stored"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("study, first time", "MB/s", more_is_better=True, goal=Goal(at_least=3.0)),
            Row("study, again", "MB/s", more_is_better=True, goal=Goal(at_least=1.2)),
            Row("single frames", "/s", more_is_better=True, goal=Goal(at_least=2.0)),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return _CONTESTANTS

    def held(self) -> list[Study]:
        return [self._study()]

    def measure(self, server: Server, run: int) -> Figures:
        # A server that has just started has nothing in its own caches; the kernel's are warm for all.
        server.stop()
        server.start()
        described = self._study()
        path = f"/studies/{described.StudyInstanceUID}"
        with Client(web_port(server)) as client:
            rates = [self._rate(client, path) for _ in range(1 + self.repetitions)]
            frames = [f"{path}/{_below(each)}/frames/1" for each in self._found(client, path)]
            began = time.perf_counter()
            for frame in frames:
                if (size := client.get(frame, _FRAME)) < 512 * 1024:
                    raise ClientError(f"{server.name} sent {size} bytes for a frame of 512 KB.")
            seconds = time.perf_counter() - began
        return {
            "study, first time": rates[0],
            "study, again": median(rates[1:]),
            "single frames": len(frames) / seconds,
        }

    def _rate(self, client: Client, path: str) -> float:
        began = time.perf_counter()
        size = client.get(path, AS_STORED)
        seconds = time.perf_counter() - began
        if size < self.instances * 512 * 1024:
            raise ClientError(f"Only {size} bytes of a study came.")
        return size / seconds / 1e6

    def _found(self, client: Client, path: str) -> list[dict[str, dict[str, list[str]]]]:
        found: list[dict[str, dict[str, list[str]]]] = json.loads(client.read(f"{path}/instances"))
        if len(found) != self.instances:
            raise ClientError(f"{len(found)} instances were found; {self.instances} are there.")
        return found

    def _study(self) -> Study:
        return study(_SEED, 1, instances=self.instances, size=CT_512_KB)


def _below(instance: dict[str, dict[str, list[str]]]) -> str:
    series, uid = instance["0020000E"]["Value"][0], instance["00080018"]["Value"][0]
    return f"series/{series}/instances/{uid}"


@dataclass(slots=True)
class WebMetadata(Filled):
    """WADO-RS metadata of one long series."""

    instances: int = 1000
    repetitions: int = 5
    name: str = "metadata"

    @property
    def title(self) -> str:
        return f"WADO-RS, metadata of a series of {self.instances} instances"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (Row("series metadata", "ms", more_is_better=False, goal=Goal(at_least=10.0)),)

    @property
    def contestants(self) -> dict[str, Contestant]:
        return _CONTESTANTS

    def held(self) -> list[Study]:
        return [self._study()]

    def measure(self, server: Server, run: int) -> Figures:
        path = f"/studies/{self._study().StudyInstanceUID}"
        with Client(web_port(server)) as client:
            [series] = json.loads(client.read(f"{path}/series"))
            path += f"/series/{series['0020000E']['Value'][0]}/metadata"
            times = []
            for _ in range(self.repetitions):
                began = time.perf_counter()
                answer = client.read(path)
                times.append(1000 * (time.perf_counter() - began))
        if len(json.loads(answer)) != self.instances:
            raise ClientError(f"{server.name} told of {len(json.loads(answer))} instances.")
        return {"series metadata": median(times)}

    def _study(self) -> Study:
        return study(_SEED, 2, instances=self.instances, size=SMALLEST)


_FIELDS: Final = "includefield=00081030&includefield=00100030"


@dataclass(slots=True)
class WebFind(Filled):
    """QIDO-RS for studies with the questions that C-FIND is asked, over one open connection."""

    studies: int = 20_000
    repetitions: int = 15
    name: str = "qido"
    senders: int = 4

    @property
    def title(self) -> str:
        return f"QIDO-RS over one open connection, {self.studies} studies"

    @property
    def rows(self) -> tuple[Row, ...]:
        questions = Population(self.studies).questions(Random(0))
        goal = Goal(at_least=3.0)
        times = [Row(question, "ms", more_is_better=False, goal=goal) for question in questions]
        return (*times, Row(OVER_ALL, "ms", more_is_better=False, goal=goal))

    @property
    def contestants(self) -> dict[str, Contestant]:
        return _CONTESTANTS

    def held(self) -> Iterable[Study]:
        return Population(self.studies).studies()

    def measure(self, server: Server, run: int) -> Figures:
        with Client(web_port(server)) as client:

            def find(keys: dict[str, str]) -> int:
                asked = "&".join(f"{keyword}={value}" for keyword, value in keys.items())
                return len(json.loads(client.read(f"/studies?{asked}&{_FIELDS}")))

            return Population(self.studies).times(find, self.repetitions, Random(run))

    def conclude(self, measured: list[Measured]) -> list[Measured]:
        questions = [row for row in measured if row.row.name != OVER_ALL]
        return [*measured, median_of_ratios(self.title, questions, Goal(at_least=3.0))]


@dataclass(slots=True)
class WebMemory(Case):
    """One object of two gigabytes by STOW-RS, and back by WADO-RS."""

    frames: int = 2048
    name: str = "webmemory"
    is_fresh_each_run: bool = True

    @property
    def title(self) -> str:
        return f"Anonymous memory (RssAnon) with one object of {self.frames} MB over HTTP"

    @property
    def rows(self) -> tuple[Row, ...]:
        return COMING_AND_GOING

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": WebPeerPACS}

    def measure(self, server: Server, run: int) -> Figures:
        described = study(run, 3, modality="XA", frames=self.frames, size=self.frames * MEGABYTE + 8192)
        large = next(instances(described))
        path = f"/studies/{described.StudyInstanceUID}"
        with Client(web_port(server)) as client:
            return comes_and_goes(
                server,
                self.frames,
                lambda: self._arrive(client, large),
                lambda: client.get(path, AS_STORED),
            )

    def _arrive(self, client: Client, large: Instance) -> None:
        body, length = related([list(large.chunks())])
        client.post("/studies", body, length, RELATED)


def web_cases(share: float) -> list[Case]:
    """Return the cases of DICOMweb, each with a `share` of its full size."""
    repetitions = 5 if share == 1 else 2
    return [
        WebStore(count=round(1000 * share)),
        WebRetrieve(repetitions=repetitions),
        WebMetadata(instances=round(1000 * share), repetitions=repetitions),
        WebFind(studies=2000 if share < 1 else 20_000, repetitions=5 if share < 1 else 15),
        WebMemory(frames=round(2048 * share)),
    ]
