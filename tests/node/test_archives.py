"""Archives (tenants) of one node: each answers under its own AE titles, and nothing crosses the wall."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog import BadRequest, NotFound, PacsError
from federation.trust.rows import PeerRow
from node.app import Node, open_node, rebuild
from node.contracts import Device, Service
from node.dimse import Requestor
from sim.ports import free_port
from tests.homes import Peer, edited, new_home, phantoms, serving
from tests.running import dcmtk, running, until

LAB = {"ae_titles": ["LAB"], "who": "tester", "is_new": True, "s3": []}
WHO = {"reason": "a test", "who": "tester"}


class At(Peer):
    """A device that calls one AE title of the node."""

    def __init__(self, node: Node, called: str, ae_title: str = "PEER") -> None:
        self.requestor = Requestor(ae_title, "127.0.0.1", node.ports["dicom"], called)


@contextlib.contextmanager
def two_archives(home: Path, **plan: Any) -> Iterator[Node]:
    with serving(home) as node:
        if "lab" not in node.archives:
            node.desk.verbs()["put_archive"](name="lab", **{**LAB, **plan})
        yield node


def verb(node: Node, verb: str, /, **told: Any) -> Any:
    return node.desk.verbs()[verb](**told)


def test_each_archive_answers_under_its_own_ae_title(tmp_path: Path) -> None:
    with two_archives(tmp_path) as node:
        ours, theirs = phantoms(1), phantoms(2)
        assert set(At(node, "ALPHA").store(*ours)) == {0} == set(At(node, "LAB").store(*theirs))
        for called, there in (("ALPHA", ours), ("LAB", theirs)):
            peer = At(node, called)
            [found] = peer.find(StudyInstanceUID="")
            got = peer.get(found["StudyInstanceUID"])
            assert {one.SOPInstanceUID for one in got} == {one.SOPInstanceUID for one in there}


def test_no_service_reaches_across_the_wall(tmp_path: Path) -> None:
    """The same study in both archives, under different names: each answer is of one archive only."""
    with two_archives(tmp_path) as node:
        mine = phantoms(3)
        study = At(node, "ALPHA")
        assert set(study.store(*[edited(one, PatientName="ONE^OURS") for one in mine])) == {0}
        lab = At(node, "LAB")
        assert not lab.find(StudyInstanceUID="")
        assert not lab.find(PatientName="*")
        [uid] = [row["StudyInstanceUID"] for row in study.find(StudyInstanceUID="")]
        assert not lab.get(uid)
        assert set(lab.store(*[edited(one, PatientName="TWO^THEIRS") for one in mine])) == {0}
        assert [row["PatientName"] for row in lab.find(PatientName="")] == ["TWO^THEIRS"]
        assert [row["PatientName"] for row in study.find(PatientName="")] == ["ONE^OURS"]
        assert not verb(node, "conflicts")
        assert not verb(node, "lab/conflicts")
        verb(node, "lab/correct", target=uid, attributes=["PatientID=CHANGED"], **WHO)
        verb(node, "reject", target=uid, **WHO)
        assert not study.find(StudyInstanceUID="")
        [row] = lab.find(StudyInstanceUID="", PatientID="")
        assert row["PatientID"] == "CHANGED"
        with pytest.raises(NotFound):
            verb(node, "undo", decision=verb(node, "lab/reject", target=uid, **WHO)["decision"], **WHO)
        told = " ".join(event["sentence"] for event in verb(node, "trace", study=uid)["events"])
        assert "rejected" in told
        assert "corrected" not in told
        theirs = " ".join(event["sentence"] for event in verb(node, "lab/trace", study=uid)["events"])
        assert "corrected" in theirs


def test_a_device_reaches_only_the_archives_that_the_book_names(tmp_path: Path) -> None:
    with serving(tmp_path, is_trusting=False) as node:
        verb(node, "put_archive", name="lab", **LAB)
        services = (Service.ECHO, Service.STORE, Service.FIND, Service.GET)
        node.devices.put(Device(ae_title="CT1", services=services))
        node.devices.put(Device(ae_title="LABPC", services=services, called=("LAB",)))
        assert set(At(node, "ALPHA", "CT1").store(*phantoms(4))) == {0}
        for called, title in (("LAB", "CT1"), ("ALPHA", "LABPC")):
            with pytest.raises(PacsError):
                At(node, called, title).find(StudyInstanceUID="")
        assert At(node, "LAB", "LABPC").find(StudyInstanceUID="") == []
        refused = {(row["ae_title"], row["called_ae"]) for row in verb(node, "status")["refusals"]}
        assert refused == {("CT1", "LAB"), ("LABPC", "ALPHA")}


def test_what_strangers_send_waits_in_the_archive_they_called(tmp_path: Path) -> None:
    with serving(tmp_path, is_trusting=False) as node:
        verb(node, "put_archive", name="lab", **LAB)
        assert set(At(node, "LAB", "STRANGER").store(*phantoms(5))) == {0}
        assert not verb(node, "held")
        [waiting] = verb(node, "lab/held")
        assert waiting["source"] == "STRANGER"
        verb(node, "lab/release", source="STRANGER", **WHO)
        assert node.archive("lab").catalog.totals().studies == 1
        assert node.catalog.totals().studies == 0


def test_a_move_to_every_device_stays_within_the_archive(tmp_path: Path) -> None:
    with serving(tmp_path, is_trusting=False) as node:
        verb(node, "put_archive", name="lab", **LAB)
        services = (Service.STORE, Service.MOVE)
        mover = Device(ae_title="WS", services=services, called=("ALPHA", "LAB"), move_destinations=("*",))
        node.devices.put(mover)
        node.devices.put(Device(ae_title="OURS", address="127.0.0.1", port=free_port()))
        caller = node.access.admit("WS", "127.0.0.1", "LAB")
        assert not isinstance(caller, tuple) or caller.called_ae == "LAB"
        assert node.access.destination(caller, "OURS") is None  # type: ignore[arg-type]
        ours = node.access.admit("WS", "127.0.0.1", "ALPHA")
        assert node.access.destination(ours, "OURS") is not None  # type: ignore[arg-type]


def test_a_full_quota_is_told_with_a700_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with two_archives(tmp_path, quota_mb=1) as node:
        lab = At(node, "LAB")
        statuses = [status for number in range(40) for status in lab.store(*phantoms(6, number, size=90_000))]
        assert set(statuses) == {0, 0xA700}
        stored = node.archive("lab").catalog.totals().instances
        assert stored == statuses.count(0)
        assert "has used" in caplog.text
        [told] = [row for row in verb(node, "archives") if row["name"] == "lab"]
        assert told["is_nearly_full"]
        assert 0.9e6 < told["stored_bytes"] <= 1e6
        assert set(At(node, "ALPHA").store(*phantoms(7))) == {0}
        verb(node, "put_archive", name="lab", who="tester", is_new=False, s3=[], quota_mb=50)
        assert set(lab.store(*phantoms(8))) == {0}


def test_what_any_archive_erases_is_owed_a_receipt_by_every_peer(tmp_path: Path) -> None:
    with two_archives(tmp_path) as node:
        peer = PeerRow(node_id="b", name="beta", site="BETA")
        node.grid.tables.peers.put(b"b", peer)
        for called, prefix in (("ALPHA", ""), ("LAB", "lab/")):
            assert set(At(node, called).store(*phantoms(10, instances=1))) == {0}
            [found] = At(node, called).find(StudyInstanceUID="")
            verb(node, f"{prefix}erase", target=found["StudyInstanceUID"], **WHO)
        for prefix in ("", "lab/"):
            until(
                lambda prefix=prefix: (  # type: ignore[misc]
                    [row["owing"] for row in verb(node, f"{prefix}deletions")["orders"]] == [["beta"]]
                ),
                60,
            )


def test_an_archive_survives_restart_lost_state_and_rebuild(tmp_path: Path) -> None:
    with two_archives(tmp_path) as node:
        sent = phantoms(9)
        assert set(At(node, "LAB").store(*sent)) == {0}
        [uid] = [row["StudyInstanceUID"] for row in At(node, "LAB").find(StudyInstanceUID="")]
        verb(node, "lab/correct", target=uid, attributes=["PatientID=RIGHT"], **WHO)
    recovered = rebuild(tmp_path, archive="lab")
    assert (recovered.instances, recovered.decisions) == (len(sent), 1)
    with open_node(tmp_path) as node:
        assert node.archive("lab").catalog.totals().instances == len(sent)
    (tmp_path / "state").rename(tmp_path / "state.lost")
    with serving(tmp_path) as node:
        [row] = At(node, "LAB").find(StudyInstanceUID="", PatientID="")
        assert row["PatientID"] == "RIGHT"


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("Lab!", {}, "not a name"),
        ("main", {}, "already"),
        ("lab", {"ae_titles": ["ALPHA"]}, "belongs to the archive main"),
        ("lab", {"ae_titles": ["TWELVECHARSX"]}, "not an AE title"),
        ("lab", {"ae_titles": []}, "needs an AE title"),
        ("lab", {"storage": "ftp://x"}, "must be disk"),
        ("lab", {"quota_mb": "much"}, "cannot be an archive"),
        ("lab", {"storage": "s3://lab", "s3": ["colour=red"]}, "not a setting"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(tmp_path: Path, name: str, changes: Any, why: str) -> None:
    with open_node(new_home(tmp_path)) as node, pytest.raises(BadRequest) as refused:
        verb(node, "put_archive", name=name, **{**LAB, **changes})
    assert why in f"{refused.value.what} {refused.value.next}"
    with open_node(tmp_path) as node:
        assert [*node.archives] == ["main"]


def test_a_verb_about_the_node_does_not_take_an_archive(tmp_path: Path) -> None:
    with open_node(new_home(tmp_path)) as node:
        with pytest.raises(BadRequest, match="about the whole node"):
            verb(node, "main/status")
        with pytest.raises(NotFound, match="no archive"):
            verb(node, "nowhere/find", keys=[])


def test_the_command_line_makes_and_uses_an_archive(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        said = node.cli("archives", "add", "lab", "--ae", "LAB", "--note", "for the laboratory")
        assert "✓ The archive lab was made; it answers to LAB." in said
        dcmtk("echoscu", "-aec", "LAB", "127.0.0.1", str(node.port))
        samples = tmp_path / "samples"
        samples.mkdir()
        for number, one in enumerate(phantoms(10)):
            write_part10(samples / f"{number}.dcm", one)
        node.cli("import", "--archive", "lab", str(samples))
        assert len(node.json("find", "--archive", "lab", "-k", "StudyInstanceUID")) == 1
        assert node.json("find", "-k", "StudyInstanceUID") == []
        rows = {row["name"]: row for row in node.json("archives", "list")}
        assert rows["lab"]["studies"] == 1
        assert "for the laboratory" in node.cli("archives", "list")


def write_part10(path: Path, instance: Any) -> None:
    """Write an instance as a file."""
    from node.storage import file_meta

    meta = file_meta(instance.SOPClassUID, instance.SOPInstanceUID, instance.TransferSyntaxUID)
    path.write_bytes(bytes(meta) + instance.data)
