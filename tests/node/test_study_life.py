"""What becomes of an instance at one node: taken, held, refused, in conflict, corrected, hidden, rebuilt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lmdb
import pytest

from catalog import BadRequest, Damaged
from node.app import Node, open_node, rebuild
from node.contracts import Device, Service
from tests.homes import EXPLICIT, Peer, RawInstance, attribute, edited, new_home, phantoms, serving
from tests.running import until

WHO = {"reason": "a test", "who": "tester"}


def uid(instance: RawInstance, keyword: str = "StudyInstanceUID") -> str:
    return str(attribute(instance, keyword))


def stored_bytes(node: Node) -> int:
    return sum(path.stat().st_size for path in (node.main.folder / "objects").rglob("*.tar"))


def test_the_same_instance_again_is_success_and_changes_nothing(tmp_path: Path) -> None:
    [instance] = phantoms(1)
    with serving(tmp_path / "home") as node:
        peer = Peer(node)
        assert peer.store(instance) == [0]
        before = stored_bytes(node)
        assert peer.store(instance) == [0]
        assert stored_bytes(node) == before
        [answer] = peer.find(StudyInstanceUID=uid(instance), NumberOfStudyRelatedInstances="")
        assert answer["NumberOfStudyRelatedInstances"] == 1


def test_other_bytes_under_one_uid_are_both_kept_and_the_first_is_preferred_until_a_person_decides(
    tmp_path: Path,
) -> None:
    [first] = phantoms(2)
    second = edited(first, PatientName="SOMEBODY^ELSE")
    with serving(tmp_path / "home") as node:
        peer = Peer(node)
        assert peer.store(first, second) == [0, 0]
        assert peer.get(uid(first)) == [first]
        verbs = node.desk.verbs()
        [conflict] = verbs["conflicts"]()
        assert "PatientName" in str(conflict)
        shown = verbs["conflict"](sop=first.SOPInstanceUID)
        other = shown["versions"][1]["sha256"]
        verbs["prefer"](sop=first.SOPInstanceUID, sha256=other, **WHO)
        assert peer.get(uid(first)) == [second]
        assert [answer["PatientName"] for answer in peer.find(StudyInstanceUID=uid(first), PatientName="")]
        assert not verbs["conflicts"]()


def test_what_an_unknown_sender_stores_is_seen_by_nobody_until_it_is_released(tmp_path: Path) -> None:
    sent = phantoms(3, instances=2)
    reader = Device(ae_title="READER", services=(Service.FIND, Service.GET))
    with serving(tmp_path / "home", is_trusting=False) as node:
        node.devices.put(reader)
        assert Peer(node, "STRANGER").store(*sent) == [0, 0]
        assert Peer(node, "STRANGER").store(*sent) == [0, 0]
        assert Peer(node, "READER").find(StudyInstanceUID=uid(sent[0])) == []
    with serving(tmp_path / "home", is_trusting=False) as node:
        assert Peer(node, "READER").get(uid(sent[0])) == []
        node.desk.verbs()["release"](source="STRANGER", **WHO)
        assert Peer(node, "READER").get(uid(sent[0])) == sent
        assert node.desk.verbs()["held"]() == []


def test_what_is_held_has_its_share_of_the_disk_and_no_more(tmp_path: Path) -> None:
    with serving(tmp_path / "home", is_trusting=False, storage={"held_percent": 0.0}) as node:
        assert Peer(node, "STRANGER").store(*phantoms(4)) == [0x0124]


def test_a_discarded_instance_is_gone_from_the_disk(tmp_path: Path) -> None:
    [instance] = phantoms(5)
    with serving(tmp_path / "home", is_trusting=False) as node:
        Peer(node, "STRANGER").store(instance)
        [arrival] = node.held.list()
        node.desk.verbs()["discard"](source="STRANGER", **WHO)
        with pytest.raises(Exception, match=r".+"):
            node.store.open(arrival.entry.holding)


@pytest.mark.parametrize(
    ("broken", "status"),
    [
        (
            lambda one: RawInstance(one.SOPClassUID, one.SOPInstanceUID, one.TransferSyntaxUID, b"\xff" * 99),
            0xC000,
        ),
        (lambda one: edited(one, StudyInstanceUID=""), 0xA900),
        (lambda one: edited(one, SOPInstanceUID="1.2.3.4"), 0xA900),
    ],
    ids=["not a data set", "no study", "not what the command named"],
)
def test_what_cannot_be_an_instance_is_refused_and_set_aside(
    tmp_path: Path, broken: Any, status: int
) -> None:
    [instance] = phantoms(6)
    with serving(tmp_path / "home") as node:
        sent = broken(instance)
        assert Peer(node).store(sent, instance) == [status, 0], "the next instance must still be taken"
        [rejected] = node.desk.verbs()["rejected"]()
        assert rejected["status"] == status
        assert node.rejected.path(rejected["name"]).read_bytes().endswith(sent.data)
        node.desk.verbs()["throw_away"](name=rejected["name"], who="tester")
        assert node.desk.verbs()["rejected"]() == []


def test_below_the_watermark_a_store_is_refused_for_now(tmp_path: Path) -> None:
    full = {"stop_below_mb": 1_048_576, "resume_above_mb": 1_048_576}
    [instance] = phantoms(7)
    with serving(tmp_path / "home", storage=full) as node:
        assert Peer(node).store(instance) == [0xA700]
        assert Peer(node).find(StudyInstanceUID="") == []


def test_a_corrected_study_is_found_and_leaves_under_the_new_patient_only(tmp_path: Path) -> None:
    sent = phantoms(8, instances=2)
    study, old = uid(sent[0]), uid(sent[0], "PatientID")
    with serving(tmp_path / "home") as node:
        peer = Peer(node)
        peer.store(*sent)
        verbs = node.desk.verbs()
        for pair in ("SOPInstanceUID=1.2", f"TransferSyntaxUID={EXPLICIT}", "Rows=1", "Modality="):
            with pytest.raises(BadRequest, match="cannot be"):
                verbs["correct"](target=study, attributes=[pair], **WHO)
        verbs["correct"](target=study, attributes=["PatientID=NEW-1", "PatientName=NEW^NAME"], **WHO)
        assert peer.find(PatientID=old, StudyInstanceUID="") == []
        assert [
            answer["StudyInstanceUID"] for answer in peer.find(PatientID="NEW-1", StudyInstanceUID="")
        ] == [study]
        left = peer.get(study)
        assert {uid(one, "PatientID") for one in left} == {"NEW-1"}
        original = attribute(left[0], "OriginalAttributesSequence")[0].ModifiedAttributesSequence[0]
        assert original.PatientID == old
        later = edited(sent[0], SOPInstanceUID="2.25.77")
        assert peer.store(RawInstance(later.SOPClassUID, "2.25.77", later.TransferSyntaxUID, later.data)) == [
            0
        ]
        assert {uid(one, "PatientID") for one in peer.get(study)} == {"NEW-1"}


def test_every_attribute_is_found_by_what_it_was_corrected_to(tmp_path: Path) -> None:
    sent = [edited(one, ImageComments="WRONG", PatientComments="WRONG") for one in phantoms(18, instances=2)]
    study, series = uid(sent[0]), uid(sent[0], "SeriesInstanceUID")
    with serving(tmp_path / "home") as node:
        peer, shown, verbs = Peer(node), Peer(node, "PEER", "_REJ"), node.desk.verbs()
        node.devices.put(Device(ae_title="PEER", services=(*Service,), called=("ALPHA", "ALPHA_REJ")))
        peer.store(*sent)
        verbs["correct"](target=study, attributes=["PatientComments=RIGHT"], **WHO)
        verbs["correct"](target=sent[0].SOPInstanceUID, attributes=["ImageComments=ONE"], **WHO)
        asked: list[tuple[str, dict[str, str], int]] = [
            ("STUDY", {"StudyInstanceUID": "", "PatientComments": "RIGHT"}, 1),
            ("STUDY", {"StudyInstanceUID": "", "PatientComments": "RI*"}, 1),
            ("STUDY", {"StudyInstanceUID": "", "PatientComments": "WRONG"}, 0),
            ("STUDY", {"StudyInstanceUID": "", "ImageComments": "ONE"}, 1),
            ("SERIES", {"StudyInstanceUID": study, "SeriesInstanceUID": "", "ImageComments": "ONE"}, 1),
        ]
        below = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
        asked += [("IMAGE", {**below, "ImageComments": value}, 1) for value in ("ONE", "WRONG")]
        for level, keys, count in asked:
            until(lambda level=level, keys=keys, count=count: len(peer.find(level, **keys)) == count)  # type: ignore[misc]
        verbs["reject"](target=study, **WHO)
        for level, keys, count in asked:
            assert len(shown.find(level, **keys)) == count, (level, keys)


def test_undo_gives_back_the_very_bytes(tmp_path: Path) -> None:
    sent = phantoms(9)
    study = uid(sent[0])
    with serving(tmp_path / "home") as node:
        peer, verbs = Peer(node), node.desk.verbs()
        peer.store(*sent)
        made = verbs["correct"](target=study, attributes=["PatientID=NEW-2"], **WHO)
        assert peer.get(study) != sent
        verbs["undo"](decision=made["decision"], **WHO)
        assert peer.get(study) == sent
        assert len(peer.find(PatientID=uid(sent[0], "PatientID"), StudyInstanceUID="")) == 1


@pytest.mark.parametrize("verb", ["reject", "delete"])
def test_a_hidden_study_is_in_no_answer_and_comes_back_by_undo(tmp_path: Path, verb: str) -> None:
    sent = phantoms(10)
    study = uid(sent[0])
    with serving(tmp_path / "home") as node:
        peer, verbs = Peer(node), node.desk.verbs()
        peer.store(*sent)
        made = verbs[verb](target=study, **WHO)
        assert peer.find(StudyInstanceUID=study) == []
        assert peer.get(study) == []
        verbs["undo"](decision=made["decision"], **WHO)
        assert peer.get(study) == sent


def everything(node: Node) -> Any:
    """Return what readers and the administrator see of a node."""
    peer = Peer(node, "READER")
    studies = peer.find(StudyInstanceUID="", PatientID="", PatientName="", NumberOfStudyRelatedInstances="")
    uids = [answer["StudyInstanceUID"] for answer in studies]
    bytes_out = {study: peer.get(study) for study in uids}
    decisions = {study: node.catalog.decisions(study) for study in uids}
    conflicts = sorted(conflict.SOPInstanceUID for conflict in node.catalog.conflicts())
    held = sorted(arrival.entry.SOPInstanceUID for arrival in node.held.list())
    return studies, bytes_out, decisions, conflicts, held


def live(node: Node) -> None:
    """Give a node studies, a conflict, corrections, hidden and held ones."""
    node.devices.put(Device(ae_title="CT", services=(Service.STORE,)))
    node.devices.put(Device(ae_title="READER", services=(Service.FIND, Service.GET)))
    ct, stranger, verbs = Peer(node, "CT"), Peer(node, "STRANGER"), node.desk.verbs()
    studies = [phantoms(11, number, instances=2) for number in range(6)]
    for study in studies[:4]:
        ct.store(*study)
    ct.store(edited(studies[0][0], PatientName="SOMEBODY^ELSE"))
    for study in studies[4:]:
        stranger.store(*study)
    verbs["release"](study=uid(studies[4][0]), **WHO)
    verbs["correct"](target=uid(studies[1][0]), attributes=["PatientID=NEW-3"], **WHO)
    verbs["reject"](target=uid(studies[2][0]), **WHO)
    undone = verbs["delete"](target=uid(studies[3][0]), **WHO)
    verbs["undo"](decision=undone["decision"], **WHO)


def test_a_rebuild_from_the_segments_alone_repeats_every_decision(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, is_trusting=False) as node:
        live(node)
        before = everything(node)
    shutil.rmtree(home / "archives" / "main" / "catalog")
    shutil.rmtree(home / "archives" / "main" / "search")
    with pytest.raises(Damaged, match="rebuild"):
        open_node(home)
    recovered = rebuild(home)
    assert not recovered.unreadable
    assert not recovered.damaged
    with serving(home, is_trusting=False) as node:
        assert everything(node) == before


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, is_trusting=False) as node:
        live(node)
        before = everything(node)
    with serving(home, is_trusting=False) as node:
        assert node.recovered.instances == 0
        assert everything(node) == before


def test_a_home_is_opened_by_one_process_at_a_time(tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    with open_node(home), pytest.raises(Exception, match="works on"):
        open_node(home)


def test_a_row_whose_bytes_a_power_cut_took_is_taken_back_and_the_instance_can_come_again(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    kept, lost = phantoms(12, 0), phantoms(12, 1)
    with serving(home) as node:
        Peer(node).store(*kept)
        before = stored_bytes(node)
        crash = shutil.copytree(home / "archives" / "main" / "objects", tmp_path / "objects")
        Peer(node).store(*lost)
        rows = shutil.copytree(home / "archives" / "main" / "catalog", tmp_path / "catalog")
    # What a power cut may leave: the catalog knows the second instance, the segments do not have it.
    for name, saved in (("objects", crash), ("catalog", rows)):
        shutil.rmtree(home / "archives" / "main" / name)
        shutil.move(saved, home / "archives" / "main" / name)
    with serving(home) as node:
        peer = Peer(node)
        assert stored_bytes(node) == before
        assert [answer["StudyInstanceUID"] for answer in peer.find(StudyInstanceUID="")] == [uid(kept[0])]
        assert peer.store(*lost) == [0]
        assert peer.get(uid(lost[0])) == lost


def test_a_catalog_of_another_layout_is_told_and_made_again_by_rebuild(tmp_path: Path) -> None:
    home = tmp_path / "home"
    sent = phantoms(13)
    with serving(home) as node:
        Peer(node).store(*sent)
    environment = lmdb.open(str(home / "archives" / "main" / "catalog"), map_size=1 << 30)
    with environment.begin(write=True) as transaction:
        transaction.put(b"mformat", b"0")
    environment.close()
    for _ in range(2):  # What was opened is let go again: the second try fails for the same reason.
        with pytest.raises(Damaged, match="another version"):
            open_node(home)
    rebuild(home)
    with serving(home) as node:
        assert Peer(node).get(uid(sent[0])) == sent
