"""The cases of storing and retrieving, and what every case is.

A case loads what it needs, then measures; the same calls are made for every contestant, and a figure
counts only if everything that was sent is found, or has arrived, afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from . import clients
from .association import STUDY_ROOT_FIND, Association
from .clients import ClientError
from .pdu import Address, identifier, value
from .phantoms import SMALLEST, Study, study
from .ports import free_port
from .report import Goal, Measured, Row
from .servers import Gateways, Orthanc, PeerPACS, Server, StoreSCP

CT_512_KB: Final = 518 * 1024
"""512 x 512 pixels of 16 bits and a header of 6 KB."""
AVERAGE_202_KB: Final = 202 * 1024

Figures = dict[str, float]
"""One run of one contestant: row name → figure, in the row's unit."""
Contestant = Callable[[Path, Address], Server]
"""Makes a server with fresh storage in the folder, which may C-MOVE to the address."""

AGAINST_ORTHANC: Final[dict[str, Contestant]] = {"PeerPACS": PeerPACS, "Orthanc": Orthanc}


class Case:
    """One thing to measure, on several contestants."""

    name: str
    """The word for it on the command line."""
    is_fresh_each_run: bool
    """Whether every run begins with empty storage; otherwise `load` is called once for all runs."""

    @property
    def title(self) -> str:
        """What it is, in a line."""
        raise NotImplementedError

    @property
    def rows(self) -> tuple[Row, ...]:
        """The figures it yields."""
        raise NotImplementedError

    @property
    def contestants(self) -> dict[str, Contestant]:
        """The first is compared with the second, if there is one; a third is only shown."""
        raise NotImplementedError

    def measure(self, server: Server, run: int) -> Figures:
        """Do it once and return a figure for each row."""
        raise NotImplementedError

    def prepare(self, scratch: Path, destination: Address) -> None:
        """Write the files that the clients will send; start what receives at `destination`."""

    def load(self, server: Server) -> None:
        """Bring the running server into the state in which it is measured; as it starts if not said."""

    def finish(self) -> None:
        """Stop what `prepare` started."""

    def conclude(self, measured: list[Measured]) -> list[Measured]:
        """Return the rows of the report; further ones may follow from those measured."""
        return measured


@dataclass(slots=True)
class Filled(Case):
    """A case put to a server that was given studies once, by C-STORE, and keeps them for all runs."""

    is_fresh_each_run: bool = False
    senders: int = 1
    """So many associations bring them."""
    _folders: list[Path] = field(default_factory=list)

    def held(self) -> Iterable[Study]:
        """Return the studies that the server holds."""
        raise NotImplementedError

    def prepare(self, scratch: Path, destination: Address) -> None:
        self._folders = clients.write(self.held(), scratch / "files", self.senders)

    def load(self, server: Server) -> None:
        clients.store(server.address, self._folders)


def _sink(folder: Path, destination: Address) -> Server:
    return StoreSCP(folder, Address("STORESCP", free_port()))


@dataclass(slots=True)
class Store(Case):
    """C-STORE by storescu, one process for each association, into empty storage."""

    name: str
    what: str
    goal: float
    associations: int
    studies: int
    instances: int
    size: int
    against: dict[str, Contestant] = field(
        default_factory=lambda: {**AGAINST_ORTHANC, "storescp alone": _sink}
    )
    is_fresh_each_run: bool = True
    _folders: list[Path] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"Storing {self.what}"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("C-STORE", "/s", more_is_better=True, goal=Goal(at_least=self.goal)),
            Row("server CPU for each", "ms", more_is_better=False),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return self.against

    def prepare(self, scratch: Path, destination: Address) -> None:
        self._folders = clients.write(self._described(), scratch, self.associations)

    def measure(self, server: Server, run: int) -> Figures:
        sent = self.studies * self.instances
        before = server.cpu_seconds()
        seconds = clients.store(server.address, self._folders)
        figures = {"C-STORE": sent / seconds}
        if not isinstance(server, StoreSCP):
            figures["server CPU for each"] = 1000 * (server.cpu_seconds() - before) / sent
        found = server.received() if isinstance(server, StoreSCP) else self._found(server.address)
        if found != sent:
            raise ClientError(f"{server.name} has {found} instances; {sent} were sent and accepted.")
        return figures

    def _described(self) -> Iterator[Study]:
        return (study(_SEED, n, instances=self.instances, size=self.size) for n in range(self.studies))

    def _found(self, address: Address) -> int:
        question = identifier("STUDY", StudyInstanceUID="", NumberOfStudyRelatedInstances="")
        with Association(address, [STUDY_ROOT_FIND]) as association:
            answers = association.find(question)
        return sum(int(value(answer, "NumberOfStudyRelatedInstances")) for answer in answers)


_SEED: Final = 2


@dataclass(slots=True)
class Retrieve(Filled):
    """C-MOVE to storescp and C-GET to getscu of one study, again and again from a server that runs on."""

    instances: int = 128
    repetitions: int = 5
    name: str = "retrieve"
    _sink: StoreSCP | None = None

    @property
    def title(self) -> str:
        return f"Retrieving a study of {self.instances} x 512 KB"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("C-MOVE to storescp", "/s", more_is_better=True, goal=Goal(at_least=1.3)),
            Row("C-GET to getscu", "/s", more_is_better=True, goal=Goal(at_least=1.0)),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {**AGAINST_ORTHANC, "storescu alone": _sink}

    def prepare(self, scratch: Path, destination: Address) -> None:
        Filled.prepare(self, scratch, destination)
        self._sink = StoreSCP(scratch / "sink", destination, forks=False)
        self._sink.start()

    def held(self) -> list[Study]:
        return [self._study()]

    def measure(self, server: Server, run: int) -> Figures:
        if isinstance(server, StoreSCP):
            sent = [clients.store(server.address, self._folders) for _ in range(self.repetitions)]
            return {"C-MOVE to storescp": self.instances / median(sent)}
        sink, uid = self._sink, self._study().StudyInstanceUID
        assert sink is not None
        before = sink.received()
        moved = [clients.move(server.address, uid, sink.address) for _ in range(self.repetitions)]
        if (came := sink.received() - before) != self.instances * self.repetitions:
            raise ClientError(f"{came} instances came at storescp; {server.name} said it had sent all.")
        got = [clients.get(server.address, uid, self.instances) for _ in range(self.repetitions)]
        return {
            "C-MOVE to storescp": self.instances / median(moved),
            "C-GET to getscu": self.instances / median(got),
        }

    def finish(self) -> None:
        if self._sink:
            self._sink.stop()

    def _study(self) -> Study:
        return study(_SEED, 1, instances=self.instances, size=CT_512_KB)


def storing(share: float) -> list[Store]:
    """Return the cases of C-STORE, each with a `share` of its full number of instances."""
    few, many, studies = round(400 * share), round(250 * share), round(10_000 * share)
    small = f"{2 * studies} small instances in {studies} studies, 4 associations, durable"
    table = (
        # name, what, goal, associations, studies, instances in each, size
        ("store1", "512 KB CT, 1 association, durable", 2.0, 1, 1, few, CT_512_KB),
        ("store8", "202 KB CT, 8 associations, durable", 2.5, 8, 8, many, AVERAGE_202_KB),
        ("small", small, 2.0, 4, studies, 2, SMALLEST),
    )
    processes: dict[str, Contestant] = {"3 processes": Gateways, "1 process": PeerPACS}
    what = "202 KB CT, 8 associations, durable, one node in three processes beside one in one"
    alone = Store("processes", what, 1.3, 8, 8, many, AVERAGE_202_KB, processes)
    return [*(Store(*row) for row in table), alone]
