"""A gateway: a process that talks to devices beside others, and leaves the writing of catalogs to one.

`python -m node.app.gateway`; the node starts it, gives it its orders on standard input, and ends it by
closing that. What it stores is in segments of its own, so object bytes never pass another process.
"""

from __future__ import annotations

import resource
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import msgspec

from catalog import Clock
from node.archives import Plan
from node.config import load_config
from node.contracts import Ingest, Scope
from node.dimse import DimseServer
from node.logs import start_logging
from node.processes import Beat, Call, GatewayCatalog, Orders, RemoteAdmission, WriterClient
from node.reading import header_reader
from node.sections import REJECTED_SUFFIX
from node.storage import VolumeStore

from .doors import Doors, Shared
from .foundation import DRAIN, SWITCH, Foundation
from .rebuilding import CATALOG, search_of

if TYPE_CHECKING:
    from .research import ResearchDoors

_BEAT: Final = 0.5
_RETIRE_EVERY: Final = 5.0
REST: Final = 0.5
"""Seconds within which the response to a commitment request is certainly out."""


class GatewayArchive(Doors):
    """An archive whose catalog another process writes."""

    catalog: GatewayCatalog
    rest = REST

    def __init__(self, plan: Plan, shared: Shared, writer: WriterClient) -> None:
        """Open its disks for appending, and its catalog for reading."""
        super().__init__(plan, shared)
        try:
            self.segments = self.store = self.open_volumes()
            self.opened.callback(self.store.close)
            read, search = header_reader(self.store), self.folder / search_of(CATALOG)
            self.catalog = GatewayCatalog(plan.name, writer, self.folder / CATALOG, search, read)
            self.opened.callback(self.catalog.close)
            self.open_doors()
        except BaseException:
            self.opened.close()
            raise


class GatewayProcess(Foundation):
    """What a process that talks to devices has open, wherever the catalogs are written."""

    dimse: DimseServer

    def _open_archives(self) -> None:
        self._opening = threading.Lock()
        self.archives: dict[str, Doors] = {}
        for plan in self._plans():
            self._open(plan)

    def _plans(self) -> list[Plan]:
        """Return the archives that are served here, as they are now."""
        return list(self.book)

    def _make_archive(self, plan: Plan) -> Doors:
        """Open an archive; whoever inherits knows where its parts are."""
        raise NotImplementedError

    def stop(self) -> None:
        """Finish what is in flight, write everything down, let everything go."""
        self.dimse.stop(DRAIN)
        self.transcoder.close()
        self._background.end()
        self._opened.close()

    def _open(self, plan: Plan) -> Doors:
        archive = self.archives[plan.name] = self._make_archive(plan)
        self._opened.callback(archive.close)
        background, segments, commitment = self._background, archive.segments, archive.commitment
        stopping = background.stopping
        background.run(f"{plan.name} syncer", lambda: segments.sync_forever(stopping), segments.wake)
        background.run(f"{plan.name} results", lambda: commitment.tell_forever(stopping), commitment.wake)
        return archive

    def _scope(self, called_ae: str) -> Scope | None:
        """Return what an AE title opens; an archive that was made meanwhile is opened now."""
        for plan in self._plans():
            if called_ae.removesuffix(REJECTED_SUFFIX) in plan.ae_titles:
                with self._opening:
                    archive = self.archives.get(plan.name) or self._open(plan)
                return archive.scope(called_ae)
        return None


class Gateway(GatewayProcess):
    """Everything one gateway process has open that works beside the writer, on the same disks."""

    def __init__(self, orders: Orders, clock: Clock = time.time) -> None:
        home = Path(orders.home)
        super().__init__(home, load_config(home), clock)
        self._orders = orders
        self.writer = WriterClient(orders.writer)
        self._opened.callback(self.writer.close)
        self._open_foundation(self._door)
        self._research: ResearchDoors | None = None
        self._open_archives()
        self.dimse = self._make_server(
            self._scope, RemoteAdmission(orders.name, self.writer), relay=orders.relay
        )

    def start(self) -> None:
        """Listen beside the other gateways and serve.

        Raises:
            OSError: an address cannot be bound.
        """
        for (host, port), tls in ((self._orders.dicom, None), (self._orders.tls, self.credentials.listener)):
            if port:
                self.dimse.listen(host, port, shares_port=True, tls=tls)
        self.dimse.start()
        self._background.run("beat", self._beat_forever)

    def stop(self) -> None:
        """See `GatewayProcess.stop`; who was refused is noted first."""
        self.access.refusals.step()
        super().stop()

    def _make_archive(self, plan: Plan) -> GatewayArchive:
        return GatewayArchive(plan, self._shared, self.writer)

    def _door(self, project: str) -> Ingest:
        if self._research is None:
            from .research import ResearchDoors

            self._research = ResearchDoors(self._shared, self.archives)
            self._opened.callback(self._research.close)
        return self._research.door(project)

    def _beat_forever(self) -> None:
        retired = self.clock()
        while not self._background.stopping.wait(_BEAT):
            beat = Beat(self._orders.name, self.dimse.counters(), list(self.dimse.samples()))
            try:
                self.writer.ask(Call.BEAT, "", beat)
            except Exception:
                continue
            finally:
                self.audit.step()
                self.access.refusals.step()
            if not 0 <= self.clock() - retired < _RETIRE_EVERY:
                retired = self.clock()
                for archive in tuple(self.archives.values()):
                    if isinstance(archive.segments, VolumeStore):
                        archive.segments.retire_draining()


def main() -> int:
    """Run a gateway until standard input ends."""
    sys.setswitchinterval(SWITCH)
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)
    config = load_config(Path(orders.home))
    start_logging(config.log.level, config.log.format, file=config.log.file)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
    stop = threading.Event()

    def stop_soon(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, stop_soon)
    signal.signal(signal.SIGINT, stop_soon)
    gateway = Gateway(orders)
    gateway.start()
    print("ready", flush=True)
    # Whoever started this process holds the other end of standard input: its end is our order to stop.
    threading.Thread(target=_wait_for_the_end, args=(stop,), daemon=True).start()
    while not stop.wait(_BEAT):
        pass
    gateway.stop()
    return 0


def _wait_for_the_end(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
