"""A gateway on a host of its own: it talks to devices, and has neither catalog nor objects nor state here.

Its audit is written here first and told to the catalog, so that none of it is lost while that is away.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from catalog import BadRequest, Busy, Clock, PacsError
from node.archives import Plan
from node.audit import Line
from node.config import DISK, load_config
from node.contracts import Ingest
from node.control import HomeLock
from node.roles.calls import RoleClient
from node.roles.catalog import AUDIT
from node.roles.remote_catalog import RemoteCatalog
from node.roles.state import RemoteState
from node.state import State
from node.tailing import Tail

from .doors import Doors, Shared
from .gateway import REST, GatewayProcess

_BEAT: Final = 0.5


class RemoteArchive(Doors):
    """An archive whose catalog and objects are elsewhere."""

    catalog: RemoteCatalog
    rest = REST

    def __init__(self, plan: Plan, shared: Shared, catalog: RoleClient) -> None:
        """Open nothing but the ways there."""
        super().__init__(plan, shared)
        self.segments = self.store = self.open_objects()
        self.catalog = RemoteCatalog(catalog, plan.name)
        self.open_doors()


class GatewayRole(GatewayProcess):
    """Everything a process with nothing but the gateway has open; close it when it is to end."""

    def __init__(self, home: Path, clock: Clock = time.time) -> None:
        """Take the home folder, and open the archives that the catalog names.

        Raises:
            Busy: another process works on this home.
            Unavailable: the catalog does not answer.
        """
        super().__init__(home, load_config(home), clock)
        try:
            self._opened.callback(HomeLock(home, "gateway").close)
            self._catalog = self._reach("catalog", self.config.roles.catalog)
            self._open_foundation(_no_research)
            self._tail = self._open_tail()
            self._open_archives()
        except BaseException:
            self._opened.close()
            raise
        self.dimse = self._make_server(self._scope)

    def start(self) -> dict[str, int]:
        """Listen and serve; return the ports by name.

        Raises:
            Busy: a port is taken.
        """
        dicom, tls = self.config.dicom, self.config.tls
        ports: dict[str, int] = {}
        if dicom.port:
            ports["dicom"] = self._listen(dicom.host, dicom.port)
        if tls.port:
            ports["tls"] = self._listen(tls.host or dicom.host, tls.port, is_secure=True)
        self.dimse.start()
        self._background.run("telling", self._tell_forever)
        return ports

    def close(self) -> None:
        """Finish what is in flight, tell what happened, let everything go."""
        self._note()
        self.stop()

    def _listen(self, host: str, port: int, *, is_secure: bool = False) -> int:
        try:
            return self.dimse.listen(host, port, tls=self.credentials.listener if is_secure else None)
        except OSError as error:
            what = f"Port {port} on {host} cannot be opened: {error.strerror}."
            raise Busy(what, "Stop what listens there, or set another one in peerpacs.toml.") from error

    def _open_state(self) -> State:
        return RemoteState(self._catalog)

    def _open_tail(self) -> Tail:
        told = State(self.home / "state")
        self._opened.callback(told.close)
        return Tail("catalog", self.home / "audit", told, self._tell, self.clock)

    def _tell(self, lines: list[Line]) -> None:
        self._catalog.ask(AUDIT, "", (socket.gethostname(), lines))

    def _make_archive(self, plan: Plan) -> RemoteArchive:
        return RemoteArchive(plan, self._shared, self._catalog)

    def _plans(self) -> list[Plan]:
        """Return those a gateway can serve; AE titles of buckets and research are not recognised here."""
        return [plan for plan in self.book if plan.storage == DISK and not plan.research]

    def _tell_forever(self) -> None:
        while not self._background.stopping.wait(_BEAT):
            self._note()

    def _note(self) -> None:
        self.audit.step()
        # Who was refused waits here for as long as the catalog is away.
        with suppress(PacsError):
            self.access.refusals.step()
        self._tail.step()


def _no_research(project: str) -> Ingest:
    what = f"The project {project} takes in data where the catalog runs."
    raise BadRequest(what, "Send to the process that has the catalog.")
