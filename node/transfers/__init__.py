"""Transfers: the durable queue of everything that travels, its leases, and the workers that carry it."""

from .model import Item, Kind, Lane, Order, Outcome, SeriesCount, Standing, Transfer, Verdict
from .queue import TransferQueue

__all__ = [
    "Item",
    "Kind",
    "Lane",
    "Order",
    "Outcome",
    "SeriesCount",
    "Standing",
    "Transfer",
    "TransferQueue",
    "Verdict",
]
