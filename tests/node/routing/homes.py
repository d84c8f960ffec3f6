"""Nodes whose `peerpacs.toml` has standing rules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from catalog import Selection
from node.app import Node
from node.contracts import Device, Service
from node.devices import DeviceBook
from node.state import State
from tests.homes import Peer, RawInstance, new_home, phantoms, serving
from tests.running import until

WARD = Device(
    ae_title="WARD", address="127.0.0.1", services=(Service.ECHO, Service.STORE), complete_after=0.3
)


@contextlib.contextmanager
def ruled(
    home: Path, rules: str, ae_title: str = "ALPHA", *, devices: Iterable[Device] = (), **sections: Any
) -> Iterator[Node]:
    """Yield a serving node with rules; what WARD sends is complete at once."""
    if not (home / "peerpacs.toml").exists():
        new_home(home, ae_title, **sections)
        path = home / "peerpacs.toml"
        path.write_text(f"{path.read_text()}\n{rules}\n")
    with State(home / "state") as state:
        for device in (WARD, *devices):
            DeviceBook(state).put(device)
    with serving(home) as node:
        yield node


def sent(node: Node, seed: int = 1, **described: Any) -> tuple[str, list[RawInstance]]:
    """Have WARD store a phantom study; return its UID and instances."""
    made = phantoms(seed, size=4_000, **{"instances": 3, **described})
    assert set(Peer(node, "WARD").store(*made)) == {0}
    [entry] = node.catalog.select(Selection(instances=(made[0].SOPInstanceUID,)))
    return entry.StudyInstanceUID, made


def ask(node: Node, verb: str, **told: Any) -> Any:
    """Return what a verb of the desk answers."""
    return node.desk.verbs()[verb](**told)


def routed(node: Node, rule: str, studies: int = 1) -> dict[str, Any]:
    """Return a route once it has sent so many studies whole."""

    def told() -> Any:
        [found] = [each for each in ask(node, "routes") if each["name"] == rule]
        return found if found["studies"] == studies and not found["lacking"] else None

    found: dict[str, Any] = until(told, 60)
    return found
