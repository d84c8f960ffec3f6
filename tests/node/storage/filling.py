"""Puts bytes into an object store the way an association does: piece by piece."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

from catalog import Holding, Incoming, ObjectStore, PacsError
from node.storage import Kept, SegmentStore, StorageSettings, VolumeStore

MB = 1 << 20
SMALL = StorageSettings(
    seal_at=MB,
    buffered_at_most=MB // 2,
    budget=4 * MB,
    full_below=0,
    resume_above=0,
    checkpoint_every=MB // 4,
)
"""Settings that make a few megabytes show what hundreds do."""


class Came(NamedTuple):
    """An `Origin`."""

    source: str = "MODALITY"
    received: int = 1_700_000_000_123
    is_held: bool = False


CAME = Came()


class Stopped:
    """A clock that a test moves."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


_open: list[SegmentStore | VolumeStore] = []

AnyStore = TypeVar("AnyStore", SegmentStore, VolumeStore)


def until_the_end(store: AnyStore) -> AnyStore:
    """Have a store give its files back when its test ends, as if its process did."""
    _open.append(store)
    return store


def close_all() -> None:
    """Close what `until_the_end` was told of; what a test broke need not close well."""
    while _open:
        with contextlib.suppress(OSError, PacsError):
            _open.pop().close()


def segment_store(
    folder: Path, settings: StorageSettings = SMALL, clock: Stopped | None = None
) -> SegmentStore:
    return until_the_end(SegmentStore(folder / "objects", folder / "incoming", clock or Stopped(), settings))


def two_volumes(folder: Path) -> VolumeStore:
    """Return a store whose second volume takes what comes."""
    main = folder / "main"
    store = VolumeStore(main / "objects", main / "incoming", Stopped(), SMALL, "node/main")
    until_the_end(store)
    (folder / "disk").mkdir()
    store.list.add(folder / "disk")
    store.list.mark(0, is_read_only=True)
    store.states()
    return store


def fill(incoming: Incoming, data: bytes, piece: int = 10_000) -> Incoming:
    for offset in range(0, len(data), piece):
        part = data[offset : offset + piece]
        incoming.space(len(part))[:] = part
        incoming.filled(len(part))
    return incoming


def keep(store: ObjectStore, data: bytes, origin: Came = CAME) -> Holding:
    """Store durably and forget the buffer."""
    incoming = fill(store.incoming(), data)
    try:
        holding = store.keep(incoming, origin)
        store.sync(holding)
    finally:
        incoming.discard()
    return holding


def read(store: ObjectStore, holding: Holding) -> bytes:
    with closing(store.open(holding)) as stored:
        buffer = bytearray(stored.size)
        assert stored.read_into(memoryview(buffer), 0) == stored.size
        return bytes(buffer)


def objects(items: Iterator[object]) -> list[Kept]:
    return [item for item in items if isinstance(item, Kept)]


def in_small_tmpfs(folder: Path, script: list[str]) -> list[str] | None:
    """Return the command that runs a script on a file system of 20 MB, if this machine lets us mount one."""
    unshare = ["unshare", "--mount", "--map-root-user"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    if subprocess.run([*unshare, *mount], capture_output=True).returncode:
        return None
    return [*unshare, "sh", "-c", f'{" ".join(mount)} && exec "$@"', "sh", *script]
