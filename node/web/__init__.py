"""The web door: DICOMweb (PS3.18) over HTTP, written once for every archive, peer and project."""

from .gate import Gate, LoopbackGate, Refused, Right
from .server import Roots, WebLimits, WebServer

__all__ = ["Gate", "LoopbackGate", "Refused", "Right", "Roots", "WebLimits", "WebServer"]
