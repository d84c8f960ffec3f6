"""A node as DCMTK sees it: echoscu, storescu, findscu, movescu, getscu, storescp."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from sim.ports import free_port
from tests.running import RunningNode, as_dcmtk_sends, dcmtk, running, until
from tests.split import running_split

CT = str(get_testdata_file("CT_small.dcm"))
MR = str(get_testdata_file("MR_small.dcm"))
CT_STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(running, id="whole"),
        pytest.param(running_split, id="split", marks=pytest.mark.slow),
    ],
)
def alpha(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with request.param(tmp_path_factory.mktemp("alpha")) as node:
        dcmtk("storescu", "-aec", "ALPHA", "127.0.0.1", str(node.port), CT, MR)
        yield node


@pytest.mark.parametrize("program", ["echoscu", "storescu", "findscu", "movescu", "getscu", "storescp"])
def test_programs_are_those_of_dcmtk_also_where_pynetdicoms_come_first_on_the_path(program: str) -> None:
    assert f"$dcmtk: {program}" in dcmtk(program, "--version")


def find(node: RunningNode, *keys: str, level: str = "STUDY") -> list[dict[str, str]]:
    """Return what findscu prints, one dict of keyword to value per answer."""
    arguments = [part for key in (f"QueryRetrieveLevel={level}", *keys) for part in ("-k", key)]
    text = dcmtk("findscu", "-v", "-S", "-aec", "ALPHA", *arguments, "127.0.0.1", str(node.port))
    answers = re.split(r"Find Response: \d+ ", text)[1:]
    pattern = re.compile(
        r"^[IW]: \([0-9a-f,]{9}\) \w\w (?:\[(.*?)\s*\]|=(\S+)|(\S+)|\(no value).*# +\d+, ?\d* (\w+)", re.M
    )
    return [
        {
            match[4]: (match[1] or match[2] or match[3] or "").strip("\0 ")
            for match in pattern.finditer(answer)
        }
        for answer in answers
    ]


def test_echoscu_is_answered(alpha: RunningNode) -> None:
    assert "Received Echo Response (Success)" in dcmtk(
        "echoscu", "-v", "-aec", "ALPHA", "127.0.0.1", str(alpha.port)
    )


def test_a_stored_study_is_found_by_each_of_its_keys(alpha: RunningNode) -> None:
    for key in (
        "PatientID=1CT1",
        "PatientName=CompressedSamples^CT1",
        "PatientName=compressed*",
        "StudyDate=20040119",
    ):
        answers = find(alpha, key, "StudyInstanceUID", "ModalitiesInStudy")
        assert [answer["StudyInstanceUID"] for answer in answers if answer["ModalitiesInStudy"] == "CT"] == [
            CT_STUDY
        ], key


def test_any_tag_is_searchable_a_moment_later(alpha: RunningNode) -> None:
    study = f"StudyInstanceUID={CT_STUDY}"
    until(
        lambda: (
            len(find(alpha, study, "ManufacturerModelName=RHAPSODE", "SeriesInstanceUID", level="SERIES"))
            == 1
        )
    )
    until(lambda: len(find(alpha, study, "ConvolutionKernel=*", "SeriesInstanceUID", level="SERIES")) == 1)
    until(lambda: not find(alpha, study, "FilterType=NO SUCH", "SeriesInstanceUID", level="SERIES"))


def test_getscu_receives_what_storescu_sent(alpha: RunningNode, tmp_path: Path) -> None:
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={CT_STUDY}"]
    dcmtk("getscu", "-S", "-aec", "ALPHA", "-od", str(tmp_path), *keys, "127.0.0.1", str(alpha.port))
    [received] = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert received == as_dcmtk_sends(CT)


def test_movescu_makes_the_node_send_to_a_device_of_the_book(alpha: RunningNode, tmp_path: Path) -> None:
    port = free_port()
    alpha.cli("devices", "add", "READER", "--address", "127.0.0.1", "--port", str(port), "--services", "echo")
    with subprocess.Popen(["storescp", "-od", str(tmp_path), "-aet", "READER", str(port)]) as reader:
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={CT_STUDY}"]
        until(lambda: "Success" in dcmtk("echoscu", "-v", "127.0.0.1", str(port), exit_code=None))
        text = dcmtk(
            "movescu", "-v", "-S", "-aec", "ALPHA", "-aem", "READER", *keys, "127.0.0.1", str(alpha.port)
        )
        reader.terminate()
    assert "Received Final Move Response (Success)" in text
    [received] = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert received == as_dcmtk_sends(CT)


def test_a_move_to_an_unknown_destination_is_a801_and_the_node_says_what_to_add(alpha: RunningNode) -> None:
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={CT_STUDY}"]
    move = ["movescu", "-v", "-S", "-aec", "ALPHA", "-aem", "NOBODY", *keys, "127.0.0.1", str(alpha.port)]
    assert "Refused: MoveDestinationUnknown" in dcmtk(*move, exit_code=None)
    until(lambda: "peerpacs devices add NOBODY" in alpha.cli("status"))
