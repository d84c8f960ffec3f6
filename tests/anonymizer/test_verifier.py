"""The verifier finds what an engine that had failed would have left behind."""

from __future__ import annotations

from typing import Any

import pytest

from anonymizer import Engine, ProjectKey, load_policy
from anonymizer.elements import PIXEL_DATA, Element, Part10, read_part10, write_part10
from anonymizer.leaks import Needles
from anonymizer.promises import Expected
from anonymizer.verifier import Finding, verify
from anonymizer.verifier_pixels import native_finding
from tests.anonymizer.conftest import SECRET, sample, stored, written

NAME, PHONE = "Featherstonehaugh^Cuthbert", "212-555-0147"
SOURCE = stored(
    sample(
        PatientName=NAME,
        PatientTelephoneNumbers=PHONE,
        PatientBirthDate="19320707",
        InstitutionName="Saint Polycarp Infirmary",
        PatientAddress="12 Mulberrygrove Lane",
    )
)
RESULT = Engine(load_policy("research"), ProjectKey("TRIAL", SECRET)).deidentify(SOURCE)
OPTIONS = frozenset(load_policy("research").document["options"])


def found(data: bytes, names: str = "", known: Needles | None = None) -> list[Finding]:
    expected = Expected(OPTIONS, given=frozenset([RESULT.subject]))
    return verify(SOURCE, data, expected, known or Needles(), names)


def changed(**values: Any) -> bytes:
    """The output with elements put back, as (tag as hex)=(vr, bytes)."""
    file = read_part10(written(RESULT))
    file.meta.pop(0x00020000)
    for name, (vr, value) in values.items():
        file.root[int(name[1:], 16)] = Element(vr, value)
    return b"".join(bytes(c) for c in write_part10(Part10(file.meta, file.root, file.transfer_syntax)))


def test_what_the_engine_wrote_passes() -> None:
    assert found(written(RESULT)) == []


@pytest.mark.parametrize(
    "planted",
    [
        b"Featherstonehaugh",
        b"featherstoneHAUGH",
        "Featherstonehaugh".encode("utf-16-le"),
        "FEATHERSTONEHAUGH".encode("utf-16-be"),
        b"CuthbertFeatherstonehaugh",
        b"212 555 0147",
        b"(212)5550147",
        b"1932-07-07",
        b"07.07.1932",
        b"07/07/1932",
        b"1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322",
        b"Cuthbert",
        b"Polycarp",
        b"Mulberrygrove",
    ],
)
@pytest.mark.parametrize("where", ["text", "private", "trailing", "preamble"])
def test_a_planted_value_is_found_in_every_encoding_and_place(planted: bytes, where: str) -> None:
    if where == "preamble":
        data = written(RESULT)
        data = planted.ljust(128, b"\0") + data[128:]
    else:
        vr, tag = {
            "text": ("LT", "t00204000"),
            "private": ("OB", "t00771001"),
            "trailing": ("OB", "tFFFCFFFC"),
        }[where]
        data = changed(**{tag: (vr, planted)})
    assert any(finding.reason == "LEAK_FOUND" for finding in found(data))


def test_a_name_in_the_pixel_data_is_found() -> None:
    pixels = bytearray(read_part10(SOURCE).root[PIXEL_DATA].data)
    pixels[5000:5017] = b"Featherstonehaugh"
    findings = found(changed(t7FE00010=("OW", bytes(pixels))))
    assert {finding.reason for finding in findings} == {"LEAK_FOUND", "IOD_REGRESSION"}


def test_the_creator_of_an_unsafe_private_block_excuses_nothing() -> None:
    local = sample(InstitutionName="Saint Polycarp Infirmary")
    local.private_block(0x0077, "POLYCARP LOCAL", create=True).add_new(1, "LO", "x")
    source = stored(local)
    out = written(Engine(load_policy("research"), ProjectKey("TRIAL", SECRET)).deidentify(source))
    at = len(out) - 5000
    planted = out[:at] + b"POLYCARP" + out[at + 8 :]
    findings = verify(source, planted, Expected(OPTIONS), Needles())
    assert "LEAK_FOUND" in [finding.reason for finding in findings]


def test_a_name_in_the_files_own_name_is_found() -> None:
    assert found(written(RESULT), names="out/Cuthbert Featherstonehaugh/1.dcm")


def test_a_name_that_only_another_instance_of_the_subject_knows_is_found() -> None:
    known = Needles()
    known.add_name("Quillington^Prudence")
    data = changed(t00080070=("LO", b"Quillington Scanners"))
    assert found(data) == []
    assert found(data, known=known)[0].reason == "LEAK_FOUND"


@pytest.mark.parametrize(
    ("tag", "vr", "value", "reason"),
    [
        ("t00200010", "SH", b"1CT1", "LEAK_FOUND"),
        ("t00081010", "SH", b"CT01_OC0", "LEAK_FOUND"),
        ("t00081048", "PN", b"Anybody^Else", "LEAK_FOUND"),
        ("t00081030", "LO", b"unheardof flurbiprofen", "LEAK_FOUND"),
        ("t00280010", "US", b"\1\0", "IOD_REGRESSION"),
        ("t00080018", "UI", b"1.2.3.4", "IOD_REGRESSION"),
    ],
)
def test_each_attribute_is_checked_against_the_table(tag: str, vr: str, value: bytes, reason: str) -> None:
    assert reason in [finding.reason for finding in found(changed(**{tag: (vr, value)}))]


def test_findings_never_repeat_a_value() -> None:
    findings = found(changed(t00204000=("LT", b"Cuthbert Featherstonehaugh")))
    assert not any("uthbert" in finding.sentence for finding in findings)


def test_blanked_pixels_must_be_of_one_shade_and_all_others_untouched() -> None:
    root = read_part10(SOURCE).root
    before = root[PIXEL_DATA].data
    boxes = ((0, 0, 10, 2),)
    blanked = bytearray(before)
    blanked[0:20] = blanked[256:276] = bytes(20)
    assert list(native_finding(root, before, bytes(blanked), boxes)) == []
    outside = bytearray(blanked)
    outside[-1] ^= 1
    assert [reason for reason, _ in native_finding(root, before, bytes(outside), boxes)] == ["IOD_REGRESSION"]
    inside = bytearray(blanked)
    inside[4] = 9
    assert [reason for reason, _ in native_finding(root, before, bytes(inside), boxes)] == ["LEAK_FOUND"]


def test_a_patient_whose_name_is_a_word_of_the_markers_is_not_held() -> None:
    source = stored(sample(PatientName="Policy^Seal"))
    result = Engine(load_policy("research"), ProjectKey("TRIAL", SECRET)).deidentify(source)
    expected = Expected(OPTIONS, given=frozenset([result.subject]))
    assert verify(source, written(result), expected, Needles()) == []
