"""Forwarding to an AE: everything arrives once, whatever breaks between, and why it waits is said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from pynetdicom import AE, AllStoragePresentationContexts, evt

from catalog import NotFound
from node.app import Node
from node.archives import Plan
from node.contracts import Device, Service
from node.transfers import Kind, Order, Standing
from sim.ports import free_port
from tests.homes import Peer, RawInstance, phantoms, serving
from tests.node.commandline import CommandLine
from tests.running import RunningNode, until

STUDY = "StudyInstanceUID"


class Receiver:
    """A pynetdicom storage SCP that can be switched on, refuses what it is told to, and may be slow."""

    def __init__(self) -> None:
        self.port = free_port()
        self.stored: list[str] = []
        self.priorities: set[int] = set()
        self.refused: dict[str, int] = {}
        self.pause = 0.0
        self._server: Any = None

    def on(self) -> Receiver:
        ae = AE("CT3")
        ae.supported_contexts = AllStoragePresentationContexts
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        return self

    def off(self) -> None:
        self._server.shutdown()

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        time.sleep(self.pause)
        if uid in self.refused:
            return self.refused[uid]
        self.stored.append(uid)
        self.priorities.add(event.request.Priority)
        return 0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    if receiver._server:
        receiver.off()


@pytest.fixture
def node(tmp_path: Path, receiver: Receiver) -> Iterator[Node]:
    with serving(tmp_path / "home") as node:
        node.devices.put(device(receiver.port))
        yield node


def device(port: int, ae_title: str = "CT3") -> Device:
    return Device(ae_title=ae_title, address="127.0.0.1", port=port, services=(Service.ECHO,))


def store(node: Node, seed: int = 1, count: int = 6, **described: Any) -> list[RawInstance]:
    made = phantoms(seed, instances=count, **described)
    assert set(Peer(node).store(*made)) == {0}
    return made


def study_of(node: Node) -> str:
    return str(Peer(node).find(StudyInstanceUID="")[0][STUDY])


def forward(node: Node, target: str, **how: Any) -> str:
    return str(node.desk.verbs()["forward"](target=target, destination="CT3", **how)["id"])


def shown(node: Node, id: str) -> dict[str, Any]:
    told = node.desk.verbs()["transfer"](id=id)
    assert isinstance(told, dict)
    return told


def wait(node: Node, id: str, standing: str = "done") -> dict[str, Any]:
    def claim() -> dict[str, Any] | None:
        told = shown(node, id)
        return told if told["standing"] == standing else None

    found = until(claim)
    assert isinstance(found, dict)
    return found


def test_a_study_is_forwarded_once_and_whole(node: Node, receiver: Receiver) -> None:
    receiver.on()
    made = store(node)
    told = wait(node, forward(node, study_of(node), lane="now", who="me", reason="second opinion"))
    assert sorted(receiver.stored) == sorted(one.SOPInstanceUID for one in made)
    assert receiver.priorities == {1}
    assert (told["says"], told["done"], told["planned"]) == ("6 instances", 6, 6)


def test_what_waits_says_for_what_and_goes_when_the_receiver_is_there(node: Node, receiver: Receiver) -> None:
    store(node)
    id = forward(node, study_of(node))
    told = until(lambda: shown(node, id) if shown(node, id)["why"] else None)
    assert told["standing"] == "waiting"
    assert "does not answer: Connection refused; next try in" in told["says"]
    receiver.on()
    wait(node, id)
    assert len(receiver.stored) == 6


def test_retry_sends_only_what_was_refused(node: Node, receiver: Receiver) -> None:
    receiver.on()
    made = store(node)
    bad = made[2].SOPInstanceUID
    receiver.refused[bad] = 0xA900
    id = forward(node, study_of(node))
    told = wait(node, id, "failed")
    assert [one["SOPInstanceUID"] for one in told["failures"]] == [bad]
    assert "1 of 6 instances failed" in told["says"]
    assert "A900" in told["says"]
    receiver.refused.clear()
    node.desk.verbs()["retry_transfer"](id=id)
    wait(node, id)
    assert Counter(receiver.stored) == {one.SOPInstanceUID: 1 for one in made}


def test_a_receiver_without_room_gets_the_rest_later(node: Node, receiver: Receiver) -> None:
    receiver.on()
    made = store(node)
    receiver.refused = {one.SOPInstanceUID: 0xA700 for one in made[3:]}
    id = forward(node, study_of(node))
    told = until(lambda: shown(node, id) if shown(node, id)["why"] else None)
    assert "A700" in told["says"]
    assert told["standing"] == "waiting"
    receiver.refused.clear()
    node.desk.verbs()["retry_transfer"](id=id)
    wait(node, id)
    assert Counter(receiver.stored) == {one.SOPInstanceUID: 1 for one in made}


def test_what_arrives_while_a_study_is_sent_goes_with_it(node: Node, receiver: Receiver) -> None:
    receiver.on()
    receiver.pause = 0.1
    made = phantoms(1, instances=8)
    Peer(node).store(*made[:4])
    id = forward(node, study_of(node))
    until(lambda: receiver.stored)
    Peer(node).store(*made[4:])
    assert wait(node, id)["done"] == 8
    assert len(receiver.stored) == len(set(receiver.stored)) == 8


def test_one_instance_that_the_receiver_dies_of_does_not_keep_the_others(
    node: Node, receiver: Receiver
) -> None:
    receiver.on()
    made = store(node)

    def die(event: Any) -> int:
        if event.request.AffectedSOPInstanceUID == made[0].SOPInstanceUID:
            event.assoc.abort()
            return 0xC000
        return Receiver._store(receiver, event)

    receiver._server.unbind(evt.EVT_C_STORE, receiver._store)
    receiver._server.bind(evt.EVT_C_STORE, die)
    id = forward(node, study_of(node))
    told = until(lambda: shown(node, id) if shown(node, id)["why"] else None)
    assert told["standing"] == "waiting"
    assert sorted(receiver.stored) == sorted(one.SOPInstanceUID for one in made[1:])


def test_a_correction_goes_out_with_what_is_forwarded(tmp_path: Path, node: Node, receiver: Receiver) -> None:
    received: list[Any] = []
    receiver.on()
    receiver._server.unbind(evt.EVT_C_STORE, receiver._store)

    def keep(event: Any) -> int:
        received.append(event.dataset)
        return 0

    receiver._server.bind(evt.EVT_C_STORE, keep)
    store(node, count=2)
    study = study_of(node)
    node.desk.verbs()["correct"](target=study, attributes=["PatientID=4711"], reason="test", who="me")
    wait(node, forward(node, study))
    assert {dataset.PatientID for dataset in received} == {"4711"}


def test_a_device_that_is_unknown_or_deaf_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = CommandLine(tmp_path / "home", capsys)
    cli.init()
    cli("forward", "1.2.3", "NOBODY", code=1)
    assert "No device is called 'NOBODY'" in cli.complaint
    cli("devices", "add", "DEAF")
    cli("forward", "1.2.3", "DEAF", code=2)
    assert "without a port" in cli.complaint
    assert cli("transfers") == "Nothing is being sent, and nothing failed.\n"
    cli("transfers", "pause", "ffff", code=1)


def test_the_command_line_leads_a_transfer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], node: Node, receiver: Receiver
) -> None:
    cli = CommandLine(node.home, capsys)
    store(node)
    study = study_of(node)
    id = cli.json("forward", study, "CT3", "--lane", "bulk", "--reason", "test")["id"]
    assert cli.json("transfers", "list")[0]["lane"] == "bulk"
    assert "paused" in cli("transfers", "pause", id[:5])
    assert cli.json("transfers", "show", id)["standing"] == "paused"
    receiver.on()
    assert cli.json("transfers", "raise", id)[0]["lane"] == "now"
    cli("transfers", "resume", id)
    lines = [json.loads(line) for line in cli("transfers", "watch", id, "--json").splitlines()]
    assert lines[-1]["standing"] == "done"
    assert cli("forward", study, "CT3", "--wait").endswith("6 instances\n")
    assert Counter(receiver.stored) == dict.fromkeys(receiver.stored, 2)
    assert "6 instances" in cli("transfers", "list", "--all")


def test_a_node_that_is_killed_in_the_middle_sends_only_the_rest(tmp_path: Path, receiver: Receiver) -> None:
    receiver.on()
    receiver.pause = 0.05
    node = RunningNode(tmp_path / "home")
    node.cli("devices", "add", "CT3", "--address", "127.0.0.1", "--port", str(receiver.port))
    node.start()
    made = phantoms(3, instances=40)
    from node.dimse import Requestor

    for answer in Requestor("PEER", "127.0.0.1", node.port, "ALPHA").store(made):
        assert answer.status == 0
    study = node.json("find")[0]["0020000D"]["Value"][0]
    id = node.json("forward", study, "CT3")["id"]
    until(lambda: len(receiver.stored) >= 10)
    node.kill()
    before = len(receiver.stored)
    assert before < 40
    node.start()
    until(lambda: node.json("transfers", "show", id)["standing"] == "done", 40)
    assert node.stop() == 0
    assert set(receiver.stored) == {one.SOPInstanceUID for one in made}
    again = len(receiver.stored) - len(made)
    assert again <= 3, "only those whose answers were under way, here or to the queue, may go twice"


def test_dcmtk_takes_what_is_forwarded_once_it_is_started(
    node: Node, receiver: Receiver, tmp_path: Path
) -> None:
    made = store(node)
    id = forward(node, study_of(node))
    until(lambda: shown(node, id)["why"])
    folder = tmp_path / "dcmtk"
    folder.mkdir()
    scp = subprocess.Popen(["storescp", "-aet", "CT3", "-od", str(folder), str(receiver.port)])
    try:
        wait(node, id)
        assert len(list(folder.iterdir())) == len(made)
    finally:
        scp.kill()
        scp.wait()


def test_a_device_that_calls_is_tried_at_once(node: Node, receiver: Receiver) -> None:
    store(node)
    id = forward(node, study_of(node))
    until(lambda: shown(node, id)["tries"] == 1)
    node.transfers.hasten(id)
    told = until(lambda: shown(node, id) if shown(node, id)["tries"] == 2 else None)
    receiver.on()
    Peer(node, "CT3").find()
    assert wait(node, id)["ended"] < told["next_try"]


def test_a_device_gets_the_transfer_syntaxes_it_may_have(node: Node, receiver: Receiver) -> None:
    implicit = "1.2.840.10008.1.2"
    seen: set[str] = set()
    receiver.on()

    def keep(event: Any) -> int:
        seen.add(str(event.context.transfer_syntax))
        return 0

    receiver._server.unbind(evt.EVT_C_STORE, receiver._store)
    receiver._server.bind(evt.EVT_C_STORE, keep)
    node.devices.put(replace(device(receiver.port), transfer_syntaxes=(implicit,)))
    store(node)
    wait(node, forward(node, study_of(node)))
    assert seen == {implicit}


def test_transfers_of_one_archive_are_not_seen_from_another(node: Node, receiver: Receiver) -> None:
    store(node)
    study = study_of(node)
    id = forward(node, study)
    node.put_archive(Plan(name="other", ae_titles=("OTHER",)))
    other = node.desk.of("other").verbs()
    assert other["transfers"]() == []
    for verb in ("transfer", "cancel_transfer", "retry_transfer", "raise_transfer"):
        with pytest.raises(NotFound):
            other[verb](id=id)
    with pytest.raises(NotFound):
        other["forward"](target=study, destination="CT3")


def test_the_node_lets_workers_in_where_the_configuration_says(tmp_path: Path, receiver: Receiver) -> None:
    listen = f"tcp://127.0.0.1:{free_port()}"
    with serving(tmp_path / "home", transfers={"listen": listen}) as node:
        keys, out = node.home / "secrets" / "worker.key", tmp_path / "out"
        assert keys.stat().st_mode & 0o777 == 0o600
        words = ["-m", "tests.node.transfers.worker_process", listen, str(out), str(keys)]
        worker = subprocess.Popen([sys.executable, *words], cwd=Path(__file__).parents[3])
        try:
            # None of the node's own workers can deliver to it, and each try is another one's turn.
            order = Order(kind=Kind.DELIVER, destination="ELSEWHERE", StudyInstanceUID="1.2")
            id = node.transfers.enqueue(order).id

            def is_done() -> bool:
                node.transfers.heard_from("ELSEWHERE")
                return node.transfers.find(id).standing is Standing.DONE

            until(is_done)
        finally:
            worker.kill()
            worker.wait()
        assert len(out.read_text().splitlines()) == 20
