"""REST for people who script: one table of operations makes router, rights and OpenAPI document."""

from .idempotency import Remembered
from .operation import Backing
from .operations import TABLE
from .router import Lookup, add_api

__all__ = ["TABLE", "Backing", "Lookup", "Remembered", "add_api"]
