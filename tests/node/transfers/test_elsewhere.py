"""`peerpacs worker`: what it sends is what the node would have sent, and it needs nothing but a key."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.app import Node
from node.audit import read
from node.contracts import Device
from node.transfers.wires import make_keys
from sim.ports import free_port
from tests.homes import Peer, RawInstance, attribute, phantoms, serving
from tests.running import PEERPACS, until


@pytest.fixture
def alpha(tmp_path: Path) -> Iterator[Node]:
    """Yield a node that sends nothing itself."""
    transfers: dict[str, object] = {"workers": 0, "listen": f"tcp://127.0.0.1:{free_port()}"}
    with serving(tmp_path / "alpha", transfers=transfers) as node:
        yield node


@contextlib.contextmanager
def worker(alpha: Node, folder: Path, key: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a folder that has nothing of the node but a key."""
    folder.mkdir()
    shutil.copy(key or alpha.home / "secrets" / "worker.key", folder / "worker.key")
    words = [PEERPACS, "worker", "--connect", alpha.config.transfers.listen, "--key", "worker.key"]
    pipe = subprocess.PIPE
    env = {name: value for name, value in os.environ.items() if name != "PEERPACS_HOME"}
    process = subprocess.Popen(words, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def by_uid(instances: list[RawInstance]) -> dict[str, bytes]:
    return {one.SOPInstanceUID: one.data for one in instances}


def test_a_worker_elsewhere_sends_what_the_node_would_have_sent(alpha: Node, tmp_path: Path) -> None:
    small, large = phantoms(1, instances=3), phantoms(2, size=9_500_000, instances=1)
    assert set(Peer(alpha).store(*small, *large)) == {0}
    uids = [str(attribute(sent[0], "StudyInstanceUID")) for sent in (small, large)]
    verbs = alpha.desk.verbs()
    verbs["correct"](
        target=uids[0], attributes=["PatientName=MENDED^NAME"], reason="typing error", who="admin"
    )
    with serving(tmp_path / "beta") as beta, worker(alpha, tmp_path / "elsewhere") as process:
        alpha.devices.put(Device(ae_title="ALPHA", address="127.0.0.1", port=beta.ports["dicom"]))
        assert line(process).startswith("ready: 2 workers for tcp://")
        ids = [verbs["forward"](target=uid, destination="ALPHA")["id"] for uid in uids]
        until(lambda: all(verbs["transfer"](id=id)["standing"] == "done" for id in ids))
        for uid in uids:
            assert by_uid(Peer(beta).get(uid)) == by_uid(Peer(alpha).get(uid))
        assert {str(attribute(one, "PatientName")) for one in Peer(beta).get(uids[0])} == {"MENDED^NAME"}
    told = [each for each in read(alpha.home / "audit", "forward") if each.event == "forward"]
    assert sorted(each.detail["completed"] for each in told) == [len(large), len(small)]


def test_a_destination_that_does_not_answer_is_told_to_the_node(alpha: Node, tmp_path: Path) -> None:
    verbs, sent = alpha.desk.verbs(), phantoms(1, instances=2)
    alpha.devices.put(Device(ae_title="AWAY", address="127.0.0.1", port=free_port()))
    assert set(Peer(alpha).store(*sent)) == {0}
    with worker(alpha, tmp_path / "elsewhere") as process:
        assert line(process).startswith("ready")
        uid = str(attribute(sent[0], "StudyInstanceUID"))
        id = verbs["forward"](target=uid, destination="AWAY")["id"]
        until(lambda: "AWAY" in verbs["transfer"](id=id)["why"])
        assert verbs["transfer"](id=id)["standing"] == "waiting"


def test_a_key_of_another_node_opens_nothing_and_says_what_to_look_at(alpha: Node, tmp_path: Path) -> None:
    make_keys(tmp_path / "other" / "transfers.key")
    with worker(alpha, tmp_path / "stranger", tmp_path / "other" / "worker.key") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Nothing answers at tcp://")
        assert "worker.key" in process.stderr.readline()
