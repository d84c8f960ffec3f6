"""Hospitals that keep copies for each other, as processes; what a test asks of their copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from node.control import ask
from sim.phantoms import instances, study
from tests.grid import GridNode
from tests.running import dcmtk, until

KEEPS = ("catalog", "find_live", "retrieve", "host_replicas")


def hospitals(home: Path, *names: str, **environment: str) -> list[GridNode]:
    """Start nodes in one grid, the first its authority; each may keep copies of the first one's studies."""
    nodes = [GridNode(home / name, name) for name in names]
    for node in nodes:
        node.env |= environment
        node.start(**node.env)
    first, *others = nodes
    for other in others:
        first.admit(other, "replica-peer")
    return nodes


def sent(
    node: GridNode, folder: Path, seed: int, number: int, size: int = 20_000, exit_code: int | None = 0
) -> tuple[str, list[Path]]:
    """Store a study, and expect how that ends, or anything; return its UID and files."""
    described = study(seed, 0, instances=number, size=size)
    folder.mkdir(parents=True)
    paths = []
    for instance in instances(described):
        paths.append(folder / f"{instance.SOPInstanceUID}.dcm")
        paths[-1].write_bytes(instance.part10())
    to = ("-aec", node.ae_title, "127.0.0.1", str(node.port))
    dcmtk("storescu", "-xe", *to, *map(str, paths), exit_code=exit_code)
    return described.StudyInstanceUID, paths


def state(node: GridNode) -> Any:
    """Return how a node's copies stand."""
    return ask(node.home, "copies")


def are_met(node: GridNode, studies: int, rule: str = "all") -> bool:
    """Say whether so many studies have all copies that a rule asks for, and none lacks any."""
    row = state(node)["studies"].get(rule, {"met": 0, "lacking": 0})
    return bool(row == {"met": studies, "lacking": 0})


def is_done(node: GridNode, rule: str = "all") -> bool:
    """Say whether each of its studies has all copies, and everything else is told."""
    said = state(node)["studies"].get(rule, {"met": 0, "lacking": 0})
    studies = ask(node.home, "status")["archive"]["studies"]
    moving = [row for row in ask(node.home, "transfers") if row["standing"] not in ("done", "cancelled")]
    return bool(said == {"met": studies, "lacking": 0} and not moving)


def kept(node: GridNode) -> int:
    """Return how many objects a node keeps for others."""
    return int(state(node)["kept_for_others"]["objects"])


def wait_until_met(node: GridNode, studies: int, rule: str = "all", seconds: float = 30.0) -> None:
    """Wait until every study has its copies."""
    until(lambda: are_met(node, studies, rule), seconds)
