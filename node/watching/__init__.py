"""What tells others how a node is: `/metrics`, `/livez`, `/readyz`, and the word to the service manager."""

from .heartbeats import Heartbeats
from .names import MEASURES, Kind, Measure
from .notifying import Watchdog, notify
from .pages import Page, Pages
from .readiness import Check, Readiness
from .server import WatchServer

__all__ = [
    "MEASURES",
    "Check",
    "Heartbeats",
    "Kind",
    "Measure",
    "Page",
    "Pages",
    "Readiness",
    "WatchServer",
    "Watchdog",
    "notify",
]
