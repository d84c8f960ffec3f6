"""Gateway, catalog and storage of one node as three processes on three addresses: they are one node."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import zmq

from node.config import load_config
from node.dimse import Requestor
from node.roles import catalog, storage
from node.roles.calls import SERVER_KEYS, RoleClient, is_there
from node.transfers.wires import Keys, read_keys
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


@pytest.mark.slow
def test_who_has_another_key_is_answered_by_no_role(node: SplitNode) -> None:
    keys = read_keys(node.home / SERVER_KEYS)
    public, secret = map(bytes.decode, zmq.curve_keypair())
    roles = load_config(node.home).roles
    for role, url, question in (
        ("catalog", roles.catalog, catalog.PRESENT),
        ("storage", roles.storage, storage.PRESENT),
    ):
        for its, is_known in ((keys, True), (Keys(keys.server_public, public, secret), False)):
            client = RoleClient(role, url, its)
            assert is_there(client, question) == is_known, (role, url)
            client.close()


def test_check_names_the_roles_and_where_they_are(node: SplitNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(role: str) -> dict[str, str]:
        _, text, _ = node.gateways[0].answer("check", "--json")
        [finding] = [one for one in json.loads(text) if one["what"].startswith(f"The {role} of this node")]
        found: dict[str, str] = finding
        return found

    monkeypatch.setenv("PEERPACS__ROLES__RUN", "gateway")
    assert said("catalog")["mark"] == "good"
    assert said("storage")["mark"] == "good"
    monkeypatch.setenv("PEERPACS__ROLES__STORAGE", "tcp://127.0.0.3:1")
    assert said("storage")["mark"] == "failure"
    assert "tcp://127.0.0.3:1" in said("storage")["what"]
    assert "secrets/gateway.key" in said("storage")["fix"]


@pytest.mark.parametrize("role", ["gateway", "storage"])
def test_a_host_without_the_catalog_checks_what_runs_there_and_keeps_no_book_of_its_own(
    node: SplitNode, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    [gateway] = node.gateways
    part = gateway if role == "gateway" else node.storage
    monkeypatch.setenv("PEERPACS__ROLES__RUN", role)
    monkeypatch.setenv("PEERPACS__DICOM__PORT", str(gateway.port))
    _, text, _ = part.answer("check", "--json")
    found = {one["what"]: one["mark"] for one in json.loads(text)}
    assert found[f"the {role} of this node runs here"] == "good"
    assert any("answers C-ECHO" in what for what in found) == (role == "gateway")
    assert "failure" not in found.values(), found
    for words in (("devices", "add", "CT9"), ("users", "list")):
        code, _, complaint = part.answer(*words)
        assert (code, "Run this on the host that has the catalog" in complaint) == (2, True)
