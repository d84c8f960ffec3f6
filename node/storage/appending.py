"""A segment that grows: members are appended in one piece, and made durable in groups.

While a segment may hold what the catalog has not recorded, a small locked file in `objects/open/` names it
and says up to where it was checked. That is how a start finds what to replay without listing the store, and
how processes tell their own segments from those of a process that died.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .members import END, Member, member_length, pack
from .places import make_folder, segment_path, sync_folder
from .space import refusal
from .syncing import GroupSync

OPEN = "open"
STAMP_LENGTH = 16


class Marker:
    """`objects/open/000123`: its lock says that a process owns the segment, its text what was checked."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    @classmethod
    def claim(cls, objects: Path, number: int, is_new: bool) -> Marker | None:
        """Take the segment for this process, or return None when another has it.

        `is_new` asks for a number nobody ever used, and makes the claim durable.
        """
        path = objects / OPEN / f"{number:06d}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if is_new else 0), 0o640)
        except (FileExistsError, FileNotFoundError):
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_new:
                sync_folder(path.parent)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError:
            os.close(fd)
            raise
        marker = cls(path, fd)
        if is_new and segment_path(objects, number).exists():
            marker.remove()
            return None
        return marker

    @property
    def checked(self) -> int:
        """How far the segment is known to be whole and recorded; 0 when the text is torn."""
        offset, _, check = os.pread(self._fd, 64, 0).decode("ascii", "replace").partition(" ")
        is_whole = offset.isdigit() and check.strip() == f"{zlib.crc32(offset.encode()):08x}"
        return int(offset) if is_whole else 0

    def write(self, offset: int) -> None:
        """Say that everything before `offset` needs no replay; losing this line only costs time."""
        text = f"{offset:020d}"
        with suppress(OSError):
            os.pwrite(self._fd, f"{text} {zlib.crc32(text.encode()):08x}\n".encode(), 0)

    def remove(self) -> None:
        """Forget the segment: nothing in it needs a replay any more."""
        self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let the segment go; whoever starts next replays it from where it was checked."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class GrowingSegment:
    """The one file this process appends to; the caller sees to it that one thread at a time does."""

    def __init__(self, number: int, fd: int, marker: Marker, stamp: bytes, end: int) -> None:
        self.number = number
        self.end = end
        """Where the next member goes; everything before it is whole members."""
        self.marker = marker
        self.group = GroupSync(self._synchronise, synced=end)
        self._fd = fd
        self._stamp = stamp
        self._unsettled: set[int] = set()
        self._checkpoint = self._checked = end
        self._is_cut_short = False

    @classmethod
    def create(cls, objects: Path, number: int, marker: Marker) -> GrowingSegment:
        """Make an empty segment whose name is durable.

        Raises:
            OSError: the disk has no room for it; the marker is gone.
        """
        path = segment_path(objects, number)
        try:
            make_folder(path.parent)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            sync_folder(path.parent)
        except OSError:
            marker.remove()
            raise
        return cls(number, fd, marker, new_stamp(), 0)

    @classmethod
    def whole(cls, number: int, marker: Marker, size: int) -> GrowingSegment:
        """Return a segment that came into being with its only member, which nobody has recorded yet."""
        segment = cls(number, -1, marker, b"", member_length(size))
        segment._unsettled.add(0)
        segment._checkpoint = segment._checked = 0
        return segment

    @classmethod
    def resume(
        cls, objects: Path, number: int, marker: Marker, stamp: bytes, *, checked: int, end: int
    ) -> GrowingSegment:
        """Go on with a segment that has this stamp, ends here, and was replayed from `checked`."""
        fd = os.open(segment_path(objects, number), os.O_RDWR | os.O_CLOEXEC)
        segment = cls(number, fd, marker, stamp, end)
        segment._checkpoint = segment._checked = checked
        return segment

    @property
    def is_broken(self) -> bool:
        """Whether the disk refused so badly that nothing more may be written here."""
        return self._is_cut_short or self.group.failure is not None

    def append(self, member: Member, pieces: Sequence[memoryview | bytes]) -> int:
        """Write a member in one piece and return the offset of its header.

        Raises:
            OSError: the disk refused; the segment is as it was.
        """
        offset = self.end
        total = member_length(member.size)
        parts = [pack(member, self._stamp), *pieces, bytes(-member.size % 512)]
        try:
            write_whole(self._fd, parts, offset)
        except OSError:
            self._cut()
            raise
        self._unsettled.add(offset)
        self.end = offset + total
        return offset

    def settle(self, offset: int) -> None:
        """Count the member at `offset` as recorded, or as not wanted."""
        self._unsettled.discard(offset)

    @property
    def unchecked(self) -> int:
        """Bytes that a replay would read, as far as the last look told."""
        return self.end - self._checkpoint

    def checkpoint(self) -> bool:
        """Note how far a replay need not go back; say whether it need not read this segment at all.

        What is written is what was found the last time: by now something later was recorded as well, so
        even a catalog that loses its last commit in a power cut has the records before that mark.
        """
        if self._checkpoint > self._checked:
            self.marker.write(self._checkpoint)
            self._checked = self._checkpoint
        self._checkpoint = min([self.group.synced, *self._unsettled.copy()])
        return self._checked == self.end

    def seal(self) -> None:
        """End the tar and make it durable; nothing is appended afterwards.

        Raises:
            OSError: the disk refused; those who wait for their objects hear of it too, if it concerns them.
        """
        try:
            write_whole(self._fd, [END], self.end)
            os.fdatasync(self._fd)
        except OSError:
            self._cut()
            raise
        finally:
            self.group.wait(self.end)

    def close(self) -> None:
        """Give back the file and the marker."""
        self.marker.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _synchronise(self) -> int:
        end = self.end
        if end > self.group.synced:
            os.fdatasync(self._fd)
        return end

    def _cut(self) -> None:
        """Take back a write that failed half-way, so that the file never has a hole or half a member."""
        try:
            os.ftruncate(self._fd, self.end)
        except OSError:
            self._is_cut_short = True


def sync_foreign(objects: Path, number: int) -> None:
    """Make durable what another process of this node has appended to a segment of its own.

    Costs a look at the folder of open segments when there is no such process.

    Raises:
        Unavailable, OutOfSpace: the disk refused.
    """
    if not (objects / OPEN / f"{number:06d}").exists():
        return
    try:
        fd = os.open(segment_path(objects, number), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fdatasync(fd)
    except OSError as error:
        raise refusal(error, objects) from error
    finally:
        os.close(fd)


def new_stamp() -> bytes:
    """Return what marks the headers of one segment, so that an object cannot forge them."""
    return secrets.token_hex(STAMP_LENGTH // 2).encode()


def write_whole(fd: int, parts: Sequence[memoryview | bytes], offset: int) -> None:
    """Write all parts by one call; a short write is followed by one that says why it was short.

    Raises:
        OSError: the disk refused.
    """
    total = sum(len(part) for part in parts)
    written = os.pwritev(fd, parts, offset)
    if written < total:
        rest = memoryview(b"".join(parts))[written:]
        while rest:
            rest = rest[os.pwrite(fd, rest, offset + total - len(rest)) :]
