"""A node of several processes: gateways that devices talk to, one that writes; any of them may die."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from node.app import open_node
from node.dimse import Requestor
from tests.homes import Received, edited, new_home, phantoms
from tests.node.dimse.wire import Raw, associate
from tests.running import RunningNode, dcmtk, running, until

ASSOCIATE_AC = 2
THREE = {"PEERPACS__PROCESSES__COUNT": "3"}


def requestor(node: RunningNode, ae_title: str = "CT", called: str = "ALPHA") -> Requestor:
    return Requestor(ae_title, "127.0.0.1", node.port, called)


def gateways(node: RunningNode) -> list[int]:
    """Return the processes that talk to devices."""
    assert node.process is not None
    children = Path(f"/proc/{node.process.pid}/task").glob("*/children")
    pids = [int(word) for path in children for word in path.read_text().split()]
    found = []
    for pid in pids:
        # One that was killed may be gone before it is looked at.
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"node.app.gateway" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """One node for the tests that harm nobody."""
    limits = {"PEERPACS__DICOM__MAX_ASSOCIATIONS_PER_AE": "16"}
    with running(tmp_path_factory.mktemp("three"), **THREE, **limits) as node:
        yield node


def test_what_one_gateway_took_another_finds_and_gives(node: RunningNode) -> None:
    assert len(gateways(node)) == 2
    sent = [one for number in range(6) for one in phantoms(1, number)]
    for one in sent:
        assert [answer.status for answer in requestor(node).store([one])] == [0]
    for _ in range(8):
        found = list(
            requestor(node).find({"00080052": {"vr": "CS", "Value": ["STUDY"]}, "0020000D": {"vr": "UI"}})
        )
        assert len(found) == 6, found
    for answer in found:
        received = Received()
        level = {"00080052": {"vr": "CS", "Value": ["STUDY"]}}
        requestor(node).get({**level, "0020000D": answer["0020000D"]}, received)
        assert received.instances
    status = node.json("status")
    assert status["archive"]["instances"] == len(sent)
    until(lambda: node.json("status")["associations"]["received_instances"] == len(sent))


def test_a_gateway_that_is_killed_is_started_again_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with running(tmp_path, **THREE) as node:
        acknowledged: set[str] = set()
        is_over = threading.Event()

        def send(number: int) -> None:
            series = 0
            while not is_over.is_set():
                series += 1
                sent = phantoms(10 + number, series, size=50_000)
                try:
                    for one, answer in zip(sent, requestor(node, f"CT{number}").store(sent), strict=False):
                        if answer.status == 0:
                            acknowledged.add(one.SOPInstanceUID)
                except Exception:
                    time.sleep(0.05)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            until(lambda: len(gateways(node)) == 2)
            before = len(acknowledged)
            until(lambda enough=before + 20: len(acknowledged) > enough, seconds=60)
            os.kill(gateways(node)[0], signal.SIGKILL)
            until(lambda: len(gateways(node)) == 2, seconds=60)
        is_over.set()
        for thread in threads:
            thread.join()
        kept = node.json("find", "--level", "IMAGE", "--limit", "0", "-k", "SOPInstanceUID")
        uids = {row["00080018"]["Value"][0] for row in kept}
        assert acknowledged <= uids
        assert node.cli("verify")
        until(lambda: node.json("status")["associations"]["open"] == 0)


def test_the_writer_that_is_killed_takes_nothing_with_it(tmp_path: Path) -> None:
    node = RunningNode(tmp_path)
    acknowledged: list[str] = []
    for number in range(2):
        node.start(**THREE)
        sent = phantoms(30 + number, size=50_000)
        for one, answer in zip(sent, requestor(node).store(sent), strict=True):
            if answer.status == 0:
                acknowledged.append(one.SOPInstanceUID)
        pids = gateways(node)
        node.kill()
        until(lambda pids=pids: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    node.start(**THREE)
    kept = node.json("find", "--level", "IMAGE", "--limit", "0", "-k", "SOPInstanceUID")
    assert set(acknowledged) <= {row["00080018"]["Value"][0] for row in kept}
    assert node.stop() == 0


def test_equal_bytes_sent_to_several_gateways_at_once_are_kept_once(node: RunningNode) -> None:
    sent, before = phantoms(40, size=200_000), node.json("status")["archive"]["instances"]
    statuses: list[int] = []

    def send() -> None:
        statuses.extend(answer.status for answer in requestor(node).store(sent))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {0}
    status = node.json("status")
    assert status["archive"]["instances"] == before + len(sent)
    assert not status["conflicts"]
    assert node.cli("verify")


def test_decisions_count_at_every_gateway_at_once(node: RunningNode) -> None:
    sent = [edited(one, PatientName="BEFORE^IT") for one in phantoms(50)]
    assert {answer.status for answer in requestor(node).store(sent)} == {0}
    [row] = node.json("find", "-k", "StudyInstanceUID", "-k", "PatientName=BEFORE*")
    uid = row["0020000D"]["Value"][0]
    node.cli("correct", uid, "PatientName=AFTER^IT", "--reason", "a test")
    for _ in range(6):
        out = dcmtk(
            "findscu", "-S", "-aec", "ALPHA", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName",
            "127.0.0.1", str(node.port),
        )  # fmt: skip
        assert "AFTER^IT" in out
        assert "BEFORE" not in out


def test_limits_hold_for_all_gateways_together(node: RunningNode) -> None:
    def ask() -> bool:
        raw = Raw(node.port)
        opened.append(raw)
        raw.send(associate(called=b"ALPHA", calling=b"GREEDY"))
        return raw.pdu()[0] == ASSOCIATE_AC

    opened: list[Raw] = []
    try:
        answers = [ask() for _ in range(24)]
    finally:
        for raw in opened:
            raw.sock.close()
    assert answers.count(True) == 16
    until(lambda: node.json("status")["associations"]["open"] == 0)


def test_a_new_archive_is_served_by_gateways_that_were_there_before(node: RunningNode) -> None:
    node.cli("archives", "add", "lab", "--ae", "LAB")
    for _ in range(4):
        dcmtk("echoscu", "-aec", "LAB", "127.0.0.1", str(node.port))
    assert [answer.status for answer in requestor(node, called="LAB").store(phantoms(60)[:1])] == [0]
    assert len(node.json("find", "--archive", "lab", "-k", "StudyInstanceUID")) == 1


def test_storage_in_a_bucket_is_refused_with_several_processes(tmp_path: Path) -> None:
    home = new_home(tmp_path, storage={"url": "s3://x-bucket"}, processes={"count": 2})
    secrets = home / "secrets"
    secrets.mkdir(mode=0o700)
    for name in ("s3-access-key", "s3-secret-key"):
        (secrets / name).touch(mode=0o600)
    with pytest.raises(Exception, match=r"processes\.count"), open_node(home):
        pass
