"""An old backup is put back after people decided much: none of it is lost, and nothing comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalog import NotPermitted
from node.app import Node
from tests.homes import Peer, RawInstance, attribute, edited, new_home, phantoms
from tests.running import until

from .drills import hospital, peerpacs, wipe_but_objects

WHO = {"reason": "a drill", "who": "tester"}
LINK = ("A", "1"), ("B", "2")


def uid(instance: RawInstance, keyword: str = "StudyInstanceUID") -> str:
    return str(attribute(instance, keyword))


def seen(node: Node, *studies: list[RawInstance]) -> Any:
    """Return what readers, and those who may see what is rejected, have of each study."""
    peer, verbs = Peer(node, "CT"), node.desk.verbs()
    return {
        uid(study[0]): (
            peer.find(StudyInstanceUID=uid(study[0]), PatientID="", NumberOfStudyRelatedInstances=""),
            sorted(one.data for one in peer.get(uid(study[0]))),
            [each["StudyInstanceUID"] for each in verbs["deletions"]()["orders"]],
        )
        for study in studies
    }


@pytest.mark.slow
def test_a_backup_from_before_all_decisions_loses_none_and_resurrects_nothing(tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    plain, corrected, rejected, held, erased, moved, target = (phantoms(800, n) for n in range(7))
    erased = [edited(one, PatientComments="SECRETWORD") for one in erased]
    everything = (plain, corrected, rejected, held, erased, moved, target)
    with hospital(home) as node:
        for study in everything:
            assert set(Peer(node, "CT").store(*study)) == {0}
    peerpacs("backup", tmp_path / "backup", "--home", home)
    with hospital(home) as node:
        verbs = node.desk.verbs()
        verbs["correct"](target=uid(corrected[0]), attributes=["PatientID=RIGHT"], **WHO)
        verbs["reject"](target=uid(rejected[0]), why="safety", **WHO)
        verbs["hold"](target=uid(held[0]), **WHO)
        verbs["move_series"](series=[uid(moved[0], "SeriesInstanceUID")], to=uid(target[0]), **WHO)
        verbs["put_retention"](name="ten years", keys=[], years=10, who="ann")
        node.neighbourhood.links.add([LINK], "ann", 7)  # type: ignore[list-item]
        verbs["erase"](target=uid(erased[0]), **WHO)
        until(lambda: [row["outcome"] for row in verbs["deletions"]()["orders"]] == ["erased"])
        before = seen(node, *everything)
    wipe_but_objects(home)
    peerpacs("restore", tmp_path / "backup", "--home", home)
    with hospital(home) as node:
        verbs = node.desk.verbs()
        until(lambda: [row["outcome"] for row in verbs["deletions"]()["orders"]] == ["erased"])
        assert seen(node, *everything) == before
        assert set(Peer(node, "CT").store(*erased)) == {0x0124}
        with pytest.raises(NotPermitted, match="hold"):
            verbs["delete"](target=uid(held[0]), **WHO)
        assert [rule["name"] for rule in verbs["retention"]()["rules"]] == ["ten years"]
        assert [(link.one, link.other) for link in node.neighbourhood.links.all()] == [LINK]
    for path in home.rglob("*"):
        assert not path.is_file() or b"SECRETWORD" not in path.read_bytes(), path
