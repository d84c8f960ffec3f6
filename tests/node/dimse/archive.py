"""A whole node in memory around the DIMSE engine: its archive, its device book, its audit trail."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from pydicom.filereader import read_dataset

from catalog import Attributes, Change, Entry, Head, Holding, NotFound, OutOfSpace, Query, Selection
from node.contracts import Caller, Device, Rejection, Scope, Service, StoreResult, Unwanted, Verdict
from node.dimse import DimseServer, Limits, Security
from node.storage import file_meta
from tests.node.dimse.peers import SECURED

SYNTAXES = {
    "1.2.840.10008.1.2": (True, True),
    "1.2.840.10008.1.2.2": (False, False),
}


class Stored:
    """One instance in memory, as bytes and as an `Outgoing`."""

    def __init__(self, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str, data: bytes) -> None:
        self.SOPClassUID = SOPClassUID
        self.SOPInstanceUID = SOPInstanceUID
        self.TransferSyntaxUID = TransferSyntaxUID
        self.data = data
        self.size = len(data)
        self.is_closed = False

    def read_into(self, buffer: memoryview, offset: int) -> int:
        part = self.data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self.is_closed = True


class Receiving:
    """A `Reception` into a bytearray."""

    def __init__(self, archive: Archive, uids: tuple[str, str, str], is_held: bool) -> None:
        self.archive = archive
        self.uids = uids
        self.is_held = is_held
        self.data = bytearray()
        self.part = memoryview(b"")

    def space(self, length: int) -> memoryview:
        if len(self.data) + length > self.archive.room:
            raise OutOfSpace("The disk is full.")
        self.part = memoryview(bytearray(length))
        return self.part

    def filled(self, length: int) -> None:
        self.data += self.part[:length]

    def finish(self) -> StoreResult:
        if self.archive.result.status == 0:
            self.archive.put(Stored(*self.uids, bytes(self.data)), self.is_held)
            return StoreResult(0, StudyInstanceUID=self.archive.entries[-1].StudyInstanceUID)
        return self.archive.result

    def abandon(self) -> None:
        self.archive.abandoned.append(self.uids[1])


class Archive:
    """Catalog, one door in and one door out, all in memory; what tests want to go wrong is an attribute."""

    def __init__(self) -> None:
        self.instances: dict[str, Stored] = {}
        self.entries: list[Entry] = []
        self.held: list[str] = []
        self.abandoned: list[str] = []
        self.room = 1 << 40
        self.result = StoreResult(0)
        self.missing: set[str] = set()
        self.far: set[str] = set()
        """They never come; whoever opens one waits until nobody wants it any more."""
        self.awaited = threading.Event()
        self.expected: list[Entry] = []
        self._is_unwanted: Callable[[], bool] = bool
        self.answers: Callable[[Query], Iterator[Attributes]] = self._studies
        self.queries: list[Query] = []
        self.selections: list[Selection] = []
        self._lock = threading.Lock()

    def begin(
        self, caller: Caller, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str, *, is_held: bool
    ) -> Receiving:
        return Receiving(self, (SOPClassUID, SOPInstanceUID, TransferSyntaxUID), is_held)

    def put(self, stored: Stored, is_held: bool = False) -> None:
        with self._lock:
            if is_held:
                self.held.append(stored.SOPInstanceUID)
            self.instances[stored.SOPInstanceUID] = stored
            self.entries.append(_entry(stored))

    def find(self, query: Query) -> Iterator[Attributes]:
        self.queries.append(query)
        return self.answers(query)

    def _studies(self, query: Query) -> Iterator[Attributes]:
        for study in dict.fromkeys(entry.StudyInstanceUID for entry in self.entries):
            wanted = query.keys.get("0020000D", {}).get("Value", [])
            if not wanted or study in wanted:
                yield {"0020000D": {"vr": "UI", "Value": [study]}}

    def select(self, selection: Selection) -> list[Entry]:
        self.selections.append(selection)
        return [
            entry
            for entry in self.entries
            if (not selection.studies or entry.StudyInstanceUID in selection.studies)
            and (not selection.instances or entry.SOPInstanceUID in selection.instances)
        ]

    def changes(self, after: int, limit: int, share: int = 0) -> list[Change]:
        return []

    def head(self, share: int = 0) -> Head:
        return Head(0, 0, b"")

    def expect(self, entries: Sequence[Entry], is_unwanted: Callable[[], bool] = bool) -> None:
        """Nothing is fetched ahead in memory."""
        self.expected, self._is_unwanted = list(entries), is_unwanted

    def open(self, entry: Entry) -> Stored:
        if entry.SOPInstanceUID in self.far:
            self.awaited.set()
            while not self._is_unwanted():
                time.sleep(0.02)
            raise Unwanted
        if entry.SOPInstanceUID in self.missing:
            raise NotFound(f"Instance {entry.SOPInstanceUID} is gone.")
        return self.instances[entry.SOPInstanceUID]


class Book:
    """The device book: one device whose rights a test sets, and the destinations it knows."""

    def __init__(self) -> None:
        self.services: set[Service] = set(Service)
        self.device: Device | None = None
        self.destinations: dict[str, Device] = {}
        self.rejection: Rejection | None = None
        self.is_held = False
        self.turned: list[tuple[str, str, str]] = []

    def turned_away(self, address: str, why: str, remedy: str) -> None:
        self.turned.append((address, why, remedy))

    def admit(self, calling_ae: str, address: str, called_ae: str) -> Caller | Rejection:
        return self.rejection or Caller(calling_ae, address, called_ae, self.device)

    def may(self, caller: Caller, service: Service) -> Verdict:
        return Verdict(service in self.services, "The device book does not say so.", is_held=self.is_held)

    def destination(self, caller: Caller, ae_title: str) -> Device | None:
        return self.destinations.get(ae_title)


class Trail:
    """The audit trail as a list."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def record(self, event: str, caller: Caller | None, outcome: str, detail: Mapping[str, Any]) -> None:
        self.events.append((event, outcome, dict(detail)))

    def of(self, event: str) -> list[tuple[str, dict[str, Any]]]:
        return [(outcome, detail) for name, outcome, detail in self.events if name == event]


class Node:
    """A running server and everything it stands on."""

    tls: Callable[[], ssl.SSLContext] | None = None
    security: Security | None = None
    """Set while the tests of the plain port run over TLS; then every node here listens with TLS."""

    def __init__(self, limits: Limits, *, accept_unknown: bool) -> None:
        self.archive = Archive()
        self.book = Book()
        self.trail = Trail()
        self.server = DimseServer(
            self.resolve,
            self.book,
            self.trail,
            limits,
            lambda: 0.0,
            accept_unknown=accept_unknown,
            secure=lambda device: self.security if device.port in SECURED else None,
        )
        self.port = self.server.listen("127.0.0.1", 0, tls=self.tls)
        if self.tls is not None:
            SECURED.add(self.port)

    def let_artim_expire(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have ARTIM expire for every connection without an association, as if as much time had passed."""
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + Limits().artim, sleep=time.sleep)
        monkeypatch.setattr("node.dimse.vestibule.time", later)
        self.server.is_turning()  # Wakes the watch.

    def resolve(self, called_ae: str) -> Scope | None:
        if called_ae != "ALPHA":
            return None
        return Scope("clinical", "ALPHA", self.archive, self.archive, self.archive)


@contextmanager
def serving(limits: Limits | None = None, *, accept_unknown: bool = False) -> Iterator[Node]:
    """Run a node for a while."""
    node = Node(limits or Limits(), accept_unknown=accept_unknown)
    node.server.start()
    try:
        yield node
    finally:
        node.server.stop(0.0)


def instances(
    count: int, size: int = 2000, study: str = "1.2.3", syntax: str = "1.2.840.10008.1.2.1"
) -> list[Stored]:
    """Return explicit little-endian CT instances of one study, of about `size` bytes."""
    made = []
    for number in range(count):
        uid = f"{study}.4.{number + 1}"
        head = b"".join(
            (
                _element(0x0008, 0x0016, b"UI", CT_IMAGE.encode()),
                _element(0x0008, 0x0018, b"UI", uid.encode()),
                _element(0x0010, 0x0010, b"PN", b"Secret^Patient"),
                _element(0x0020, 0x000D, b"UI", study.encode()),
                _element(0x0020, 0x000E, b"UI", f"{study}.4".encode()),
            )
        )
        pixels = max(0, size - len(head) - 12) & ~1
        head += b"\xe0\x7f\x10\x00OW\0\0" + pixels.to_bytes(4, "little")
        made.append(Stored(CT_IMAGE, uid, syntax, head + bytes(pixels)))
    return made


def part10(stored: Stored) -> bytes:
    """Return an instance as a DICOM file."""
    return file_meta(stored.SOPClassUID, stored.SOPInstanceUID, stored.TransferSyntaxUID) + stored.data


CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def _element(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) & 1)
    header = group.to_bytes(2, "little") + element.to_bytes(2, "little") + vr
    return header + len(value).to_bytes(2, "little") + value


def _entry(stored: Stored) -> Entry:
    is_implicit, is_little = SYNTAXES.get(stored.TransferSyntaxUID, (False, True))
    try:
        dataset = read_dataset(
            BytesIO(stored.data), is_implicit, is_little, stop_when=lambda tag, *_: tag >= 0x00210000
        )
    except Exception:
        dataset = pydicom.Dataset()
    return Entry(
        StudyInstanceUID=str(dataset.get("StudyInstanceUID", "1.2.3")),
        SeriesInstanceUID=str(dataset.get("SeriesInstanceUID", "1.2.3.4")),
        SOPInstanceUID=stored.SOPInstanceUID,
        SOPClassUID=stored.SOPClassUID,
        TransferSyntaxUID=stored.TransferSyntaxUID,
        holding=Holding(b"", b"", len(stored.data)),
        received=0,
        source="",
    )


def identifier(**keys: str | Sequence[str]) -> Attributes:
    """Return an identifier in DICOM JSON from keywords and values."""
    attributes: Attributes = {}
    for keyword, value in keys.items():
        tag = pydicom.datadict.tag_for_keyword(keyword)
        assert tag is not None
        values = [value] if isinstance(value, str) else list(value)
        attributes[f"{tag:08X}"] = {
            "vr": pydicom.datadict.dictionary_VR(tag),
            "Value": [v for v in values if v],
        }
    return attributes
