"""What people type becomes DICOM JSON, and what cannot be meant is said to be so."""

from __future__ import annotations

import pytest

from catalog import BadRequest
from node.keys import attributes_of, check_values, question, row_of


def test_keywords_and_tags_become_elements_of_their_vr() -> None:
    read = attributes_of(["PatientName=Novák*", "0010,0020=4711", "InstanceNumber=5", "Rows=12", "StudyDate"])
    assert read["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Novák*"}]}
    assert read["00100020"] == {"vr": "LO", "Value": ["4711"]}
    assert read["00200013"]["Value"] == [5]
    assert read["00280010"] == {"vr": "US", "Value": [12]}
    assert read["00080020"] == {"vr": "DA"}


def test_a_backslash_divides_values_where_the_vr_lets_it() -> None:
    read = attributes_of(["StudyInstanceUID=1.2\\1.3", "PatientComments=a\\b"])
    assert read["0020000D"]["Value"] == ["1.2", "1.3"]
    assert read["00104000"]["Value"] == ["a\\b"]


@pytest.mark.parametrize(
    "pair", ["Patientname=1", "Rows=many", "ReferencedImageSequence=1", "=x", "0008,0000=4"]
)
def test_what_cannot_be_meant_is_refused(pair: str) -> None:
    with pytest.raises(BadRequest):
        attributes_of([pair])


@pytest.mark.parametrize(
    "pair",
    ["StudyDate=20201399", "StudyDate=20200101-", "StudyInstanceUID=x", "PatientID=a\\b",
     "PatientID=bell\a", "ImageOrientationPatient=1\\0\\0"],
)  # fmt: skip
def test_a_correction_needs_values_that_may_stand_in_a_data_set(pair: str) -> None:
    with pytest.raises(BadRequest, match=r"PS3\.[56]"):
        check_values(attributes_of([pair]))


@pytest.mark.parametrize("word", ["X", "male!", "M\\\\F"])
def test_a_patients_sex_is_one_of_three(word: str) -> None:
    with pytest.raises(BadRequest, match="PatientSex"):
        check_values(attributes_of([f"PatientSex={word}"]))


def test_numbers_lines_and_as_many_values_as_there_may_be_can_stand_there() -> None:
    check_values(
        attributes_of(["PregnancyStatus=2", "PatientComments=one\ntwo", "ImageType=A\\B\\C", "0011,1001=x"])
    )


def test_a_question_asks_for_what_people_want_to_see_at_its_level() -> None:
    asked = question(["Modality=CT"], "series")
    assert asked["00080052"]["Value"] == ["SERIES"]
    assert asked["00080060"]["Value"] == ["CT"]
    assert "0020000E" in asked
    assert row_of(asked, "SERIES")["Modality"] == "CT"
    with pytest.raises(BadRequest, match="PATIENT, STUDY, SERIES, IMAGE"):
        question([], "EXAM")
