"""The DIMSE engine: associations (PS3.8), messages (PS3.7) and the services on them (PS3.4)."""

from .acceptor import DimseServer
from .admission import Admission, CountedAdmission
from .committing import ask_commitment, calling
from .dialing import Peer, shown_certificate
from .limits import Limits
from .part10 import Part10File
from .reencode import reencode
from .relaying import take as take_relayed
from .requestor import Find, Requestor, Retrieved, Sent
from .syntaxes import STORAGE
from .tls import Security

__all__ = [
    "STORAGE",
    "Admission",
    "CountedAdmission",
    "DimseServer",
    "Find",
    "Limits",
    "Part10File",
    "Peer",
    "Requestor",
    "Retrieved",
    "Security",
    "Sent",
    "ask_commitment",
    "calling",
    "reencode",
    "shown_certificate",
    "take_relayed",
]
