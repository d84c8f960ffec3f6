"""The files of an import: a folder's, a zip file's, or those that a DICOMDIR names, in a stable order.

What cannot be looked at, and what a DICOMDIR names and its medium lacks, is among them: nothing is left out
unsaid. Nothing is written by the names that a medium has; they are shown, as far as they can be.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, Final, NamedTuple, NoReturn

from catalog import BadRequest, NotFound

_DICOMDIR: Final = "DICOMDIR"
_LARGE: Final = 1 << 30
_DENSE: Final = 200
"""Times that a large member of a zip file may unpack to its size; images come to ten, zeros to a thousand."""
_ENCRYPTED: Final = 0x1
"""Bit of a zip member's flags."""
_Opening = Callable[[], AbstractContextManager[IO[bytes]]]


class SourceFile(NamedTuple):
    """One file of an import; `stamp` changes when the file does."""

    name: str
    """With what no terminal and no JSON can show written as escapes."""
    stamp: str
    open: _Opening | None

    @classmethod
    def of(cls, name: str, stamp: str, open: _Opening | None) -> SourceFile:
        """Make one by the name as the medium has it."""
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)
        return cls(shown, stamp, open)


def source_files(source: Path) -> Iterator[SourceFile]:
    """Yield the files of a folder, a zip file, a DICOMDIR or a single file, in a stable order.

    Raises:
        NotFound: there is nothing at the path.
        BadRequest: a zip file or DICOMDIR cannot be read, or it is no file at all.
    """
    if not source.exists():
        raise NotFound(f"There is nothing at {source}.", "Check the path; it is read on the node's host.")
    if source.is_dir():
        yield from _walked(source)
    elif not source.is_file():
        raise BadRequest(f"{source} is neither a file nor a folder.", "Name a folder, zip file or DICOMDIR.")
    elif zipfile.is_zipfile(source):
        yield from _zipped(source)
    elif source.name.upper() == _DICOMDIR:
        yield from _listed(source)
    elif source.suffix.lower() == ".zip":
        raise BadRequest(f"{source.name} is a damaged zip file.", "Copy it again; its end may be missing.")
    else:
        yield _plain(source, source.parent)


def _walked(root: Path) -> Iterator[SourceFile]:
    """Yield the files under a folder, and what cannot be looked at: nothing is left out unsaid."""
    closed: list[OSError] = []
    media: list[Path] = []
    for folder, folders, names in os.walk(root, onerror=closed.append):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(names)):
            if _may_be_a_file(path):
                yield _plain(path, root)
            media += [path] if path.name.upper() == _DICOMDIR and path.is_file() else []
        for path in (Path(folder, name) for name in folders):
            if path.is_symlink():
                why = BadRequest("A link to a folder is not followed.", "Import that folder itself.")
                yield SourceFile.of(str(path.relative_to(root)), "", partial(_fail, why))
    for error in closed:
        yield SourceFile.of(str(error.filename), "", partial(_fail, error))
    for path in media:
        within = "" if path.parent == root else f"{path.parent.relative_to(root)}/"
        yield from _lacking(path.name, partial(_open, path), _on_medium(path.parent), within)


def _may_be_a_file(path: Path) -> bool:
    """Say whether opening it gives bytes, or an error that is worth telling: no pipe, no device."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _fail(error: Exception) -> NoReturn:
    raise error


def _plain(path: Path, root: Path) -> SourceFile:
    try:
        status = path.stat()
        stamp = f"{status.st_size}-{status.st_mtime_ns}"
    except OSError:
        # Opening it will fail too, and say why.
        stamp = ""
    return SourceFile.of(str(path.relative_to(root)), stamp, partial(_open, path))


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _zipped(source: Path) -> Iterator[SourceFile]:
    try:
        # Not closed here: members are opened by several threads, some after the last name was handed out.
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise BadRequest(f"{source.name} is a damaged zip file ({error}).", "Copy it again.") from error
    members = [info for info in archive.infolist() if not info.is_dir()]
    for info in members:
        stamp = f"{info.file_size}-{info.CRC:08x}"
        yield SourceFile.of(info.filename, stamp, partial(_unpacked, archive, info))
    for info in members:
        folder, _, name = info.filename.rpartition("/")
        if name.upper() == _DICOMDIR:
            at = len(folder) + 1 if folder else 0
            names = [
                each.filename[at:].upper() for each in members if each.filename[:at] == info.filename[:at]
            ]
            yield from _lacking(info.filename, partial(archive.open, info), names)


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """Open a member; what only a password opens, or what no image unpacks to, is refused with what to do."""
    if info.flag_bits & _ENCRYPTED:
        what = "It is encrypted."
        raise BadRequest(what, "Unpack the zip file with its password, and import the folder.")
    if info.file_size > _LARGE and info.file_size > _DENSE * info.compress_size:
        what = (
            f"It unpacks from {info.compress_size >> 20} MB to {info.file_size >> 20} MB, as no image does."
        )
        raise BadRequest(what, "If you trust it, unpack the zip file and import the folder.")
    return archive.open(info)


def _listed(source: Path) -> Iterator[SourceFile]:
    """Yield what a DICOMDIR names (PS3.10 8, PS3.3 F.3.2.2); names may differ in case from the medium's."""
    root = source.parent
    present = _on_medium(root)
    for name in _named(str(source), partial(_open, source)):
        path = present.get(name.upper())
        yield _plain(path, root) if path else SourceFile.of(name, "", None)


def _on_medium(root: Path) -> dict[str, Path]:
    return {str(path.relative_to(root)).upper(): path for path in root.rglob("*") if path.is_file()}


def _lacking(
    name: str, open_it: _Opening, present: Collection[str], within: str = ""
) -> Iterator[SourceFile]:
    """Yield what a DICOMDIR names of the medium that it lies on, and is not there."""
    try:
        named = list(_named(name, open_it))
    except BadRequest as error:
        yield SourceFile.of(within + name, "", partial(_fail, error))
        return
    yield from (SourceFile.of(within + each, "", None) for each in named if each.upper() not in present)


def _named(name: str, open_it: _Opening) -> Iterator[str]:
    """Yield the names of files in a DICOMDIR; raises BadRequest where it cannot be read."""
    from pydicom import dcmread

    try:
        with open_it() as stream:
            records = dcmread(stream).get("DirectoryRecordSequence") or []
    except Exception as error:
        why = f"{name} cannot be read as a DICOMDIR ({type(error).__name__})."
        raise BadRequest(why, "Import the folder it lies in: each file in it is looked at.") from error
    for record in records:
        if parts := record.get("ReferencedFileID"):
            yield "/".join([parts] if isinstance(parts, str) else parts)
