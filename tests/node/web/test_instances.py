"""WADO-RS instances and metadata: PS3.18 8.7 and 10.4."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from catalog import Selection, Verb
from node.web import instances as sending
from tests.homes import RawInstance, attribute, phantoms
from tests.node.web.asking import JSON, Web, file_of, path_of, web
from tests.running import until

ANY = 'multipart/related; type="application/dicom"; transfer-syntax=*'
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
J2K = "1.2.840.10008.1.2.4.91"
RLE = "1.2.840.10008.1.2.5"


def sample(name: str) -> RawInstance:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return RawInstance.read(Path(path))


@pytest.fixture(scope="module")
def study() -> list[RawInstance]:
    return phantoms(31, 1, instances=5, size=60_000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, study: list[RawInstance]) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("wado") / "home") as asked:
        asked.store(*study)
        yield asked


def test_a_study_comes_back_as_it_was_stored(site: Web, study: list[RawInstance]) -> None:
    answer = site.get(path_of(study[0], levels=1), ANY)
    assert answer.status == 200
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert re.match(
        r'multipart/related; type="application/dicom"; boundary="', answer.headers["content-type"]
    )
    parts = answer.parts()
    assert [content for _, content in parts] == [file_of(each) for each in study]
    for (headers, content), instance in zip(parts, study, strict=True):
        assert headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
        assert headers["content-location"] == site.url + path_of(instance)
        assert int(headers["content-length"]) == len(content)
    assert len(site.get(path_of(study[0], levels=2), ANY).parts()) == 5


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/*",
        "multipart/related",
        "multipart/related; type=application/dicom",
        'multipart/related; type="application/dicom"',
        'multipart/related;type="application/dicom";transfer-syntax=*',
        "multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.1",
        'Multipart/Related; Type="application/dicom"; q=0.5, image/jls;q=0.4',
        'multipart/related; type="application/dicom"; boundary=x; transfer-syntax="*"',
        'nonsense, multipart/related; type="application/dicom"',
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.70, '
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1',
    ],
)
def test_every_way_to_say_it_is_understood(site: Web, study: list[RawInstance], accept: str) -> None:
    answer = site.get(path_of(study[0]), accept)
    assert answer.status == 200, answer.body
    [(_, content)] = answer.parts()
    assert content == file_of(study[0])


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("", 406),
        ("application/dicom+xml", 406),
        ("text/html", 406),
        ('multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2', 406),
        ('multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.2', 406),
        ('multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.70', 406),
        ("application/dicom", 406),
        ('multipart/related; type="application/dicom", image/jpeg', 400),
        ("application/dicom, image/png", 400),
        ("x" * 5000, 400),
    ],
)
def test_what_cannot_be_given_is_refused(
    site: Web, study: list[RawInstance], accept: str, status: int
) -> None:
    answer = site.get(path_of(study[0], levels=1), accept)
    assert answer.status == status
    assert answer.json["detail"]


def test_one_instance_comes_alone_and_in_ranges(site: Web, study: list[RawInstance]) -> None:
    whole, path = file_of(study[0]), path_of(study[0])
    answer = site.get(path, "application/dicom")
    assert (answer.status, answer.body) == (200, whole)
    assert answer.headers["accept-ranges"] == "bytes"
    for text, start, stop in (("100-199", 100, 200), ("50000-", 50000, None), ("-10", -10, None)):
        part = site.get(path, "application/dicom", Range=f"bytes={text}")
        assert (part.status, part.body) == (206, whole[start:stop])
        assert part.headers["content-range"].endswith(f"/{len(whole)}")
    late = site.get(path, "application/dicom", Range=f"bytes={len(whole)}-")
    assert (late.status, late.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    assert site.get(path, "application/dicom", Range="lines=1-2").status == 200
    assert site.get(path, "application/dicom", Range="bytes=0-1", If_Range='"old"').status == 200


def test_who_has_it_already_is_not_sent_it_again(site: Web, study: list[RawInstance]) -> None:
    for path, accept in ((path_of(study[0]), "application/dicom"), (path_of(study[0]) + "/metadata", JSON)):
        tag = site.get(path, accept).headers["etag"]
        answer = site.get(path, accept, If_None_Match=tag)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)


def test_head_says_how_long_it_would_be(site: Web, study: list[RawInstance]) -> None:
    answer = site.ask("HEAD", site.root + path_of(study[0]), Accept="application/dicom")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == len(file_of(study[0]))


def test_what_is_not_here_is_a_404(site: Web) -> None:
    for path in ("/studies/1.2.3", "/studies/1.2.3/series/4", "/studies/1.2.3/series/4/instances/5"):
        assert site.get(path, ANY).status == 404
        assert site.get(path + "/metadata").status == 404


@pytest.mark.parametrize(
    "name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm"]
)
def test_without_a_transfer_syntax_it_comes_explicit_little_endian(tmp_path: Path, name: str) -> None:
    instance = sample(name)
    with web(tmp_path / "home") as site:
        site.store(instance)
        _comes_explicit(site, instance)


def _comes_explicit(site: Web, instance: RawInstance) -> None:
    answer = site.get(path_of(instance), 'multipart/related; type="application/dicom"')
    assert answer.status == 200, answer.body
    [(headers, content)] = answer.parts()
    assert headers["content-type"].endswith(f"transfer-syntax={EXPLICIT}")
    made, sent = pydicom.dcmread(BytesIO(content)), pydicom.dcmread(BytesIO(file_of(instance)))
    assert made.file_meta.TransferSyntaxUID == EXPLICIT
    assert (made.pixel_array == sent.pixel_array).all()
    as_stored = site.get(path_of(instance), ANY).parts()[0][0]["content-type"]
    is_for_the_web = instance.TransferSyntaxUID not in (IMPLICIT, "1.2.840.10008.1.2.2")
    assert as_stored.endswith(f"={instance.TransferSyntaxUID if is_for_the_web else EXPLICIT}")


def test_what_some_instances_cannot_be_made_into_is_partial(site: Web) -> None:
    study = phantoms(32, 2, instances=3, size=20_000)
    rest = [
        RawInstance(one.SOPClassUID, one.SOPInstanceUID, one.TransferSyntaxUID, one.data) for one in study
    ]
    rest[1].TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # It says it is a video.
    site.store(*rest)
    answer = site.get(path_of(study[0], levels=1), 'multipart/related; type="application/dicom"')
    assert answer.status == 206
    assert len(answer.parts()) == 2
    assert "1 of 3 instances are missing" in answer.headers["warning"]
    assert len(site.get(path_of(study[0], levels=1), ANY).parts()) == 3
    alone = site.get(path_of(study[1]), 'multipart/related; type="application/dicom"')
    assert alone.status == 406
    assert site.get(path_of(study[1]), "*/*").status == 200


def test_what_a_person_removed_is_a_410_and_back_after_an_undo(site: Web) -> None:
    study = phantoms(33, 3, instances=2)
    site.store(*study)
    uid = str(attribute(study[0], "StudyInstanceUID"))
    made = site.node.register.make(Verb.REJECT, (uid,), reason="wrong patient", who="test")
    assert site.get(path_of(study[0], levels=1), ANY).status == 410
    assert site.get(path_of(study[0]) + "/metadata").status == 410
    site.node.register.undo(made["decision"], reason="was right", who="test")
    assert len(site.get(path_of(study[0], levels=1), ANY).parts()) == 2


def test_a_correction_is_in_instances_and_in_metadata(site: Web) -> None:
    study = phantoms(34, 4, instances=2)
    site.store(*study)
    path, uid = path_of(study[0]), str(attribute(study[0], "StudyInstanceUID"))
    before = site.get(path + "/metadata")
    name = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Corrected^Name"}]}}
    site.node.register.make(Verb.CORRECT, (uid,), reason="typing error", who="test", attributes=name)
    after = site.get(path + "/metadata", If_None_Match=before.headers["etag"])
    assert after.status == 200
    assert after.json[0]["00100010"] == name["00100010"]
    assert "04000561" in after.json[0]
    [(_, content)] = site.get(path, ANY).parts()
    sent = pydicom.dcmread(BytesIO(content))
    assert sent.PatientName == "Corrected^Name"
    assert sent.PixelData == attribute(study[0], "PixelData")


def test_metadata_is_the_same_from_the_packs_and_from_the_objects(site: Web) -> None:
    study = phantoms(35, 5, instances=4)
    site.store(*study)
    path = path_of(study[0], levels=2)
    read = site.get(path + "/metadata")
    entries = site.node.catalog.select(Selection(studies=(str(attribute(study[0], "StudyInstanceUID")),)))
    until(lambda: all(site.node.catalog.headers(entries)))
    packed = site.get(path + "/metadata")
    assert packed.json == read.json
    assert [each["00080018"]["Value"][0] for each in packed.json] == [s.SOPInstanceUID for s in study]
    assert packed.json[0]["7FE00010"]["BulkDataURI"].startswith(site.url + path_of(study[0]) + "/bulkdata/")
    assert int(packed.headers["content-length"]) == len(packed.body)


def test_of_many_instances_the_later_ones_are_opened_as_they_are_sent(
    site: Web, study: list[RawInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_OPENED_AT_ONCE", 2)
    answer = site.get(path_of(study[0], levels=1), ANY)
    assert answer.headers["transfer-encoding"] == "chunked"
    assert [content for _, content in answer.parts()] == [file_of(each) for each in study]


def test_what_is_converted_late_is_converted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_CONVERTED_AT_ONCE", 0)
    with web(tmp_path / "home") as site:
        instance = sample("MR_small_RLE.dcm")
        site.store(instance)
        _comes_explicit(site, instance)


def test_a_server_that_stops_cuts_off_who_does_not_read(tmp_path: Path) -> None:
    with web(tmp_path / "home") as site:
        large = phantoms(36, 6, instances=1, size=20 << 20)
        site.store(*large)
        path = f"GET {site.root}{path_of(large[0])} HTTP/1.1\r\nHost: localhost\r\nAccept: {ANY}\r\n\r\n"
        connection = socket.create_connection(("127.0.0.1", site.port))
        connection.sendall(path.encode())
        assert connection.recv(4) == b"HTTP"
        began = time.monotonic()
    assert time.monotonic() - began < 8
    connection.close()
