"""Where releases go beside folders: a bucket, a STOW-RS server, a device; and what grows by itself."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from dicomweb_client import DICOMwebClient

from node.contracts import Device, Service
from sim.ports import free_port
from tests.homes import Peer, attribute, phantoms, serving
from tests.node.bucket.serving import ACCESS, SECRET, Server

from .site import PROJECT, Site


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "s3")
    yield running
    running.stop()


def test_a_bucket_gets_the_release_and_its_manifest(tmp_path: Path, server: Server) -> None:
    home = tmp_path / "home"
    secrets = tmp_path / "access", tmp_path / "secret"
    for path, word in zip(secrets, (ACCESS, SECRET), strict=True):
        path.write_text(word)
        path.chmod(0o600)
    s3 = {
        "endpoint": f"http://127.0.0.1:{server.port}",
        "access_key_file": str(secrets[0]),
        "secret_key_file": str(secrets[1]),
    }
    with serving(home, s3=s3) as node:
        site = Site(node)
        sent = site.store(1)
        site.project()
        export = site.export("s3://archive/trial-7")
        assert export["standing"] == "released", export
    kept = server.folder / "trial-7"
    assert len(list(kept.rglob("IM*"))) == len(sent)
    assert (kept / "manifest.jsonl").is_file()


def test_what_is_large_goes_to_a_bucket_in_parts_and_arrives_whole(tmp_path: Path, server: Server) -> None:
    secrets = tmp_path / "access", tmp_path / "secret"
    for path, word in zip(secrets, (ACCESS, SECRET), strict=True):
        path.write_text(word)
        path.chmod(0o600)
    endpoint = f"http://127.0.0.1:{server.port}"
    s3 = {"endpoint": endpoint, "access_key_file": str(secrets[0]), "secret_key_file": str(secrets[1])}
    with serving(tmp_path / "home", s3=s3) as node:
        site = Site(node)
        assert set(Peer(node).store(*phantoms(1, size=40_000_000, instances=1))) == {0}
        site.project()
        export = site.export("s3://archive/large")
        assert export["standing"] == "released", export
    [image] = (server.folder / "large").rglob("IM*")
    assert image.stat().st_size > 32 << 20
    rows = (server.folder / "large" / "manifest.jsonl").read_text().splitlines()[1:]
    assert sha256(image.read_bytes()).hexdigest() == json.loads(rows[0])["sha256"]


def test_a_stow_rs_server_gets_every_instance(site: Site, tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path / "other", web={"plain_port": port}, node={"ae_title": "OTHER"}) as other:
        sent = site.store(1)
        site.project()
        export = site.export(f"http://127.0.0.1:{port}/dicom-web")
        assert export["standing"] == "released", export
        assert other.catalog.totals().instances == len(sent)
    failed = site.export(f"http://127.0.0.1:{port}/dicom-web")
    assert failed["standing"] == "failed"
    assert "does not answer" in failed["why"]


def test_a_device_gets_it_by_a_transfer(site: Site, tmp_path: Path) -> None:
    with serving(tmp_path / "other", node={"ae_title": "OTHER"}) as other:
        port = other.ports["dicom"]
        site.node.devices.put(Device(ae_title="OTHER", address="127.0.0.1", port=port))
        sent = site.store(1)
        site.project(ae_title="TRIAL7")
        assert site.export("ae:OTHER")["standing"] == "released"
        site.until(lambda: other.catalog.totals().instances == len(sent), 60)


def test_a_standing_export_sends_what_becomes_complete_once(site: Site) -> None:
    ward = Device(
        ae_title="WARD", address="127.0.0.1", services=(Service.ECHO, Service.STORE), complete_after=0.5
    )
    site.node.devices.put(ward)
    site.project(ae_title="TRIAL7")
    standing = site.export("archive:", query=["Modality=CT"], is_standing=True)
    assert standing["standing"] == "standing"
    kept = site.node.archive(PROJECT.lower()).catalog
    for seed, count in ((1, 1), (2, 2)):
        assert set(Peer(site.node, "WARD").store(*phantoms(seed, size=4_000))) == {0}
        site.until(lambda count=count: kept.totals().studies == count, 60)  # type: ignore[misc]
    increments = [export for export in site.ask("exports") if export["parent"] == standing["id"]]
    assert len(increments) == 2
    site.ask("stop_export", id=standing["id"], who="novak")
    assert set(Peer(site.node, "WARD").store(*phantoms(3, size=4_000))) == {0}
    completed = site.node.main.study_events
    site.until(lambda: completed.last >= 3, 60)
    assert len(site.ask("exports")) == 3


def test_a_withdrawn_subject_leaves_the_archive_and_no_export_has_it_again(
    site: Site, tmp_path: Path
) -> None:
    one = site.store(1)[0]
    site.store(2)
    site.project(ae_title="TRIAL7")
    assert site.export("archive:")["standing"] == "released"
    first = site.export(tmp_path / "first")
    done = site.ask(
        "withdraw_subject",
        subject=str(attribute(one, "PatientID")),
        who="novak",
        reason="consent",
    )
    [project] = done["projects"]
    assert project["removed"] == 1
    assert [copy["target"] for copy in project["copies"]] == [str(tmp_path / "first")]
    assert site.node.archive(PROJECT.lower()).catalog.totals().studies == 1
    second = site.export(tmp_path / "second")
    assert set(second["subjects"]) == set(first["subjects"]) - {project["subject"]}
    assert site.export("archive:")["released"] == 1
    lines = (tmp_path / "second" / "manifest.jsonl").read_text().splitlines()
    assert project["subject"] not in {json.loads(line).get("subject") for line in lines}


def test_the_projects_web_root_shows_the_de_identified_set_and_takes_nothing(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path / "home", web={"plain_port": port}) as node:
        site = Site(node)
        [one] = site.store(1)
        site.project(ae_title="TRIAL7")
        export = site.export("archive:")
        root = f"http://127.0.0.1:{port}/research/{PROJECT}/dicom-web"
        with urllib.request.urlopen(f"{root}/studies") as answer:
            [study] = json.load(answer)
        assert study["00100020"]["Value"] == list(export["subjects"])
        client = DICOMwebClient(root)
        uid = client.search_for_studies()[0]["0020000D"]["Value"][0]
        [image] = client.retrieve_study(uid)
        assert [image.PatientID] == list(export["subjects"])
        assert len(client.retrieve_study_metadata(uid)) == len(client.search_for_instances(uid)) == 1
        identified = site.export(root)
        assert identified["standing"] == "failed"
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/research/NONE/dicom-web/studies")
        missing.value.close()
        assert missing.value.code == 404
    assert one
