"""A series in the wrong study is moved, split off or joined; no stored byte changes, undo finds all again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from catalog import BadRequest
from node.app import Node, rebuild
from tests.homes import Peer, RawInstance, attribute, edited, phantoms, serving

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
