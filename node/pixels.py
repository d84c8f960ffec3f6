"""Compressed frames to pixels: the border to the codecs, which work in processes of their own (`node.codec`).

The codecs are the optional extra `pixels`; nothing of it is imported here. A codec that crashes, hangs or
takes too much memory ends its own process, and one instance is not converted.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Final

import msgspec

from catalog import Busy, PacsError
from node import codec

LARGEST_FRAME: Final = 1 << 29
"""Bytes of one frame, decoded; no real one has more."""
_START: Final = 60.0
"""Seconds until a process that was started must answer."""
_PATIENCE: Final = 20.0
"""Seconds for a frame, and as many again for each 16 MB of it."""
_QUEUE: Final = 300.0
"""Seconds to wait while all codec processes are busy."""
_NAMES: Final = {
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "HTJ2K",
    "1.2.840.10008.1.2.4.202": "HTJ2K",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
    "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
CODED: Final = frozenset(_NAMES)
"""The encapsulated transfer syntaxes that can be decoded; video is none of them."""


class NotConvertible(PacsError):
    """An instance cannot be given in any syntax its receiver takes; it can still be had as it is stored."""


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame is, by the data set it is from (PS3.3 C.7.6.3)."""

    transfer_syntax: str
    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    photometric_interpretation: str
    planar_configuration: int

    @property
    def bits(self) -> int:
        """Bits of one frame, decoded."""
        return self.rows * self.columns * self.samples_per_pixel * self.bits_allocated

    @property
    def coding(self) -> str:
        """What people call the compression."""
        return _NAMES.get(self.transfer_syntax, self.transfer_syntax)


class _Answer(msgspec.Struct):
    photometric_interpretation: str = ""
    failed: str = ""


class Codec:
    """One codec process; after an error of its own it is of no use any more."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            NotConvertible: it cannot be started.
        """
        self.is_usable = True
        ours, theirs = socket.socketpair()
        with theirs:
            # By its path and without the folder in the path: nothing of the node is to be found there.
            command = [sys.executable, "-P", codec.__file__, str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                )
            except OSError as error:
                ours.close()
                raise NotConvertible(f"No codec process could be started: {error.strerror}.") from None
        self._connection = Connection(ours.detach())
        try:
            self._receive(_START)
        except BaseException:
            self.close()
            raise

    def decode(self, frame: bytes, picture: Picture) -> tuple[bytes, str]:
        """Return a frame's pixels, color-by-pixel and little endian, and their Photometric Interpretation.

        Raises:
            NotConvertible: there is no codec for it, the frame is damaged, or it takes too long.
        """
        if not 0 < picture.bits <= 8 * LARGEST_FRAME:
            raise NotConvertible(f"A frame would have {picture.bits // 8} bytes uncompressed.")
        patience = _PATIENCE * (1 + picture.bits / (8 << 24))
        try:
            self._connection.send_bytes(msgspec.json.encode(picture))
            self._connection.send_bytes(frame)
            answer = msgspec.json.decode(self._receive(patience), type=_Answer)
            pixels = self._receive(patience)
        except OSError:
            self.is_usable = False
            raise NotConvertible("The codec crashed: the pixel data is damaged.") from None
        if answer.failed:
            raise _why_not(answer.failed, picture)
        return pixels, answer.photometric_interpretation

    def _receive(self, seconds: float) -> bytes:
        try:
            if self._connection.poll(seconds):
                return self._connection.recv_bytes()
        except (EOFError, OSError):
            self.is_usable = False
            raise NotConvertible("The codec crashed: the pixel data is damaged.") from None
        self.is_usable = False
        raise NotConvertible(f"The codec was not done within {seconds:.0f} s: damaged pixel data?")

    def is_alive(self) -> bool:
        """Say whether it still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.wait()


def _why_not(failed: str, picture: Picture) -> NotConvertible:
    if failed == "missing":
        return NotConvertible(
            f"No codec for {picture.coding} here: pip install 'peerpacs[pixels]'.",
            "Install it into the node's environment and restart the node.",
        )
    if failed == "unsupported":
        return NotConvertible(
            f"No codec decodes {picture.bits_stored}-bit {picture.coding}.",
            "Let the receiver accept the syntax it is stored in.",
        )
    return NotConvertible(
        f"Its {picture.coding} frames are damaged, or are not what it says.",
        "Look at it in a viewer; send it again from its source if that has it whole.",
    )


class Codecs:
    """A codec process per processor, started when first needed and used again."""

    def __init__(self, most: int = os.cpu_count() or 1) -> None:
        """Allow `most` processes at a time."""
        self._turn = threading.BoundedSemaphore(most)
        self._idle: list[Codec] = []
        self._lock = threading.Lock()
        self._is_closed = False

    @contextlib.contextmanager
    def one(self) -> Iterator[Codec]:
        """Lend a process for one instance.

        Raises:
            Busy: others use all of them, for long.
            NotConvertible: it cannot be started.
        """
        if not self._turn.acquire(timeout=_QUEUE):
            raise Busy("All codec processes are busy with other instances.")
        try:
            lent = self._waiting() or Codec()
            is_whole = False
            try:
                yield lent
                is_whole = True
            except PacsError:
                is_whole = lent.is_usable
                raise
            finally:
                self._take_back(lent, is_whole)
        finally:
            self._turn.release()

    def _waiting(self) -> Codec | None:
        """Return an idle process that nobody killed meanwhile."""
        while True:
            with self._lock:
                lent = self._idle.pop() if self._idle else None
            if lent is None or lent.is_alive():
                return lent
            lent.close()

    def _take_back(self, lent: Codec, is_whole: bool) -> None:
        with self._lock:
            if is_whole and not self._is_closed:
                self._idle.append(lent)
                return
        lent.close()

    def close(self) -> None:
        """End the processes, those at work when they are done."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()
