"""The files of an import: a folder's, a zip file's, or those that a DICOMDIR names, in a stable order.

What cannot be looked at, and what a DICOMDIR names and its medium lacks, is among them: nothing is left out
unsaid.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, Final, NamedTuple, NoReturn

from catalog import BadRequest, NotFound

_DICOMDIR: Final = "DICOMDIR"
_Opening = Callable[[], AbstractContextManager[IO[bytes]]]


class SourceFile(NamedTuple):
    """One file of an import; `stamp` changes when the file does."""

    name: str
    stamp: str
    open: _Opening | None


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
    for folder, folders, names in os.walk(root, onerror=closed.append):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(names)):
            if path.is_file() or path.is_symlink():
                yield _plain(path, root)
        for path in (Path(folder, name) for name in folders):
            if path.is_symlink():
                why = BadRequest("A link to a folder is not followed.", "Import that folder itself.")
                yield SourceFile(str(path.relative_to(root)), "", partial(_fail, why))
    for error in closed:
        yield SourceFile(str(error.filename), "", partial(_fail, error))
    for path in root.glob("*"):
        if path.name.upper() == _DICOMDIR and path.is_file():
            yield from _lacking(path.name, partial(_open, path), _on_medium(root))


def _fail(error: Exception) -> NoReturn:
    raise error


def _plain(path: Path, root: Path) -> SourceFile:
    try:
        status = path.stat()
        stamp = f"{status.st_size}-{status.st_mtime_ns}"
    except OSError:
        # Opening it will fail too, and say why.
        stamp = ""
    return SourceFile(str(path.relative_to(root)), stamp, partial(_open, path))


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
        yield SourceFile(info.filename, stamp, partial(archive.open, info))
    for info in members:
        folder, _, name = info.filename.rpartition("/")
        if name.upper() == _DICOMDIR:
            at = len(folder) + 1 if folder else 0
            names = [
                each.filename[at:].upper() for each in members if each.filename[:at] == info.filename[:at]
            ]
            yield from _lacking(info.filename, partial(archive.open, info), names)


def _listed(source: Path) -> Iterator[SourceFile]:
    """Yield what a DICOMDIR names (PS3.10 8, PS3.3 F.3.2.2); names may differ in case from the medium's."""
    root = source.parent
    present = _on_medium(root)
    for name in _named(str(source), partial(_open, source)):
        path = present.get(name.upper())
        yield _plain(path, root) if path else SourceFile(name, "", None)


def _on_medium(root: Path) -> dict[str, Path]:
    return {str(path.relative_to(root)).upper(): path for path in root.rglob("*") if path.is_file()}


def _lacking(name: str, open_it: _Opening, present: Collection[str]) -> Iterator[SourceFile]:
    """Yield what a DICOMDIR names of the medium that it lies on, and is not there."""
    try:
        named = list(_named(name, open_it))
    except BadRequest as error:
        yield SourceFile(name, "", partial(_fail, error))
        return
    yield from (SourceFile(each, "", None) for each in named if each.upper() not in present)


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
