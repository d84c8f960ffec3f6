"""The composition root: opens one node from its home folder, runs it, and closes it again.

Only here are parts constructed and threads given to background work; every other room is handed what it
needs, so that a simulator can build the same node on a clock of its own.
"""

from .archive import Archive
from .node import Node
from .opening import open_node
from .rebuilding import bytes_to_read, rebuild

__all__ = ["Archive", "Node", "bytes_to_read", "open_node", "rebuild"]
