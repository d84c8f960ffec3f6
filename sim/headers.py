"""What a modality's data sets carry besides identity: tables of elements, one Kind for each modality.

They give phantoms the weight of real headers (more than a hundred elements with sequences and a private
block), because header size and variety are what a catalog's speed depends on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

PRIVATE_CREATOR: Final = "PEERPACS PHANTOM"
PADDING_TAG: Final = 0x002910FF
"""The private element that brings an instance to the size asked for."""

_EVERY: Final = """
StudyDescription                Phantom
SeriesDescription               Phantom
ProcedureCodeSequence           PPX-1 99PEERPACS Phantom examination
ReferringPhysicianName          Ferreira^Ana^^Dr.
PerformingPhysicianName         Costa^Rui
NameOfPhysiciansReadingStudy    Nielsen^Kirsten
OperatorsName                   Weber^Anke
Manufacturer                    PeerPACS
InstitutionName                 Hospital of the Phantoms
InstitutionAddress              1 Loopback Road, 8000 Testville
StationName                     PHANTOM01
InstitutionalDepartmentName     Radiology
ManufacturerModelName           Phantom Generator
DeviceSerialNumber              0420017
SoftwareVersions                1.0\\2024-05
PatientAge                      054Y
PatientSize                     1.72
PatientWeight                   74.5
EthnicGroup                     unknown
PregnancyStatus                 4
AdditionalPatientHistory        Made by a program; no person has this history.
BodyPartExamined                CHEST
ProtocolName                    Thorax routine 5.0
PatientPosition                 HFS
RequestingPhysician             Ferreira^Ana^^Dr.
RequestingService               Emergency
RequestedProcedureDescription   Thorax, standard
CurrentPatientLocation          Ward 7
PerformedStationAETitle         PHANTOM01
PerformedStationName            PHANTOM01
PerformedLocation               Room 2
PerformedProcedureStepDescription Thorax routine
PerformedProcedureStepID        PPS4711
ScheduledProcedureStepDescription Thorax routine
TimezoneOffsetFromUTC           +0100
InstanceCreatorUID              2.25.211122233344455566677788899900011122233
BurnedInAnnotation              NO
LossyImageCompression           00
PresentationLUTShape            IDENTITY
SamplesPerPixel                 1
PhotometricInterpretation       MONOCHROME2
PixelRepresentation             0
ImageComments                   Phantom, not for diagnosis
QualityControlImage             NO
PositionReferenceIndicator      XY
"""

_TOMOGRAPHIC: Final = """
ImageType                       ORIGINAL\\PRIMARY\\AXIAL
ImageOrientationPatient         1\\0\\0\\0\\1\\0
PixelSpacing                    0.703125\\0.703125
SliceThickness                  5.0
SpacingBetweenSlices            5.0
WindowCenter                    40\\-600
WindowWidth                     400\\1600
WindowCenterWidthExplanation    SOFT\\LUNG
TableHeight                     152.5
TableTraverse                   -412.0
"""

_CT: Final = """
ScanOptions                     HELIX
KVP                             120
DataCollectionDiameter          500
ReconstructionDiameter          360
DistanceSourceToDetector        1040
DistanceSourceToPatient         570
GantryDetectorTilt              0
RotationDirection               CW
ExposureTime                    500
XRayTubeCurrent                 230
Exposure                        115
FilterType                      WEDGE
GeneratorPower                  36
FocalSpots                      1.2
ConvolutionKernel               B31f
SingleCollimationWidth          0.6
TotalCollimationWidth           38.4
TableSpeed                      46.0
TableFeedPerRotation            23.0
SpiralPitchFactor               0.6
CTDIvol                         7.42
AcquisitionType                 SPIRAL
ReconstructionTargetCenterPatient 0\\-152\\-412
DateOfLastCalibration           20240102
TimeOfLastCalibration           063000
RescaleIntercept                -1024
RescaleSlope                    1
RescaleType                     HU
BitsStored                      12
HighBit                         11
FrameOfReferenceUID             2.25.1
"""

_MR: Final = """
ScanningSequence                SE
SequenceVariant                 SK
ScanOptions                     FS
MRAcquisitionType               2D
SequenceName                    se2d1
AngioFlag                       N
RepetitionTime                  550
EchoTime                        12
NumberOfAverages                2
ImagingFrequency                63.6
ImagedNucleus                   1H
EchoNumbers                     1
MagneticFieldStrength           1.5
NumberOfPhaseEncodingSteps      320
EchoTrainLength                 1
PercentSampling                 100
PercentPhaseFieldOfView         100
PixelBandwidth                  130
TransmitCoilName                Body
ReceiveCoilName                 Torso
AcquisitionMatrix               0\\320\\320\\0
InPlanePhaseEncodingDirection   ROW
FlipAngle                       90
VariableFlipAngleFlag           N
SAR                             0.12
BitsStored                      12
HighBit                         11
"""

_XA: Final = """
ImageType                       ORIGINAL\\PRIMARY\\SINGLE PLANE
PatientOrientation              L\\F
FrameIncrementPointer           00181063
FrameTime                       66.67
RecommendedDisplayFrameRate     15
CineRate                        15
PixelIntensityRelationship      LIN
KVP                             80
ExposureTime                    7
XRayTubeCurrent                 420
Exposure                        3
RadiationSetting                GR
RadiationMode                   PULSED
PositionerMotion                STATIC
PositionerPrimaryAngle          -30.1
PositionerSecondaryAngle        0.2
DistanceSourceToDetector        1100
DistanceSourceToPatient         720
EstimatedRadiographicMagnificationFactor 1.5278
ImagerPixelSpacing              0.2\\0.2
FieldOfViewShape                RECTANGLE
FieldOfViewDimensions           205\\205
IntensifierSize                 270
BitsStored                      8
HighBit                         7
"""


class Kind(NamedTuple):
    """One modality's way of writing instances; `bits` is Bits Allocated, `matrix` its usual side."""

    SOPClassUID: str
    bits: int
    matrix: int
    tables: tuple[str, ...]
    varying: tuple[str, ...]
    """Attributes that differ from instance to instance besides those that every instance has."""


KINDS: Final[dict[str, Kind]] = {
    "CT": Kind(
        "1.2.840.10008.5.1.4.1.1.2", 16, 512, (_EVERY, _TOMOGRAPHIC, _CT),
        ("ImagePositionPatient", "SliceLocation", "FrameOfReferenceUID"),
    ),
    "MR": Kind(
        "1.2.840.10008.5.1.4.1.1.4", 16, 320, (_EVERY, _TOMOGRAPHIC, _MR),
        ("ImagePositionPatient", "SliceLocation", "FrameOfReferenceUID"),
    ),
    "XA": Kind("1.2.840.10008.5.1.4.1.1.12.1", 8, 1024, (_EVERY, _XA), ("NumberOfFrames",)),
}  # fmt: skip


def header(modality: str) -> Dataset:
    """Return a new data set with everything of the modality that does not vary, without pixels."""
    ds = Dataset()
    ds.SOPClassUID = KINDS[modality].SOPClassUID
    ds.Modality = modality
    for table in KINDS[modality].tables:
        for line in table.strip().splitlines():
            keyword, _, value = line.partition(" ")
            setattr(ds, keyword, _value(keyword, value.strip()))
    ds.RequestAttributesSequence = Sequence([_request()])
    _add_private_block(ds)
    return ds


def _value(keyword: str, text: str) -> object:
    match dictionary_VR(keyword):
        case "SQ":
            return Sequence([_code(*text.split(" ", 2))])
        case "AT":
            return int(text, 16)
        case "US":
            values: list[object] = [int(value) for value in text.split("\\")]
        case "FD":
            values = [float(value) for value in text.split("\\")]
        case _:
            values = list(text.split("\\"))
    return values[0] if len(values) == 1 else values


def _code(CodeValue: str, CodingSchemeDesignator: str, CodeMeaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = CodeValue
    item.CodingSchemeDesignator = CodingSchemeDesignator
    item.CodeMeaning = CodeMeaning
    return item


def _request() -> Dataset:
    item = Dataset()
    item.RequestedProcedureID = "RP4711"
    item.RequestedProcedureDescription = "Thorax, standard"
    item.ScheduledProcedureStepID = "SPS4711"
    item.ScheduledProcedureStepDescription = "Thorax routine"
    item.ScheduledProtocolCodeSequence = Sequence([_code("PPX-1", "99PEERPACS", "Phantom examination")])
    return item


def _add_private_block(ds: Dataset) -> None:
    acquisition = ds.private_block(0x0019, PRIVATE_CREATOR, create=True)
    acquisition.add_new(0x10, "LO", "Phantom acquisition")
    acquisition.add_new(0x11, "DS", ["0.25", "0.5", "1.0"])
    acquisition.add_new(0x12, "FD", 12.5)
    acquisition.add_new(0x13, "SQ", [_code("PPX-2", "99PEERPACS", "Private item")])
    image = ds.private_block(0x0029, PRIVATE_CREATOR, create=True)
    image.add_new(0x10, "CS", "PHANTOM HEADER")
    image.add_new(0x20, "OB", bytes(range(256)))
