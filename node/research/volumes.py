"""Released files as an exchange medium has them: folders and names of PS3.10, and a DICOMDIR beside them.

The DICOMDIR is made from headers alone; the files themselves are put in place by hard links, so that a large
release is not copied.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from catalog import Contradiction
from node.medium import DICOMDIR, INVENTED, Medium

_MOST: Final = 10_000
"""Instances of one DICOMDIR; a larger release has several, each in a folder of its own."""


def arrange(files: Sequence[tuple[str, Path]], into: Path) -> dict[str, str]:
    """Put files into a folder and write its DICOMDIR; return the new name of each name.

    Names are `subject/study/series/instance.dcm`, sorted. What no directory record can be made for keeps its
    name, beside the DICOMDIR.
    """
    volumes = list(_volumes(files))
    names: dict[str, str] = {}
    for number, volume in enumerate(volumes, 1):
        below = f"VOL{number:03}" if len(volumes) > 1 else ""
        names |= {
            name: f"{below}/{new}" if below else new for name, new in _one(volume, into / below).items()
        }
    return names


def link(source: Path, target: Path) -> None:
    """Have a file under another name too; a copy where the file system knows no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _volumes(files: Sequence[tuple[str, Path]]) -> Iterator[list[tuple[str, Path]]]:
    """Yield the files in volumes; no study is divided."""
    volume: list[tuple[str, Path]] = []
    for _, grouped in groupby(files, key=lambda file: file[0].rsplit("/", 2)[0]):
        study = list(grouped)
        if volume and len(volume) + len(study) > _MOST:
            yield volume
            volume = []
        volume += study
    if volume:
        yield volume


def _one(files: Sequence[tuple[str, Path]], into: Path) -> dict[str, str]:
    from pydicom import dcmread

    into.mkdir(parents=True, exist_ok=True)
    names: dict[str, str] = {}
    added: dict[str, tuple[str, Path]] = {}
    known = set(INVENTED.values())
    with closing(Medium()) as medium:
        for name, path in files:
            header = dcmread(path, stop_before_pixels=True)
            known |= _texts(header)
            if uid := medium.add(header):
                added[uid] = (name, path)
            else:
                link(path, into / name)
                names[name] = name
        if added:
            placed = medium.write(into)
            _check_directory(into / DICOMDIR, known)
            for uid, place in placed.items():
                name, path = added[uid]
                names[name] = place
                link(path, into / place)
    return names


def _check_directory(path: Path, known: set[str]) -> None:
    """Make sure that a DICOMDIR says nothing that is in none of its files.

    Raises:
        Contradiction: it does.
    """
    from pydicom import dcmread

    for record in dcmread(path).DirectoryRecordSequence:
        if not _texts(record) <= known:
            raise Contradiction(
                "The DICOMDIR says more than its files do.", "Export to a zip file or archive."
            )


def _texts(dataset: Any) -> set[str]:
    """Return the values at the top of a data set but those of the File-set's own group."""
    return {
        str(element.value)
        for element in dataset
        if element.tag.group != 4 and not isinstance(element.value, bytes)
    }
