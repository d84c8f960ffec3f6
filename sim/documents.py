"""Instances that speak of other instances: structured reports, segmentations and the plans of radiotherapy.

What they say is in the template of their kind; here it is made for one study, whose images lie in series 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from .headers import KINDS, code

Instances = Callable[[int, int], str]
"""SOP Instance UID by series number and instance number."""


class Context:
    """The study around a document: its UIDs, and how many images of which kind are in its series 1."""

    def __init__(self, StudyInstanceUID: str, uid: Callable[..., str], images: int, image_kind: str) -> None:
        self.StudyInstanceUID = StudyInstanceUID
        self.frame_of_reference = uid(StudyInstanceUID, "frame of reference")
        self.image_class = KINDS[image_kind].SOPClassUID
        self.images = [uid(StudyInstanceUID, 1, number) for number in range(1, images + 1)]
        self.series = uid(StudyInstanceUID, 1)
        self._uid = uid

    def instance(self, series_number: int) -> str:
        """Return the SOP Instance UID of the only instance of a series."""
        return self._uid(self.StudyInstanceUID, series_number, 1)


def add_content(kind_name: str, ds: Dataset, context: Context) -> None:
    """Add to a header what makes it a document of its kind; other kinds stay as they are."""
    if add := _BUILDERS.get(kind_name):
        add(ds, context)


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _sop(SOPClassUID: str, SOPInstanceUID: str) -> Dataset:
    return _item(ReferencedSOPClassUID=SOPClassUID, ReferencedSOPInstanceUID=SOPInstanceUID)


def _images(context: Context) -> Sequence:
    return Sequence([_sop(context.image_class, uid) for uid in context.images])


def _segmentation(ds: Dataset, context: Context) -> None:
    series = _item(SeriesInstanceUID=context.series, ReferencedInstanceSequence=_images(context))
    ds.ReferencedSeriesSequence = Sequence([series])


def derivation(context: Context, frame: int) -> Sequence:
    """Return the Derivation Image Sequence of a segmentation's frame (PS3.3 C.7.6.16.2.6)."""
    source = _sop(context.image_class, context.images[(frame - 1) % len(context.images)])
    purpose = code("121322", "DCM", "Source image for image processing operation")
    source.PurposeOfReferenceCodeSequence = Sequence([purpose])
    source.SpatialLocationsPreserved = "YES"
    made = code("113076", "DCM", "Segmentation")
    return Sequence([_item(SourceImageSequence=Sequence([source]), DerivationCodeSequence=Sequence([made]))])


def _structures(ds: Dataset, context: Context) -> None:
    ds.StructureSetLabel = "PHANTOM"
    ds.StructureSetDate, ds.StructureSetTime = "20240517", "101500"
    series = _item(SeriesInstanceUID=context.series, ContourImageSequence=_images(context))
    study = _sop("1.2.840.10008.3.1.2.3.1", context.StudyInstanceUID)
    study.RTReferencedSeriesSequence = Sequence([series])
    ds.ReferencedFrameOfReferenceSequence = Sequence(
        [
            _item(
                FrameOfReferenceUID=context.frame_of_reference,
                RTReferencedStudySequence=Sequence([study]),
            )
        ]
    )
    names = ("BODY", "PTV", "SPINAL CORD", "LUNG LEFT", "LUNG RIGHT")
    ds.StructureSetROISequence = Sequence(
        _item(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=context.frame_of_reference,
            ROIName=name,
            ROIGenerationAlgorithm="MANUAL",
        )
        for number, name in enumerate(names, start=1)
    )
    ds.ROIContourSequence = Sequence(_contours(number, context) for number in range(1, len(names) + 1))
    ds.RTROIObservationsSequence = Sequence(
        _item(
            ObservationNumber=number,
            ReferencedROINumber=number,
            RTROIInterpretedType="PTV" if name == "PTV" else "ORGAN",
            ROIInterpreter="Nielsen^Kirsten",
        )
        for number, name in enumerate(names, start=1)
    )


def _contours(roi: int, context: Context) -> Dataset:
    half = 20.0 * roi
    contours = []
    for number, uid in enumerate(context.images, start=1):
        height = f"{-5.0 * number:.1f}"
        corners = ((-half, -half), (half, -half), (half, half), (-half, half))
        contours.append(
            _item(
                ContourImageSequence=Sequence([_sop(context.image_class, uid)]),
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(corners),
                ContourData=[text for x, y in corners for text in (f"{x:.1f}", f"{y:.1f}", height)],
            )
        )
    return _item(
        ROIDisplayColor=[255, 40 * roi, 0], ContourSequence=Sequence(contours), ReferencedROINumber=roi
    )


STRUCTURES_SERIES: Final = 2
PLAN_SERIES: Final = 3
"""Where an examination of radiotherapy has its structure set and its plan, after the images."""


def _plan(ds: Dataset, context: Context) -> None:
    ds.RTPlanLabel = "PHANTOM"
    ds.RTPlanDate, ds.RTPlanTime = "20240517", "113000"
    ds.RTPlanGeometry = "PATIENT"
    ds.ApprovalStatus = "UNAPPROVED"
    structures = _sop(KINDS["RTSTRUCT"].SOPClassUID, context.instance(STRUCTURES_SERIES))
    ds.ReferencedStructureSetSequence = Sequence([structures])
    ds.PatientSetupSequence = Sequence([_item(PatientPosition="HFS", PatientSetupNumber=1)])
    beam_dose = _item(ReferencedBeamNumber=1, BeamDose=2.0, BeamMeterset=210.0)
    group = _item(FractionGroupNumber=1, NumberOfFractionsPlanned=25, NumberOfBeams=1)
    group.NumberOfBrachyApplicationSetups = 0
    group.ReferencedBeamSequence = Sequence([beam_dose])
    ds.FractionGroupSequence = Sequence([group])
    ds.BeamSequence = Sequence([_beam()])


def _beam() -> Dataset:
    end = _item(ControlPointIndex=1, CumulativeMetersetWeight=1)
    return _item(
        TreatmentMachineName="LINAC1",
        SourceAxisDistance=1000,
        BeamLimitingDeviceSequence=Sequence(
            _item(RTBeamLimitingDeviceType=axis, NumberOfLeafJawPairs=1) for axis in ("X", "Y")
        ),
        BeamNumber=1,
        BeamName="AP",
        BeamType="STATIC",
        RadiationType="PHOTON",
        TreatmentDeliveryType="TREATMENT",
        NumberOfWedges=0,
        NumberOfCompensators=0,
        NumberOfBoli=0,
        NumberOfBlocks=0,
        FinalCumulativeMetersetWeight=1,
        NumberOfControlPoints=2,
        PrimaryDosimeterUnit="MU",
        ReferencedPatientSetupNumber=1,
        ControlPointSequence=Sequence([_first_control_point(), end]),
    )


def _first_control_point() -> Dataset:
    return _item(
        ControlPointIndex=0,
        NominalBeamEnergy=6,
        GantryAngle=0,
        GantryRotationDirection="NONE",
        BeamLimitingDeviceAngle=0,
        BeamLimitingDeviceRotationDirection="NONE",
        PatientSupportAngle=0,
        PatientSupportRotationDirection="NONE",
        TableTopEccentricAngle=0,
        TableTopEccentricRotationDirection="NONE",
        TableTopVerticalPosition=None,
        TableTopLongitudinalPosition=None,
        TableTopLateralPosition=None,
        IsocenterPosition=[0, 0, -50],
        CumulativeMetersetWeight=0,
        BeamLimitingDevicePositionSequence=Sequence(
            _item(RTBeamLimitingDeviceType=axis, LeafJawPositions=[-50, 50]) for axis in ("X", "Y")
        ),
    )


def _dose(ds: Dataset, context: Context) -> None:
    ds.ReferencedRTPlanSequence = Sequence([_sop(KINDS["RTPLAN"].SOPClassUID, context.instance(PLAN_SERIES))])


def _report(ds: Dataset, context: Context) -> None:
    series = _item(SeriesInstanceUID=context.series, ReferencedSOPSequence=_images(context))
    evidence = _item(StudyInstanceUID=context.StudyInstanceUID, ReferencedSeriesSequence=Sequence([series]))
    ds.CurrentRequestedProcedureEvidenceSequence = Sequence([evidence])
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([code("18748-4", "LN", "Diagnostic imaging report")])
    ds.PerformedProcedureCodeSequence = Sequence()
    ds.ReferencedPerformedProcedureStepSequence = Sequence()
    finding = code("59776-5", "LN", "Findings")
    image = _item(RelationshipType="CONTAINS", ValueType="IMAGE")
    image.ReferencedSOPSequence = Sequence([_sop(context.image_class, context.images[0])])
    size = _item(RelationshipType="CONTAINS", ValueType="NUM")
    size.ConceptNameCodeSequence = Sequence([code("410668003", "SCT", "Length")])
    unit = code("mm", "UCUM", "millimeter")
    size.MeasuredValueSequence = Sequence(
        [_item(MeasurementUnitsCodeSequence=Sequence([unit]), NumericValue="12.5")]
    )
    text = _item(RelationshipType="CONTAINS", ValueType="TEXT", TextValue="A bright ellipse on dark ground.")
    text.ConceptNameCodeSequence = Sequence([finding])
    ds.ContentSequence = Sequence([text, size, image])


_BUILDERS: Final[dict[str, Callable[[Dataset, Context], None]]] = {
    "SEG": _segmentation,
    "RTSTRUCT": _structures,
    "RTPLAN": _plan,
    "RTDOSE": _dose,
    "SR": _report,
}
"""Kind → what adds its content."""
