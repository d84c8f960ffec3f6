"""The DIMSE engine: associations (PS3.8), messages (PS3.7) and the services on them (PS3.4)."""

from .acceptor import DimseServer
from .dialing import shown_certificate
from .limits import Limits
from .part10 import Part10File
from .reencode import reencode
from .requestor import Find, Requestor, Retrieved, Sent
from .tls import Security

__all__ = [
    "DimseServer", "Find", "Limits", "Part10File", "Requestor", "Retrieved", "Security", "Sent", "reencode",
    "shown_certificate",
]  # fmt: skip
