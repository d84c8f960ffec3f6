"""Where names, numbers and dates hide that no rule looks for: held or gone, but never released."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from anonymizer import ProjectKey, load_policy
from anonymizer.elements import (
    PIXEL_DATA,
    Element,
    Item,
    Part10,
    encapsulate,
    read_part10,
    write_part10,
)
from anonymizer.text import Identifiers, cleaned, without_identifiers
from anonymizer.worker import Known, Worker
from tests.anonymizer.conftest import SECRET, sample, stored
from tests.anonymizer.test_engine import bare, code, item
from tests.anonymizer.test_hostile import rewritten

NOBODY = Identifiers()
JPEG_LS = "1.2.840.10008.1.2.4.80"
SR = "1.2.840.10008.5.1.4.1.1.88.33"


def released(data: bytes) -> Item | None:
    """What a site would release of an instance; None if it is held."""
    worker = Worker(load_policy("research"), ProjectKey("TRIAL", SECRET), Path())
    about = worker.survey_bytes("instance", data)
    if about.reason:
        return None
    known = Known(about.subject.identifiers, about.needles)
    outcome, out = worker.process_bytes("instance", data, known, about.digest)
    return read_part10(out).root if outcome.name else None


def values(item: Item) -> Iterator[bytes]:
    for element in item.values():
        yield element.data
        for nested in element.items:
            yield from values(nested)


def says(data: bytes, *words: str) -> list[str]:
    """The words that are in any value of what is released."""
    root = released(data)
    said = b"\n".join(values(root)).lower() if root is not None else b""
    return [word for word in words if word.lower().encode() in said]


def patient(**changes: Any) -> Dataset:
    known = {"PatientName": "Wong^Li", "PatientID": "MRN48392017", "PatientBirthDate": "19600304"}
    return sample(**{**known, **changes})


@pytest.mark.parametrize(
    "label",
    [
        "555-123-4567",
        "(0221) 478 5678",
        "123-45-6789",
        "12.11.2009",
        "2009-11-12",
        "March 4 1960",
        "Mar-04-1960",
        "12 Nov 2009",
        "11/12/09",
        "20091112",
        "Dr Hollingberry",
        "DR. Hollingberry",
        "by Hollingberry",
        "https://pacs.example.org/x",
        "97 y/o",
    ],
)
def test_a_label_loses_dates_phones_and_who_is_named_with_a_title(label: str) -> None:
    assert without_identifiers(f"HEAD {label}", NOBODY) == "HEAD"


@pytest.mark.parametrize(
    "label", ["syngo MR E11", "DR System 2", "epfid2d1_128", "2.16.1", "B30f", "3.0T 512/1.5", "Br40d\\3"]
)
def test_a_label_of_a_machine_stays_as_it_is(label: str) -> None:
    assert without_identifiers(label, NOBODY) == label


def test_codes_and_versions_keep_digits_that_look_like_dates() -> None:
    finding = Sequence([item(CodeValue="20091112", CodingSchemeDesignator="SCT", CodeMeaning="Lung")])
    root = released(stored(patient(AnatomicRegionSequence=finding)))
    assert root is not None
    assert root[0x00082218].items[0][0x00080100].data.strip() == b"20091112"


@pytest.mark.parametrize(
    "age", ["97 year old", "97yo", "97 y/o", "97Y", "097Y", "97-year-old", "aged 97", "age: 97", "97 yrs"]
)
def test_an_age_of_ninety_and_more_goes_from_texts_as_from_the_patients_age(age: str) -> None:
    assert "97" not in cleaned(f"CT CHEST {age}", NOBODY).text
    assert cleaned("CT CHEST 46 year old 97 mm", NOBODY).text == "CT CHEST 46 year old 97 mm"


def test_digits_of_other_scripts_are_no_measures() -> None:
    assert cleaned("CHEST ٢٠١١", NOBODY).text == "CHEST"
    assert cleaned("CHEST 2011-03/04", NOBODY).text == "CHEST"


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("Müller^Jörg", "Mueller"),
        ("Müller^Jörg", "Muller"),
        ("Østergård^Søren", "Ostergaard"),
        ("Østergård^Søren", "Soren"),
        ("Østergård^Søren", "Soeren"),
        ("Łukasik^Bożena", "Lukasik"),
    ],
)
def test_a_name_is_found_as_keyboards_without_its_letters_write_it(name: str, spelled: str) -> None:
    source = patient(SpecificCharacterSet="ISO_IR 192", PatientName=name, ReceiveCoilName=f"C {spelled}")
    assert says(stored(source), spelled) == []


@pytest.mark.parametrize("label", ["WONG12", "HeadWong", "Wong_3"])
def test_a_short_name_is_found_where_it_is_run_together_with_other_words(label: str) -> None:
    assert says(stored(patient(ReceiveCoilName=label)), "wong") == []


def test_a_name_that_is_an_ordinary_word_is_found_with_digits_behind_it() -> None:
    source = patient(PatientName="Hand^Li", StudyDescription="CHEST HAND12")
    assert says(stored(source), "hand12") == []


def test_three_initials_of_the_patient_are_a_name() -> None:
    source = patient(PatientName="Smithers^John^Quentin", ReceiveCoilName="JQS coil")
    assert says(stored(source), "JQS") == []


def test_names_and_dates_of_the_subject_are_found_under_a_wrong_vr() -> None:
    root = read_part10(stored(patient())).root
    root[0x00100010] = Element("LO", b"Wongsley^Limahl")
    root[0x00181250] = Element("SH", b"Wongsley 1960-03-04")
    assert says(rewritten(root), "Wongsley", "1960-03-04") == []


@pytest.mark.parametrize("number", ["48392017", "19600304", "04031960"])
def test_numbers_of_the_subject_go_from_numeric_attributes(number: str) -> None:
    source = patient(AcquisitionNumber=int(number) if number[0] != "0" else None)
    source.add_new(0x00180060, "DS", number)
    source.PatientID = "48392017"
    assert says(stored(source), number) == []


def test_a_code_string_is_no_place_for_names_and_numbers() -> None:
    assert says(stored(patient(PatientPosition="5551234567")), "5551234567") == []
    assert says(stored(patient(BodyPartExamined="HOLLINGBERRY")), "HOLLINGBERRY") == []
    root = released(stored(patient(BodyPartExamined="TLSPINE", ScanOptions="HELICAL MODE")))
    assert root is not None
    assert (root[0x00180015].data.strip(), root[0x00180022].data) == (b"TLSPINE", b"HELICAL MODE")


@pytest.mark.parametrize(
    "keyword", ["ScanOptions", "CollimatorType", "PatientPosition", "AnodeTargetMaterial"]
)
def test_a_code_string_that_is_no_term_of_the_standard_names_nobody(keyword: str) -> None:
    assert says(stored(patient(**{keyword: "HOLLINGBERRY"})), "HOLLINGBERRY") == []
    assert says(stored(patient(ImageType=["ORIGINAL", "PRIMARY", "HOLLINGBERRY"])), "HOLLINGBERRY") == []


@pytest.mark.parametrize(
    "terms",
    [
        "ORIGINAL\\PRIMARY\\AXIAL",
        "ORIGINAL\\PRIMARY\\MPR\\CSA MPR\\\\CSAPARALLEL",
        "ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE",
    ],
)
def test_terms_of_the_standard_and_of_scanners_stay_as_they_are(terms: str) -> None:
    source = patient(ImageType=terms.split("\\"), ScanOptions=["FC_FREQ_AX_GEMS", "FAST"])
    root = released(stored(source))
    assert root is not None
    assert root[0x00080008].data.decode().strip() == terms
    assert root[0x00180022].data.decode().strip() == "FC_FREQ_AX_GEMS\\FAST"


def test_of_several_code_strings_only_what_is_no_term_goes() -> None:
    root = released(stored(patient(ImageType=["ORIGINAL", "PRIMARY", "HOLLINGBERRY", "M_FFE"])))
    assert root is not None
    assert root[0x00080008].data.decode().strip() == "ORIGINAL\\PRIMARY\\\\M_FFE"


def test_a_timezone_is_an_offset_or_goes() -> None:
    assert says(stored(patient(TimezoneOffsetFromUTC="Hobbs")), "hobbs") == []
    root = released(stored(patient(TimezoneOffsetFromUTC="-0500")))
    assert root is not None
    assert root[0x00080201].data.strip() == b"-0500"


@pytest.mark.parametrize("uid", ["1.2.840.10008.20110304.77", "1.2.840.10008.5.1.4.1.1.2.771"])
def test_a_uid_that_somebody_made_up_below_the_standards_root_is_replaced(uid: str) -> None:
    assert says(stored(patient(SeriesInstanceUID=uid, StudyInstanceUID=uid + "1")), uid) == []


def test_birth_in_another_calendar_and_owners_of_things_go() -> None:
    source = patient(PatientBirthDateInAlternativeCalendar="S35-03-04", OwnerID="HOLLINGBERRY")
    source.HangingProtocolCreator = "Hollingberry"
    assert says(stored(source), "S35", "Hollingberry") == []


def test_descriptions_without_a_row_in_the_table_keep_known_words_only() -> None:
    source = patient(LUTExplanation="lung of Hollingberry", FrameOfInterestDescription="Hollingberry chest")
    root = released(stored(source))
    assert root is not None
    assert root[0x00283003].data.strip() == b"lung of"
    assert root[0x00286022].data.strip() == b"chest"


def test_a_code_of_a_private_scheme_keeps_known_words_only() -> None:
    local = [item(CodeValue="HOLLINGBERRY", CodingSchemeDesignator="99HB", CodeMeaning="Hollingberry")]
    part = item(RelationshipType="CONTAINS", ValueType="CODE", ConceptNameCodeSequence=code("1", "x"))
    part.ConceptCodeSequence = Sequence(local)
    assert says(stored(bare(SR, Modality="SR", ContentSequence=Sequence([part]))), "Hollingberry") == []


def test_pixel_data_and_writing_where_numbers_belong_go() -> None:
    hidden = item(CodeValue="1", CodingSchemeDesignator="DCM", CodeMeaning="Lung")
    hidden.add_new(PIXEL_DATA, "OW", b"burned in Hollingberry")
    source = patient(AnatomicRegionSequence=Sequence([hidden]))
    source.add_new(0x00282000, "OB", b"profile of Hollingberry ")
    source.add_new(0x00660016, "OF", b"seen by Hollingberry")
    assert says(stored(source), "Hollingberry") == []


def test_what_stands_behind_the_last_frame_is_held() -> None:
    source = patient(Rows=256, Columns=256)
    source.PixelData = b"\0" * (256 * 256 * 2) + b"\0" * 64
    assert released(stored(source)) is not None
    source.PixelData = b"\0" * (256 * 256 * 2) + b"read by Hollingberry"
    assert released(stored(source)) is None


def test_a_coloured_screen_is_held_whatever_its_class_says() -> None:
    source = patient(PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=0)
    source.PixelData = b"\0" * (128 * 128 * 3 * 2)
    assert released(stored(source)) is None


def test_bits_beside_the_stored_ones_are_cleared_wherever_they_lie() -> None:
    source = patient(PixelRepresentation=0, BitsStored=12, HighBit=11)
    del source.PixelPaddingValue
    source.PixelData = b"\xff\xff" * (128 * 128)
    root = released(stored(source))
    assert root is not None
    assert set(root[PIXEL_DATA].data) == {0xFF, 0x0F}
    source.HighBit = 15
    root = released(stored(source))
    assert root is not None
    assert set(root[PIXEL_DATA].data) == {0xF0, 0xFF}


@pytest.mark.parametrize("where", ["comment", "behind the end", "offset table"])
def test_a_short_name_beside_the_picture_of_a_compressed_frame_is_found(where: str) -> None:
    name = b"Wong Li "
    comment = b"\xff\xfe" + struct.pack(">H", len(name) + 2) + name
    start, end = b"\xff\xd8", b"\xff\xda" + bytes(range(256)) * 300 + b"\xff\xd9"
    frame = start + (comment if where == "comment" else b"") + end
    value = encapsulate([frame + (name if where == "behind the end" else b"")])
    if where == "offset table":
        value = struct.pack("<HHI", 0xFFFE, 0xE000, len(name)) + name + value[8:]
    source = read_part10(stored(patient()))
    meta = Item({**source.meta, 0x00020010: Element("UI", JPEG_LS.encode())})
    meta.pop(0x00020000)
    source.root[PIXEL_DATA] = Element("OB", value, True)
    written = b"".join(bytes(chunk) for chunk in write_part10(Part10(meta, source.root, JPEG_LS)))
    assert released(written) is None
    plain = written.replace(name, b"12345678")
    assert released(plain) is not None


def test_a_transfer_syntax_that_nobody_registered_is_held() -> None:
    source = read_part10(stored(patient()))
    meta = Item({**source.meta, 0x00020010: Element("UI", b"1.2.840.10008.1.2.1.20110304")})
    meta.pop(0x00020000)
    assert released(b"".join(bytes(c) for c in write_part10(Part10(meta, source.root, JPEG_LS)))) is None
