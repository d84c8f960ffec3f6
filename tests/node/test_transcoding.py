"""What a receiver does not accept as it is stored it is given uncompressed: the pixels that DCMTK decodes."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy
import pydicom
import pydicom.data
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from catalog import PacsError
from node import pixels
from node.dimse import Requestor, reencode
from node.pixels import NotConvertible
from node.transcoding import Transcoder
from sim.ports import free_port
from tests.homes import RawInstance, Received, serving
from tests.running import RunningNode, dcmtk, running, until

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_SYNTAX = "1.2.840.10008.1.2."
_DECODERS = {
    **dict.fromkeys((_SYNTAX + tail for tail in ("4.50", "4.51", "4.57", "4.70")), "dcmdjpeg"),
    **dict.fromkeys((_SYNTAX + tail for tail in ("4.80", "4.81")), "dcmdjpls"),
    _SYNTAX + "5": "dcmdrle",
    BIG_ENDIAN: "dcmconv",
}
_SHARED = Path(__file__).parents[3] / "shared" / "data" / "dicom"
"""Real files beside the checkout where the project is built; a user's clone has none."""
_NOT_FOR_DCMTK = {
    "JPEG-lossy.dcm": "12-bit JPEG, which we have no codec for",
    "JPGExtended.dcm": "12-bit JPEG, which we have no codec for",
    "SC_rgb_jpeg.dcm": "DCMTK does not read Implicit VR where Explicit was promised",
    "liver_rle.dcm": "DCMTK has no RLE of one bit",
    "rtdose_expb.dcm": "32-bit big endian, which we leave alone",
    "rtdose_expb_1frame.dcm": "32-bit big endian, which we leave alone",
}
_NOT_FOR_US = {
    "JPEG-lossy.dcm",
    "JPGExtended.dcm",
    "rtdose_expb.dcm",
    "rtdose_expb_1frame.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
}
"""The last one's code stream is damaged."""
_MAY_CHANGE = {"PhotometricInterpretation", "PlanarConfiguration", "PixelData"}
_LOSSY = {"LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"}


def _compressed_files() -> Iterator[Path]:
    folders = (Path(pydicom.data.__file__).parent, _SHARED)
    for path in sorted(path for folder in folders if folder.is_dir() for path in folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path, force=True, defer_size=1)
        syntax = dataset.get("file_meta", Dataset()).get("TransferSyntaxUID", "")
        is_image = "PixelData" in dataset and "SOPInstanceUID" in dataset
        if is_image and (
            syntax == BIG_ENDIAN or syntax.startswith((_SYNTAX + "4", _SYNTAX + "5", _SYNTAX + "8"))
        ):
            yield path


FILES = list(_compressed_files())


@pytest.fixture(scope="module")
def transcoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transcoder]:
    made = Transcoder(reencode, tmp_path_factory.mktemp("incoming"))
    yield made
    made.close()


def converted(transcoder: Transcoder, instance: RawInstance, target: str = EXPLICIT) -> bytes:
    """Return the data set of an instance in another syntax."""
    outgoing = transcoder(instance, [target])
    assert outgoing is not None
    assert outgoing.TransferSyntaxUID == target
    data = bytearray(outgoing.size)
    assert outgoing.read_into(memoryview(data), 0) == outgoing.size
    outgoing.close()
    return bytes(data)


def parsed(data: bytes, target: str = EXPLICIT) -> Dataset:
    """Return a data set as pydicom reads it."""
    return read_dataset(BytesIO(data), target == IMPLICIT, True)


def interleaved(dataset: Dataset) -> bytes:
    """Return native pixels color-by-pixel, without padding."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    cells = frames * dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
    size = (cells * dataset.BitsAllocated + 7) // 8
    data = dataset.PixelData[:size]
    if dataset.SamplesPerPixel == 1 or not dataset.PlanarConfiguration:
        return bytes(data)
    planes = numpy.frombuffer(data, f"V{dataset.BitsAllocated // 8}").reshape(
        frames, dataset.SamplesPerPixel, -1
    )
    return planes.transpose(0, 2, 1).tobytes()


def study_of(*frames: bytes, syntax: str, pixel_data: bytes = b"", **values: object) -> RawInstance:
    """Return an 8-bit image with encapsulated frames."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7.2", "1.2.3.4.5.6"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.5"
    dataset.PatientID, dataset.PatientName, dataset.Modality = "P", "A^B", "OT"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.NumberOfFrames = values.get("NumberOfFrames", len(frames))
    dataset.PixelData = pixel_data or encapsulate(list(frames))
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    written = BytesIO()
    pydicom.dcmwrite(written, dataset, implicit_vr=False, little_endian=True)
    uids = (str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), str(syntax))
    return RawInstance(*uids, written.getvalue())


def jpeg(seed: int, rows: int = 64, columns: int = 64) -> bytes:
    """Return a noisy gray frame in JPEG Baseline."""
    noise = numpy.random.default_rng(seed).integers(0, 255, (rows, columns), numpy.uint8)
    frame = BytesIO()
    Image.fromarray(noise).save(frame, "JPEG", quality=50)
    return frame.getvalue()


@pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT], ids=["explicit", "implicit"])
@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name not in _NOT_FOR_DCMTK], ids=lambda path: path.name
)
def test_pixels_are_what_dcmtk_decodes(
    path: Path, target: str, transcoder: Transcoder, tmp_path: Path
) -> None:
    instance = RawInstance.read(path)
    program = _DECODERS.get(instance.TransferSyntaxUID)
    if program is None:  # JPEG 2000, HTJ2K and deflated frames have tests of their own: DCMTK has no codec
        return
    dcmtk(program, *(["+te"] if program == "dcmconv" else []), str(path), str(tmp_path / "decoded.dcm"))
    expected = pydicom.dcmread(tmp_path / "decoded.dcm")
    ours = parsed(converted(transcoder, instance, target), target)
    assert interleaved(ours) == interleaved(expected)
    assert ours.PhotometricInterpretation == expected.PhotometricInterpretation
    assert len(ours.PixelData) % 2 == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_but_the_pixels_stays_as_it_was(path: Path, transcoder: Transcoder) -> None:
    instance = RawInstance.read(path)
    target = IMPLICIT if path.name == "SC_rgb_jpeg.dcm" else EXPLICIT
    if path.name in _NOT_FOR_US:
        with pytest.raises(NotConvertible):
            transcoder(instance, [target])
        return
    ours = parsed(converted(transcoder, instance, target), target)
    stored = pydicom.dcmread(path, force=True)
    differing = {
        element.keyword for element in stored if element.tag.element and ours.get(element.tag) != element
    }
    assert differing <= _MAY_CHANGE
    assert {element.keyword for element in ours if element.tag not in stored} <= _LOSSY
    assert ours.get("PlanarConfiguration", 0) == 0 or instance.TransferSyntaxUID == BIG_ENDIAN
    if instance.TransferSyntaxUID != BIG_ENDIAN:
        expected = "OB" if stored.BitsAllocated <= 8 and target == EXPLICIT else "OW"
        assert expected == ours["PixelData"].VR


_TWINS = [
    ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
    ("693_J2KR.dcm", "693_UNCR.dcm"),
    ("emri_small_jpeg_2k_lossless.dcm", "emri_small.dcm"),
    ("emri_small_RLE.dcm", "emri_small.dcm"),
    ("liver_rle.dcm", "liver.dcm"),
    ("liver_deflate.dcm", "liver.dcm"),
    ("SC_rgb_rle_32bit_2frame.dcm", "SC_rgb_32bit_2frame.dcm"),
]


def _at_hand(name: str) -> Path | None:
    folders = (Path(pydicom.data.__file__).parent / "test_files", _SHARED)
    return next((folder / name for folder in folders if (folder / name).exists()), None)


@pytest.mark.parametrize(
    ("compressed", "plain"), [pair for pair in _TWINS if all(map(_at_hand, pair))], ids=lambda name: name
)
def test_lossless_compression_gives_back_every_bit(
    compressed: str, plain: str, transcoder: Transcoder
) -> None:
    source, expected = _at_hand(compressed), _at_hand(plain)
    assert source
    assert expected
    ours = parsed(converted(transcoder, RawInstance.read(source)))
    assert interleaved(ours) == interleaved(pydicom.dcmread(expected))


def test_the_history_of_lossy_compression_is_kept_or_written(transcoder: Transcoder) -> None:
    frames = [jpeg(1), jpeg(2)]
    silent = study_of(*frames, syntax=JPEG_BASELINE, Rows=64, Columns=64)
    ours = parsed(converted(transcoder, silent))
    assert (ours.LossyImageCompression, ours.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    size = sum(map(len, frames))
    assert ours.LossyImageCompressionRatio == pytest.approx(2 * 64 * 64 / size, rel=0.05)
    history: dict[str, object] = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": ["3.1", "12"],
        "LossyImageCompressionMethod": ["ISO_15444_1", "ISO_10918_1"],
    }
    extended = study_of(*frames, syntax=_SYNTAX + "4.51", Rows=64, Columns=64)
    assert parsed(converted(transcoder, extended)).PixelData == ours.PixelData
    telling = study_of(*frames, syntax=JPEG_BASELINE, Rows=64, Columns=64, **history)
    ours = parsed(converted(transcoder, telling))
    assert {keyword: ours[keyword].value for keyword in _LOSSY} == history


def test_what_may_be_lossy_and_is_not_gets_no_lossy_history(transcoder: Transcoder) -> None:
    noise = numpy.random.default_rng(3).integers(0, 255, (64, 64), numpy.uint8)
    for irreversible in (False, True):
        frame = BytesIO()
        Image.fromarray(noise).save(frame, "JPEG2000", no_jp2=True, irreversible=irreversible)
        instance = study_of(frame.getvalue(), syntax=_SYNTAX + "4.91", Rows=64, Columns=64)
        ours = parsed(converted(transcoder, instance))
        assert ("LossyImageCompression" in ours) is irreversible
        assert irreversible or ours.PixelData == noise.tobytes()


def _in_fragments(frames: list[bytes], table: list[int]) -> bytes:
    """Return frames in three fragments each, behind a Basic Offset Table."""
    items = struct.pack(f"<HHI{len(table)}I", 0xFFFE, 0xE000, 4 * len(table), *table)
    for frame in frames:
        third = len(frame) // 6 * 2
        for part in (frame[:third], frame[third : 2 * third], frame[2 * third :]):
            padded = part + b"\0" * (len(part) % 2)
            items += struct.pack("<HHI", 0xFFFE, 0xE000, len(padded)) + padded
    return items


@pytest.mark.parametrize(
    "how", ["one each", "offset table", "extended table", "fragments", "fragments and table"]
)
def test_frames_are_found_however_they_are_laid_out(how: str, transcoder: Transcoder) -> None:
    frames = [jpeg(seed) for seed in range(5)]
    more: dict[str, object] = {}
    lengths = [len(frame) + len(frame) % 2 + 24 for frame in frames]
    starts = [sum(lengths[:place]) for place in range(5)]
    data = {
        "one each": encapsulate(frames, has_bot=False),
        "offset table": encapsulate(frames),
        "extended table": b"",
        "fragments": _in_fragments(frames, []),
        "fragments and table": _in_fragments(frames, starts),
    }[how]
    if how == "extended table":
        data, more["ExtendedOffsetTable"], more["ExtendedOffsetTableLengths"] = encapsulate_extended(frames)
    instance = study_of(
        *frames, syntax=JPEG_BASELINE, pixel_data=data, Rows=64, Columns=64, NumberOfFrames=5, **more
    )
    ours = parsed(converted(transcoder, instance))
    assert ours.PixelData == b"".join(Image.open(BytesIO(frame)).tobytes() for frame in frames)
    assert "ExtendedOffsetTable" not in ours
    assert "ExtendedOffsetTableLengths" not in ours


def test_what_stands_behind_the_pixels_is_kept(transcoder: Transcoder) -> None:
    instance = study_of(jpeg(1), syntax=JPEG_BASELINE, Rows=64, Columns=64)
    instance.data += struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 4) + b"\1\2\3\4"
    assert converted(transcoder, instance).endswith(b"\1\2\3\4")
    assert converted(transcoder, instance, IMPLICIT).endswith(
        struct.pack("<HHI", 0xFFFC, 0xFFFC, 4) + b"\1\2\3\4"
    )


def test_an_icon_that_would_stay_compressed_is_left_out(transcoder: Transcoder) -> None:
    icon = Dataset()
    icon.Rows = icon.Columns = 64
    icon.PixelData = encapsulate([jpeg(7)])
    icon["PixelData"].VR, icon["PixelData"].is_undefined_length = "OB", True
    instance = study_of(jpeg(1), syntax=JPEG_BASELINE, Rows=64, Columns=64, IconImageSequence=[icon])
    assert "IconImageSequence" not in parsed(converted(transcoder, instance))
    icon.PixelData = bytes(64 * 64)
    icon["PixelData"].is_undefined_length = False
    instance = study_of(jpeg(1), syntax=JPEG_BASELINE, Rows=64, Columns=64, IconImageSequence=[icon])
    assert parsed(converted(transcoder, instance, IMPLICIT), IMPLICIT).IconImageSequence[
        0
    ].PixelData == bytes(4096)


def test_nothing_is_made_lossy_or_compressed(transcoder: Transcoder) -> None:
    instance = study_of(jpeg(1), syntax=JPEG_BASELINE, Rows=64, Columns=64)
    lossy = [_SYNTAX + tail for tail in ("4.51", "4.81", "4.91", "4.80", "5")]
    assert transcoder(instance, lossy) is None
    plain = RawInstance.read(Path(str(get_testdata_file("CT_small.dcm"))))
    assert transcoder(plain, lossy) is None


def _damaged() -> dict[str, RawInstance]:
    frame = jpeg(1)
    good = study_of(frame, frame, syntax=JPEG_BASELINE, Rows=64, Columns=64)
    pixels_at = good.data.index(b"\xe0\x7f\x10\x00")
    wrong = {
        "no code stream": study_of(b"\0" * 500, syntax=JPEG_BASELINE, Rows=64, Columns=64),
        "another size": study_of(frame, syntax=JPEG_BASELINE, Rows=64, Columns=63),
        "a million frames": study_of(frame, syntax=JPEG_BASELINE, Rows=64, Columns=64, NumberOfFrames=10**6),
        "frames of 4 GB": study_of(frame, syntax=JPEG_BASELINE, Rows=65535, Columns=65535),
        "no frames": study_of(frame, syntax=JPEG_BASELINE, Rows=64, Columns=64, NumberOfFrames=0),
        "no rows": study_of(frame, syntax=JPEG_BASELINE, Columns=64),
        "a cut fragment": study_of(frame, syntax=JPEG_BASELINE, Rows=64, Columns=64),
        "items out of step": study_of(frame, syntax=JPEG_BASELINE, Rows=64, Columns=64),
        "RLE that is JPEG": study_of(frame, syntax=_SYNTAX + "5", Rows=64, Columns=64),
        "JPEG-LS that is JPEG": study_of(frame, syntax=_SYNTAX + "4.80", Rows=64, Columns=64),
        "native pixels": study_of(frame, syntax=JPEG_BASELINE, Rows=64, Columns=64),
        "12-bit JPEG": RawInstance.read(Path(str(get_testdata_file("JPGExtended.dcm")))),
        "video": study_of(frame, syntax=_SYNTAX + "4.102", Rows=64, Columns=64),
    }
    wrong["a cut fragment"].data = wrong["a cut fragment"].data[: pixels_at + 600]
    wrong["items out of step"].data = wrong["items out of step"].data.replace(
        b"\xfe\xff\x00\xe0", b"\xfe\xff\x01\xe0"
    )
    native = wrong["native pixels"]
    native.data = native.data[:pixels_at] + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 4096) + bytes(4096)
    return wrong


@pytest.mark.parametrize("what", _damaged())
def test_what_cannot_be_decoded_is_told_soon(what: str, transcoder: Transcoder) -> None:
    started = time.monotonic()
    with pytest.raises(PacsError) as told:
        transcoder(_damaged()[what], [EXPLICIT, IMPLICIT])
    assert time.monotonic() - started < 15
    assert told.value.what.endswith((".", "?"))
    good = study_of(jpeg(1), syntax=JPEG_BASELINE, Rows=64, Columns=64)
    assert converted(transcoder, good)


def test_every_flipped_byte_of_a_file_ends_in_pixels_or_a_reason(transcoder: Transcoder) -> None:
    for name in (
        "SC_rgb_jpeg_dcmtk.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
    ):
        instance = RawInstance.read(Path(str(get_testdata_file(name))))
        random = numpy.random.default_rng(5)
        start = instance.data.index(b"\xe0\x7f\x10\x00")
        for place in random.integers(start, len(instance.data), 40):
            data = bytearray(instance.data)
            data[place] ^= 1 << random.integers(8)
            try:
                outgoing = transcoder(
                    RawInstance(*("1", "2", instance.TransferSyntaxUID), bytes(data)), [IMPLICIT]
                )
            except PacsError:
                continue
            assert outgoing
            outgoing.close()


def _codec_of(transcoder: Transcoder) -> int:
    [codec] = transcoder.codecs._idle
    return codec._process.pid


def test_a_codec_that_hangs_or_crashes_costs_one_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = study_of(jpeg(1), syntax=JPEG_BASELINE, Rows=64, Columns=64)
    with contextlib.closing(Transcoder(reencode)) as transcoder:
        expected = converted(transcoder, instance)
        os.kill(_codec_of(transcoder), signal.SIGSTOP)
        with monkeypatch.context() as impatient:
            impatient.setattr(pixels, "_PATIENCE", 0.3)
            with pytest.raises(NotConvertible, match="not done within"):
                transcoder(instance, [EXPLICIT])
        assert converted(transcoder, instance) == expected
        codec = _codec_of(transcoder)
        os.kill(codec, signal.SIGSTOP)
        threading.Timer(0.3, os.kill, (codec, signal.SIGKILL)).start()
        with pytest.raises(NotConvertible, match="crashed"):
            transcoder(instance, [EXPLICIT])
        assert converted(transcoder, instance) == expected


def test_a_codec_killed_while_it_waits_is_replaced(transcoder: Transcoder) -> None:
    instance = study_of(jpeg(1), syntax=JPEG_BASELINE, Rows=64, Columns=64)
    expected = converted(transcoder, instance)
    codec = _codec_of(transcoder)
    os.kill(codec, signal.SIGKILL)
    until(lambda: Path(f"/proc/{codec}/stat").read_text().split()[2] == "Z")
    assert converted(transcoder, instance) == expected
    assert _codec_of(transcoder) != codec


def _memory(what: str) -> int:
    """Return a line of /proc/self/status in MB."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) >> 10 for line in text.splitlines() if line.startswith(what))


def test_300_frames_are_converted_in_bounded_memory(transcoder: Transcoder, tmp_path: Path) -> None:
    frames = [jpeg(seed, 700, 700) for seed in range(3)] * 100
    instance = study_of(*frames, syntax=JPEG_BASELINE, Rows=700, Columns=700)
    converted(transcoder, study_of(jpeg(1), syntax=JPEG_BASELINE, Rows=64, Columns=64))
    del frames
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    outgoing = transcoder(instance, [IMPLICIT])
    assert outgoing
    buffer = memoryview(bytearray(1 << 20))
    read = 0
    while read < outgoing.size:
        read += outgoing.read_into(buffer, read)
    grown = _memory("VmHWM") - before
    outgoing.close()
    assert read > 300 * 700 * 700
    assert grown < 64, f"{grown} MB"


_STUDY = "1.2.826.0.1.3680043.8.498.7"
_SENT = (
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_RLE.dcm",
    "MR_small_expb.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "JPGExtended.dcm",
)
"""The last one is 12-bit JPEG, which no codec of ours decodes."""


def _in_one_study(name: str, number: int) -> RawInstance:
    dataset = pydicom.dcmread(str(get_testdata_file(name)))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _STUDY, f"{_STUDY}.1"
    dataset.SOPInstanceUID = f"{_STUDY}.1.{number}"
    dataset.PatientID, dataset.SeriesNumber = "TRANSCODED", "1"
    syntax = dataset.file_meta.TransferSyntaxUID
    written = DicomBytesIO()
    written.is_implicit_VR, written.is_little_endian = False, syntax != BIG_ENDIAN
    write_dataset(written, dataset)
    uids = (str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), str(syntax))
    return RawInstance(*uids, written.getvalue())


def _store(port: int, instances: list[RawInstance]) -> None:
    peer = Requestor("SENDER", "127.0.0.1", port, "ALPHA")
    pairs = [(each.SOPClassUID, each.TransferSyntaxUID) for each in instances]
    assert [each.status for each in peer.store(instances, expected=pairs)] == [0] * len(instances)


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running(tmp_path_factory.mktemp("alpha")) as node:
        _store(node.port, [_in_one_study(name, number) for number, name in enumerate(_SENT)])
        yield node


def _pixels_of_the_study(transcoder: Transcoder) -> dict[str, bytes]:
    return {
        instance.SOPInstanceUID: interleaved(parsed(converted(transcoder, instance)))
        for instance in (_in_one_study(name, number) for number, name in enumerate(_SENT[:-1]))
    }


@contextlib.contextmanager
def _reader(node: RunningNode, folder: Path, *options: str) -> Iterator[str]:
    """Yield the AE title of a storescp in the device book."""
    port, title = free_port(), f"READER{free_port()}"
    device = ("--address", "127.0.0.1", "--port", str(port), "--services", "echo")
    node.cli("devices", "add", title, *device)
    with subprocess.Popen(["storescp", *options, "-od", str(folder), "-aet", title, str(port)]) as reader:
        until(lambda: "Success" in dcmtk("echoscu", "-v", "127.0.0.1", str(port), exit_code=None))
        yield title
        reader.terminate()


def _move(node: RunningNode, title: str) -> str:
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={_STUDY}"]
    command = ["movescu", "-d", "-S", "-aec", "ALPHA", "-aem", title, *keys, "127.0.0.1", str(node.port)]
    return dcmtk(*command, exit_code=None)


def test_c_move_to_a_reader_of_implicit_vr_only(
    alpha: RunningNode, transcoder: Transcoder, tmp_path: Path
) -> None:
    with _reader(alpha, tmp_path, "+xi") as title:
        said = _move(alpha, title)
    received = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert {each.file_meta.TransferSyntaxUID for each in received} == {IMPLICIT}
    assert {each.SOPInstanceUID: interleaved(each) for each in received} == _pixels_of_the_study(transcoder)
    assert "0xb000" in said
    assert f"(0008,0058) UI [{_STUDY}.1.{len(_SENT) - 1}]" in said
    assert "No codec decodes 12-bit JPEG Extended." in said
    assert "No codec decodes 12-bit JPEG Extended." in alpha.log()
    assert not [path for path in (alpha.home / "archives" / "main" / "incoming").iterdir() if path.is_file()]


def test_c_get_without_compressed_contexts(
    alpha: RunningNode, transcoder: Transcoder, tmp_path: Path
) -> None:
    expected = _pixels_of_the_study(transcoder)
    asked = (
        "QueryRetrieveLevel=IMAGE",
        f"StudyInstanceUID={_STUDY}",
        f"SeriesInstanceUID={_STUDY}.1",
        "SOPInstanceUID=" + "\\".join(expected),
    )
    keys = [word for key in asked for word in ("-k", key)]
    there = ("127.0.0.1", str(alpha.port))
    said = dcmtk("getscu", "-v", "-S", "-aec", "ALPHA", "-od", str(tmp_path), *keys, *there)
    assert "Number of Failed Suboperations    : 0" in said
    received = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert {each.SOPInstanceUID: interleaved(each) for each in received} == expected


def test_send_converts_for_a_receiver_of_implicit_vr_only(alpha: RunningNode, tmp_path: Path) -> None:
    files = [str(get_testdata_file(name)) for name in ("MR_small_RLE.dcm", "SC_rgb_jpeg_gdcm.dcm")]
    with _reader(alpha, tmp_path, "+xi") as title:
        assert "2 instances sent" in alpha.cli("send", title, *files)
    received = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert {each.file_meta.TransferSyntaxUID for each in received} == {IMPLICIT}


def test_a_node_without_codecs_serves_and_says_what_is_missing(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in ("numpy", "PIL", "gdcm", "openjpeg", "rle", "pylibjpeg"):
        (hidden / f"{name}.py").write_text("raise ImportError('not here')")
    received = tmp_path / "received"
    received.mkdir()
    with running(tmp_path / "alpha", PYTHONPATH=str(hidden)) as node:
        _store(node.port, [_in_one_study(name, number) for number, name in enumerate(_SENT[:4])])
        with _reader(node, received, "+xi") as title:
            said = _move(node, title)
        assert "No codec for JPEG 2000 here: pip install 'peerpacs[pixels]'" in said
        assert "No codec for JPEG-LS here: pip install 'peerpacs[pixels]'" in node.log()
    [plain] = [pydicom.dcmread(path) for path in received.iterdir()]
    assert plain.SOPInstanceUID == f"{_STUDY}.1.3", "big endian needs no codec"


def test_a_corrected_instance_leaves_corrected_and_converted(tmp_path: Path, transcoder: Transcoder) -> None:
    stored = _in_one_study("SC_rgb_jpeg_dcmtk.dcm", 0)
    identifier = {
        "00080052": {"vr": "CS", "Value": ["STUDY"]},
        "0020000D": {"vr": "UI", "Value": [_STUDY]},
    }
    received = Received()
    with serving(tmp_path / "home") as node:
        _store(node.ports["dicom"], [stored])
        who = {"reason": "wrong patient", "who": "tester"}
        node.desk.verbs()["correct"](target=_STUDY, attributes=["PatientID=RIGHT"], **who)
        peer = Requestor("PEER", "127.0.0.1", node.ports["dicom"], "ALPHA")
        peer.get(identifier, received, storage=[(stored.SOPClassUID, EXPLICIT)])
    [instance] = received.instances
    ours = parsed(instance.data)
    assert instance.TransferSyntaxUID == EXPLICIT
    assert ours.PatientID == "RIGHT"
    assert ours.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientID == "TRANSCODED"
    assert interleaved(ours) == interleaved(parsed(converted(transcoder, stored)))
