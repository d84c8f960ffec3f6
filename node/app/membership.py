"""The grid of a node, composed: what the configuration says, and what the node gives and is told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from catalog import Clock
from federation.links.gate import Visit
from federation.links.roll import Alarm
from federation.trust.rows import Tables
from node.audit import AuditLog
from node.grid import Grid, Outside, Settings
from node.sections import Config
from node.state import State

logger = logging.getLogger(__name__)


def make_grid(
    home: Path, config: Config, state: State, audit: AuditLog, clock: Clock, stop: threading.Event
) -> Grid:
    """Return the node's grid; it does nothing before `start`."""

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
        if asker.role != "node" or visit.outcome != "ok":
            audit.record("grid", None, visit.outcome, detail)

    def tell(alarm: Alarm) -> None:
        logger.warning("%s %s", alarm.what, alarm.next)
        audit.record("alarm", None, alarm.kind, {"node_id": alarm.node_id, "what": alarm.what})

    outside = Outside(clock, time.monotonic, _spawn, note, tell, stop)
    return Grid(home, grid_settings(config), Tables(state.table), outside)


def _spawn(name: str, run: Callable[[], None]) -> None:
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
