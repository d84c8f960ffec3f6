"""An old PACS beside the node: `_GRID` lists what stays in it and gives it, within its limits."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from catalog import Attributes
from federation.outcomes import OnPartial
from node.app import Node
from node.contracts import Device, Service
from node.dimse import Requestor
from sim.ports import free_port
from tests.homes import Peer, RawInstance, Received, attribute, edited, phantoms
from tests.node.commandline import CommandLine
from tests.node.oldpacs.odd import odd
from tests.node.oldpacs.servers import KINDS, Known, Old
from tests.node.routing.homes import ask, ruled
from tests.running import PEERPACS, until

RULES = """
[[old_pacs]]
name = "OLD"
ae_title = "OLD"
receive_as = "ALPHA_OLD"
issuer = "PHANTOMS"
associations = 2
"""


class Grid(Peer):
    """A workstation that calls the AE title with `_GRID`."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.requestor = Requestor("PEER", "127.0.0.1", node.ports["dicom"], "ALPHA_GRID")


@contextlib.contextmanager
def beside(
    kind: str, folder: Path, rules: str = RULES, had: Sequence[RawInstance] = ()
) -> Iterator[tuple[Node, Old]]:
    """Yield a node and its old PACS, which had some instances before the node was there."""
    port = free_port()
    with KINDS[kind](folder / "old", Known("ALPHA_OLD", port)) as old:
        if had:
            old.store(*had)
        local = "127.0.0.1"
        theirs = Device(ae_title="OLD", address=local, port=old.port, services=(Service.ECHO, Service.STORE))
        workstation = Device(
            ae_title="PEER",
            issuer="PHANTOMS",
            services=(Service.ECHO, Service.FIND, Service.GET),
            called=("ALPHA_GRID",),
        )
        devices = (theirs, workstation)
        with ruled(folder / "home", rules, devices=devices, dicom={"port": port}) as node:
            yield node, old


def known(node: Node) -> dict[str, Any]:
    """Return how the old PACS stands."""
    [told] = ask(node, "old_pacs")
    found: dict[str, Any] = told
    return found


def study_uid(made: list[RawInstance]) -> str:
    return str(attribute(made[0], "StudyInstanceUID"))


@pytest.mark.parametrize("kind", ["orthanc", pytest.param("dcmqrscp", marks=pytest.mark.slow)])
def test_the_grid_lists_what_stays_in_the_old_pacs_and_gives_it(kind: str, tmp_path: Path) -> None:
    made = phantoms(1, size=4_000, instances=20)
    with beside(kind, tmp_path, had=[*made, *phantoms(2, size=4_000)]) as (node, old):
        until(lambda: known(node)["is_known_whole"] and known(node)["studies"] >= 2, 60)
        uid = study_uid(made)
        grid = Grid(node)
        keys = dict.fromkeys(("InstanceAvailability", "NumberOfStudyRelatedInstances", "RetrieveAETitle"), "")
        [row] = grid.find(StudyInstanceUID=uid, **keys)
        assert (row["InstanceAvailability"], row["NumberOfStudyRelatedInstances"]) == ("NEARLINE", 20)
        got = grid.get(uid)
        assert sorted(one.SOPInstanceUID for one in got) == sorted(one.SOPInstanceUID for one in made)
        sent = {one.SOPInstanceUID: one.data for one in made}
        if kind == "orthanc":
            assert {one.SOPInstanceUID: one.data for one in got} == sent
        # Nothing of it counts as held here, and a second look needs no C-MOVE.
        assert node.catalog.totals().instances == 0
        old.kill()
        assert len(grid.get(uid)) == 20


def test_one_image_is_moved_alone(tmp_path: Path) -> None:
    with beside("orthanc", tmp_path) as (node, old):
        made = phantoms(3, size=4_000, instances=5)
        old.store(*made)
        until(lambda: known(node)["is_known_whole"] and known(node)["studies"], 60)
        got = Received()
        one = made[2]
        where = {
            "00080052": {"vr": "CS", "Value": ["IMAGE"]},
            "0020000D": {"vr": "UI", "Value": [study_uid(made)]},
            "0020000E": {"vr": "UI", "Value": [str(attribute(one, "SeriesInstanceUID"))]},
            "00080018": {"vr": "UI", "Value": [one.SOPInstanceUID]},
        }
        answer = Grid(node).requestor.get(where, got)
        assert (answer.status, answer.completed) == (0, 1), answer
        assert [each.SOPInstanceUID for each in got.instances] == [one.SOPInstanceUID]
        [objects] = node.old.objects.values()
        until(lambda: len(list((node.home / "grid" / "old" / "OLD").glob("*/*/*"))) == 1)
        assert objects.cache.size < 3 * len(one.data)


def test_at_another_hour_it_is_neither_asked_nor_fetched_from_and_status_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hour = time.localtime().tm_hour
    closed = f"{RULES}\nhours = '{(hour + 2) % 24}-{(hour + 3) % 24}'"
    with beside("dcmqrscp", tmp_path, closed) as (node, old):
        old.store(*phantoms(4, size=4_000))
        say = CommandLine(node.home, capsys)
        assert "neither asked nor fetched from now" in say("status")
        assert known(node)["studies"] == 0
        command = [PEERPACS, "check", "--home", str(node.home)]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
        [finding] = [line for line in checked.stdout.splitlines() if "old PACS" in line]
        assert finding.startswith("✓ the old PACS OLD answers C-FIND")


def test_an_old_pacs_that_does_not_know_our_ae_title_is_told_with_what_to_do(tmp_path: Path) -> None:
    rules = RULES.replace("ALPHA_OLD", "ALPHA_NEW")
    with beside("dcmqrscp", tmp_path, rules) as (node, old):
        made = phantoms(5, size=4_000, instances=2)
        old.store(*made)
        until(lambda: known(node)["is_known_whole"] and known(node)["studies"], 60)
        got = Received()
        where = {
            "00080052": {"vr": "CS", "Value": ["STUDY"]},
            "0020000D": {"vr": "UI", "Value": [study_uid(made)]},
        }
        answer = Grid(node).requestor.get(where, got)
        assert (answer.failed, got.instances) == (2, [])
        assert known(node)["why"] == "OLD does not know the AE title ALPHA_NEW, so it cannot send to it."


def test_a_cancel_is_heeded_while_another_site_is_asked_for_its_instances(tmp_path: Path) -> None:
    port = free_port()
    with odd(port) as old:
        theirs = Device(ae_title="OLD", address="127.0.0.1", port=old.port, services=(Service.STORE,))
        made = phantoms(7, size=4_000, instances=3)
        study, series = study_uid(made), str(attribute(made[0], "SeriesInstanceUID"))
        old.keep(*(edited(one, StudyDate=f"{date.today():%Y%m%d}") for one in made))
        # Whoever says how many there are is asked for them only when somebody wants to know.
        old.states[series] = 3
        with ruled(tmp_path / "home", RULES, devices=[theirs], dicom={"port": port}) as node:
            # Not all of it is known yet.
            manners = {"on_incomplete": OnPartial.COMMENT}
            node.devices.put(Device(ae_title="PEER", issuer="PHANTOMS", services=(Service.FIND,), **manners))
            until(lambda: known(node)["studies"], 60)
            old.mute.add("IMAGE")
            requestor = Requestor("PEER", "127.0.0.1", port, "ALPHA_GRID")
            asked = requestor.find(of_series(study, series))
            began = len(old.questions)
            ended: list[float] = []

            def ask_and_end() -> None:
                assert list(asked) == []
                ended.append(time.monotonic())

            asking = threading.Thread(target=ask_and_end)
            asking.start()
            until(lambda: "IMAGE" in old.questions[began:])
            cancelled = time.monotonic()
            asked.cancel()
            asking.join(30)
            assert asked.status == 0xFE00
            # A tenth of a second, on a machine that has nothing else to do.
            assert ended[0] - cancelled < 3.0
            old.mute.clear()
            assert len(list(requestor.find(of_series(study, series)))) == 3


def of_series(study: str, series: str) -> Attributes:
    """Return the question which instances a series has."""
    return {
        "00080052": {"vr": "CS", "Value": ["IMAGE"]},
        "0020000D": {"vr": "UI", "Value": [study]},
        "0020000E": {"vr": "UI", "Value": [series]},
        "00080018": {"vr": "UI"},
    }


def test_nobody_else_may_send_to_the_ae_title_for_the_old_pacs(tmp_path: Path) -> None:
    with ruled(tmp_path / "other", RULES) as node:
        requestor = Requestor("WARD", "127.0.0.1", node.ports["dicom"], "ALPHA_OLD")
        assert {sent.status for sent in requestor.store(phantoms(6, size=4_000))} == {0x0110}
