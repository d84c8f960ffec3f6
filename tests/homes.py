"""A node inside the test's own process, and instances as senders and readers have them: bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from node.app import Node, open_node
from node.config import write_config
from node.contracts import StoreResult
from node.devices import DEV_RULE
from node.dimse import Requestor
from node.storage import read_meta
from sim.phantoms import instances, study
from sim.ports import free_port

EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass
class RawInstance:
    """A data set as bytes, and what it is; satisfies `Outgoing`."""

    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    data: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> RawInstance:
        """Read a DICOM file as a sender does: the command names the UIDs of the data set."""
        content = path.read_bytes()
        meta = read_meta(content[:65536])
        dataset = dcmread(path, force=True, stop_before_pixels=True)
        uids = (str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
        return cls(*uids, meta.TransferSyntaxUID, content[meta.offset :])

    @property
    def size(self) -> int:
        """Length of the data set in bytes."""
        return len(self.data)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer with the data set from `offset`."""
        piece = self.data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Nothing to give back."""


class Received:
    """Takes what a C-GET brings; `instances` in the order they came."""

    def __init__(self) -> None:
        self.instances: list[RawInstance] = []

    def __call__(self, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> RawReception:
        return RawReception(self, RawInstance(SOPClassUID, SOPInstanceUID, TransferSyntaxUID, b""))


class RawReception:
    """One instance on its way to a reader; satisfies `Reception`."""

    def __init__(self, received: Received, instance: RawInstance) -> None:
        self._received = received
        self._instance = instance
        self._data = bytearray()
        self._space = bytearray()

    def space(self, length: int) -> memoryview:
        """Return room for `length` bytes."""
        self._space = bytearray(length)
        return memoryview(self._space)

    def filled(self, length: int) -> None:
        """Keep `length` bytes of it."""
        self._data += self._space[:length]

    def finish(self) -> StoreResult:
        """Keep the instance."""
        self._instance.data = bytes(self._data)
        self._received.instances.append(self._instance)
        return StoreResult(0x0000)

    def abandon(self) -> None:
        """Forget it."""


def new_home(home: Path, ae_title: str = "ALPHA", **sections: dict[str, object]) -> Path:
    """Make a home folder whose node listens on loopback only."""
    own: dict[str, dict[str, object]] = {
        "node": {"name": ae_title.lower(), "ae_title": ae_title, "node_id": "00000000-test"},
        "dicom": {"host": "127.0.0.1", "port": free_port()},
        "tls": {"port": 0},
        "watch": {"port": 0},
        "web": {"port": 0},
        "storage": {"stop_below_mb": 1, "resume_above_mb": 1},
    }
    for section, keys in sections.items():
        own.setdefault(section, {}).update(keys)
    home.mkdir(parents=True, exist_ok=True)
    write_config(home, own)
    return home


@contextlib.contextmanager
def serving(home: Path, *, is_trusting: bool = True, **sections: dict[str, object]) -> Iterator[Node]:
    """Yield a serving node, by default one that trusts loopback; its home is made if there is none."""
    if not (home / "peerpacs.toml").exists():
        new_home(home, **sections)
    with open_node(home) as node:
        if is_trusting:
            node.devices.put(DEV_RULE)
        node.start()
        yield node


def phantoms(seed: int, number: int = 0, size: int = 20_000, **described: Any) -> list[RawInstance]:
    """Return the instances of a phantom study."""
    made = instances(study(seed, number, size=size, **described))
    return [
        RawInstance(one.SOPClassUID, one.SOPInstanceUID, EXPLICIT, one.part10()[one.data_set_offset :])
        for one in made
    ]


def edited(instance: RawInstance, **values: Any) -> RawInstance:
    """Return the instance with other values for some attributes, and the same UIDs unless those are named."""
    dataset = read_dataset(BytesIO(instance.data), False, True)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, dataset)
    return RawInstance(instance.SOPClassUID, instance.SOPInstanceUID, EXPLICIT, out.getvalue())


def attribute(instance: RawInstance, keyword: str) -> Any:
    """Return a value of the instance."""
    return read_dataset(BytesIO(instance.data), False, True).get(keyword)


class Peer:
    """A device as tests use it: store, find and get at a serving node."""

    def __init__(self, node: Node, ae_title: str = "PEER", twin: str = "") -> None:
        """`twin` is what stands behind the called AE title, like _REJ."""
        called = node.config.node.ae_title + twin
        self.requestor = Requestor(ae_title, "127.0.0.1", node.ports["dicom"], called)

    @classmethod
    def at(cls, port: int, called: str = "ALPHA") -> Peer:
        """Return a device that calls a node of another process."""
        peer = cls.__new__(cls)
        peer.requestor = Requestor("PEER", "127.0.0.1", port, called)
        return peer

    def store(self, *sent: RawInstance) -> list[int]:
        """Return the status of each."""
        return [answer.status for answer in self.requestor.store(sent)]

    def find(self, level: str = "STUDY", **keys: str) -> list[dict[str, Any]]:
        """Return the answers, one dict of keyword to first value each."""
        identifier = {"00080052": {"vr": "CS", "Value": [level]}} | dict(
            _key(keyword, value) for keyword, value in keys.items()
        )
        return [
            {keyword_for_tag(int(tag, 16)): _first(value) for tag, value in answer.items()}
            for answer in self.requestor.find(identifier)
        ]

    def get(self, StudyInstanceUID: str) -> list[RawInstance]:
        """Return the instances of a study as a C-GET brings them."""
        received = Received()
        identifier = dict(
            _key(*pair)
            for pair in {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": StudyInstanceUID}.items()
        )
        self.requestor.get(identifier, received)
        return received.instances


def _key(keyword: str, value: str) -> tuple[str, dict[str, Any]]:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    vr = dictionary_VR(tag)
    values: list[Any] = [{"Alphabetic": value}] if vr == "PN" else [value]
    return f"{tag:08X}", {"vr": vr, "Value": values} if value else {"vr": vr}


def _first(value: dict[str, Any]) -> Any:
    first = (value.get("Value") or [None])[0]
    return first.get("Alphabetic") if isinstance(first, dict) else first
