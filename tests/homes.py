"""A node inside the test's own process, and instances as senders and readers have them: bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread

from node.app import Node, open_node
from node.config import write_config
from node.contracts import StoreResult
from node.devices import DEV_RULE
from node.storage import read_meta
from tests.running import free_port


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
        "storage": {"stop_below_mb": 1, "resume_above_mb": 1},
    }
    for section, keys in sections.items():
        own.setdefault(section, {}).update(keys)
    home.mkdir(parents=True, exist_ok=True)
    write_config(home, own)
    return home


@contextlib.contextmanager
def serving(home: Path, **sections: dict[str, object]) -> Iterator[Node]:
    """Yield a serving node that trusts loopback; its home is made if there is none."""
    if not (home / "peerpacs.toml").exists():
        new_home(home, **sections)
    with open_node(home) as node:
        node.devices.put(DEV_RULE)
        node.start()
        yield node
