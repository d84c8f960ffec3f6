"""Has msgspec learn all structs before there are threads.

msgspec 0.22 learns a struct's fields when it first meets it, and two threads that have it learn the same one
at once crash the process (a segmentation fault). Whoever is about to make threads, or has just imported rows
and messages beside them, calls this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec


def learn_structs() -> None:
    """Have every struct that is defined by now learnt; some 15 ms the first time."""
    for struct in _below(msgspec.Struct):
        # A generic one cannot be read without its parameters, so nobody reads it.
        if not getattr(struct, "__parameters__", ()):
            msgspec.json.Decoder(struct)


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for struct in kind.__subclasses__():
        yield struct
        yield from _below(struct)
