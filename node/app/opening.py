"""Opening the node of a home folder."""

from __future__ import annotations

import time
from pathlib import Path

from catalog import Clock
from node.backup import refuse_half_restored
from node.config import load_config
from node.roles.plan import demand_catalog

from .node import Node
from .rebuilding import CATALOG


def open_node(
    home: Path, clock: Clock = time.time, purpose: str = "node", *, catalog: str = CATALOG, only: str = ""
) -> Node:
    """Open the node of a home folder; `purpose` names who works on it, for others that would.

    Raises:
        NotFound: there is no node in that folder.
        BadRequest: its configuration is wrong.
        Busy: another process works on it.
        Damaged: a restore was cut short, or a database is not what was written.
    """
    refuse_half_restored(home)
    config = load_config(home)
    demand_catalog(config, home)
    return Node(home, config, clock, purpose, catalog=catalog, only=only)
