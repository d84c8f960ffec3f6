"""The web door: DICOMweb (PS3.18) over HTTP, written once for every archive, peer and project."""

from .api import Backing, Remembered
from .doorkeeper import Doorkeeper
from .gate import Gate, LoopbackGate, Refused
from .pages import Pages
from .server import Roots, WebLimits, WebServer

__all__ = [
    "Backing",
    "Doorkeeper",
    "Gate",
    "LoopbackGate",
    "Pages",
    "Refused",
    "Remembered",
    "Roots",
    "WebLimits",
    "WebServer",
]
