"""STOW-RS: PS3.18 10.5 and Annex I."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file

from catalog import describe
from node.storage import file_meta
from node.web.storing import MOST_PARTS
from sim.ports import free_port
from tests.homes import RawInstance, attribute, edited, phantoms
from tests.node.web.asking import Answer, Remote, Web, file_of, web
from tests.running import running

RELATED = 'multipart/related; type="application/dicom"; boundary="{}"'
B = "the-boundary"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("stow") / "home") as asked:
        yield asked


def body_of(
    contents: Sequence[bytes], media_type: str = "application/dicom", line: bytes = b"\r\n", boundary: str = B
) -> bytes:
    delimiter = b"--" + boundary.encode()
    head = line + b"Content-Type: " + media_type.encode() + line + line
    return b"".join(delimiter + head + each + line for each in contents) + delimiter + b"--" + line


def post(
    site: Remote, body: Any, study: str = "", content_type: str = RELATED.format(B), **headers: str
) -> Answer:
    path = f"{site.root}/studies" + (f"/{study}" if study else "")
    headers.setdefault("Accept", "application/dicom+json")
    return site.ask("POST", path, body, Content_Type=content_type, **headers)


def items(answer: Answer, tag: str) -> list[Any]:
    return list(answer.json.get(tag, {}).get("Value", []))


def stored(answer: Answer) -> list[str]:
    return [item["00081155"]["Value"][0] for item in items(answer, "00081199")]


def failed(answer: Answer) -> list[int]:
    return [item["00081197"]["Value"][0] for item in items(answer, "00081198")]


def count(site: Web) -> int:
    return int(site.get("/instances/count", "application/json").json["count"])


def test_a_study_is_stored_and_each_instance_is_told_where_it_is(site: Web) -> None:
    study = phantoms(41, 1, instances=5, size=300_000)
    answer = post(site, body_of([file_of(each) for each in study]))
    assert answer.status == 200, answer.body
    assert stored(answer) == [each.SOPInstanceUID for each in study]
    assert "00081198" not in answer.json
    for item, instance in zip(items(answer, "00081199"), study, strict=True):
        url = item["00081190"]["Value"][0]
        got = site.ask("GET", url.removeprefix(site.url.removesuffix(site.root)), Accept="application/dicom")
        assert got.body == file_of(instance)
    assert answer.json["00081190"]["Value"] == [
        f"{site.url}/studies/{attribute(study[0], 'StudyInstanceUID')}"
    ]


def test_the_same_again_is_success_and_changes_nothing(site: Web) -> None:
    study = phantoms(42, 1, instances=2)
    body = body_of([file_of(each) for each in study])
    assert post(site, body).status == 200
    before = count(site)
    assert post(site, body).status == 200
    assert count(site) == before


def test_the_bytes_are_those_of_dimse_whatever_meta_information_came(site: Web, tmp_path: Path) -> None:
    path = tmp_path / "other.dcm"
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.file_meta.ImplementationVersionName = "SOMEBODY_ELSE"
    dataset.save_as(path)
    answer = post(site, path.read_bytes(), content_type="application/dicom")
    assert answer.status == 200, answer.body
    url = items(answer, "00081199")[0]["00081190"]["Value"][0]
    got = site.ask("GET", url.removeprefix(site.url.removesuffix(site.root)), Accept="application/dicom")
    assert got.body == file_of(RawInstance.read(path))


def test_some_stored_is_202_and_none_is_409_with_everything_listed(site: Web) -> None:
    good, other = phantoms(43, 1, instances=2)
    cut = file_of(other)[:700]
    some = post(site, body_of([file_of(good), b"not dicom", b"", cut]))
    assert some.status == 202, some.body
    assert stored(some) == [good.SOPInstanceUID]
    assert failed(some) == [0xC000, 0xC000, 0xC000]
    none = post(site, body_of([b"not dicom", cut]))
    assert none.status == 409
    assert failed(none) == [0xC000, 0xC000]
    assert "00081199" not in none.json


def test_what_is_of_another_study_than_the_address_fails_and_is_not_stored(site: Web) -> None:
    mine, other = phantoms(44, 1, instances=1)[0], phantoms(44, 2, instances=1)[0]
    before = count(site)
    uid = str(attribute(mine, "StudyInstanceUID"))
    answer = post(site, body_of([file_of(mine), file_of(other)]), uid)
    assert answer.status == 202
    assert (stored(answer), failed(answer)) == ([mine.SOPInstanceUID], [0xA900])
    assert count(site) == before + 1


def test_what_contradicts_itself_waits_on_the_rejected_shelf_as_by_dimse(site: Web) -> None:
    [instance] = phantoms(45, 1, instances=1)
    broken = edited(instance, SeriesInstanceUID="")
    before = len(list(site.node.rejected.list()))
    answer = post(site, body_of([file_of(broken)]))
    assert (answer.status, failed(answer)) == (409, [0xA900])
    assert len(list(site.node.rejected.list())) == before + 1


def test_a_warning_is_202_too(site: Web) -> None:
    [instance] = phantoms(46, 1, instances=1)
    cut = file_of(instance)[:-500]
    answer = post(site, body_of([cut]))
    assert answer.status == 202
    assert items(answer, "00081199")[0]["00081196"]["Value"] == [0xB007]


@pytest.mark.parametrize("line", [b"\r\n", b"\n"])
def test_bodies_are_taken_as_clients_write_them(site: Web, line: bytes) -> None:
    study = phantoms(47, len(line), instances=3)
    body = body_of([file_of(each) for each in study], line=line)
    told = "multipart/related; type=application/dicom; boundary=the-boundary; start=x"
    assert post(site, b"A preamble." + line + body + b"An epilogue.", content_type=told).status == 200
    assert post(site, body.removesuffix(line)).status == 200
    parts = (body[at : at + 10_007] for at in range(0, len(body), 10_007))
    assert post(site, parts, Transfer_Encoding="chunked").status == 200
    assert post(site, (b"%c" % byte for byte in body[-300:]), Transfer_Encoding="chunked").status == 400


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 415),
        ("multipart/form-data; boundary=x", 415),
        ('multipart/related; type="application/dicom+xml"; boundary=x', 415),
        ('multipart/related; type="application/dicom"', 400),
        ('multipart/related; type="application/dicom"; boundary=""', 400),
        ('multipart/related; type="application/dicom"; boundary="other"', 400),
        ("", 415),
        ("garbage", 415),
    ],
)
def test_other_bodies_are_refused(site: Web, content_type: str, status: int) -> None:
    answer = post(site, body_of([b"x" * 100]), content_type=content_type)
    assert answer.status == status, answer.body
    assert answer.json["detail"]


def test_what_would_be_answered_in_another_type_is_refused_before_it_is_read(site: Web) -> None:
    [instance] = phantoms(48, 1, instances=1)
    before = count(site)
    answer = post(site, body_of([file_of(instance)]), Accept="application/dicom+xml")
    assert answer.status == 406
    assert count(site) == before
    assert post(site, body_of([file_of(instance)]), Content_Encoding="gzip").status == 415
    assert post(site, b"").status == 400


def test_hostile_bodies_end_in_a_4xx_and_an_unchanged_store(site: Web) -> None:
    [instance] = phantoms(49, 1, instances=1)
    bomb = zlib.compressobj(9, wbits=-15)
    zeros = bomb.compress(b"\x08\x00\x05\x00UN\0\0\0\0\0\x20" + bytes(300 << 20)) + bomb.flush()
    deflated = file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5", "1.2.840.10008.1.2.1.99") + zeros
    element = b"\x08\x00\x18\x00UI" + struct.pack(
        "<H", len(instance.SOPInstanceUID) + len(instance.SOPInstanceUID) % 2
    )
    at = instance.data.index(element) + 8
    evil = b"../../../../../etc/passwd".ljust(len(instance.SOPInstanceUID), b"0")
    walking = instance.data[:at] + evil + instance.data[at + len(evil) :]
    lengths = instance.data[: at - 2] + b"\xf0\xff" + instance.data[at:]
    before = count(site)
    path = file_meta(instance.SOPClassUID, "1.2.3", instance.TransferSyntaxUID)
    for content in (deflated, path + walking, path + lengths, b"\0" * 132, b"DICM" * 1000):
        answer = post(site, body_of([content]))
        assert answer.status == 409, answer.body
    many = body_of([b"junk"] * (MOST_PARTS + 1))
    assert post(site, many).status == 413
    headers = "\r\n".join(f"X-{number}: 1" for number in range(100))
    assert post(site, f"--{B}\r\n{headers}\r\n\r\nx\r\n--{B}--".encode()).status == 400
    assert post(site, body_of([file_of(instance)])[:-40]).status == 400
    assert count(site) == before


def _raw(site: Web, request: bytes, *, then_end: bool = False) -> bytes:
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as connection:
        answer = b""
        # Who refuses before all was read resets the connection; what was said until then comes all the same.
        with contextlib.suppress(OSError):
            connection.sendall(request)
            if then_end:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5000\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: five\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"X-Long: " + b"x" * 40_000 + b"\r\n",
        b"no colon\r\n",
    ],
)
def test_wrong_lengths_and_headers_end_in_an_error(site: Web, head: bytes) -> None:
    before = count(site)
    request = b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nContent-Type: "
    request += RELATED.format(B).encode() + b"\r\n" + head + b"\r\n--the-boundary\r\n\r\nDICM"
    assert _raw(site, request, then_end=True)[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")
    assert count(site) == before


def test_a_huge_body_takes_no_memory(site: Web) -> None:
    [instance] = phantoms(50, 1, instances=1)
    dataset = pydicom.dcmread(BytesIO(file_of(instance)))
    size = 400 << 20
    head = file_of(instance)[: -len(dataset.PixelData) - 4] + struct.pack("<I", size)
    start = body_of([head]).split(b"\r\n--the-boundary--")[0]
    end = b"\r\n--the-boundary--\r\n"
    before = _memory()
    seen: list[int] = []
    stop = threading.Event()
    watch = threading.Thread(
        target=lambda: [seen.append(_memory()) for _ in iter(lambda: stop.wait(0.02), True)]
    )
    watch.start()

    def pieces() -> Iterator[bytes]:
        yield start
        for _ in range(size >> 20):
            yield bytes(1 << 20)
        yield end

    try:
        answer = post(site, pieces(), Transfer_Encoding="chunked")
    finally:
        stop.set()
        watch.join()
    assert answer.status == 200, answer.body
    assert max(seen) - before < 64 << 20


def _memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


def _metadata_of(instance: RawInstance) -> tuple[dict[str, Any], list[tuple[str, str, bytes]]]:
    """Return the metadata of an instance, and its bulk data as parts."""
    metadata = describe(memoryview(instance.data), instance.TransferSyntaxUID, len(instance.data))
    bulk = []
    for element in metadata.values():
        if "BulkDataURI" in element:
            offset, length = map(int, element["BulkDataURI"][1:].split(","))
            bulk.append(
                ("application/octet-stream", element["BulkDataURI"], instance.data[offset : offset + length])
            )
    return metadata, bulk


def _with_bulk(metadata: Any, *bulk: tuple[str, str, bytes]) -> bytes:
    parts = [("application/dicom+json", "", json.dumps(metadata).encode()), *bulk]
    lines = b""
    for media_type, location, content in parts:
        place = f"Content-Location: {location}\r\n" if location else ""
        lines += f"--{B}\r\nContent-Type: {media_type}\r\n{place}\r\n".encode() + content + b"\r\n"
    return lines + f"--{B}--\r\n".encode()


METADATA = f'multipart/related; type="application/dicom+json"; boundary={B}'


def test_metadata_and_bulk_data_become_the_same_instance(site: Web) -> None:
    [instance] = phantoms(51, 1, instances=1)
    metadata, bulk = _metadata_of(instance)
    answer = post(site, _with_bulk([metadata], *bulk), content_type=METADATA)
    assert answer.status == 200, answer.body
    url = items(answer, "00081199")[0]["00081190"]["Value"][0]
    got = site.ask("GET", url.removeprefix(site.url.removesuffix(site.root)), Accept="application/dicom")
    made, sent = pydicom.dcmread(BytesIO(got.body)), pydicom.dcmread(BytesIO(file_of(instance)))
    del sent[0x00080005], made[0x00080005]
    assert made == sent


def test_compressed_frames_come_each_in_a_part(site: Web) -> None:
    path = str(get_testdata_file("MR_small_RLE.dcm"))
    sent = pydicom.dcmread(path)
    frame = next(pydicom.encaps.generate_frames(sent.PixelData))
    metadata = json.loads(sent.to_json(bulk_data_element_handler=lambda _: "frame", bulk_data_threshold=1024))
    answer = post(site, _with_bulk(metadata, ("image/dicom-rle", "frame", frame)), content_type=METADATA)
    assert answer.status == 200, answer.body
    url = items(answer, "00081199")[0]["00081190"]["Value"][0]
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    got = site.ask("GET", url.removeprefix(site.url.removesuffix(site.root)), Accept=accept)
    made = pydicom.dcmread(BytesIO(got.parts()[0][1]))
    assert made.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
    assert (made.pixel_array == sent.pixel_array).all()


def test_metadata_that_is_wrong_is_one_failure_or_a_400(site: Web) -> None:
    [one, other] = phantoms(52, 1, instances=2)
    (good, bulk), (lacking, _) = _metadata_of(one), _metadata_of(other)
    assert failed(post(site, _with_bulk([lacking]), content_type=METADATA)) == [0xC000]
    answer = post(site, _with_bulk([good, lacking, {}, {"00100010": {}}], *bulk), content_type=METADATA)
    assert (answer.status, len(failed(answer))) == (202, 3)
    assert stored(answer) == [one.SOPInstanceUID]
    for wrong in ("[", '"x"', "[[1]]"):
        raw = _with_bulk([]).replace(b"[]", wrong.encode())
        assert post(site, raw, content_type=METADATA).status == 400
    assert post(site, _with_bulk([]), content_type=METADATA).status == 400
    xml = _with_bulk([]).replace(b"dicom+json", b"dicom+xml")
    assert post(site, xml, content_type=METADATA).status == 415


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path / "node", PEERPACS__WEB__PLAIN_PORT=str(port)) as node:
        stored: list[str] = []
        for number in range(12):
            study = phantoms(81, number, instances=10, size=30_000)
            asked = Remote(port)
            answer = post(asked, body_of([file_of(each) for each in study]))
            assert answer.status == 200
            stored += [each.SOPInstanceUID for each in study]
        node.kill()
        node.start(PEERPACS__WEB__PLAIN_PORT=str(port))
        found = Remote(port).get("/instances?includefield=SOPInstanceUID").json
        assert {each["00080018"]["Value"][0] for each in found} == set(stored)


def test_a_full_disk_is_told_for_each_instance(tmp_path: Path) -> None:
    with web(tmp_path / "home", storage={"stop_below_mb": 1_000_000, "resume_above_mb": 1_000_000}) as site:
        study = phantoms(82, 1, instances=3)
        answer = post(site, body_of([file_of(each) for each in study]))
        assert (answer.status, failed(answer)) == (409, [0xA700] * 3)
        assert count(site) == 0


def test_many_clients_store_and_retrieve_at_once(site: Web) -> None:
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'

    def one(number: int) -> bool:
        study = [file_of(each) for each in phantoms(83, number, instances=6, size=80_000)]
        answer = post(site, body_of(study))
        path = answer.json["00081190"]["Value"][0].removeprefix(site.url)
        return [content for _, content in site.get(path, accept).parts()] == study

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(24)))
