"""A copy helps others while its owner is away: whom the owner lets retrieve, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dicomweb_client import DICOMwebClient

from sim.ports import free_port
from tests.grid import GridNode
from tests.node.copies import is_done
from tests.running import until
from tests.workstation import get, is_seen, kept_at

pytestmark = pytest.mark.slow


@pytest.fixture
def four(tmp_path: Path) -> Iterator[tuple[GridNode, GridNode, GridNode, GridNode]]:
    """Alpha, beta that keeps its copies, gamma that may retrieve, and delta that may only look."""
    nodes = [GridNode(tmp_path / name, name) for name in ("alpha", "beta", "gamma", "delta")]
    for node in nodes:
        node.env["PEERPACS__WEB__PLAIN_PORT"] = str(free_port())
        node.start(**node.env)
    alpha, beta, gamma, delta = nodes
    alpha.admit(beta, "replica-peer")
    alpha.admit(gamma)
    alpha.admit(delta, "none")
    alpha.grant(delta, "catalog", "find_live")
    for node in (beta, gamma, delta):
        node.cli("devices", "add", "ALPHAWS", "--services", "echo,find,move,get", "--called",
                 f"{node.ae_title}_GRID", "--issuer", "PHANTOMS", "--port", "104",
                 "--address", "127.0.0.1")  # fmt: skip
    until(lambda: gamma.is_connected(beta) and delta.is_connected(beta), 60)
    yield alpha, beta, gamma, delta
    for node in nodes:
        if node.process is not None:
            node.stop()


def test_a_keeper_gives_a_lost_owners_studies_to_whom_the_owner_let(
    four: tuple[GridNode, GridNode, GridNode, GridNode], tmp_path: Path
) -> None:
    alpha, beta, gamma, delta = four
    alpha.say("copies", "add", "all", "--copies", "2", "--must", "BETA")
    uid, paths = kept_at(alpha, tmp_path / "sent", 61, 4)
    bad, _ = kept_at(alpha, tmp_path / "bad", 62, 3)
    alpha.say("correct", uid, "StudyDescription=MENDED", "--reason", "test")
    alpha.say("reject", bad, "--reason", "test")
    until(lambda: is_done_of(alpha), 60)
    for node in (beta, gamma, delta):
        until(lambda node=node: is_seen(node, uid) and not is_seen(node, bad), 30)
    at_alpha = {data.SOPInstanceUID: data.PixelData for data in get(alpha, uid, "WS", "ALPHA")[0]}
    assert set(at_alpha) == {path.stem for path in paths}
    alpha.kill()

    until(lambda: is_seen(gamma, uid, "NEARLINE") and not gamma.is_connected(alpha), 30)
    got, status, _, _ = get(gamma, uid)
    assert (len(got), status.Status) == (4, 0)
    assert {data.SOPInstanceUID: data.PixelData for data in got} == at_alpha
    assert {data.StudyDescription for data in got} == {"MENDED"}
    assert get(gamma, bad)[0] == []
    web = DICOMwebClient(f"http://127.0.0.1:{gamma.env['PEERPACS__WEB__PLAIN_PORT']}/grid/dicom-web")
    assert {each.SOPInstanceUID: each.PixelData for each in web.retrieve_study(uid)} == at_alpha

    until(lambda: is_seen(beta, uid, "ONLINE"), 30)
    got, status, _, _ = get(beta, uid)
    assert (len(got), status.Status) == (4, 0)
    assert {data.StudyDescription for data in got} == {"MENDED"}

    until(lambda: is_seen(delta, uid, "UNAVAILABLE"), 30)
    got, status, _, _ = get(delta, uid)
    assert (got, status.Status) == ([], 0xA702)


def test_a_retrieve_that_was_revoked_holds_at_the_keeper(
    four: tuple[GridNode, GridNode, GridNode, GridNode], tmp_path: Path
) -> None:
    alpha, beta, gamma, _ = four
    alpha.say("copies", "add", "all", "--copies", "2", "--must", "BETA")
    uid, _ = kept_at(alpha, tmp_path / "sent", 63, 2)
    until(lambda: is_done_of(alpha), 60)
    until(lambda: is_seen(gamma, uid))
    alpha.grant(gamma, "catalog", "find_live")
    until(lambda: alpha.audit("readers told")[-1]["detail"]["readers"] == 1, 30)
    assert beta.is_connected(gamma)
    alpha.kill()
    until(lambda: is_seen(gamma, uid, "UNAVAILABLE"), 30)
    assert get(gamma, uid)[0] == []


def is_done_of(node: GridNode) -> bool:
    """Say whether all copies are there, and their readers told."""
    return is_done(node) and bool(node.audit("readers told"))
