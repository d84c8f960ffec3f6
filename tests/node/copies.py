"""Hospitals that keep copies for each other, as processes; what a test asks of their copies."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from catalog.log_reading import LogReading
from catalog.truth import Environment
from federation.mirror import Mirror
from federation.owners import Owner
from node.control import ask
from node.copies.store import CopyStore
from node.storage import Kept
from node.storage.replay import items
from sim.phantoms import instances, study
from tests.federation.grids import known
from tests.grid import GridNode
from tests.node.keepers import SMALL
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


def end(nodes: Iterable[GridNode]) -> None:
    """Stop the hospitals that run."""
    for node in nodes:
        if node.process is not None:
            node.stop()


def keeping_pair(home: Path, **environment: str) -> Iterator[tuple[GridNode, GridNode]]:
    """Yield alpha, and beta that keeps copies of all its studies; stop them."""
    alpha, beta = nodes = hospitals(home, "alpha", "beta", **environment)
    try:
        alpha.say("copies", "add", "all", "--copies", "2")
        yield alpha, beta
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


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


def wait_until_met(node: GridNode, studies: int, rule: str = "all", seconds: float = 60.0) -> None:
    """Wait until every study has its copies."""
    until(lambda: are_met(node, studies, rule), seconds)


def held(node: GridNode) -> set[bytes]:
    """Return the SHA-256 of everything whole that lies in a node's own archive."""
    paths = (node.home / "archives" / "main" / "objects").glob("??/*.tar")
    found = (item for path in paths for item in items(path, 0))
    return {item.holding.sha256 for item in found if isinstance(item, Kept)}


def proved(node: GridNode, owner: GridNode, folder: Path) -> set[bytes]:
    """Return the SHA-256 of everything whole that a node keeps for another one."""
    shutil.copytree(node.home / "copies", folder)
    store, name = CopyStore(folder, time.time, SMALL), Owner(owner.node_id, "main").name
    rows = [(study, row.holding.sha256) for study, rows in store.listing(name) for row in rows]
    whole = {sha256 for study, sha256 in rows if store.prove(name, study, sha256, b"")}
    store.close()
    return whole


def are_equal(owner: GridNode, reader: GridNode) -> bool:
    """Say whether a reader has exactly the rows of the owner's catalog, by the digests of both."""
    mirror = Mirror(reader.home / "grid" / "mirror", clock=time.time, is_read_only=True)
    catalog = Environment(owner.home / "archives" / "main" / "catalog", is_read_only=True)
    name = Owner(owner.node_id, "main").name
    try:
        found = [(number, at[1]) for number, at in mirror.sources().items() if at[0] == name]
        if not found:
            return False
        [(number, share)] = found
        with LogReading(catalog.reading, share) as log:
            return known(mirror.digests(number)) == known(log.digests())
    finally:
        mirror.close()
        catalog.close()


def is_well(alpha: GridNode, beta: GridNode, folder: Path) -> None:
    """Make sure that every copy is there and whole, and that both know the same."""
    until(lambda: is_done(alpha), 90)
    until(lambda: kept(beta) == ask(alpha.home, "status")["archive"]["instances"], 30)
    until(lambda: are_equal(alpha, beta), 30)
    assert proved(beta, alpha, folder) == held(alpha)
    alpha.cli("verify")


def damage(database: Path) -> None:
    """Overwrite every second page of a database from the first data page on, as a bad disk does."""
    data = database / "data.mdb"
    pages = data.read_bytes()
    with data.open("r+b") as file:
        for at in range(2 * 4096, len(pages), 2 * 4096):
            file.seek(at)
            file.write(bytes(4096))
