"""Attribute tables: what each kind of instance says about how it was made, as a modality of its kind does.

A line is a keyword and its value; a dotted keyword is inside the one item of a sequence; a coded value is
code, scheme and meaning; `[]` is an empty sequence; nothing takes out what an earlier table said.
"""

from __future__ import annotations

from typing import Final

EVERY: Final = """
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
"""

IMAGE: Final = """
BurnedInAnnotation              NO
LossyImageCompression           00
PresentationLUTShape            IDENTITY
SamplesPerPixel                 1
PhotometricInterpretation       MONOCHROME2
PixelRepresentation             0
ImageComments                   Phantom, not for diagnosis
QualityControlImage             NO
"""

COLOUR: Final = """
SamplesPerPixel                 3
PhotometricInterpretation       RGB
PlanarConfiguration             0
PresentationLUTShape
"""
"""After IMAGE, whose grey it takes back: an empty value takes an attribute out."""

RADIOGRAPH: Final = """
ImageType                       ORIGINAL\\PRIMARY
PresentationIntentType          FOR PRESENTATION
ImageLaterality                 U
PatientOrientation              L\\F
PixelIntensityRelationship      LIN
PixelIntensityRelationshipSign  1
RescaleIntercept                0
RescaleSlope                    1
RescaleType                     US
ImagerPixelSpacing              0.143\\0.143
BitsStored                      12
HighBit                         11
WindowCenter                    512
WindowWidth                     1024
KVP                             125
ExposureTime                    6
XRayTubeCurrent                 320
Exposure                        2
DistanceSourceToDetector        1800
Grid                            FOCUSED
DetectorType                    DIRECT
DetectorID                      FP-4711
DateOfLastDetectorCalibration   20240102
AcquisitionDeviceProcessingDescription Thorax
AnatomicRegionSequence          816094009 SCT Chest
"""

DX: Final = """
ViewPosition                    PA
PositionerType                  NONE
AcquisitionContextSequence      []
FieldOfViewShape                RECTANGLE
ImageAndFluoroscopyAreaDoseProduct 0.9
ViewCodeSequence                399348003 SCT postero-anterior
PatientOrientationCodeSequence
"""

MG: Final = """
ImageLaterality                 L
PatientOrientation              A\\R
AnatomicRegionSequence          76752008 SCT Breast
ViewCodeSequence                399162004 SCT cranio-caudal
ViewCodeSequence.ViewModifierCodeSequence []
PositionerType                  MAMMOGRAPHIC
AcquisitionContextSequence      []
PositionerPrimaryAngle          0
OrganExposed                    BREAST
AnodeTargetMaterial             TUNGSTEN
FilterMaterial                  RHODIUM
CompressionForce                94
BodyPartThickness               52
BreastImplantPresent            NO
PartialView                     NO
KVP                             29
BodyPartExamined                BREAST
Exposure                        110
ExposureTime                    1200
OrganDose                       0.014
EntranceDoseInmGy               4.2
ImagerPixelSpacing              0.07\\0.07
DistanceSourceToDetector        660
"""

CR: Final = """
ImageType                       ORIGINAL\\PRIMARY
ViewPosition                    AP
PatientOrientation              L\\F
KVP                             70
ExposureTime                    20
XRayTubeCurrent                 200
Exposure                        4
PlateType                       ST-VI
PhosphorType                    BaFI
CassetteOrientation             PORTRAIT
CassetteSize                    35CMX43CM
ExposuresOnPlate                1204
Sensitivity                     200
ImagerPixelSpacing              0.2\\0.2
BitsStored                      12
HighBit                         11
WindowCenter                    512
WindowWidth                     1024
"""

US: Final = """
ImageType                       ORIGINAL\\PRIMARY\\ABDOMINAL\\0001
PatientOrientation              L\\F
BitsStored                      8
HighBit                         7
FrameIncrementPointer           00181063
FrameTime                       33.33
RecommendedDisplayFrameRate     30
CineRate                        30
HeartRate                       72
BodyPartExamined                ABDOMEN
TransducerType                  CURVED LINEAR
TransducerData                  C5-1
ProcessingFunction              ABD_GEN
MechanicalIndex                 1.2
SoftTissueThermalIndex          0.6
DepthOfScanField                160
UltrasoundColorDataPresent      0
LossyImageCompression           00
SequenceOfUltrasoundRegions.RegionSpatialFormat 1
SequenceOfUltrasoundRegions.RegionDataType      1
SequenceOfUltrasoundRegions.RegionFlags         0
SequenceOfUltrasoundRegions.RegionLocationMinX0 0
SequenceOfUltrasoundRegions.RegionLocationMinY0 0
SequenceOfUltrasoundRegions.RegionLocationMaxX1 15
SequenceOfUltrasoundRegions.RegionLocationMaxY1 15
SequenceOfUltrasoundRegions.PhysicalUnitsXDirection 3
SequenceOfUltrasoundRegions.PhysicalUnitsYDirection 3
SequenceOfUltrasoundRegions.PhysicalDeltaX 0.03
SequenceOfUltrasoundRegions.PhysicalDeltaY 0.03
"""

PT: Final = """
PatientPosition
ImageType                       ORIGINAL\\PRIMARY
SeriesType                      WHOLE BODY\\IMAGE
Units                           BQML
CountsSource                    EMISSION
NumberOfSlices                  1
CorrectedImage                  DECY\\ATTN\\SCAT\\DTIM\\RAN\\NORM
RandomsCorrectionMethod         DLYD
AttenuationCorrectionMethod     CT
ScatterCorrectionMethod         Model-based
DecayCorrection                 START
ReconstructionMethod            OSEM 3i21s
ConvolutionKernel               XYZ Gauss5.00
CollimatorType                  NONE
ActualFrameDuration             120000
FrameReferenceTime              60000
DecayFactor                     1.02
DoseCalibrationFactor           1
RescaleIntercept                0
RescaleSlope                    2.5
BitsStored                      16
HighBit                         15
PatientWeight                   74.5
PatientOrientationCodeSequence  102538003 SCT recumbent
PatientOrientationCodeSequence.PatientOrientationModifierCodeSequence 40199007 SCT supine
PatientGantryRelationshipCodeSequence 102540008 SCT headfirst
RadiopharmaceuticalInformationSequence.RadionuclideCodeSequence 77004003 SCT ^18^Fluorine
RadiopharmaceuticalInformationSequence.RadiopharmaceuticalRoute Intravenous
RadiopharmaceuticalInformationSequence.RadiopharmaceuticalStartTime 081500
RadiopharmaceuticalInformationSequence.RadionuclideTotalDose 350000000
RadiopharmaceuticalInformationSequence.RadionuclideHalfLife 6586.2
RadiopharmaceuticalInformationSequence.RadionuclidePositronFraction 0.967
RadiopharmaceuticalInformationSequence.Radiopharmaceutical Fluorodeoxyglucose
"""

TOMOGRAPHIC: Final = """
PositionReferenceIndicator      XY
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

CT: Final = """
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

MR: Final = """
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

XA: Final = """
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
