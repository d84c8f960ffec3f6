"""Attributes of modules and classes that are others for a while, or for good."""

from __future__ import annotations

from typing import Any


class Swaps:
    """What was put in the place of what; `undo` puts all back."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, str, Any]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Have an attribute be this."""
        self._known.append((owner, name, vars(owner)[name]))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Have them be what they were."""
        while self._known:
            owner, name, value = self._known.pop()
            setattr(owner, name, value)
