"""Several sites in one grid, for what is measured between them: processes, if need be with lines to cut."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .association import STUDY_ROOT_FIND, Association
from .pdu import Address, identifier
from .plays.actors import ALL, Actor, enrol
from .ports import free_port
from .servers import Server, wait

LIVE: Final = "LIVE"
"""A device for which owners themselves are asked."""
KNOWING: Final = "KNOWING"
"""A device whose issuer is the phantoms': nothing of what it is given is rewritten."""


class Site(Actor):
    """A node; with a line, all between it and its peers goes over one that can be cut, at a cost in speed."""

    def __init__(self, folder: Path, name: str, *, has_line: bool) -> None:
        self._watch = free_port()
        super().__init__(folder, name, {"watch.port": str(self._watch)}, has_line=has_line)
        for device, more in ((LIVE, ("--grid-mode", "live")), (KNOWING, ("--issuer", "PHANTOMS"))):
            self.say("devices", "add", device, "--services", "echo,find,move", "--called", "*",
                     "--move-to", "*", *more)  # fmt: skip

    @property
    def grid(self) -> Address:
        """Where devices ask for all sites."""
        return self.address._replace(ae_title=f"{self.address.ae_title}_GRID")

    def metric(self, name: str) -> float:
        """Return the sum of what /metrics shows under a name."""
        return sum(self.values(name))

    def values(self, name: str) -> list[float]:
        """Return what /metrics shows under a name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._watch}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"peerpacs_{name}{{")]

    def finds(self, StudyInstanceUID: str) -> bool:
        """Say whether its grid finds a study."""
        with Association(self.grid, [STUDY_ROOT_FIND]) as association:
            return bool(association.find(identifier("STUDY", StudyInstanceUID=StudyInstanceUID)))


class Sites(Server):
    """Sites of one grid as one contestant: the first asks, the others own; each grants the first all."""

    name = "PeerPACS"
    is_granted_at_once = True
    have_lines = False

    def __init__(self, folder: Path, destination: Address, names: Sequence[str]) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.first, *self.others = (Site(folder / name, name, has_line=self.have_lines) for name in names)
        self.address = self.first.address
        self.first.say("devices", "add", destination.ae_title, "--services", "echo,store",
                       "--address", "127.0.0.1", "--port", str(destination.port))  # fmt: skip
        for other in self.others:
            other.say("devices", "add", destination.ae_title, "--services", "echo,store",
                      "--address", "127.0.0.1", "--port", str(destination.port))  # fmt: skip

    @property
    def all(self) -> tuple[Site, ...]:
        """All of them."""
        return self.first, *self.others

    def start(self) -> float:
        """Start them all, and have them join. Raises as `Server.start`."""
        began = time.perf_counter()
        for site in self.all:
            site.start()
        enrol(self.first, self.others)
        if self.is_granted_at_once:
            self.grant()
        wait(lambda: self.first.metric("peer_up") == len(self.others))
        if self.is_granted_at_once:
            # Until it has a catalog of each, it rightly ends an answer as one that is not complete.
            wait(lambda: len(self.first.values("peer_lag_seconds")) == len(self.others))
        return time.perf_counter() - began

    def grant(self) -> None:
        """Have the others grant the first all."""
        for other in self.others:
            other.say("grants", "add", self.first.called, "everything", *ALL)

    def stop(self) -> None:
        """Stop them all."""
        for site in self.all:
            site.close()

    def cpu_seconds(self) -> float:
        """Return the processor time of all."""
        return sum(site.cpu_seconds() for site in self.all)


def pair(folder: Path, destination: Address) -> Sites:
    """Return a node that asks, and one that owns."""
    return Sites(folder, destination, ("asker", "owner"))
