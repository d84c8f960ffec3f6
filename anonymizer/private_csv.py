"""Reads TCIA's knowledge base of private attributes (PTKB), as downloaded, into a policy's private list.

A row of the CSV file names an element by how it is reached, `(0029,"SIEMENS CSA HEADER",10)` or, within
sequences, `(300a,00b0)[<0>](300d,"TOMO_HA_01",a7)`, and says what becomes of it. Whatever the file
contradicts itself about is not kept.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

SIGNATURE, VR, DISPOSITION = COLUMNS = ("element_sig_pattern", "vr", "private_disposition")

_STEP = r'\([0-9a-f]{4},(?:[0-9a-f]{4}|"[^"]+",[0-9a-f]{1,2})\)'
_PATH = re.compile(rf"(?:{_STEP}\[<?\d*>?\])*{_STEP}", re.IGNORECASE)
_LAST = re.compile(r'\(([0-9a-f]{4}),"([^"]+)",([0-9a-f]{1,2})\)$', re.IGNORECASE)
_VRS = re.compile(r"[A-Z]{2}(?:(?: or |/)[A-Z]{2})*")
# Kept as it is, hashed as UIDs are, moved as dates are; what is kept is cleaned by its VR in any case.
_KEPT = {"k": None, "h": {"UI"}, "o": {"DA", "DT"}}
# Deleted, numbers that are dates, not decided.
_GONE = frozenset(("d", "oi", "na", ""))


class UnreadableList(ValueError):
    """The file is no such list; the message says in which line and what was expected."""


class _Row(NamedTuple):
    key: tuple[str, str, str]
    vrs: frozenset[str]
    is_kept: bool


def private_list(path: Path) -> list[dict[str, Any]]:
    """The rows of `private.list` for everything the file keeps; raises UnreadableList."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(file, path.name))
    except OSError as error:
        raise UnreadableList(f"{path.name} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UnreadableList(f"{path.name} is not UTF-8: save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise UnreadableList(f"{path.name} is not CSV: {error}.") from error
    kept: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        kept[row.key] |= row.vrs
    gone = {row.key for row in rows if not row.is_kept}
    return [
        {"group": group, "creator": creator, "element": element, "vr": "/".join(sorted(vrs))}
        for (group, creator, element), vrs in sorted(kept.items())
        if (group, creator, element) not in gone
    ]


def _rows(lines: Iterable[str], name: str) -> Iterator[_Row]:
    reader = csv.reader(lines)
    header = [title.strip().casefold() for title in next(reader, [])]
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise UnreadableList(
            f"{name}, line 1: there is no column {missing[0]!r}; it needs {', '.join(COLUMNS)}."
        )
    for cells in reader:
        if not any(cells):
            continue
        where = f"{name}, line {reader.line_num}"
        if len(cells) != len(header):
            raise UnreadableList(f"{where}: it has {len(cells)} cells, and the header has {len(header)}.")
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        read = _row(row[SIGNATURE], row[VR], row[DISPOSITION].casefold(), where)
        if read is not None:
            yield read


def _row(signature: str, vr: str, disposition: str, where: str) -> _Row | None:
    """What one row says; None if it is about a standard attribute, which the policy's table is for."""
    if not _PATH.fullmatch(signature):
        expected = '(gggg,"CREATOR",ee) in hexadecimal digits'
        raise UnreadableList(f"{where}: {signature[:60]!r} names no element; it is written as {expected}.")
    if disposition not in _KEPT and disposition not in _GONE:
        known = "k (keep), h (hash), o (offset), oi, d (delete) or na"
        raise UnreadableList(f"{where}: {disposition[:20]!r} is no disposition; it is {known}.")
    last = _LAST.search(signature)
    if last is None:
        return None
    group, creator, element = last[1].lower(), last[2].strip(), last[3].lower().zfill(2)
    if int(group, 16) % 2 == 0:
        raise UnreadableList(f"{where}: ({group}) is an even group, which has no private elements.")
    key = (group, creator, element)
    if disposition in _GONE:
        return _Row(key, frozenset(), False)
    if not _VRS.fullmatch(vr):
        raise UnreadableList(f"{where}: {vr[:20]!r} is no VR; it is two capital letters, as in LO.")
    vrs = frozenset(re.split(r" or |/", vr))
    wanted = _KEPT[disposition]
    return _Row(key, vrs, wanted is None or vrs <= wanted)
