"""Storage Commitment with Orthanc in both roles, as a command, and across kill -9."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from sim.ports import free_port
from tests.node.committing import LOOPBACK, Results, action, asking, listening
from tests.node.test_orthanc import CT, OrthancPeer
from tests.running import RunningNode, dcmtk, running, until

MR = Path(str(get_testdata_file("MR_small.dcm")))
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
CT_UID = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
CT_STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running(tmp_path_factory.mktemp("alpha")) as node:
        dcmtk("storescu", "-aec", "ALPHA", LOOPBACK, str(node.port), str(CT))
        yield node


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, alpha: RunningNode) -> Iterator[OrthancPeer]:
    peer = OrthancPeer(tmp_path_factory.mktemp("peer") / "orthanc", alpha)
    try:
        until(peer.is_up, 60)
        services = "echo,store,find,move,get,commit"
        address = ("--address", LOOPBACK, "--port", str(peer.port))
        alpha.cli("devices", "add", "ORTHANC", *address, "--services", services)
        yield peer
    finally:
        peer.close()


def test_orthanc_is_told_what_the_node_commits_to(alpha: RunningNode, orthanc: OrthancPeer) -> None:
    asked = {"DicomInstances": [[CT_CLASS, CT_UID], [CT_CLASS, "1.2.3"]], "Timeout": 20}
    path = orthanc.rest("/modalities/alpha/storage-commitment", asked)["Path"]
    report = until(lambda: (found := orthanc.rest(path))["Status"] != "Pending" and found)
    assert report["Status"] == "Failure"
    assert report["RemoteAET"] == "ALPHA"
    assert [each["SOPInstanceUID"] for each in report["Success"]] == [CT_UID]
    assert [(each["SOPInstanceUID"], each["FailureReason"]) for each in report["Failures"]] == [
        ("1.2.3", 0x0112)
    ]


def test_the_node_keeps_what_orthanc_commits_to(alpha: RunningNode, orthanc: OrthancPeer) -> None:
    assert alpha.json("commit", "ORTHANC", "--study", CT_STUDY, exit_code=1)["failed"] == {CT_UID: "0112"}
    alpha.cli("send", "ORTHANC", str(CT))
    said = alpha.cli("commit", "ORTHANC", "--study", CT_STUDY)
    assert said == "ORTHANC commits to 1 instance, and not to 0.\n"
    some = alpha.json("commit", "ORTHANC", str(CT), str(MR), exit_code=3)
    assert some["committed"] == [CT_UID]
    assert list(some["failed"].values()) == ["0112"]
    states = [row["state"] for row in alpha.json("commit", "--list")]
    assert states == ["some failed", "committed", "some failed"]


def test_the_command_is_answered_by_a_node_on_its_own_association(alpha: RunningNode) -> None:
    said = alpha.json("commit", "-aet", "ANYBODY", "-aec", "ALPHA", LOOPBACK, str(alpha.port), str(CT))
    assert (said["committed"], said["failed"]) == ([CT_UID], {})
    assert said["retrieve_ae"] == "ALPHA"


def test_kill_9_between_the_answer_and_the_result_loses_nothing(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "home")
    node.start()
    port, results = free_port(), Results()
    try:
        dcmtk("storescu", "-aec", "ALPHA", LOOPBACK, str(node.port), str(CT))
        node.cli(
            "devices", "add", "CT1", "--address", LOOPBACK, "--port", str(port), "--services", "echo,commit"
        )
        expected = set()
        for number in range(3):
            asked = action([(CT_CLASS, CT_UID), (CT_CLASS, f"1.2.3.{number}")])
            expected.add(str(asked.TransactionUID))
            with asking(node.port, results) as scu:
                assert scu.ask(asked) == 0
                node.kill()
            node.start()
        assert "CT1" in node.cli("status")
        with listening(results, port=port):
            until(lambda: {str(said.TransactionUID) for _, said in results.taken} == expected, 60)
            # One that was taken but not noted as taken when the node was killed is told again.
            until(lambda: not node.json("status")["commitments"], 60)
        assert all(kind == 2 for kind, _ in results.taken)
    finally:
        node.stop()
