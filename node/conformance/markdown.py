"""Markdown as this page needs it: tables with numbers, and lists of UIDs by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.uid import UID


def table(number: str, title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a numbered table; a cell must not break its row, so bars and line ends are taken care of."""
    lines = [f"**Table {number}. {title}**", "", _row(heads), "|" + "---|" * len(heads)]
    return "\n".join([*lines, *map(_row, rows)]) + "\n"


def _row(cells: Sequence[object]) -> str:
    told = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
    return "| " + " | ".join(told) + " |"


def named(uid: str) -> str:
    """Return the name of a UID in PS3.6, as far as it is known."""
    return str(UID(uid).name)


def tag(text: str) -> str:
    """Return eight hexadecimal digits as a tag is written."""
    return f"({text[:4]},{text[4:]})"


def yes(is_so: bool) -> str:
    """Return Yes or No."""
    return "Yes" if is_so else "No"
