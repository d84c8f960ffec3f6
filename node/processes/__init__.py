"""Several processes of one node: gateways that talk to devices, and the one that writes the catalogs."""

from .client import RemoteAdmission, WriterClient
from .gateway_catalog import GatewayCatalog
from .ledger import Ledger
from .wire import Beat, Call, Failure, Orders
from .writer import WriterService

__all__ = [
    "Beat",
    "Call",
    "Failure",
    "GatewayCatalog",
    "Ledger",
    "Orders",
    "RemoteAdmission",
    "WriterClient",
    "WriterService",
]
