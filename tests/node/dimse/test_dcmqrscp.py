"""DCMTK's archive and clients at their corners: our requestor at dcmqrscp, cancels of findscu and movescu."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import Attributes, Query
from node.contracts import Device
from node.dimse import Requestor
from sim.ports import free_port
from tests.node.dimse.archive import Archive, identifier, instances, serving
from tests.node.dimse.peers import dcmtk, running, storescp
from tests.node.dimse.test_services import taking

LOOPBACK = "127.0.0.1"
CONFIGURATION = """
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
ours = (OURS, localhost, {our_port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
THEIRS {storage} RW (200, 1024mb) ANY
AETable END
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Run dcmqrscp; return its port and the port where it expects us."""
    path = shutil.which("dcmqrscp")
    if path is None:
        pytest.skip("dcmqrscp of DCMTK is not installed")
    port, our_port = free_port(), free_port()
    storage = tmp_path / "theirs"
    storage.mkdir()
    configuration = tmp_path / "dcmqrscp.cfg"
    configuration.write_text(CONFIGURATION.format(port=port, our_port=our_port, storage=storage))
    with running([path, "-c", str(configuration), "--fork"], port):
        yield port, our_port


def study() -> Attributes:
    return identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")


def test_our_requestor_stores_finds_gets_and_moves_at_dcmqrscp(
    theirs: tuple[int, int], tmp_path: Path
) -> None:
    port, our_port = theirs
    made = instances(6, 30_000)
    requestor = Requestor("OURS", LOOPBACK, port, "THEIRS")
    requestor.echo()
    assert {sent.status for sent in requestor.store(made)} == {0}
    found = list(requestor.find(identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="", PatientName="")))
    assert [one["0020000D"]["Value"] for one in found] == [["1.2.3"]]
    assert found[0]["00100010"]["Value"] == [{"Alphabetic": "Secret^Patient"}]
    mine = Archive()
    got = requestor.get(study(), taking(mine))
    assert (got.status, got.completed) == (0, 6)
    for stored in made:
        assert mine.instances[stored.SOPInstanceUID].size == stored.size
    folder = tmp_path / "moved"
    folder.mkdir()
    path = shutil.which("storescp", path="/usr/bin:/usr/local/bin")
    assert path
    with running([path, "-od", str(folder), str(our_port)], our_port):
        moved = requestor.move(study(), "OURS")
    assert (moved.status, moved.completed) == (0, 6)
    assert len(list(folder.iterdir())) == 6


def test_findscu_cancels() -> None:
    def endless(query: Query) -> Iterator[Attributes]:
        while True:
            yield study()

    with serving() as node:
        node.archive.answers = endless
        said = dcmtk(
            "findscu", "-v", "-S", "-aec", "ALPHA", "--cancel", "3", "-k", "QueryRetrieveLevel=STUDY",
            "-k", "StudyInstanceUID", LOOPBACK, str(node.port),
        )  # fmt: skip
    assert "Cancel" in said


def test_a_storescp_that_takes_only_implicit_gets_everything_it_can(tmp_path: Path) -> None:
    with serving() as node, storescp(tmp_path, "+xi") as port:
        for stored in instances(3, 3000):
            node.archive.put(stored)
        for stored in instances(2, 3000, "1.2.9", "1.2.840.10008.1.2.4.70"):
            node.archive.put(stored)
        node.book.destinations["DEST"] = Device(ae_title="DEST", address=LOOPBACK, port=port)
        moved = Requestor("VIEWER", LOOPBACK, node.port, "ALPHA").move(
            identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=["1.2.3", "1.2.9"]), "DEST"
        )
    assert (moved.status, moved.completed, moved.failed) == (0xB000, 3, 2)
    assert len(list(tmp_path.iterdir())) == 3
    assert "4.70" in moved.comment
