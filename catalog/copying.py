"""A hot copy of an LMDB environment, and putting one that is damaged aside."""

from __future__ import annotations

import os
import time
from pathlib import Path

import lmdb

from .errors import NotFound
from .log import read_head
from .model import Head
from .rows import TOTALS_CODEC
from .soundness import DATA
from .truth import META, Environment, translated


def copy_environment(folder: Path, target: Path) -> None:
    """Copy an environment as it is at one moment, without its free pages; others may go on writing to it.

    Its file keeps growing while the copy is made, because what is being read is not used again.

    Raises:
        NotFound: there is none.
        Damaged: it cannot be read.
        OutOfSpace: the target's disk is full.
    """
    if not (folder / DATA).exists():
        raise NotFound(f"There is no database in {folder}.", "See: peerpacs check")
    target.mkdir(parents=True, exist_ok=True)
    try:
        with lmdb.open(os.fspath(folder), readonly=True, readahead=True, max_readers=2048) as environment:
            environment.copy(os.fspath(target), compact=True)
    except lmdb.Error as error:
        raise translated(error) from error
    fd = os.open(target / DATA, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def head_of_copy(folder: Path) -> tuple[Head, int]:
    """Return where the change log of a copied catalog ends, and how many instances it answers for.

    Raises:
        Damaged: it cannot be read.
    """
    environment = Environment(folder, is_read_only=True, has_lock=False)
    try:
        with environment.reading() as reading:
            stored = reading.get(META + b"totals")
            return read_head(reading), TOTALS_CODEC.unpack(stored).instances if stored else 0
    finally:
        environment.close()


def set_aside(folder: Path, now: float) -> Path:
    """Give a damaged environment another name, so that nothing overwrites it; return that."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    aside = folder.with_name(f"{folder.name}.damaged-{stamp}")
    folder.rename(aside)
    return aside
