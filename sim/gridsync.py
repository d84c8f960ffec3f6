"""The cases of catalogs that follow each other: how late they are, how fast they come, how they heal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import ClassVar, Final

from catalog import Change, Head
from catalog.commit import Batch
from catalog.log import ALL, Digest, Ledger
from catalog.log_reading import LogReading
from catalog.truth import Environment
from federation.mirror import Mirror
from node.archives import DEFAULT

from . import clients
from .association import Association
from .cases import Case, Contestant, Figures
from .clients import ClientError
from .grids import Site, Sites, pair
from .mirroring import SERIES_IN_STUDY, site_rows
from .pdu import Address
from .phantoms import SMALLEST, Study, instances, study
from .report import Goal, Row
from .servers import Server, wait

_SEED: Final = 61
_STATED_AT_ONCE: Final = 20_000


@dataclass(slots=True)
class Lag(Case):
    """From the response to a C-STORE until the grid of another node finds the study, while others come."""

    seconds: int = 30
    rate: int = 250
    name: str = "gridlag"
    is_fresh_each_run: bool = False
    _folders: list[Path] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"Following a catalog, {2 * self.rate} changed rows a second"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("from stored to found elsewhere, p95", "s", more_is_better=False, goal=Goal(at_most=1.0)),
            Row("from stored to found elsewhere, median", "s", more_is_better=False),
            Row("rows a second", "/s", more_is_better=True),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": pair}

    def measure(self, server: Server, run: int) -> Figures:
        assert isinstance(server, Sites)
        asker, [owner] = server.first, server.others
        over, sent = threading.Event(), [0]
        sender = threading.Thread(target=self._send, args=(owner.address, run, over, sent))
        began = time.perf_counter()
        sender.start()
        lags = []
        with Association(owner.address, sends=_CT) as association:
            for n in range(2 * self.seconds):
                marker = study(_SEED, 10_000_000 + 1000 * run + n, instances=1, size=SMALLEST)
                association.store(next(instances(marker)))
                lags.append(wait(lambda marker=marker: asker.finds(marker.StudyInstanceUID)))  # type: ignore[misc]
                time.sleep(max(0.0, began + (n + 1) / 2 - time.perf_counter()))
        over.set()
        sender.join()
        lags.sort()
        rate = 2 * sent[0] / (time.perf_counter() - began)
        figures = lags[int(0.95 * len(lags))], median(lags), rate
        return dict(zip((row.name for row in self.rows), figures, strict=True))

    def _send(self, address: Address, run: int, over: threading.Event, sent: list[int]) -> None:
        """Store a new study, which is two rows, so often in a second, until it is over."""
        began = time.perf_counter()
        with Association(address, sends=_CT) as association:
            while not over.is_set():
                number = 1_000_000 * (run + 1) + sent[0]
                [one] = instances(study(_SEED, number, instances=1, size=SMALLEST))
                association.store(one)
                sent[0] += 1
                over.wait(max(0.0, began + sent[0] / self.rate - time.perf_counter()))


_CT: Final = ("1.2.840.10008.5.1.4.1.1.2",)


def _state_rows(home: Path, rows: Sequence[Change]) -> None:
    """Have the change log of a node's default archive say these rows: all that followers of it are told.

    The node must not run. Of the catalog behind it there is nothing: only followers may be measured with it.
    """
    environment = Environment(home / "archives" / DEFAULT / "catalog")
    for start in range(0, len(rows), _STATED_AT_ONCE):
        batch = Batch(int(time.time() * 1000), {}, {})
        with environment.changing() as txn:
            batch.begin(txn)
            ledger = Ledger(batch, ALL)
            for row in rows[start : start + _STATED_AT_ONCE]:
                ledger.state(row.key, row.row)
            ledger.close()
            batch.flush()
    environment.close()


class Full(Sites):
    """An owner whose catalog is full, and that has not granted it yet."""

    studies: ClassVar[int] = 0
    is_granted_at_once = False

    def start(self) -> float:
        """Fill the owner, then start. Raises as `Server.start`."""
        [owner] = self.others
        owner.start()
        owner.stop()
        _state_rows(owner.home, site_rows(1, self.studies))
        return super().start()


@dataclass(slots=True)
class Snapshot(Case):
    """A node takes in the catalog of one that is full, over the wire and into its mirror."""

    studies: int = 50_000
    name: str = "gridsnapshot"
    is_fresh_each_run: bool = True
    _folders: list[Path] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"Taking in a catalog of {self._rows} rows"

    @property
    def _rows(self) -> int:
        return (1 + SERIES_IN_STUDY) * self.studies

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row(
                "a million rows into the mirror", "s", more_is_better=False, goal=Goal(at_most=1e6 / 150_000)
            ),
            Row("rows a second", "/s", more_is_better=True),
            Row("the same, indexed", "/s", more_is_better=True),
            Row("processor time of the owner, a row", "us", more_is_better=False),
            Row("processor time of the follower, a row", "us", more_is_better=False),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        full = type("Full", (Full,), {"studies": self.studies})
        return {"PeerPACS": lambda folder, destination: full(folder, destination, ("asker", "owner"))}

    def measure(self, server: Server, run: int) -> Figures:
        """Look into the mirror from outside while it fills."""
        assert isinstance(server, Full)
        sites = [*server.others, server.first]
        before = [site.cpu_seconds() for site in sites]
        server.grant()
        with closing(_mirror(server.first)) as mirror:
            wait(lambda: any(_state(mirror)), pause=0.001)
            began = time.perf_counter()
            written = wait(lambda: _state(mirror)[1], pause=0.01)
            used = [site.cpu_seconds() - was for site, was in zip(sites, before, strict=True)]
            wait(lambda: _state(mirror)[2], pause=0.01)
            indexed = time.perf_counter() - began
            studies = sum(mirror.state(source).studies for source in mirror.sources())
        if studies < self.studies:
            raise ClientError(f"{studies} of {self.studies} studies came.")
        rows = self._rows
        times = [1e6 * seconds / rows for seconds in used]
        figures = 1e6 * written / rows, rows / written, rows / indexed, *times
        return dict(zip((row.name for row in self.rows), figures, strict=True))


def _state(mirror: Mirror) -> tuple[bool, bool, bool]:
    """Say whether a snapshot has begun to come, has come, and is indexed."""
    states = [mirror.state(source) for source in mirror.sources()]
    begun = any(each.snapshot or each.applied for each in states)
    come = any(each.snapshot.is_complete if each.snapshot else each.applied for each in states)
    return begun, come, any(each.applied and not each.snapshot for each in states)


def _mirror(asker: Site) -> Mirror:
    return Mirror(asker.home / "grid" / "mirror", clock=time.time, is_read_only=True)


def _own(owner: Site) -> Environment:
    return Environment(owner.home / "archives" / DEFAULT / "catalog", is_read_only=True)


def _stated(log: Environment) -> tuple[Head, dict[int, Digest]]:
    """Return where an owner's log ends, and the digests of its buckets with rows."""
    with LogReading(log.reading, ALL) as reading:
        return reading.head, {bucket: each for bucket, each in reading.digests().items() if each.rows}


def _is_equal(mirror: Mirror, log: Environment) -> bool:
    """Say whether what is mirrored is what the owner states, by head and all digests."""
    [source] = mirror.sources()
    head, stated = _stated(log)
    state = mirror.state(source)
    if not state.is_whole or state.seen != head:
        return False
    return {bucket: each for bucket, each in mirror.digests(source).items() if each.rows} == stated


class Cuttable(Sites):
    """Sites whose lines can be cut."""

    have_lines = True


@dataclass(slots=True)
class Heal(Case):
    """The line of a node is cut; many rows change there; seconds from its healing until all are known."""

    changed: int = 10_000
    name: str = "gridheal"
    is_fresh_each_run: bool = True
    _folders: list[Path] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"A partition of half a minute in which {self.changed} rows change"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (Row("healed to equal", "s", more_is_better=False, goal=Goal(at_most=5.0)),)

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": lambda folder, destination: Cuttable(folder, destination, ("asker", "owner"))}

    def prepare(self, scratch: Path, destination: Address) -> None:
        self._folders = clients.write(self._studies(), scratch, 2)

    def measure(self, server: Server, run: int) -> Figures:
        assert isinstance(server, Sites)
        asker, [owner] = server.first, server.others
        assert owner.line
        owner.line.cut()
        began = time.perf_counter()
        wait(lambda: asker.metric("peer_up") == 0)
        clients.store(owner.address, self._folders)
        time.sleep(max(0.0, 30.0 - (time.perf_counter() - began)))
        with closing(_own(owner)) as log, closing(_mirror(asker)) as mirror:
            wait(lambda: sum(each.rows for each in _stated(log)[1].values()) == self.changed)
            owner.line.heal()
            return {self.rows[0].name: wait(lambda: _is_equal(mirror, log), pause=0.02)}

    def _studies(self) -> Iterator[Study]:
        return (study(_SEED, n, instances=1, size=SMALLEST) for n in range(self.changed // 2))
