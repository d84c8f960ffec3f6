"""Each archive of a node has its own copies: under its own grants, and each comes home into its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.control import ask
from tests.grid import GridNode
from tests.homes import Peer, RawInstance, attribute, edited, phantoms
from tests.node.copies import hospitals, kept, state
from tests.running import until

pytestmark = pytest.mark.slow


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[GridNode, GridNode]]:
    """Alpha with the archives main and lab, and beta that may keep copies of both."""
    alpha, beta = nodes = hospitals(tmp_path / "grid", "alpha", "beta")
    alpha.say("archives", "add", "lab", "--ae", "LAB")
    yield alpha, beta
    for node in nodes:
        if node.process is not None:
            node.stop()


def names(node: GridNode, called: str, uid: str) -> list[Any]:
    """Return the patients of a study's instances as an archive gives them."""
    return [attribute(each, "PatientName") for each in Peer.at(node.port, called).get(uid)]


def test_a_study_of_two_archives_has_its_copies_twice_and_comes_home_into_each(
    two: tuple[GridNode, GridNode], tmp_path: Path
) -> None:
    alpha, beta = two
    main = phantoms(1, instances=3)
    uid = str(attribute(main[0], "StudyInstanceUID"))
    lab: list[RawInstance] = [edited(each, PatientName="LAB^ONE") for each in main]
    assert set(Peer.at(alpha.port).store(*main)) == {0}
    assert set(Peer.at(alpha.port, "LAB").store(*lab)) == {0}
    alpha.say("copies", "add", "all", "--copies", "2")
    until(lambda: state(alpha)["studies"].get("all") == {"met": 1, "lacking": 1})
    assert [row["archive"] for row in ask(alpha.home, "copies_lacking")] == ["lab"], (
        "nothing of it is granted"
    )
    assert kept(beta) == 3

    alpha.say("grants", "share", "of-lab", "--archive", "lab")
    alpha.say("grants", "add", "beta", "of-lab", "host_replicas")
    until(lambda: state(alpha)["studies"]["all"] == {"met": 2, "lacking": 0}, 90)
    assert kept(beta) == 6

    assert alpha.stop() == 0
    for folder in ("archives/main", "archives/lab", "copies"):
        shutil.rmtree(alpha.home / folder)
    alpha.start(**alpha.env)
    until(lambda: len(names(alpha, "ALPHA", uid)) == 3 and len(names(alpha, "LAB", uid)) == 3, 90)
    assert set(map(str, names(alpha, "LAB", uid))) == {"LAB^ONE"}
    assert "LAB^ONE" not in map(str, names(alpha, "ALPHA", uid))

    alpha.say("copies", "add", "all", "--copies", "1")
    alpha.say("copies", "add", "lab", "--copies", "2", "--number", "1", "--archive", "lab")
    assert "archives list" in alpha.say("copies", "add", "no", "--archive", "no", code=1)
    until(lambda: kept(beta) == 3, 90)
    assert [row["archive"] for row in ask(alpha.home, "copy_rules")] == ["lab", ""]


def test_what_lies_at_another_site_alone_is_read_by_its_own_archive(
    two: tuple[GridNode, GridNode], tmp_path: Path
) -> None:
    alpha, beta = two
    alpha.say("grants", "share", "of-lab", "--archive", "lab")
    alpha.say("grants", "add", "beta", "of-lab", "host_replicas")
    alpha.say("copies", "add", "all", "--copies", "2")
    alpha.stop()
    mark = {"PEERPACS__COPIES__NEARLINE_ABOVE_MB": "1", "PEERPACS__COPIES__NEARLINE_AFTER_DAYS": "0"}
    alpha.start(**alpha.env, **mark)
    sent = phantoms(2, instances=8, size=500_000)
    uid = str(attribute(sent[0], "StudyInstanceUID"))
    peer = Peer.at(alpha.port, "LAB")
    assert set(peer.store(*sent)) == {0}
    availability = {"StudyInstanceUID": uid, "InstanceAvailability": ""}
    until(lambda: [row["InstanceAvailability"] for row in peer.find(**availability)] == ["NEARLINE"], 90)
    assert {each.data for each in peer.get(uid)} == {each.data for each in sent}
    assert kept(beta) == 8
