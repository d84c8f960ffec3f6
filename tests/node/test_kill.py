"""kill -9 at random moments of ingest: every acknowledged instance is there, and no row is without bytes."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import Level, PacsError
from node.contracts import Outgoing
from node.dimse import Requestor
from sim.phantoms import instances, study
from tests.homes import RawInstance, Received
from tests.running import RunningNode

SENDERS = 3


def phantoms(seed: int, count: int) -> Iterator[RawInstance]:
    """Yield small instances, two in a study, and now and then one that is large enough to be spilled."""
    for number in range(count):
        size = 6 << 20 if number % 40 == 7 else 40_000
        for made in instances(study(seed, number, instances=2, size=size)):
            file = made.part10()
            syntax = "1.2.840.10008.1.2.1"
            yield RawInstance(made.SOPClassUID, made.SOPInstanceUID, syntax, file[made.data_set_offset :])


class Sender(threading.Thread):
    """Stores phantoms until the node is gone; `acknowledged` is what the node answered success to."""

    def __init__(self, node: RunningNode, seed: int) -> None:
        super().__init__()
        self.node = node
        self.seed = seed
        self.acknowledged: dict[str, bytes] = {}

    def run(self) -> None:
        sent: dict[str, bytes] = {}

        def remembered() -> Iterator[Outgoing]:
            for instance in phantoms(self.seed, 500):
                sent[instance.SOPInstanceUID] = instance.data
                yield instance

        try:
            for answer in Requestor(f"CT{self.seed}", "127.0.0.1", self.node.port, "ALPHA").store(
                remembered()
            ):
                if answer.status == 0:
                    self.acknowledged[answer.SOPInstanceUID] = sent[answer.SOPInstanceUID]
        except PacsError:
            pass  # The node was killed, which is what this is about.


def kill_in_the_middle(node: RunningNode, seed: int, after: float) -> dict[str, bytes]:
    """Send until the node is killed; return what it had acknowledged."""
    senders = [Sender(node, seed * SENDERS + number) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    senders[0].join(timeout=after)
    node.kill()
    for sender in senders:
        sender.join()
    return {uid: data for sender in senders for uid, data in sender.acknowledged.items()}


def held_by(node: RunningNode) -> dict[str, bytes]:
    """Return everything the node lists, each instance as a C-GET brings it."""
    peer = Requestor("READER", "127.0.0.1", node.port, "ALPHA")
    found: dict[str, bytes] = {}
    listed = 0
    level = {"00080052": {"vr": "CS", "Value": [Level.STUDY]}}
    uid = {"0020000D": {"vr": "UI"}, "00201208": {"vr": "IS"}}
    for answer in list(peer.find({**level, **uid})):
        listed += int(answer["00201208"]["Value"][0])
        received = Received()
        result = peer.get({**level, "0020000D": answer["0020000D"]}, received)
        assert (result.status, result.failed) == (0x0000, 0), "a row has no bytes"
        found |= {instance.SOPInstanceUID: instance.data for instance in received.instances}
    assert len(found) == listed
    return found


def survive(tmp_path: Path, rounds: int, seed: int) -> None:
    """Kill and restart one node so many times; after each, compare what it has with what it acknowledged."""
    chance = random.Random(seed)
    node = RunningNode(tmp_path / "home")
    acknowledged: dict[str, bytes] = {}
    for number in range(rounds):
        node.start()
        acknowledged |= kill_in_the_middle(node, seed + number, chance.uniform(0.05, 1.0))
    node.start()
    try:
        found = held_by(node)
    finally:
        assert node.stop() == 0
    lost = [uid for uid in acknowledged if found.get(uid) != acknowledged[uid]]
    assert acknowledged
    assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged instances are lost or changed"


def test_acknowledged_instances_survive_kill_9(tmp_path: Path) -> None:
    survive(tmp_path, rounds=4, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_acknowledged_instances_survive_a_hundred_kills(tmp_path: Path, seed: int) -> None:
    survive(tmp_path, rounds=10, seed=1000 + 100 * seed)
