"""Gateway, catalog and storage on hosts of their own: network namespaces, with a line that can be cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.hosts import Host, bridge
from tests.running import until
from tests.split import SplitNode

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces"),
]
CT = str(get_testdata_file("CT_small.dcm"))
MR = str(get_testdata_file("MR_small.dcm"))
PORT = 7446


@pytest.fixture
def hosts() -> Iterator[dict[str, Host]]:
    made: dict[str, Host] = {}
    with bridge() as line:
        try:
            for number, name in enumerate(("gateway", "catalog", "storage", "device"), 1):
                made[name] = Host(line, name, number)
            yield made
        finally:
            for host in made.values():
                host.close()


def test_three_hosts_are_one_node_and_a_line_that_was_cut_is_of_use_again(
    tmp_path: Path, hosts: dict[str, Host]
) -> None:
    urls = {role: f"tcp://{hosts[role].address}:{PORT}" for role in ("catalog", "storage")}
    node = SplitNode(tmp_path, urls=urls)
    [gateway], device = node.gateways, hosts["device"]
    for part, role in ((node.storage, "storage"), (node.catalog, "catalog"), (gateway, "gateway")):
        part.prefix = hosts[role].prefix
    there = "-aet", "DEVICE", "-aec", "ALPHA", hosts["gateway"].address, str(node.port)
    try:
        node.start()
        services = ("--services", "echo,store,find,get")
        node.cli("devices", "add", "DEVICE", "--address", device.address, *services)
        device.run("storescu", *there, CT)
        for role in ("storage", "catalog"):
            hosts[role].cut()
            assert not device.is_well("storescu", *there, MR), f"without its {role} nothing is acknowledged"
            hosts[role].mend()
            until(lambda: device.is_well("storescu", *there, MR), seconds=60)
        received = tmp_path / "received"
        received.mkdir()
        device.run("getscu", "-S", "-od", str(received), "-k", "QueryRetrieveLevel=STUDY",
                   "-k", f"StudyInstanceUID={study(node)}", *there)  # fmt: skip
        assert len(list(received.iterdir())) == 1
        assert node.json("status")["archive"]["instances"] == 2
    finally:
        node.stop()


def study(node: SplitNode) -> str:
    """Return the CT's StudyInstanceUID."""
    [row] = node.json("find", "-k", "ModalitiesInStudy=CT", "-k", "StudyInstanceUID")
    uid: str = row["0020000D"]["Value"][0]
    return uid
