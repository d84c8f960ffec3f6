"""Gateway, catalog and storage of one node as three processes on three addresses: they are one node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node.dimse import Requestor
from tests.homes import Received, phantoms
from tests.split import SplitNode, running_split

LEVEL = {"00080052": {"vr": "CS", "Value": ["STUDY"]}}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitNode]:
    with running_split(tmp_path_factory.mktemp("split")) as node:
        yield node


def requestor(node: SplitNode, ae_title: str = "CT", gateway: int = 0) -> Requestor:
    return Requestor(ae_title, "127.0.0.1", node.gateways[gateway].port, "ALPHA")


def test_what_was_stored_is_found_and_given(node: SplitNode) -> None:
    sent = phantoms(1, size=50_000)
    assert {answer.status for answer in requestor(node).store(sent)} == {0}
    found = list(requestor(node).find({**LEVEL, "0020000D": {"vr": "UI"}}))
    assert len(found) == 1
    received = Received()
    requestor(node).get({**LEVEL, "0020000D": found[0]["0020000D"]}, received)
    assert len(received.instances) == len(sent)
    assert node.json("status")["archive"]["instances"] == len(sent)
    assert node.cli("verify")
