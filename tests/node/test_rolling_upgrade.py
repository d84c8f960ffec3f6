"""Twelve hospitals are upgraded one after another, and back, while their devices go on: nothing is lost."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from catalog import PacsError
from tests.grid import GridNode
from tests.homes import Peer, RawInstance, attribute, phantoms
from tests.running import PEERPACS, until
from tests.workstation import ask, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

NAMES = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
]
BEFORE = """
import sys
import federation.links.roll as roll
roll.PROTOCOL -= 1
from node.cli import main
main(sys.argv[1:])
"""
OLD = (sys.executable, "-c", BEFORE)
"""A node that says, and believes, that it is of the version before."""
PATIENCE = 120.0
"""Seconds within which a device that comes again must have been served, however slow the machine is."""


class Devices:
    """One device for each hospital: what is refused is sent again, as modalities do, and told here."""

    def __init__(self, nodes: list[GridNode]) -> None:
        self.away = ""
        self.stored: dict[str, set[str]] = {node.name: set() for node in nodes}
        self.retries = 0
        self.complaints: list[str] = []
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(node, 1000 + at)) for at, node in enumerate(nodes)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Finish what is under way."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, node: GridNode, seed: int) -> None:
        for number in count():
            sent = phantoms(seed, number, instances=1, size=4000)
            uid = str(attribute(sent[0], "StudyInstanceUID"))
            began = time.monotonic()
            while not self._is_done(node, sent, uid):
                self.retries += 1
                if time.monotonic() > began + PATIENCE:
                    self.complaints.append(f"{node.name} did not take {uid} within {PATIENCE} s")
                    return
                time.sleep(0.5)
            self.stored[node.name].add(uid)
            if self._is_over.wait(2.0):
                return

    def _is_done(self, node: GridNode, sent: list[RawInstance], uid: str) -> bool:
        """Store and find; say whether both went well, and complain where no upgrade excuses it."""
        away, device = self.away, Peer.at(node.port, node.ae_title)
        try:
            statuses = device.store(*sent)
            found = device.find(StudyInstanceUID=uid)
        except (PacsError, OSError) as error:
            if node.name not in (away, self.away):
                self.complaints.append(f"{node.name}, which is not away: {error}")
            return False
        if (statuses, len(found)) != ([0] * len(sent), 1):
            self.complaints.append(f"{node.name}: {statuses}, {len(found)} found")
        return True


@pytest.fixture
def twelve(tmp_path: Path) -> Iterator[list[GridNode]]:
    """Twelve nodes of the version before; alpha follows all others, and they follow alpha."""
    nodes = [GridNode(tmp_path / name, name) for name in NAMES]
    for node in nodes:
        node.program = OLD
        node.start(**node.env)
    for other in nodes[1:]:
        nodes[0].admit(other)
        other.grant(nodes[0])
    yield nodes
    for node in nodes:
        if node.process is not None:
            node.stop()


def _replace(node: GridNode, program: tuple[str, ...], devices: Devices) -> None:
    """Upgrade a node as its admin does: drain, stop, start what is new."""
    devices.away = node.name
    node.say("drain", "--wait", "60")
    node.stop()
    node.program = program
    node.start(**node.env)
    devices.away = ""


def _seen(node: GridNode) -> set[str]:
    return {uid for uid, _ in rows(ask(node))}


def _nothing_is_lost(nodes: list[GridNode], devices: Devices) -> None:
    alpha, *others = nodes
    for other in others:
        until(lambda other=other: alpha.is_connected(other), PATIENCE)  # type: ignore[misc]
    stored = {name: set(uids) for name, uids in devices.stored.items()}
    assert all(stored.values())
    until(lambda: set().union(*stored.values()) <= _seen(alpha), PATIENCE)
    for other in others:
        until(lambda other=other: stored["alpha"] | stored[other.name] <= _seen(other), PATIENCE)  # type: ignore[misc]


def test_twelve_nodes_are_upgraded_one_after_another_and_back_under_load(twelve: list[GridNode]) -> None:
    devices = Devices(twelve)
    try:
        for program in ((PEERPACS,), OLD):
            for node in twelve:
                _replace(node, program, devices)
                assert not devices.complaints
            _nothing_is_lost(twelve, devices)
    finally:
        devices.end()
    assert not devices.complaints
    _nothing_is_lost(twelve, devices)
