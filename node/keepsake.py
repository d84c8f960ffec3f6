"""What a node has to know to find its grid again when its state is lost, kept beside its identity.

The signed documents, who is in the grid and where, and what this node shares and grants. A copy: it is read
only where the state knows of no grid at all, and its documents count only as far as their signatures do.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import msgspec

from catalog import PacsError
from federation.trust.credentials import NODE_FILE
from federation.trust.keys import read_secret, write_secret
from federation.trust.policy import Grant, Share
from federation.trust.rows import Departed, Document, PeerRow, Rows, Tables

logger = logging.getLogger(__name__)

FILE: Final = "grid.rows"
_Packed = list[tuple[str, bytes, msgspec.Raw]]


class Keepsake:
    """One node's; `step` from one thread."""

    def __init__(self, folder: Path, tables: Tables) -> None:
        """`folder` is that of the node's identity."""
        self._folder = folder
        self._documents = tables.documents
        self._kept: dict[str, tuple[Rows[Any], type]] = {
            "documents": (tables.documents, Document),
            "peers": (tables.peers, PeerRow),
            "departed": (tables.departed, Departed),
            "shares": (tables.shares, Share),
            "grants": (tables.grants, Grant),
        }
        self._written = b""

    def restore(self) -> bool:
        """Give a state that knows of no grid what it knew of this node's; say whether there was anything.

        A file that cannot be read is left alone, and told of in the log.
        """
        if self._knows_a_grid() or not all((self._folder / each).exists() for each in (FILE, NODE_FILE)):
            return False
        try:
            rows = msgspec.msgpack.decode(read_secret(self._folder / FILE), type=_Packed)
            found: list[tuple[str, bytes, Any]] = [
                (name, key, msgspec.msgpack.decode(row, type=self._kept[name][1])) for name, key, row in rows
            ]
        except (PacsError, msgspec.MsgspecError, KeyError) as error:
            logger.error("%s cannot be read: %s", self._folder / FILE, error)
            return False
        for name, key, row in found:
            self._kept[name][0].put(key, row)
        logger.warning("state/ knew nothing of this node's grid; what lay beside its identity counts again.")
        return True

    def _knows_a_grid(self) -> bool:
        return next(iter(self._documents.scan()), None) is not None

    def step(self) -> None:
        """Write down what is new, as long as the node is in a grid; what it knew is never made nothing."""
        if not (self._folder / NODE_FILE).exists() or not self._knows_a_grid():
            return
        rows = [(name, key, row) for name, (table, _) in self._kept.items() for key, row in table.scan()]
        if (packed := msgspec.msgpack.encode(rows)) != self._written:
            write_secret(self._folder / FILE, packed)
            self._written = packed
