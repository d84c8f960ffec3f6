"""What clients of others ask for, unchanged: dicomweb-client here, and the requests that OHIF sends."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy
import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from PIL import Image

from tests.homes import RawInstance, attribute, phantoms
from tests.node.web.asking import Web, file_of, path_of, web


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("clients") / "home") as asked:
        yield asked


@pytest.fixture(scope="module", params=["/dicom-web", "/archives/main/dicom-web"])
def client(site: Web, request: pytest.FixtureRequest) -> DICOMwebClient:
    return DICOMwebClient(f"{site.address}{request.param}")


def datasets(instances: list[RawInstance]) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(BytesIO(file_of(each))) for each in instances]


def test_dicomweb_client_does_all_it_can(client: DICOMwebClient, site: Web) -> None:
    stored = datasets(phantoms(71, len(client.base_url), instances=3, size=60_000))
    answer = client.store_instances(stored)
    assert len(answer.ReferencedSOPSequence) == 3
    study, series = stored[0].StudyInstanceUID, stored[0].SeriesInstanceUID
    [found] = client.search_for_studies(search_filters={"StudyInstanceUID": study}, get_remaining=True)
    assert found["00201208"]["Value"] == [3]
    assert len(client.search_for_series(study, fields=["SeriesDate"])) == 1
    assert len(client.search_for_instances(study, limit=2)) == 2
    got = client.retrieve_study(study)
    assert [each.SOPInstanceUID for each in got] == [each.SOPInstanceUID for each in stored]
    assert got[0].PixelData == stored[0].PixelData
    assert len(client.retrieve_series(study, series)) == 3
    uids = (study, series, stored[1].SOPInstanceUID)
    assert client.retrieve_instance(*uids).PixelData == stored[1].PixelData
    assert len(client.retrieve_study_metadata(study)) == 3
    assert len(client.retrieve_series_metadata(study, series)) == 3
    metadata = client.retrieve_instance_metadata(*uids)
    [pixels] = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert pixels == stored[1].PixelData
    [frame] = client.retrieve_instance_frames(*uids, [1])
    assert frame == stored[1].PixelData
    for media_types in (("image/jpeg",), ("image/png",)):
        rendered = client.retrieve_instance_rendered(*uids, media_types=media_types)
        assert Image.open(BytesIO(rendered)).size == (stored[1].Columns, stored[1].Rows)
    frames = client.retrieve_instance_frames_rendered(*uids, [1], media_types=("image/png",))
    assert numpy.asarray(Image.open(BytesIO(frames))).shape == (stored[1].Rows, stored[1].Columns)
    assert Image.open(BytesIO(client.retrieve_series_rendered(study, series, media_types=("image/jpeg",))))


def test_it_pages_to_the_end(client: DICOMwebClient, site: Web) -> None:
    everything = len(site.get("/instances").json)
    assert len(client.search_for_instances(limit=2, get_remaining=True)) == everything


def test_ohif_gets_what_it_asks_for(site: Web) -> None:
    study = phantoms(72, 1, instances=2, size=60_000)
    site.store(*study)
    uid, patient = str(attribute(study[0], "StudyInstanceUID")), str(attribute(study[0], "PatientID"))
    fields = "limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060,00080090,00100030"
    [row] = site.get(f"/studies?{fields}&StudyInstanceUID={uid}").json
    assert {"00081030", "00080090", "00100010", "00080061"} <= row.keys()
    assert len(site.get(f"/studies?00100020={patient}&{fields}").json) == 1
    [series] = site.get(f"/studies/{uid}/series?includefield=00080021,00080031,0008103E,00200011").json
    assert {"0020000E", "00080060", "00201209"} <= series.keys()
    for metadata in site.get(f"{path_of(study[0], levels=2)}/metadata").json:
        assert "BulkDataURI" in metadata["7FE00010"]
    accept = "multipart/related; type=application/octet-stream; transfer-syntax=*"
    [(_, content)] = site.get(f"{path_of(study[0])}/frames/1", accept).parts()
    assert content == attribute(study[0], "PixelData")
    quick = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    assert site.get(f"{path_of(study[0])}/frames/1", quick).body == content
