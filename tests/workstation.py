"""A workstation at a node of a grid: what it sends, asks for and is given, by DCMTK and pynetdicom."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelGet,
)
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as StudyRootFind  # type: ignore[attr-defined]

from sim.phantoms import instances, study
from sim.ports import free_port
from tests.grid import GridNode
from tests.running import dcmtk, until

EXPLICIT = "1.2.840.10008.1.2.1"
Get = tuple[list[Dataset], Dataset, Dataset | None, float]
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


def ask(
    node: GridNode,
    called: str = "",
    level: str = "STUDY",
    as_ae: str = "WS",
    private: Dataset | None = None,
    **keys: str,
) -> Answers:
    """Ask a node's grid, for private attributes too; return the matches and the final response."""
    question = Dataset()
    question.update(private or {})
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


def seen(node: GridNode, expected: list[tuple[str, str]], seconds: float = 60.0, **keys: str) -> float:
    """Wait until a node's grid answers so; return the seconds it took."""
    started = time.monotonic()
    until(lambda: rows(ask(node, **keys)) == expected, seconds)
    return time.monotonic() - started


def kept_at(
    node: GridNode, folder: Path, seed: int, number: int, size: int = 20_000
) -> tuple[str, list[Path]]:
    """Store a study; return its UID and files."""
    paths = []
    folder.mkdir()
    for instance in instances(study(seed, 0, instances=number, size=size)):
        paths.append(folder / f"{instance.SOPInstanceUID}.dcm")
        paths[-1].write_bytes(instance.part10())
    dcmtk("storescu", "-xe", "-aec", node.ae_title, "127.0.0.1", str(node.port), *map(str, paths))
    return str(dcmread(paths[0]).StudyInstanceUID), paths


def is_seen(node: GridNode, uid: str, availability: str = "NEARLINE") -> bool:
    """Say whether a study is found in a node's grid, and can be had so."""
    said = dcmtk("findscu", "-S", "-aec", f"{node.ae_title}_GRID", "-k", "QueryRetrieveLevel=STUDY",
                 "-k", f"StudyInstanceUID={uid}", "-k", "InstanceAvailability",
                 "127.0.0.1", str(node.port))  # fmt: skip
    return availability in said


def get(node: GridNode, uid: str, as_ae: str = "ALPHAWS", called: str = "", on_object: object = None) -> Get:
    """Retrieve by C-GET; return data sets, final status, its identifier, and the seconds it took."""
    got: list[Dataset] = []

    def take(event: evt.Event) -> int:
        got.append(event.dataset)
        got[-1].as_sent = event.request.DataSet.getvalue()
        if callable(on_object):
            on_object(len(got))
        return 0

    ae = AE(ae_title=as_ae)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_requested_context(CTImageStorage, EXPLICIT)
    association = ae.associate(
        "127.0.0.1",
        node.port,
        ae_title=called or f"{node.ae_title}_GRID",
        ext_neg=[build_role(CTImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    assert association.is_established
    question = Dataset()
    question.QueryRetrieveLevel, question.StudyInstanceUID = "STUDY", uid
    started = time.monotonic()
    answers = list(association.send_c_get(question, StudyRootQueryRetrieveInformationModelGet))
    took = time.monotonic() - started
    association.release()
    return got, *answers[-1], took


@contextmanager
def listening(folder: Path, port: int = 0) -> Iterator[int]:
    """Run storescp with the AE title WS; yield its port. What it is sent lies in the folder."""
    folder.mkdir()
    port = port or free_port()
    command = ["storescp", "-aet", "WS", "-od", str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(
                lambda: (
                    "Accept" in dcmtk("echoscu", "-v", "-aec", "WS", "127.0.0.1", str(port), exit_code=None)
                )
            )
            yield port
        finally:
            process.terminate()
