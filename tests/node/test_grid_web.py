"""The grid over the web: dicomweb-client at one hospital reads what lies at another, by the user's right."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote_plus, urlsplit

import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from PIL import Image

from sim.ports import free_port
from tests.grid import GridNode
from tests.homes import phantoms
from tests.node.web.asking import JSON, Answer, Remote, file_of, path_of
from tests.running import until
from tests.workstation import object_of, send


class GridWeb(Remote):
    """Somebody who asks a node for what the grid has."""

    root = "/grid/dicom-web"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[GridNode, GridNode, Remote, GridWeb]]:
    """Alpha, which serves its own archive, and beta, which serves the grid."""
    nodes = [GridNode(tmp_path / name, name) for name in ("alpha", "beta")]
    ports = []
    for node in nodes:
        ports.append(free_port())
        node.start(**node.env, PEERPACS__WEB__PLAIN_PORT=str(ports[-1]))
    alpha, beta = nodes
    yield alpha, beta, Remote(ports[0]), GridWeb(ports[1])
    for node in nodes:
        if node.process is not None:
            node.stop()


def test_dicomweb_client_reads_at_beta_what_lies_at_alpha_and_is_told_when_alpha_is_missing(
    pair: tuple[GridNode, GridNode, Remote, GridWeb], tmp_path: Path
) -> None:
    alpha, beta, there, grid = pair
    alpha.admit(beta)
    stored = [pydicom.dcmread(BytesIO(file_of(each))) for each in phantoms(71, 3, instances=3, size=60_000)]
    DICOMwebClient(there.url).store_instances(stored)
    study, series = stored[0].StudyInstanceUID, stored[0].SeriesInstanceUID
    client = DICOMwebClient(grid.url)
    until(lambda: [row["00201208"]["Value"] for row in client.search_for_studies()] == [[3]])
    [found] = client.search_for_studies(
        search_filters={"StudyInstanceUID": study}, fields=["InstanceAvailability"], get_remaining=True
    )
    assert (found["00201208"]["Value"], found["00080056"]["Value"]) == ([3], ["NEARLINE"])
    assert found["00081190"]["Value"] == [f"{grid.url}/studies/{study}"]
    assert found["00100020"]["Value"] == [f"PHANTOMS/{stored[0].PatientID}"], "another hospital's patient"
    assert len(client.search_for_series(study)) == 1
    assert len(client.search_for_instances(study, limit=2)) == 2
    got = client.retrieve_study(study)
    assert [each.SOPInstanceUID for each in got] == [each.SOPInstanceUID for each in stored]
    assert (got[0].PixelData, got[0].PatientID) == (stored[0].PixelData, f"PHANTOMS/{stored[0].PatientID}")
    assert len(client.retrieve_series_metadata(study, series)) == 3
    uids = (study, series, stored[1].SOPInstanceUID)
    metadata = client.retrieve_instance_metadata(*uids)
    [pixels] = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert pixels == stored[1].PixelData
    [frame] = client.retrieve_instance_frames(*uids, [1])
    assert frame == stored[1].PixelData
    rendered = client.retrieve_instance_rendered(*uids, media_types=("image/png",))
    assert Image.open(BytesIO(rendered)).size == (stored[1].Columns, stored[1].Rows)

    send(alpha, object_of(tmp_path, "1.2.1"))
    until(lambda: [1] in [row["00201208"]["Value"] for row in client.search_for_studies()])
    alpha.kill()
    until(lambda: not beta.is_connected(alpha))
    lost = grid.get("/studies/1.2.1", "multipart/related; type=application/dicom")
    assert (lost.status, "alpha" in lost.json["detail"]) == (503, True)
    assert grid.get("/studies/1.2.1/metadata").status == 503
    assert len(client.retrieve_study(study)) == 3, "copies are here still"
    answer = until(lambda: grid.get("/studies") if "warning" in grid.get("/studies").headers else None, 30)
    assert answer.status == 200
    assert "299" in answer.headers["warning"]
    assert "older copies of: alpha" in answer.headers["warning"]


@pytest.mark.slow
def test_a_user_sees_the_grid_by_a_right_and_the_owner_is_told_a_pseudonym(
    pair: tuple[GridNode, GridNode, Remote, GridWeb], tmp_path: Path
) -> None:
    alpha, beta, _, grid = pair
    alpha.admit(beta)
    send(alpha, object_of(tmp_path, "1.2.1", KVP="100"))
    beta.say("users", "add", "anna", "--role", "sender")
    beta.say("users", "add", "otto", "--role", "viewer")
    tokens = {
        name: beta.told("tokens", "make", name, "--rights", right, "--in", "main")["token"]
        for name, right in (("anna", "store"), ("otto", "search,retrieve"))
    }
    refused = grid.get("/studies", Authorization=f"Bearer {tokens['anna']}")
    assert refused.status == 403
    assert "anna may not search" in refused.json["detail"]
    own = {"Authorization": f"Bearer {tokens['otto']}"}
    until(lambda: grid.get("/studies?KVP=100", **own).status == 200)
    calls = until(
        lambda: [call for line in alpha.audit("grid") if (call := line["detail"])["role"] == "user"]
    )
    assert {(call["call"], len(call["user"])) for call in calls} == {("/peerpacs.v1.Query/Find", 24)}
    assert "otto" not in str(alpha.audit("grid"))


@pytest.mark.slow
def test_a_link_for_a_viewer_reads_at_beta_the_one_study_of_alpha_that_it_was_made_for(
    pair: tuple[GridNode, GridNode, Remote, GridWeb],
) -> None:
    alpha, beta, there, grid = pair
    alpha.admit(beta)
    stored = [phantoms(71, 3, instances=2), phantoms(72, 1, instances=1)]
    for sent in stored:
        DICOMwebClient(there.url).store_instances([pydicom.dcmread(BytesIO(file_of(each))) for each in sent])
    study, other = (path_of(each[0], levels=1) for each in stored)
    until(lambda: len(DICOMwebClient(grid.url).search_for_studies()) == 2)

    def link(everywhere: str) -> Answer:
        order = f'{{"everywhere": {everywhere}}}'.encode()
        return grid.ask("POST", f"/api{study}/viewer-link", order, Content_Type="application/json")

    assert link("false").status == 404, "it is at alpha alone"
    made = link("true").json
    # As Weasis reads it: decoded, and what is behind each $ is a command.
    [_, said] = unquote_plus(made["weasis"]).split("$")
    command = shlex.split(said)
    assert command[:2] == ["dicom:rs", "--url"]
    assert command[2] == made["dicomweb"]
    assert command[3:] == ["-r", f"studyUID={study.removeprefix('/studies/')}"]
    root = urlsplit(made["dicomweb"]).path
    series = grid.ask("GET", f"{root}{study}/series", Accept=JSON)
    assert [row["00201209"]["Value"] for row in series.json] == [[2]]
    whole = grid.ask(
        "GET", root + study, Accept='multipart/related; type="application/dicom"; transfer-syntax=*'
    )
    assert (whole.status, len(whole.parts())) == (200, 2)
    assert grid.ask("GET", f"{root}{other}/series", Accept=JSON).status == 403
