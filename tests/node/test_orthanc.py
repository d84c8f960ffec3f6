"""A node and Orthanc as each other's peer: each stores to, asks and retrieves from the other."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file

from sim.ports import free_port
from sim.servers import orthanc_program
from tests.running import RunningNode, as_dcmtk_sends, dcmtk, running, until

CT = Path(str(get_testdata_file("CT_small.dcm")))
JPEG2000 = Path(str(get_testdata_file("JPEG2000.dcm")))
CT_STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


class OrthancPeer:
    """A running Orthanc that knows the node as `alpha`; `rest` speaks to it."""

    def __init__(self, folder: Path, node: RunningNode) -> None:
        self.port = free_port()
        self.http = free_port()
        folder.mkdir()
        settings = {
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "HttpPort": self.http,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomModalities": {"alpha": ["ALPHA", "127.0.0.1", node.port]},
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowMove": True,
            "DicomAlwaysAllowGet": True,
        }
        configuration = folder / "orthanc.json"
        configuration.write_text(json.dumps(settings))
        self.log = (folder / "log").open("w")
        command = [orthanc_program(), str(configuration)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)

    def rest(self, path: str, body: bytes | dict[str, Any] | None = None) -> Any:
        """GET a path, or POST a body to it; return its JSON."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=data)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read() or b"null")

    def delete(self, path: str) -> None:
        """DELETE a path."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", method="DELETE")
        urllib.request.urlopen(request, timeout=60).close()

    def is_up(self) -> bool:
        """Say whether it answers."""
        try:
            return bool(self.rest("/system"))
        except OSError:
            return False

    def close(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait(timeout=20)
        self.log.close()


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running(tmp_path_factory.mktemp("alpha")) as node:
        yield node


@pytest.fixture(scope="module")
def orthanc(alpha: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancPeer]:
    peer = OrthancPeer(tmp_path_factory.mktemp("orthanc") / "home", alpha)
    try:
        until(peer.is_up)
        where = ("--address", "127.0.0.1", "--port", str(peer.port), "--services", "echo,store,find,move,get")
        alpha.cli("devices", "add", "ORTHANC", *where)
        yield peer
    finally:
        peer.close()


def test_orthanc_stores_to_the_node_and_finds_it_there(alpha: RunningNode, orthanc: OrthancPeer) -> None:
    for path in (CT, JPEG2000):
        instance = orthanc.rest("/instances", path.read_bytes())["ID"]
        sent = orthanc.rest("/modalities/alpha/store", {"Resources": [instance], "Synchronous": True})
        assert sent["FailedInstancesCount"] == 0
    query = {
        "Level": "Study",
        "Query": {"PatientID": "1CT1", "StudyInstanceUID": "", "ModalitiesInStudy": ""},
    }
    answers = orthanc.rest("/modalities/alpha/query", query)
    found = orthanc.rest(f"/queries/{answers['ID']}/answers?expand&simplify")
    assert [answer["StudyInstanceUID"] for answer in found] == [CT_STUDY]


def test_orthanc_retrieves_from_the_node_by_c_move(alpha: RunningNode, orthanc: OrthancPeer) -> None:
    dcmtk("storescu", "-aec", "ALPHA", "127.0.0.1", str(alpha.port), str(CT))
    for instance in orthanc.rest("/instances"):
        request = urllib.request.Request(
            f"http://127.0.0.1:{orthanc.http}/instances/{instance}", method="DELETE"
        )
        urllib.request.urlopen(request, timeout=60).close()
    query = {"Level": "Study", "Query": {"StudyInstanceUID": CT_STUDY}}
    answers = orthanc.rest("/modalities/alpha/query", query)
    orthanc.rest(
        f"/queries/{answers['ID']}/answers/0/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True}
    )
    assert len(until(lambda: orthanc.rest("/instances"))) == 1


def test_the_node_sends_to_orthanc_and_finds_and_gets_there(
    alpha: RunningNode, orthanc: OrthancPeer, tmp_path: Path
) -> None:
    alpha.cli("echo", "ORTHANC")
    alpha.cli("send", "ORTHANC", str(CT), str(JPEG2000))
    answers = alpha.json("find", "ORTHANC", "-k", "PatientID=1CT1", "-k", "StudyInstanceUID")
    assert CT_STUDY in json.dumps(answers)
    alpha.cli("get", "ORTHANC", "-od", str(tmp_path), "-k", f"StudyInstanceUID={CT_STUDY}")
    [received] = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert received == as_dcmtk_sends(CT)


def test_the_node_has_orthanc_move_a_study_to_it(alpha: RunningNode, orthanc: OrthancPeer) -> None:
    name = str(get_testdata_file("MR_small.dcm"))
    mr = pydicom.dcmread(name, stop_before_pixels=True)
    orthanc.rest("/instances", Path(name).read_bytes())
    alpha.cli("move", "ORTHANC", "-aem", "ALPHA", "-k", f"StudyInstanceUID={mr.StudyInstanceUID}")
    found = alpha.json("find", "-k", f"StudyInstanceUID={mr.StudyInstanceUID}")
    assert mr.StudyInstanceUID in json.dumps(found)
