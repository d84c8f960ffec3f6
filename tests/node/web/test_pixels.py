"""WADO-RS frames, bulk data and renderings: compared with what pydicom makes of the same files."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import apply_color_lut

from catalog import Verb
from node.pixels import NotConvertible, Picture
from node.web.problems import status_of
from node.web.rendering import Look, render
from tests.homes import RawInstance, attribute, phantoms
from tests.node.web.asking import Web, file_of, path_of, web

OCTETS = 'multipart/related; type="application/octet-stream"'
ANY = OCTETS + "; transfer-syntax=*"
_SYNTAX = "1.2.840.10008.1.2."
FILES = (
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_jp2klossless.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_rle_16bit_2frame.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "rtdose.dcm",
    "rtdose_rle.dcm",
    "examples_ybr_color.dcm",
    "examples_palette.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "liver_1frame.dcm",
    "image_dfl.dcm",
)
TYPES = {"4.90": "image/jp2", "5": "image/dicom-rle", "4.50": "image/jpeg", "4.80": "image/jls"}
COMPRESSED = [
    name for name in FILES if "rle" in name or "jp2k" in name or "jpeg_ls" in name or "ybr_color" in name
]


class Kept:
    """A file of pydicom's, and where it lies in the node."""

    def __init__(self, name: str) -> None:
        path = get_testdata_file(name)
        assert isinstance(path, str)
        self.raw = RawInstance.read(Path(path))
        self.dataset = pydicom.dcmread(path)
        self.frames = int(self.dataset.get("NumberOfFrames", 1))
        self.syntax = self.raw.TransferSyntaxUID

    @property
    def path(self) -> str:
        """The path of the instance."""
        dataset = self.dataset
        return (
            f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
            f"/instances/{dataset.SOPInstanceUID}"
        )


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Web]]:
    """Several nodes, since some files claim each other's UIDs."""
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(web(tmp_path_factory.mktemp(kind) / "home"))
            for kind in ("a", "b", "c", "d", "e")
        }


@pytest.fixture(scope="module")
def kept(sites: dict[str, Web]) -> dict[str, tuple[Web, Kept]]:
    found: dict[str, tuple[Web, Kept]] = {}
    taken: set[tuple[str, str]] = set()
    for name in FILES:
        file = Kept(name)
        kind = next(kind for kind in sites if (kind, file.raw.SOPInstanceUID) not in taken)
        taken.add((kind, file.raw.SOPInstanceUID))
        sites[kind].store(file.raw)
        found[name] = (sites[kind], file)
    return found


def _native(file: Kept, data: bytes) -> numpy.ndarray[Any, Any]:
    array = file.dataset
    if array.BitsAllocated == 1:
        bits = numpy.unpackbits(numpy.frombuffer(data, numpy.uint8), bitorder="little")
        return bits[: array.Rows * array.Columns].reshape(array.Rows, array.Columns)
    letter = "i" if array.PixelRepresentation else "u"
    samples = array.SamplesPerPixel
    flat = numpy.frombuffer(data, f"<{letter}{array.BitsAllocated // 8}")[
        : array.Rows * array.Columns * samples
    ]
    return flat.reshape((array.Rows, array.Columns, samples) if samples > 1 else (array.Rows, array.Columns))


@pytest.mark.parametrize("name", FILES)
def test_frames_are_native_by_default_and_those_of_pydicom(
    kept: dict[str, tuple[Web, Kept]], name: str
) -> None:
    site, file = kept[name]
    for number in {1, file.frames}:
        answer = site.get(f"{file.path}/frames/{number}", OCTETS)
        assert answer.status == 200, answer.body
        [(headers, content)] = answer.parts()
        assert headers["content-type"] == f"application/octet-stream; transfer-syntax={_SYNTAX}1"
        assert headers["content-location"] == f"{site.url}{file.path}/frames/{number}"
        if "422" in name:
            assert content == file.dataset.PixelData
            continue
        wanted = pixel_array(file.dataset, index=number - 1, raw=file.syntax != _SYNTAX + "4.50")
        assert (_native(file, content) == wanted).all()


@pytest.mark.parametrize("name", COMPRESSED)
def test_frames_come_as_they_are_stored(kept: dict[str, tuple[Web, Kept]], name: str) -> None:
    site, file = kept[name]
    stored = list(generate_frames(file.dataset.PixelData, number_of_frames=file.frames))
    media_type = TYPES[file.syntax.removeprefix(_SYNTAX)]
    numbers = ",".join(map(str, range(1, file.frames + 1)))
    for accept, told in (
        (ANY, "application/octet-stream"),
        (f"multipart/related; type={media_type}", media_type),
        (f'multipart/related; type="{media_type}"; transfer-syntax={file.syntax}', media_type),
        ('multipart/related; type="image/*"', media_type),
    ):
        answer = site.get(f"{file.path}/frames/{numbers}", accept)
        assert answer.status == 200, answer.body
        assert int(answer.headers["content-length"]) == len(answer.body)
        assert [content for _, content in answer.parts()] == stored
        assert answer.parts()[0][0]["content-type"] == f"{told}; transfer-syntax={file.syntax}"
    assert [content for _, content in site.get(f"{file.path}/pixeldata", ANY).parts()] == stored
    assert site.get(f"{file.path}/frames/1", "multipart/related; type=image/jpx").status == 406


def test_one_frame_comes_alone_and_for_ever(kept: dict[str, tuple[Web, Kept]]) -> None:
    site, file = kept["rtdose.dcm"]
    answer = site.get(
        f"{file.path}/frames/2", "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    )
    size = file.dataset.Rows * file.dataset.Columns * 4
    assert answer.body == file.dataset.PixelData[size : 2 * size]
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    again = site.get(f"{file.path}/frames/2", "*/*", If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    part = site.get(f"{file.path}/frames/2", "application/octet-stream", Range="bytes=10-19")
    assert (part.status, part.body) == (206, answer.body[10:20])
    assert site.get(f"{file.path}/frames/1,2", "application/octet-stream").status == 406


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        ("0", 400),
        ("16", 404),
        ("1,99", 404),
        ("x", 400),
        ("1,,2", 400),
        ("-1", 400),
        ("9" * 12, 400),
        ("1-3", 400),
    ],
)
def test_a_frame_that_is_not_there_is_refused(
    kept: dict[str, tuple[Web, Kept]], frames: str, status: int
) -> None:
    site, file = kept["rtdose.dcm"]
    for tail in ("", "/rendered"):
        accept = "image/gif" if tail else OCTETS
        answer = site.get(f"{file.path}/frames/{frames}{tail}", accept)
        assert answer.status == status, answer.body


def test_what_has_no_frames_says_so(sites: dict[str, Web]) -> None:
    site, file = sites["a"], Kept("rtplan.dcm")
    site.store(file.raw)
    assert site.get(f"{file.path}/frames/1", OCTETS).status == 404
    assert site.get(f"{file.path}/rendered", "image/jpeg").status == 406
    [video] = phantoms(61, 1, instances=1)
    video.TransferSyntaxUID = _SYNTAX + "4.102"
    site.store(video)
    for what in ("frames/1", "frames/2", "frames/1/rendered", "rendered", "thumbnail", "pixeldata"):
        answer = site.get(f"{path_of(video)}/{what}", "*/*")
        assert (answer.status, answer.json["next"]) == (404, "Ask for the instance."), what
    assert site.get(f"{path_of(video)}/frames/0", "*/*").status == 400
    assert site.get(path_of(video), "*/*").status == 200


@pytest.mark.parametrize("name", FILES)
def test_every_bulk_data_uri_resolves(kept: dict[str, tuple[Web, Kept]], name: str) -> None:
    site, file = kept[name]
    [metadata] = site.get(f"{file.path}/metadata").json
    uris = [(tag, each["BulkDataURI"]) for tag, each in metadata.items() if "BulkDataURI" in each]
    assert "7FE00010" in dict(uris) or len(file.dataset.PixelData) <= 64
    for tag, uri in uris:
        path = uri.removeprefix(site.url)
        if tag == "7FE00010" and name in COMPRESSED:
            frames = list(generate_frames(file.dataset.PixelData, number_of_frames=file.frames))
            assert [content for _, content in site.get(path, ANY).parts()] == frames
            continue
        for accept in ("*/*", OCTETS):
            answer = site.get(path, accept)
            assert answer.status == 200, answer.body
        if tag == "7FE00010" and file.syntax in (_SYNTAX + "1", _SYNTAX.rstrip(".")):
            assert site.get(path, "*/*").body == file.dataset.PixelData
            part = site.get(path, "application/octet-stream", Range="bytes=100-")
            assert (part.status, part.body) == (206, file.dataset.PixelData[100:])
    for wrong in ("0,10", "1,1", "abc", "1"):
        assert site.get(f"{file.path}/bulkdata/{wrong}", OCTETS).status in (400, 404)


def test_all_bulk_data_comes_at_once(kept: dict[str, tuple[Web, Kept]]) -> None:
    site, file = kept["MR_small_implicit.dcm"]
    parts = site.get(f"{file.path}/bulkdata", OCTETS).parts()
    assert file.dataset.PixelData in [content for _, content in parts]


def _image(body: bytes) -> numpy.ndarray[Any, Any]:
    return numpy.asarray(Image.open(io.BytesIO(body)))


@pytest.mark.parametrize("name", FILES)
def test_every_image_is_rendered(kept: dict[str, tuple[Web, Kept]], name: str) -> None:
    site, file = kept[name]
    for accept, kind in (("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/gif", "GIF"), ("*/*", "JPEG")):
        answer = site.get(f"{file.path}/rendered", accept)
        assert answer.status == 200, answer.body
        image = Image.open(io.BytesIO(answer.body))
        assert image.format == kind
        assert image.size == (file.dataset.Columns, file.dataset.Rows)
        if kind == "GIF":
            assert 1 <= getattr(image, "n_frames", 1) <= file.frames
    thumbnail = Image.open(io.BytesIO(site.get(f"{file.path}/thumbnail", "image/jpeg").body))
    assert max(thumbnail.size) == 96


def test_a_window_is_that_of_the_standard(kept: dict[str, tuple[Web, Kept]]) -> None:
    site, file = kept["MR_small_implicit.dcm"]
    values = file.dataset.pixel_array.astype(float)
    center, width = 600.0, 1000.0
    wanted = numpy.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255
    shown = _image(site.get(f"{file.path}/rendered?window=600,1000,linear", "image/png").body)
    assert abs(shown.astype(float) - wanted).max() <= 1
    exact = _image(site.get(f"{file.path}/rendered?window=600,1000,linear-exact", "image/png").body)
    assert abs(exact - numpy.clip((values - center) / width + 0.5, 0, 1) * 255).max() <= 1
    sigmoid = _image(site.get(f"{file.path}/rendered?window=600,1000,sigmoid", "image/png").body)
    assert abs(sigmoid - 255 / (1 + numpy.exp(-4 * (values - center) / width))).max() <= 1


def test_a_viewport_scales_and_cuts(kept: dict[str, tuple[Web, Kept]]) -> None:
    site, file = kept["MR_small_implicit.dcm"]
    path = f"{file.path}/rendered"
    assert _image(site.get(path + "?viewport=32,16", "image/png").body).shape == (16, 16)
    whole = _image(site.get(path, "image/png").body)
    cut = _image(site.get(path + "?viewport=10,20,5,6,10,20", "image/png").body)
    assert (cut == whole[6:26, 5:15]).all()
    mirrored = _image(site.get(path + "?viewport=10,20,5,6,-10,20", "image/png").body)
    assert (mirrored == cut[:, ::-1]).all()
    small, large = (len(site.get(f"{path}?quality={q}", "image/jpeg").body) for q in (10, 95))
    assert small < large
    answer = site.get(path + "?annotation=patient&iccprofile=no", "image/png")
    assert answer.status == 200
    assert "annotation parameter is not supported" in answer.headers["warning"]


@pytest.mark.parametrize(
    "query",
    [
        "window=1", "window=a,b,linear", "window=1,2,cubic", "window=1,-2", "window=nan,inf", "viewport=0,0",
        "viewport=99999,1", "viewport=1", "viewport=5,5,0,0,0,0", "viewport=9,9,500,500,4,4", "quality=0",
        "quality=101", "quality=x",
    ],
)  # fmt: skip
def test_wrong_wishes_are_a_400(kept: dict[str, tuple[Web, Kept]], query: str) -> None:
    site, file = kept["MR_small_implicit.dcm"]
    answer = site.get(f"{file.path}/rendered?{query}", "image/png")
    assert answer.status == 400, answer.body
    assert answer.json["detail"]


def test_inverted_and_palette_images_look_as_they_should(sites: dict[str, Web]) -> None:
    site = sites["e"]
    plain, inverted = phantoms(62, 1, instances=2, size=140_000)
    data = inverted.data.replace(b"MONOCHROME2 ", b"MONOCHROME1 ")
    assert data != inverted.data
    turned = RawInstance(inverted.SOPClassUID, inverted.SOPInstanceUID, inverted.TransferSyntaxUID, data)
    site.store(plain, turned)
    shown = []
    for each in (plain, turned):
        uids = (
            attribute(each, "StudyInstanceUID"),
            attribute(each, "SeriesInstanceUID"),
            each.SOPInstanceUID,
        )
        path = "/studies/{}/series/{}/instances/{}/rendered?window=1000,2000".format(*uids)
        shown.append(_image(site.get(path, "image/png").body).astype(int))
    assert abs(shown[0] + shown[1] - 255).max() <= 1
    palette = Kept("examples_palette.dcm")
    site.store(palette.raw)
    image = _image(site.get(f"{palette.path}/rendered", "image/png").body)
    wanted = apply_color_lut(palette.dataset.pixel_array, palette.dataset) >> 8
    assert abs(image.astype(int) - wanted).max() <= 1


def test_wado_uri_gives_files_and_images(sites: dict[str, Web]) -> None:
    site = sites["e"]
    [instance] = phantoms(65, 1, instances=1, size=140_000)
    site.store(instance)
    _, _, study, _, series, _, uid = path_of(instance).split("/")
    path = f"/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={uid}"

    def get(more: str = "") -> Any:
        return site.ask("GET", path + more, Accept="*/*")

    plain = get()
    assert (plain.status, plain.headers["content-type"]) == (200, "image/jpeg")
    file = get("&contentType=application/dicom")
    assert (file.body, file.headers["content-type"].split(";")[0]) == (file_of(instance), "application/dicom")
    window = get("&contentType=image/png&windowCenter=600&windowWidth=1000&frameNumber=1")
    same = site.get(path_of(instance) + "/rendered?window=600,1000", "image/png")
    assert window.body == same.body
    columns, rows = attribute(instance, "Columns"), attribute(instance, "Rows")
    assert _image(get("&contentType=image/png&columns=32").body).shape == (round(32 * rows / columns), 32)
    region = _image(get("&contentType=image/png&region=0,0,0.5,0.25").body)
    assert region.shape == (round(rows / 4), round(columns / 2))
    for wrong in ("&frameNumber=0", "&windowCenter=1", "&region=1,0,0,1", "&rows=0", "&anonymize=yes"):
        assert get(wrong).status == 400
    assert get("&frameNumber=2").status == 404
    assert get("&contentType=video/mpeg").status == 406
    assert get("&contentType=application/dicom&transferSyntax=1.2.840.10008.1.2.4.70").status == 406
    assert site.ask("GET", "/wado?studyUID=1", Accept="*/*").status == 400
    assert site.ask("GET", path.replace(uid, "1.2.3"), Accept="*/*").status == 404


def test_without_numpy_a_rendering_is_a_406_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    picture = Picture(
        transfer_syntax="1.2.840.10008.1.2.1",
        rows=1,
        columns=1,
        samples_per_pixel=1,
        bits_allocated=8,
        bits_stored=8,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        planar_configuration=0,
    )
    with pytest.raises(NotConvertible, match="pip install 'peerpacs") as refused:
        render([(b"\0", "MONOCHROME2")], picture, pydicom.Dataset(), "image/png", Look())
    assert status_of(refused.value) == 406


def test_a_series_is_rendered_as_one_picture_or_as_all(sites: dict[str, Web]) -> None:
    site = sites["e"]
    study = phantoms(63, 1, instances=3, size=30_000)
    site.store(*study)
    series = path_of(study[0], levels=2)
    for path in (series, series.split("/series")[0]):
        assert Image.open(io.BytesIO(site.get(f"{path}/rendered", "image/jpeg").body)).format == "JPEG"
        assert Image.open(io.BytesIO(site.get(f"{path}/thumbnail", "*/*").body)).size == (96, 96)
        parts = site.get(f"{path}/rendered", 'multipart/related; type="image/jpeg"').parts()
        assert [headers["content-type"] for headers, _ in parts] == ["image/jpeg"] * 3
    assert site.get(f"{series}/rendered", "image/jpeg, application/dicom").status == 400


def test_a_corrected_instance_keeps_its_pixels_and_its_bulk_data(sites: dict[str, Web]) -> None:
    site = sites["e"]
    [instance] = phantoms(64, 1, instances=1, size=40_000)
    site.store(instance)
    study = str(attribute(instance, "StudyInstanceUID"))
    path = path_of(instance)
    before = site.get(f"{path}/frames/1", OCTETS).parts()
    old = site.get(f"{path}/metadata").json[0]["7FE00010"]["BulkDataURI"].removeprefix(site.url)
    name = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^Quite^Different^Name"}]}}
    site.node.register.make(Verb.CORRECT, (study,), reason="typing error", who="test", attributes=name)
    assert site.get(f"{path}/frames/1", OCTETS).parts() == before
    new = site.get(f"{path}/metadata").json[0]["7FE00010"]["BulkDataURI"].removeprefix(site.url)
    assert site.get(new, "*/*").body == attribute(instance, "PixelData")
    assert site.get(old, "*/*").status == 404
