"""The cases of a node on S3: what storing, retrieving and memory cost beside a local disk and boto3 alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from . import clients
from .association import STUDY_ROOT_GET, STUDY_ROOT_MOVE, Association
from .buckets import BareS3, OnBucket, OnPassingSpool, get
from .capacity import arrive, leave, watched
from .cases import AVERAGE_202_KB, CT_512_KB, Case, Contestant, Figures, Filled, Store
from .clients import ClientError
from .pdu import Address, identifier
from .phantoms import Study, instances, study
from .report import Goal, Row
from .servers import PeerPACS, Server, StoreSCP, settle

_THREADS: Final = 4
"""Of boto3 alone while it puts: as many as the node's own, by default."""
_READERS: Final = 16
_SEED: Final = 41
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_MEGABYTE: Final = 1 << 20


class StoreOnBucket(Store):
    """C-STORE into a node on S3 while it uploads, into one on disk, and the same files put by boto3 alone."""

    @property
    def title(self) -> str:
        return f"Storing {self.what}, on S3 and on disk"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("C-STORE", "/s", more_is_better=True, goal=Goal(at_least=self.goal)),
            Row("in the bucket, read back", "/s", more_is_better=True),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"S3": OnBucket, "disk": PeerPACS, "S3, passing": OnPassingSpool, "boto3 alone": BareS3}

    def measure(self, server: Server, run: int) -> Figures:
        sent = self.studies * self.instances
        if isinstance(server, BareS3):
            return {"in the bucket, read back": sent / server.put(self._folders, _THREADS)}
        began = time.perf_counter()
        seconds = clients.store(server.address, self._folders)
        figures = {"C-STORE": sent / seconds}
        if isinstance(server, OnBucket):
            server.wait_for_uploads(sent)
            figures["in the bucket, read back"] = sent / (time.perf_counter() - began)
        if (found := self._found(server.address)) != sent:
            raise ClientError(f"{server.name} has {found} instances; {sent} were sent and accepted.")
        return figures


@dataclass(slots=True)
class RetrieveFromBucket(Filled):
    """C-GET and C-MOVE of a series that is only in the bucket, and its objects got by boto3 alone."""

    instances: int = 128
    name: str = "s3retrieve"
    _sink: StoreSCP | None = None

    @property
    def title(self) -> str:
        return f"Retrieving {self.instances} x 512 KB that are only in the bucket"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("C-GET", "s", more_is_better=False),
            Row("C-MOVE to storescp", "s", more_is_better=False),
            Row("boto3 alone, 16 threads", "s", more_is_better=False),
            Row("C-GET / boto3 alone", "times", more_is_better=False, goal=Goal(at_most=2.0)),
            Row("C-MOVE / boto3 alone", "times", more_is_better=False, goal=Goal(at_most=2.0)),
            Row("growth of RssAnon", "MB", more_is_better=False, goal=Goal(at_most=64)),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": OnBucket}

    def prepare(self, scratch: Path, destination: Address) -> None:
        Filled.prepare(self, scratch, destination)
        self._sink = StoreSCP(scratch / "sink", destination, forks=False)
        self._sink.start()

    def held(self) -> list[Study]:
        return [self._study()]

    def load(self, server: Server) -> None:
        assert isinstance(server, OnBucket)
        Filled.load(self, server)
        server.wait_for_uploads(self.instances)
        server.wait_until_safe()

    def measure(self, server: Server, run: int) -> Figures:
        assert isinstance(server, OnBucket)
        uid, sink = self._study().StudyInstanceUID, self._sink
        assert sink is not None
        alone = [self._alone(server)]
        server.empty_cache()
        settle([server])
        idle = server.anonymous_memory()
        got: list[float] = []
        most, _ = watched(server, lambda: got.append(_got(server.address, uid, self.instances)))
        alone.append(self._alone(server))
        server.empty_cache()
        settle([server])
        before = sink.received()
        moved = _moved(server.address, uid, sink.address)
        if (came := sink.received() - before) != self.instances:
            raise ClientError(f"{came} instances came at storescp; {server.name} said it had sent all.")
        alone.append(self._alone(server))
        return {
            "C-GET": got[0],
            "C-MOVE to storescp": moved,
            "boto3 alone, 16 threads": median(alone),
            "C-GET / boto3 alone": got[0] / median(alone),
            "C-MOVE / boto3 alone": moved / median(alone),
            "growth of RssAnon": (most - idle) / _MEGABYTE,
        }

    def finish(self) -> None:
        if self._sink:
            self._sink.stop()

    def _alone(self, server: OnBucket) -> float:
        return get(server.s3, _READERS, "node/o")

    def _study(self) -> Study:
        return study(_SEED, 1, instances=self.instances, size=CT_512_KB)


def _got(address: Address, StudyInstanceUID: str, expected: int) -> float:
    """Return the seconds from the C-GET request to its final response: boto3's figure has no more in it."""
    wanted = identifier("STUDY", StudyInstanceUID=StudyInstanceUID)
    with Association(address, [STUDY_ROOT_GET], receives=[_CT]) as association:
        began = time.perf_counter()
        got = association.get(wanted)
        seconds = time.perf_counter() - began
    if got.instances != expected or got.status:
        raise ClientError(f"C-GET of {expected} instances brought {got}.")
    return seconds


def _moved(address: Address, StudyInstanceUID: str, destination: Address) -> float:
    wanted = identifier("STUDY", StudyInstanceUID=StudyInstanceUID)
    with Association(address, [STUDY_ROOT_MOVE]) as association:
        began = time.perf_counter()
        status = association.move(wanted, destination.ae_title).status
        seconds = time.perf_counter() - began
    if status:
        raise ClientError(f"C-MOVE ended with status {status:04X}.")
    return seconds


@dataclass(slots=True)
class MemoryOnBucket(Case):
    """What the node holds while one large object arrives, goes to the bucket, and leaves from there."""

    frames: int = 2048
    name: str = "s3memory"
    is_fresh_each_run: bool = True

    @property
    def title(self) -> str:
        return f"Anonymous memory (RssAnon) of a node on S3 with one object of {self.frames} MB"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("growth while it arrives", "MB", more_is_better=False, goal=Goal(at_most=64)),
            Row("growth until it is in the bucket", "MB", more_is_better=False, goal=Goal(at_most=64)),
            Row("growth while it leaves the bucket", "MB", more_is_better=False, goal=Goal(at_most=64)),
            Row("arriving", "MB/s", more_is_better=True),
            Row("until it is in the bucket", "MB/s", more_is_better=True),
            Row("leaving the bucket", "MB/s", more_is_better=True),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": OnBucket}

    def measure(self, server: Server, run: int) -> Figures:
        assert isinstance(server, OnBucket)
        size = self.frames * _MEGABYTE + 8192
        described = study(run, 0, modality="XA", frames=self.frames, size=size)
        large = next(instances(described))
        idle = server.anonymous_memory()
        arriving, arrival = watched(server, lambda: arrive(server.address, large))
        going, upload = watched(server, lambda: _uploaded(server, size))
        server.empty_cache()
        settle([server])
        again = server.anonymous_memory()
        uid = described.StudyInstanceUID
        leaving, departure = watched(server, lambda: leave(server.address, uid, large))
        return {
            "growth while it arrives": (arriving - idle) / _MEGABYTE,
            "growth until it is in the bucket": (going - idle) / _MEGABYTE,
            "growth while it leaves the bucket": (leaving - again) / _MEGABYTE,
            "arriving": self.frames / arrival,
            "until it is in the bucket": self.frames / upload,
            "leaving the bucket": self.frames / departure,
        }


def _uploaded(server: OnBucket, size: int) -> None:
    server.wait_for_uploads(1, size)
    server.wait_until_safe()


def on_buckets(share: float) -> list[Case]:
    """Return the cases of a node on S3, each with a `share` of its full size."""
    few, many = round(400 * share), round(250 * share)
    return [
        StoreOnBucket("s3store1", "512 KB CT, 1 association", 0.9, 1, 1, few, CT_512_KB),
        StoreOnBucket("s3store8", "202 KB CT, 8 associations", 0.9, 8, 8, many, AVERAGE_202_KB),
        RetrieveFromBucket(),
        MemoryOnBucket(frames=round(2048 * share)),
    ]
