"""The DIMSE engine: associations (PS3.8), messages (PS3.7) and the services on them (PS3.4)."""

from .acceptor import DimseServer
from .limits import Limits
from .part10 import Part10File
from .reencode import reencode
from .requestor import Find, Requestor, Retrieved, Sent

__all__ = ["DimseServer", "Find", "Limits", "Part10File", "Requestor", "Retrieved", "Sent", "reencode"]
