"""Routing: standing rules that send on what becomes complete, and that fetch what will be wanted."""

from .prefetching import Prefetch
from .routes import Router, Routing

__all__ = ["Prefetch", "Router", "Routing"]
