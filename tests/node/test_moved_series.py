"""A series in the wrong study is moved, split off or joined; no stored byte changes, undo finds all again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from catalog import BadRequest, NotFound
from node.app import Node, rebuild
from tests.homes import Peer, RawInstance, attribute, edited, phantoms, serving
from tests.node.test_rejected import note_about, told
from tests.running import until

WHO = {"reason": "a test", "who": "tester"}
COUNTS = {"NumberOfStudyRelatedSeries": "", "NumberOfStudyRelatedInstances": ""}


def uid(instance: RawInstance, keyword: str = "StudyInstanceUID") -> str:
    return str(attribute(instance, keyword))


def two_series(seed: int) -> list[RawInstance]:
    """Return a study of two series with two instances each."""
    first = phantoms(seed, instances=4)
    return [
        *first[:2],
        *(edited(one, SeriesInstanceUID=f"{uid(one, 'SeriesInstanceUID')}.9") for one in first[2:]),
    ]


def seen(peer: Peer) -> Any:
    """Return all that a reader finds and gets, in an order that does not depend on anything."""
    wanted = {"PatientID": "", "PatientName": "", "StudyDate": "", "ModalitiesInStudy": "", **COUNTS}
    found = sorted(peer.find(StudyInstanceUID="", **wanted), key=lambda one: str(one["StudyInstanceUID"]))
    series = {
        one["StudyInstanceUID"]: sorted(
            str(each)
            for each in peer.find("SERIES", StudyInstanceUID=one["StudyInstanceUID"], SeriesInstanceUID="",
                                  NumberOfSeriesRelatedInstances="", Modality="")
        )
        for one in found
    }  # fmt: skip
    return found, series, {one["StudyInstanceUID"]: peer.get(one["StudyInstanceUID"]) for one in found}


def move(node: Node, series: str, to: str = "", *attributes: str) -> Any:
    [made] = node.desk.verbs()["move_series"](series=[series], to=to, attributes=list(attributes), **WHO)
    return made


def test_a_series_under_the_wrong_order_is_found_and_leaves_as_part_of_the_right_study(
    tmp_path: Path,
) -> None:
    wrong, right = two_series(700), phantoms(701)
    series = uid(wrong[2], "SeriesInstanceUID")
    with serving(tmp_path / "home") as node:
        peer, verbs = Peer(node), node.desk.verbs()
        peer.store(*wrong[:3], *right)
        made = move(node, series, uid(right[0]))
        [answer] = peer.find(StudyInstanceUID=uid(right[0]), **COUNTS)
        assert (answer["NumberOfStudyRelatedSeries"], answer["NumberOfStudyRelatedInstances"]) == (2, 2)
        [answer] = peer.find(StudyInstanceUID=uid(wrong[0]), **COUNTS)
        assert (answer["NumberOfStudyRelatedSeries"], answer["NumberOfStudyRelatedInstances"]) == (1, 2)
        assert peer.get(uid(wrong[0])) == wrong[:2]
        moved = {one.SOPInstanceUID: one for one in peer.get(uid(right[0]))}[wrong[2].SOPInstanceUID]
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber", "StudyDate"):
            assert uid(moved, keyword) == uid(right[0], keyword), keyword
        assert attribute(moved, "PixelData") == attribute(wrong[2], "PixelData")
        [item] = attribute(moved, "OriginalAttributesSequence")
        assert item.ModifiedAttributesSequence[0].StudyInstanceUID == uid(wrong[2])
        assert peer.store(wrong[3], wrong[2]) == [0, 0], "the modality sends the rest, and one again"
        assert len(peer.get(uid(right[0]))) == 3
        assert peer.get(uid(wrong[0])) == wrong[:2]
        assert not verbs["conflicts"]()
        verbs["undo"](decision=made["decision"], **WHO)
        assert peer.get(uid(right[0])) == right
        assert peer.get(uid(wrong[0])) == wrong


def test_what_was_decided_about_a_series_goes_with_it(tmp_path: Path) -> None:
    wrong, right = two_series(710), phantoms(711)
    series = uid(wrong[2], "SeriesInstanceUID")
    with serving(tmp_path / "home") as node:
        peer, verbs = Peer(node), node.desk.verbs()
        peer.store(*wrong, *right)
        verbs["correct"](target=series, attributes=["SeriesDescription=MENDED"], **WHO)
        verbs["reject"](target=wrong[3].SOPInstanceUID, **WHO)
        move(node, series, uid(right[0]))
        [answer] = peer.find("SERIES", StudyInstanceUID=uid(right[0]), SeriesInstanceUID=series,
                             SeriesDescription="", NumberOfSeriesRelatedInstances="")  # fmt: skip
        assert (answer["SeriesDescription"], answer["NumberOfSeriesRelatedInstances"]) == ("MENDED", 1)
        got = {one.SOPInstanceUID: one for one in peer.get(uid(right[0]))}
        assert uid(got[wrong[2].SOPInstanceUID], "SeriesDescription") == "MENDED"
        assert wrong[3].SOPInstanceUID not in got
        verbs["correct"](target=uid(right[0]), attributes=["PatientID=LATER-1"], **WHO)
        assert {uid(one, "PatientID") for one in peer.get(uid(right[0]))} == {"LATER-1"}
        verbs["delete"](target=uid(wrong[0]), **WHO)
        assert len(peer.get(uid(right[0]))) == 2, "what is decided about the study it left is not about it"


def test_what_was_decided_about_a_series_anywhere_holds_wherever_it_lies(tmp_path: Path) -> None:
    wrong, right, third = two_series(740), phantoms(741), phantoms(742)
    series, rejected = uid(wrong[2], "SeriesInstanceUID"), wrong[3].SOPInstanceUID
    with serving(tmp_path / "home") as node:
        peer, verbs = Peer(node), node.desk.verbs()
        peer.store(*wrong, *right, *third)
        first = move(node, series, uid(right[0]))
        verbs["reject"](target=rejected, why="safety", **WHO)
        on = move(node, series, uid(third[0]))
        assert rejected not in {one.SOPInstanceUID for one in peer.get(uid(third[0]))}
        peer.store(note_about(wrong[2:3], "113001", "2.25.740"))
        assert peer.get(uid(third[0])) == third, "a note names the study in which it was sent"
        for made in (on, first):
            verbs["undo"](decision=made["decision"], **WHO)
        assert peer.get(uid(wrong[0])) == wrong[:2]
        with pytest.raises(NotFound, match="not here"):
            verbs["move_series"](series=[uid(right[0], "SeriesInstanceUID")], to="1.2.3", **WHO)


@pytest.mark.parametrize("verb", ["reject", pytest.param("erase", marks=pytest.mark.slow)])
def test_a_moved_series_that_is_sent_again_is_judged_by_the_study_it_is_in(tmp_path: Path, verb: str) -> None:
    wrong = two_series(745)
    with serving(tmp_path / "home") as node:
        peer, verbs = Peer(node), node.desk.verbs()
        peer.store(*wrong[:3])
        move(node, uid(wrong[2], "SeriesInstanceUID"), "", "PatientID=OWN-1", "PatientName=NAMED^ONCE")
        peer.store(wrong[3])
        assert [line.outcome for line in told(node, "alarm", uid(wrong[0]))] == ["sent again"]
        [new] = {one["StudyInstanceUID"] for one in peer.find(StudyInstanceUID="")} - {uid(wrong[0])}
        verbs[verb](target=new, **WHO)
        assert set(peer.store(*wrong[2:])) == {0x0124 if verb == "erase" else 0}
        assert [one["StudyInstanceUID"] for one in peer.find(StudyInstanceUID="")] == [uid(wrong[0])]
        if verb == "erase":
            until(lambda: verbs["deletions"]()["orders"][-1]["outcome"] == "erased")
            assert not any(b"NAMED" in path.read_bytes() for path in node.home.rglob("*") if path.is_file())
            assert set(peer.store(*wrong[2:])) == {0x0124}


def test_a_moved_object_says_nothing_of_the_patient_it_was_sent_for(tmp_path: Path) -> None:
    old = {"PatientAddress": "OLD", "OtherPatientIDs": "OLD", "PatientAge": "070Y", "StudyID": "OLD"}
    wrong, right = [edited(one, **old) for one in two_series(750)], phantoms(751)
    series = uid(wrong[2], "SeriesInstanceUID")
    with serving(tmp_path / "home") as node:
        peer, verbs = Peer(node), node.desk.verbs()
        peer.store(*wrong, *right)
        verbs["correct"](target=uid(right[0]), attributes=["PatientID=R-1", "PatientAddress=NEW"], **WHO)
        move(node, series, uid(right[0]))
        verbs["correct"](target=uid(right[0]), attributes=["PatientID=R-2"], **WHO)
        got = {one.SOPInstanceUID: one for one in peer.get(uid(right[0]))}[wrong[2].SOPInstanceUID]
        assert [uid(got, keyword) for keyword in ("PatientID", "PatientAddress")] == ["R-2", "NEW"]
        assert not any(uid(got, keyword) == old[keyword] for keyword in old)
        before = [item.ModifiedAttributesSequence[0] for item in attribute(got, "OriginalAttributesSequence")]
        ids = [uid(wrong[0], "PatientID"), uid(right[0], "PatientID"), "R-1"]
        assert [each.PatientID for each in before] == ids, "each item has what was there before it"
        assert before[0].PatientAddress == "OLD"
        found = peer.find(
            "IMAGE", StudyInstanceUID=uid(right[0]), SeriesInstanceUID=series, PatientAddress=""
        )
        assert {one["PatientAddress"] for one in found} == {"NEW"}
        split = move(node, series, "")
        assert {one["PatientID"] for one in peer.find(StudyInstanceUID="", PatientID="")} == {
            uid(wrong[0], "PatientID"), "R-2",
        }, "what was corrected stays so when it is split off"  # fmt: skip
        verbs["undo"](decision=split["decision"], **WHO)
        assert len(peer.get(uid(right[0]))) == len(right) + 2


def test_a_series_is_split_off_moved_on_and_two_studies_are_joined(tmp_path: Path) -> None:
    one, other = two_series(720), phantoms(721)
    series = uid(one[2], "SeriesInstanceUID")
    with serving(tmp_path / "home") as node:
        peer, verbs = Peer(node), node.desk.verbs()
        peer.store(*one, *other)
        before = seen(peer)
        split = move(node, series, "", "StudyDescription=SPLIT", "PatientID=OWN-1")
        found = {each["StudyInstanceUID"]: each for each in peer.find(StudyInstanceUID="", PatientID="")}
        [new] = found.keys() - {uid(one[0]), uid(other[0])}
        assert found[new]["PatientID"] == "OWN-1"
        assert len(peer.find(PatientID="OWN-1", StudyInstanceUID="")) == 1
        assert {uid(each, "StudyDescription") for each in peer.get(new)} == {"SPLIT"}
        on = move(node, series, uid(other[0]))
        assert peer.find(StudyInstanceUID=new) == []
        assert len(peer.get(uid(other[0]))) == 3
        joined = verbs["join_studies"](study=uid(one[0]), into=uid(other[0]), **WHO)
        assert [each["StudyInstanceUID"] for each in peer.find(StudyInstanceUID="")] == [uid(other[0])]
        assert {uid(each, "PatientID") for each in peer.get(uid(other[0]))} == {uid(other[0], "PatientID")}
        with pytest.raises(BadRequest, match="no series"):
            move(node, uid(other[0]), uid(one[0]))
        for made in (*joined, on, split):
            verbs["undo"](decision=made["decision"], **WHO)
        assert seen(peer) == before


def test_a_restart_and_a_rebuild_repeat_what_was_moved(tmp_path: Path) -> None:
    home = tmp_path / "home"
    wrong, right, third = two_series(730), phantoms(731), two_series(732)
    with serving(home) as node:
        peer = Peer(node)
        peer.store(*wrong[:3], *right, *third)
        move(node, uid(wrong[2], "SeriesInstanceUID"), uid(right[0]))
        node.desk.verbs()["correct"](target=uid(third[0]), attributes=["PatientID=RIGHT-1"], **WHO)
        split = move(node, uid(third[2], "SeriesInstanceUID"), "", "StudyDescription=NEW")
        undone = move(node, uid(third[0], "SeriesInstanceUID"), uid(right[0]))
        node.desk.verbs()["undo"](decision=undone["decision"], **WHO)
        peer.store(wrong[3])
        assert split
        before = seen(peer)
    with serving(home) as node:
        assert seen(Peer(node)) == before
    shutil.rmtree(home / "archives" / "main" / "catalog")
    assert not rebuild(home).unreadable
    with serving(home) as node:
        assert seen(Peer(node)) == before
