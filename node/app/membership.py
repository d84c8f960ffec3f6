"""The grid of a node, composed: what the configuration says, and what the node gives and is told."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from catalog import Clock
from federation.links.gate import Gate, Visit
from federation.links.roll import Alarm
from federation.links.server import Register
from federation.links.session import News
from federation.trust.rows import Tables
from node.audit import AuditLog
from node.grid import IDENTITY, Grid, Outside, Settings
from node.journal import Journal
from node.keepsake import Keepsake
from node.sections import Config

logger = logging.getLogger(__name__)
_NOTED: Final = 500


def make_grid(
    home: Path,
    config: Config,
    journal: Journal,
    audit: AuditLog,
    clock: Clock,
    stop: threading.Event,
    news: Callable[[Gate], News],
    services: Callable[[Gate], tuple[Register, ...]],
) -> Grid:
    """Return the node's grid; it does nothing before `start`."""
    noted: deque[tuple[str, ...]] = deque(maxlen=_NOTED)

    def note(visit: Visit) -> None:
        asker = visit.asker
        detail = {
            "direction": visit.direction,
            "call": visit.method,
            "node_id": visit.node_id,
            "site": visit.site,
            "request": asker.request_id,
            "user": asker.pseudonym,
            "role": asker.role,
            "purpose": asker.purpose,
            "ae": asker.ae_title,
        }
        # What the node asks for itself, again and again, is told once for each request id and call.
        name = (visit.direction, visit.node_id, visit.method, asker.request_id, visit.outcome)
        if asker.role != "node" or name not in noted:
            audit.record("grid", None, visit.outcome, detail)
            noted.append(name)

    def tell(alarm: Alarm) -> None:
        logger.warning("%s %s", alarm.what, alarm.next)
        audit.record("alarm", None, alarm.kind, {"node_id": alarm.node_id, "what": alarm.what})

    outside = Outside(clock, time.monotonic, spawn, note, tell, stop, news, services)
    tables = Tables(journal.table)
    Keepsake(home / IDENTITY, tables).restore()
    return Grid(home, grid_settings(config), tables, outside)


def spawn(name: str, run: Callable[[], None]) -> None:
    """Run something in a thread of its own; what fails is logged."""

    def guarded() -> None:
        try:
            run()
        except Exception:
            logger.exception("The thread %s of the grid failed", name)

    threading.Thread(target=guarded, name=f"grid {name}", daemon=True).start()


def grid_settings(config: Config) -> Settings:
    """Return what the configuration says about the grid."""
    grid, node = config.grid, config.node
    return Settings(
        node_id=node.node_id,
        name=node.name,
        site=grid.site,
        ae_titles=(node.ae_title,),
        host=grid.host,
        port=grid.port or -1,
        join_port=grid.join_port or -1,
        door_port=grid.door_port or -1,
        addresses=grid.addresses,
        join_address=grid.join_address,
        door_address=grid.door_address,
        is_dial_only=grid.is_dial_only,
        proxy=grid.proxy,
        discovery=grid.discovery,
    )
