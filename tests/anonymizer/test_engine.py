"""What the engine does to the kinds of attributes and instances that leak elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from anonymizer import PRESETS, Engine, ProjectKey, Quarantined, load_policy, policy_from
from anonymizer.elements import DEFLATED, Element, Part10, read_part10, write_part10
from anonymizer.markers import file_meta
from tests.anonymizer.conftest import SECRET, deidentified, sample, stored, written

NAME = "Featherstonehaugh^Cuthbert"
SR, PR, PDF = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.104.1"


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def code(value: str, meaning: str, scheme: str = "DCM") -> Sequence:
    return Sequence([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def bare(sop_class: str, **values: Any) -> Dataset:
    """A data set without pixels of some SOP Class."""
    dataset = sample("CT_small.dcm", SOPClassUID=sop_class, PatientName=NAME)
    for keyword in ("PixelData", "Rows", "Columns", "ImageType"):
        delattr(dataset, keyword)
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def held(dataset: Dataset, policy: str = "research") -> str:
    with pytest.raises(Quarantined) as caught:
        deidentified(dataset, policy)
    return caught.value.reason


def test_patients_get_one_pseudonym_that_is_never_empty() -> None:
    out = deidentified(sample(PatientName=NAME))
    assert out.PatientID == str(out.PatientName)
    assert out.PatientID.startswith("TRIAL-")


def test_names_are_found_in_any_attribute_at_any_depth() -> None:
    deepest = item(PersonName=NAME, PatientComments=f"saw {NAME}")
    for _ in range(6):
        deepest = item(PurposeOfReferenceCodeSequence=Sequence([deepest]))
    source = sample(PatientName=NAME, ReferencedRequestSequence=Sequence([deepest]))
    out = stored(deidentified(source))
    assert b"Featherstone" not in out
    assert b"Cuthbert" not in out


def test_overlays_curves_icons_padding_and_unknown_attributes_go() -> None:
    source = sample(DataSetTrailingPadding=b"Cuthbert")
    source.add_new(0x60000010, "US", 2)
    source.add_new(0x60000011, "US", 2)
    source.add_new(0x60000050, "SS", [1, 1])
    source.add_new(0x60000100, "US", 1)
    source.add_new(0x60003000, "OW", b"\1\0")
    source.add_new(0x50000005, "US", 1)
    source.add_new(0x00880200, "SQ", [item(Rows=1)])
    source.add_new(0x00181FFE, "LO", "unknown to PS3.6")
    out = deidentified(source)
    gone = (0x60000010, 0x60000011, 0x60000050, 0x60003000, 0x50000005, 0x00880200, 0x00181FFE, 0xFFFCFFFC)
    assert not [f"{tag:08X}" for tag in gone if tag in out]


def test_an_overlay_in_spare_bits_of_the_pixels_is_cleared() -> None:
    source = sample(BitsStored=12, HighBit=11, PixelRepresentation=0)
    source.PixelData = b"\xff\xff" * (len(source.PixelData) // 2)
    source.add_new(0x60000100, "US", 16)
    source.add_new(0x60000102, "US", 15)
    out = deidentified(source)
    assert set(out.PixelData) == {0xFF, 0x0F}


def test_file_meta_and_preamble_are_written_anew() -> None:
    source = sample()
    source.preamble = NAME.encode().ljust(128, b"\0")
    source.file_meta.SourceApplicationEntityTitle = "CUTHBERT"
    source.file_meta.PrivateInformationCreatorUID = "1.2.3"
    source.file_meta.PrivateInformation = NAME.encode()
    out = deidentified(source)
    assert out.preamble == b"\0" * 128
    assert out.file_meta.MediaStorageSOPInstanceUID == out.SOPInstanceUID
    assert [element.tag.element for element in out.file_meta] == [0, 1, 2, 3, 0x10, 0x12]


def test_file_meta_inside_the_data_set_goes() -> None:
    root = read_part10(stored(sample())).root
    root[0x00020003] = root[0x00041511] = Element("UI", b"1.2.3.4")
    file = Part10(file_meta(root, DEFLATED), root, DEFLATED)
    data = b"".join(bytes(chunk) for chunk in write_part10(file))
    result = Engine(load_policy("research"), ProjectKey("TRIAL", SECRET)).deidentify(data)
    assert min(read_part10(written(result)).root) >= 0x00080000


def test_private_attributes_go_unless_they_are_known_to_be_safe() -> None:
    source = sample()
    source.private_block(0x0077, "LOCAL", create=True).add_new(1, "LO", NAME)
    assert not [e for e in deidentified(source, "basic") if e.tag.is_private]
    kept = deidentified(source, "research")
    assert kept[0x0019, 0x1023].value == 5
    assert (0x0019, 0x0010) in kept
    assert (0x0077, 0x0010) not in kept
    assert (0x0009, 0x0010) not in kept


def test_a_curator_may_list_more_private_attributes_and_they_are_cleaned_too() -> None:
    source = sample(PatientName=NAME)
    source.private_block(0x0077, "LOCAL", create=True).add_new(1, "LO", f"CHEST {NAME}")
    rows = [{"group": "0077", "creator": "LOCAL", "element": "01", "vr": "LO"}]
    policy = policy_from("own", {**PRESETS["research"], "private": {"list": rows}})
    assert deidentified(source, policy)[0x0077, 0x1001].value == "CHEST"


def test_ages_of_ninety_and_more_are_one_class() -> None:
    assert deidentified(sample(PatientAge="097Y")).PatientAge == "090Y"
    assert deidentified(sample(PatientAge="046Y")).PatientAge == "046Y"
    assert "PatientAge" not in deidentified(sample(PatientAge="046Y"), "basic")


def test_numbers_and_codes_that_hold_text_do_not_stay() -> None:
    source = sample(PatientName=NAME)
    source.add_new(0x00180060, "DS", "")
    source[0x00180060]._value = "Cuthbert"
    source.add_new(0x00185100, "CS", "FEATHERSTONEHAUGH")
    out = stored(deidentified(source))
    assert b"Cuthbert" not in out
    assert b"FEATHERSTONE" not in out


def test_registered_uids_stay_and_all_others_are_replaced() -> None:
    source = sample(
        ReferencedColorPaletteInstanceUID="1.2.840.10008.1.5.1", TargetFrameOfReferenceUID="1.2.3.4"
    )
    source.AnatomicRegionSequence = code("T-D4000", "Abdomen")
    source.AnatomicRegionSequence[0].CodingSchemeUID = "1.2.840.10008.2.16.4"
    source.AnatomicRegionSequence[0].ContextUID = "1.3.6.1.4.1.9.9"
    out = deidentified(source)
    assert out.SOPClassUID == source.SOPClassUID
    assert out.ReferencedColorPaletteInstanceUID == "1.2.840.10008.1.5.1"
    assert out.TargetFrameOfReferenceUID.startswith("2.25.")
    assert out.AnatomicRegionSequence[0].ContextUID == "1.3.6.1.4.1.9.9"


def test_references_between_instances_still_meet() -> None:
    plan = deidentified(sample("rtplan.dcm"))
    before = sample("rtplan.dcm").ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID
    after = plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID
    assert after == ProjectKey("TRIAL", SECRET).uid(before)


def test_dates_move_by_the_subjects_weeks_and_intervals_stay() -> None:
    source = sample(StudyDate="20040119", SeriesDate="20040121", AcquisitionDateTime="20040119101112.5")
    out = deidentified(source)
    assert int(out.SeriesDate) - int(out.StudyDate) == 2 or out.StudyDate[6:] > "26"
    assert out.AcquisitionDateTime.endswith("101112.5")
    assert out.AcquisitionDateTime[:8] == out.StudyDate
    assert out.LongitudinalTemporalInformationModified == "MODIFIED"
    assert deidentified(source, "basic").StudyDate == ""


def test_calibration_dates_do_not_give_the_shift_away() -> None:
    assert "DateOfLastCalibration" not in deidentified(sample(DateOfLastCalibration="20040119"))


def test_the_markers_say_what_was_done_and_no_more() -> None:
    out = deidentified(sample())
    codes = [c.CodeValue for c in out.DeidentificationMethodCodeSequence]
    assert "113100" in codes
    assert "113107" in codes
    assert "113101" not in codes, "nothing was done to its pixels"
    assert "BurnedInAnnotation" not in out
    assert out.PatientIdentityRemoved == "YES"
    assert out.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109104"


def test_device_identity_is_not_claimed_where_its_dates_had_to_go() -> None:
    policy = policy_from("both", {"options": ["113107", "113109"]})
    with_date = deidentified(sample(DateOfLastCalibration="20040119"), policy)
    without = deidentified(sample(), policy)
    assert "113109" not in [c.CodeValue for c in with_date.DeidentificationMethodCodeSequence]
    assert "113109" in [c.CodeValue for c in without.DeidentificationMethodCodeSequence]


def test_a_clinical_trial_is_filled_in_from_the_policy() -> None:
    trial = {"sponsor": "ACME", "protocol_id": "P-7", "site_id": "S3", "time_point": "BASELINE"}
    out = deidentified(sample(), policy_from("trial", {**PRESETS["research"], "clinical_trial": trial}))
    assert (out.ClinicalTrialSponsorName, out.ClinicalTrialProtocolID) == ("ACME", "P-7")
    assert out.ClinicalTrialSubjectID == out.PatientID
    assert out.ClinicalTrialTimePointID == "BASELINE"


def test_a_report_is_cleaned_item_by_item() -> None:
    tracked = code("112040", "Tracking Unique Identifier")
    items = [
        item(
            ValueType="PNAME", ConceptNameCodeSequence=code("121008", "Person Observer Name"), PersonName=NAME
        ),
        item(
            ValueType="TEXT",
            ConceptNameCodeSequence=code("121071", "Finding"),
            TextValue="large lesion of Cuthbert",
            RelationshipType="CONTAINS",
        ),
        item(ValueType="UIDREF", ConceptNameCodeSequence=tracked, UID="1.2.3.4"),
        item(ValueType="NUM", ConceptNameCodeSequence=code("121206", "Distance", "DCM")),
    ]
    report = bare(SR, ValueType="CONTAINER", ContentSequence=Sequence(items), Modality="SR")
    out = deidentified(report)
    assert b"Cuthbert" not in stored(out)
    by_type = {i.ValueType: i for i in out.ContentSequence}
    assert by_type["TEXT"].TextValue == "large lesion of"
    assert by_type["UIDREF"].UID.startswith("2.25.")
    assert held(report, "basic") == "SR_WITHOUT_OPTION"


def test_no_item_is_taken_out_of_a_report_whose_items_refer_to_one_another() -> None:
    comment = item(ValueType="TEXT", ConceptNameCodeSequence=code("121106", "Comment"), TextValue="Cuthbert")
    link = item(RelationshipType="SELECTED FROM", ReferencedContentItemIdentifier=[1, 1])
    policy = policy_from("no words", {"options": ["113104"]})
    apart = bare(SR, ValueType="CONTAINER", ContentSequence=Sequence([comment]), Modality="SR")
    assert "ContentSequence" not in deidentified(apart, policy)
    linked = bare(SR, ValueType="CONTAINER", ContentSequence=Sequence([comment, link]), Modality="SR")
    assert deidentified(linked, policy).ContentSequence[0].TextValue == "REMOVED"


def test_annotations_of_a_presentation_state_are_cleaned_or_replaced() -> None:
    text = item(UnformattedTextValue=f"lesion {NAME}", AnchorPoint=[1, 1], AnchorPointVisibility="Y")
    annotation = item(GraphicLayer="LAYER1", TextObjectSequence=Sequence([text]))
    state = bare(PR, Modality="PR", GraphicAnnotationSequence=Sequence([annotation]), ContentCreatorName=NAME)
    cleaned = deidentified(state)
    assert cleaned.GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue == "lesion"
    replaced = deidentified(state, "basic")
    assert "TextObjectSequence" not in replaced.GraphicAnnotationSequence[0]
    assert b"Cuthbert" not in stored(cleaned) + stored(replaced)


def test_a_document_is_held_or_replaced_by_an_empty_one() -> None:
    document = bare(
        PDF, EncapsulatedDocument=b"%PDF Cuthbert", MIMETypeOfEncapsulatedDocument="application/pdf"
    )
    assert held(document) == "ENCAPSULATED"
    policy = policy_from("placeholder", {**PRESETS["research"], "encapsulated": "placeholder"})
    out = deidentified(document, policy)
    assert out.EncapsulatedDocument.startswith(b"%PDF-1.4")
    assert b"Cuthbert" not in stored(out)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PatientID": ""}, "NO_SUBJECT_IDENTITY"),
        ({"SOPClassUID": "1.2.3.4"}, "UNSUPPORTED_SOP_CLASS"),
        ({"StudyInstanceUID": ""}, "UNREADABLE"),
        ({"BurnedInAnnotation": "YES"}, "BURNED_IN_RISK"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "BURNED_IN_RISK"),
        ({"RelatedGeneralSOPClassUID": "1.2.3.x"}, "UI_ROLE_UNKNOWN"),
    ],
)
def test_what_cannot_be_vouched_for_is_held_with_a_reason(changes: dict[str, Any], reason: str) -> None:
    assert held(sample(**changes)) == reason


def test_thin_slices_of_a_head_are_flagged_and_held_for_publication() -> None:
    head = sample(BodyPartExamined="HEAD", SliceThickness="1")
    assert Engine(load_policy("research"), ProjectKey("T", SECRET)).deidentify(stored(head)).has_face_risk
    assert held(head, "tcia") == "FACE_RISK"


def test_words_nobody_approved_can_hold_an_instance() -> None:
    source = sample(StudyDescription="CT flurbiprofen")
    policy = {**PRESETS["research"], "text": {"review": "hold"}}
    with pytest.raises(Quarantined) as caught:
        deidentified(source, policy_from("hold", policy))
    assert caught.value.reason == "TEXT_REVIEW_PENDING"
    approved = {
        **policy,
        "text": {"review": "hold", "vocabulary": ["flurbiprofen", "isovue300", "uncompressed"]},
    }
    assert deidentified(source, policy_from("approved", approved)).StudyDescription == "CT flurbiprofen"


def test_text_under_a_binary_vr_does_not_stay() -> None:
    source = sample()
    source.add_new(0x00080070, "OB", b"Featherstonehaugh Scanners")
    source.add_new(0x00100040, "OB", b"Cuthbert")
    out = stored(deidentified(source))
    assert b"Featherstonehaugh" not in out
    assert b"Cuthbert" not in out


@pytest.mark.parametrize(
    ("tag", "vr"), [(0x00101030, "LO"), (0x00280010, "LO"), (0x00101010, "ST"), (0x00080060, "UT")]
)
def test_text_under_a_tag_of_numbers_or_codes_does_not_stay(tag: int, vr: str) -> None:
    root = read_part10(stored(sample())).root
    root[tag] = Element(vr, b"56 Mulberrygrove Lane")
    file = Part10(file_meta(root, DEFLATED), root, DEFLATED)
    data = b"".join(bytes(chunk) for chunk in write_part10(file))
    out = Engine(load_policy("research"), ProjectKey("TRIAL", SECRET)).deidentify(data)
    assert b"Mulberry" not in out.file.root.get(tag, Element("LO", b"")).data


def test_what_another_policy_released_is_no_release_of_this_one() -> None:
    dated = deidentified(sample(), policy_from("full dates", {"options": ["113106"]}))
    assert deidentified(dated).StudyDate != dated.StudyDate


def test_a_second_run_changes_nothing_and_a_forged_seal_is_not_believed() -> None:
    engine = Engine(load_policy("research"), ProjectKey("TRIAL", SECRET))
    once = written(engine.deidentify(stored(sample(PatientName=NAME))))
    assert written(engine.deidentify(once)) == once
    forged = dcmread(io.BytesIO(once))
    forged.StudyDate = "20200101"
    assert deidentified(forged).SOPInstanceUID != forged.SOPInstanceUID
    other = Engine(load_policy("research"), ProjectKey("OTHER", SECRET[::-1]))
    assert written(other.deidentify(once)) != once


def test_known_names_of_the_subject_from_other_instances_are_removed_here_too() -> None:
    engine = Engine(load_policy("research"), ProjectKey("TRIAL", SECRET))
    knowing = read_part10(stored(sample(OperatorsName="Quillington^Prudence")))
    other = engine.subject(knowing.root).identifiers
    source = stored(sample(Manufacturer="Quillington Scanners", SOPInstanceUID=generate_uid()))
    assert b"Quillington" in written(engine.deidentify(source))
    assert b"Quillington" not in written(engine.deidentify(source, other))
