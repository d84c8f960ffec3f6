"""Hospitals as processes, one grid: what is sent to one is found at the others, and stays findable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as StudyRootFind  # type: ignore[attr-defined]

from tests.grid import GridNode
from tests.running import dcmtk, until

Answers = tuple[list[Dataset], Dataset]


def object_of(folder: Path, uid: str, series: str = "1", number: int = 1, **values: str) -> str:
    """Write a small CT of a study; return its path."""
    data = dcmread(str(get_testdata_file("CT_small.dcm")))
    data.StudyInstanceUID = uid
    data.SeriesInstanceUID = f"{uid}.{series}"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{series}.{number}"
    data.InstanceNumber = str(number)
    data.PatientID, data.PatientName, data.AccessionNumber = "4711", "NOVAK^JAN", "A1"
    for keyword, value in values.items():
        setattr(data, keyword, value)
    path = folder / f"{data.SOPInstanceUID}.{len(list(folder.iterdir()))}.dcm"
    data.save_as(path)
    return str(path)


def send(node: GridNode, *paths: str) -> None:
    dcmtk("storescu", "-aec", node.ae_title, "127.0.0.1", str(node.port), *paths)


def ask(node: GridNode, called: str = "", level: str = "STUDY", as_ae: str = "WS", **keys: str) -> Answers:
    """Ask a node's grid; return the matches and the final response."""
    question = Dataset()
    question.QueryRetrieveLevel = level
    for keyword in ("StudyInstanceUID", "PatientID", "RetrieveAETitle", "InstanceAvailability"):
        setattr(question, keyword, "")
    for keyword, value in keys.items():
        setattr(question, keyword, value)
    ae = AE(ae_title=as_ae)
    ae.add_requested_context(StudyRootFind)
    association = ae.associate("127.0.0.1", node.port, ae_title=called or f"{node.ae_title}_GRID")
    assert association.is_established
    try:
        found = list(association.send_c_find(question, StudyRootFind))
    finally:
        association.release()
    return [data for status, data in found if status.Status in (0xFF00, 0xFF01)], found[-1][0]


def rows(answers: Answers) -> list[tuple[str, str]]:
    return [(row.StudyInstanceUID, row.InstanceAvailability) for row in answers[0]]


def seen(node: GridNode, expected: list[tuple[str, str]], seconds: float = 15.0, **keys: str) -> float:
    """Wait until a node's grid answers so; return the seconds it took."""
    started = time.monotonic()
    until(lambda: rows(ask(node, **keys)) == expected, seconds)
    return time.monotonic() - started


Make = Callable[..., GridNode]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return what makes and starts a node."""
    nodes: list[GridNode] = []

    def start(name: str) -> GridNode:
        node = GridNode(tmp_path / name, name)
        nodes.append(node)
        node.start(**node.env)
        return node

    yield start
    for node in nodes:
        if node.process is not None:
            node.stop()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def test_what_is_sent_to_alpha_is_found_at_beta_and_outlives_alphas_absence(make: Make, files: Path) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta)
    send(alpha, object_of(files, "1.2.1"), object_of(files, "1.2.1", "2"))
    took = seen(beta, [("1.2.1", "NEARLINE")], PatientID="alpha/4711")
    assert took < 10
    text = dcmtk(
        "findscu", "-v", "-S", "-aec", "BETA_GRID", "-k", "QueryRetrieveLevel=STUDY",
        "-k", "StudyInstanceUID", "-k", "NumberOfStudyRelatedSeries", "-k", "AccessionNumber=A1",
        "127.0.0.1", str(beta.port),
    )  # fmt: skip
    assert "1.2.1" in text
    assert "BETA_GRID" in text
    (row,), status = ask(beta, AccessionNumber="A1", NumberOfStudyRelatedSeries="")
    assert (row.RetrieveAETitle, row.NumberOfStudyRelatedSeries) == ("BETA_GRID", 2)
    assert (status.Status, "ErrorComment" in status) == (0, False)
    assert rows(ask(alpha)) == [("1.2.1", "ONLINE")]
    assert ask(beta, called="BETA")[0] == [], "its own archive has nothing"
