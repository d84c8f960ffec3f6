"""Several processes of one node: gateways that talk to devices, and the one that writes the catalogs."""

from .client import WriterClient
from .gateway_catalog import GatewayCatalog
from .writer import Ledger, WriterService

__all__ = ["GatewayCatalog", "Ledger", "WriterClient", "WriterService"]
