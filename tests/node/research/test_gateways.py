"""A project's door in gateway processes: the same as in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.dimse import Requestor
from tests.homes import attribute, phantoms
from tests.privacy import files_with
from tests.running import RunningNode

pytestmark = pytest.mark.slow


def test_what_is_sent_to_a_gateway_is_de_identified_too(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "home")
    node.start(PEERPACS__PROCESSES__COUNT="3")
    try:
        node.cli("devices", "add", "CT1", "--address", "127.0.0.1", "--services", "echo")
        node.cli("projects", "add", "TRIAL-7", "--ae", "TRIAL7", "--sender", "CT1")
        for seed in range(4):
            sent = phantoms(seed, size=4_000)
            door = Requestor("CT1", "127.0.0.1", node.port, "TRIAL7")
            assert {answer.status for answer in door.store(sent)} == {0}
            refused = Requestor("CT2", "127.0.0.1", node.port, "TRIAL7")
            with pytest.raises(Exception, match=r"CT2|calling|reject"):
                assert all(answer.status == 0 for answer in refused.store(sent)), "CT2"
        kept = {row["name"]: row["instances"] for row in node.json("archives", "list")}
        assert kept["trial-7"] == 4
        names = str(attribute(sent[0], "PatientID")).encode()
        assert list(files_with([names], node.home)) == []
    finally:
        node.stop()
