"""What `peerpacs check` finds: a line each."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Mark(StrEnum):
    """How a finding counts; only a failure makes the command fail."""

    GOOD = "✓"
    WARNING = "!"
    FAILURE = "✗"


class Finding(NamedTuple):
    """One line of the report; `fix` is empty when all is well."""

    mark: Mark
    what: str
    fix: str = ""
