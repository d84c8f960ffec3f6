"""The end of what is moved in, for every test of it."""

from __future__ import annotations

from typing import Any

from node.app import Node
from tests.node.routing.homes import ask
from tests.running import until


def over(node: Node, seconds: float = 60.0) -> dict[str, Any]:
    """Return the migration once nothing goes on in it any more."""

    def told() -> Any:
        found = ask(node, "migration", source="OLD")
        return found if found["phase"] in ("done", "stopped") else None

    found: dict[str, Any] = until(told, seconds)
    return found
