"""Broken, odd and malicious files: quarantine or a verified output, never a crash, never a leak."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from anonymizer import Engine, ProjectKey, Quarantined, load_policy
from anonymizer.elements import Element, Item, Part10, read_part10, write_part10
from anonymizer.leaks import Needles, vocabulary
from anonymizer.promises import Expected
from anonymizer.verifier import verify
from tests.anonymizer.conftest import SECRET, sample, stored, written
from tests.anonymizer.midi_set import make_set
from tests.anonymizer.test_midi import curated

NAME = "Featherstonehaugh^Cuthbert"
ENGINE = Engine(load_policy("research"), ProjectKey("TRIAL", SECRET))
CT = stored(sample(PatientName=NAME, StudyDescription=f"CHEST {NAME}"))
BROKEN = ("MR_truncated.dcm", "rtplan_truncated.dcm", "meta_missing_tsyntax.dcm", "no_meta.dcm")
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def released(data: bytes) -> bytes | None:
    """The output, verified; None if the instance was held back."""
    try:
        result = ENGINE.deidentify(data)
    except Quarantined:
        return None
    out = written(result)
    expected = Expected(frozenset(ENGINE.policy.document["options"]), given=frozenset([result.subject]))
    assert [f for f in verify(data, out, expected, Needles()) if f.reason == "LEAK_FOUND"] == []
    return out


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_held(name: str) -> None:
    with open(str(get_testdata_file(name)), "rb") as file:
        assert released(file.read()) is None


@QUICK
@given(st.binary(max_size=400))
def test_random_bytes_are_held(data: bytes) -> None:
    assert released(data) is None
    assert released(b"\0" * 128 + b"DICM" + data) is None


@QUICK
@given(st.integers(132, len(CT) - 32768), st.binary(min_size=1, max_size=6))
def test_damage_anywhere_in_the_header_never_leaks_the_name(at: int, noise: bytes) -> None:
    out = released(CT[:at] + noise + CT[at + len(noise) :])
    if out is not None:
        assert b"Featherstonehaugh" not in out or noise in b"Featherstonehaugh"


@QUICK
@given(st.integers(0, len(CT)))
def test_a_file_cut_short_anywhere_is_held(length: int) -> None:
    assert length == len(CT) or released(CT[:length]) is None


@QUICK
@given(st.integers(132, len(CT)), st.binary(min_size=1, max_size=40))
def test_bytes_put_in_anywhere_are_held_or_verified(at: int, more: bytes) -> None:
    released(CT[:at] + more + CT[at:])


@QUICK
@given(st.text(st.characters(categories=("Lu", "Ll", "Lo", "Lt")), min_size=5, max_size=30))
def test_whatever_the_patient_is_called_is_not_found_afterwards(name: str) -> None:
    source = sample(StudyDescription=f"CHEST {name}"[:64])
    source.SpecificCharacterSet = "ISO_IR 192"
    source.PatientName = name
    source.PatientComments = f"spoke with {name}"
    out = released(stored(source))
    assert out is not None
    words = re.findall(r"\w+", str(dcmread(io.BytesIO(out))).casefold())
    assert name.casefold() not in set(words) - vocabulary()


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamadaguchi^Tarobei=山田口^太郎兵衛"),
        (["", "ISO 2022 IR 149"], "Hongilsun^Gildongja=洪吉洞^吉洞子"),
        ("ISO_IR 144", "Люкceмбypгов^Аристарх"),
        ("ISO_IR 100", "Østergård^Søren"),
        ("ISO_IR 192", "Nguyễnova^Thérèsia"),
        ("GB18030", "Wangxiaodong^=王小东"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ],
)
def test_names_in_every_character_set_go_from_texts_too(charset: str | list[str], name: str) -> None:
    source = sample()
    source.SpecificCharacterSet = charset
    source.PatientName = name
    source.PatientComments = "CHEST " + name.split("=")[-1].split("^")[0]
    out = released(stored(source))
    assert out is not None
    assert str(dcmread(io.BytesIO(out)).PatientComments) == "CHEST"


def test_text_that_its_character_set_cannot_decode_is_held() -> None:
    source = Dataset()
    source.update(sample())
    root = read_part10(CT).root
    root[0x00080005] = Element("CS", b"ISO_IR 192")
    root[0x00081030] = Element("LO", b"CHEST \xff\xfe\xfa")
    with pytest.raises(Quarantined, match="CHARSET_UNDECODABLE"):
        ENGINE.deidentify(rewritten(root))
    root[0x00080005] = Element("CS", b"ISO_IR 999")
    with pytest.raises(Quarantined, match="CHARSET_UNDECODABLE"):
        ENGINE.deidentify(rewritten(root))


def test_a_sequence_that_came_as_unknown_is_read_and_cleaned() -> None:
    nested = struct.pack("<HHI", 0x0010, 0x0010, 26) + NAME.encode()
    value = struct.pack("<HHI", 0xFFFE, 0xE000, len(nested)) + nested
    root = read_part10(CT).root
    root[0x00082218] = Element("UN", value)
    out = released(rewritten(root))
    assert out is not None
    assert b"Cuthbert" not in out


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_other_transfer_syntaxes_are_written_as_they_came(syntax: str) -> None:
    source = sample(PatientName=NAME)
    source.file_meta.TransferSyntaxUID = syntax
    out = released(stored(source))
    assert out is not None
    assert dcmread(io.BytesIO(out)).file_meta.TransferSyntaxUID == syntax


def test_big_endian_is_written_as_it_came() -> None:
    with open(str(get_testdata_file("rtdose_expb.dcm")), "rb") as file:
        out = released(file.read())
    assert out is not None
    assert dcmread(io.BytesIO(out)).Rows == sample("rtdose_expb.dcm").Rows


def test_nesting_without_end_and_a_deflate_bomb_are_held() -> None:
    deep = Item()
    for _ in range(60):
        deep = Item({0x0040A170: Element("SQ", (deep,))})
    root = read_part10(CT).root
    root[0x00081110] = Element("SQ", (deep,))
    assert released(rewritten(root)) is None
    meta = CT[: CT.index(b"1.2.840.10008.1.2.1\0") + 20]
    bomb = meta.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99\0\0")
    assert released(bomb + zlib.compress(b"\0" * 10_000_000)) is None


def test_an_instance_five_sequences_deep_with_odd_lengths_is_cleaned() -> None:
    deepest = Dataset()
    deepest.PatientName = NAME + "x"
    for _ in range(5):
        outer = Dataset()
        outer.PurposeOfReferenceCodeSequence = Sequence([deepest])
        deepest = outer
    source = sample(ReferencedRequestSequence=Sequence([deepest]), DataSetTrailingPadding=b"Cuthbert")
    out = released(stored(source))
    assert out is not None
    assert b"Cuthbert" not in out


def rewritten(root: Item) -> bytes:
    """A file with this data set."""
    meta = read_part10(CT).meta
    meta.pop(0x00020000)
    return b"".join(bytes(c) for c in write_part10(Part10(meta, root, "1.2.840.10008.1.2.1")))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_mutations_of_the_set_never_crash_and_never_leak(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    files = [i.path.read_bytes() for i in make_set(tmp_path, seed) if i.path.stat().st_size < 200_000]
    engine = Engine(curated(), ProjectKey("TRIAL", SECRET))
    for _ in range(1000):
        data = mutated(chance, bytearray(chance.choice(files)))
        try:
            result = engine.deidentify(data)
        except Quarantined as held:
            crashed = held.reason == "INTERNAL_ERROR"
            if crashed:
                raise
            continue
        boxes = tuple(tuple(box) for box in result.boxes)
        options = frozenset(engine.policy.document["options"])
        expected = Expected(options, boxes=boxes, given=frozenset([result.subject]))  # type: ignore[arg-type]
        out = written(result)
        if not verify(data, out, expected, Needles()):
            assert not [word for word in PLANTED if word in out.lower()]


PLANTED = (b"mulberrygrove", b"quillington", b"featherstonehaugh", b"westhampstead", b"polycarp infirmary")


def mutated(chance: random.Random, data: bytearray) -> bytes:
    """Some bytes changed, cut out, put in or copied over others, near the front."""
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at, other = (chance.randrange(132, min(len(data), 6000)) for _ in range(2))
        noise = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
        kind = chance.randrange(4)
        if kind == 0:
            data[at] = noise[0]
        elif kind == 1:
            del data[at : at + len(noise)]
        elif kind == 2:
            data[at:at] = noise
        else:
            data[at : at + 16] = data[other : other + 16]
    return bytes(data)
