"""Attribute tables, as in `tables.py`, of what has functional groups, and of radiotherapy's objects."""

from __future__ import annotations

from typing import Final

ENHANCED: Final = """
ContentQualification            RESEARCH
ImageType                       DERIVED\\PRIMARY\\VOLUME\\NONE
PixelPresentation               MONOCHROME
VolumetricProperties            VOLUME
VolumeBasedCalculationTechnique NONE
AcquisitionDuration             12.5
BitsStored                      12
HighBit                         11
DimensionOrganizationSequence.DimensionOrganizationUID 2.25.270000000000000000000000000000000000001
DimensionIndexSequence.DimensionOrganizationUID 2.25.270000000000000000000000000000000000001
DimensionIndexSequence.DimensionIndexPointer 00209057
DimensionIndexSequence.FunctionalGroupPointer 00209111
AcquisitionContextSequence      []
PositionReferenceIndicator      XY
SharedFunctionalGroupsSequence.PixelMeasuresSequence.PixelSpacing 0.703125\\0.703125
SharedFunctionalGroupsSequence.PixelMeasuresSequence.SliceThickness 5
SharedFunctionalGroupsSequence.PlaneOrientationSequence.ImageOrientationPatient 1\\0\\0\\0\\1\\0
SharedFunctionalGroupsSequence.FrameAnatomySequence.FrameLaterality U
SharedFunctionalGroupsSequence.FrameAnatomySequence.AnatomicRegionSequence 816094009 SCT Chest
SharedFunctionalGroupsSequence.FrameVOILUTSequence.WindowCenter 512
SharedFunctionalGroupsSequence.FrameVOILUTSequence.WindowWidth 1024
"""

RTDOSE: Final = """
BitsStored                      16
HighBit                         15
FrameIncrementPointer           3004000C
PositionReferenceIndicator      XY
PixelSpacing                    2.5\\2.5
SliceThickness                  2.5
ImageOrientationPatient         1\\0\\0\\0\\1\\0
ImagePositionPatient            -150\\-150\\-100
DoseUnits                       GY
DoseType                        PHYSICAL
DoseSummationType               PLAN
DoseGridScaling                 0.0005
TissueHeterogeneityCorrection   IMAGE
"""

SEG: Final = """
ImageType                       DERIVED\\PRIMARY
BitsStored                      1
HighBit                         0
SegmentationType                BINARY
PositionReferenceIndicator      XY
ContentLabel                    PHANTOM
ContentDescription              Segmentation of a phantom
ContentCreatorName              Nielsen^Kirsten
SegmentsOverlap                 NO
PresentationLUTShape
BurnedInAnnotation
QualityControlImage
ImageComments
DimensionOrganizationSequence.DimensionOrganizationUID 2.25.270000000000000000000000000000000000002
DimensionIndexSequence.DimensionOrganizationUID 2.25.270000000000000000000000000000000000002
DimensionIndexSequence.DimensionIndexPointer 00200032
DimensionIndexSequence.FunctionalGroupPointer 00209113
SegmentSequence.SegmentNumber   1
SegmentSequence.SegmentLabel    Liver
SegmentSequence.SegmentAlgorithmType MANUAL
SegmentSequence.SegmentedPropertyCategoryCodeSequence 123037004 SCT Anatomical Structure
SegmentSequence.SegmentedPropertyTypeCodeSequence 10200004 SCT Liver
SharedFunctionalGroupsSequence.PixelMeasuresSequence.PixelSpacing 0.703125\\0.703125
SharedFunctionalGroupsSequence.PixelMeasuresSequence.SliceThickness 5
SharedFunctionalGroupsSequence.PlaneOrientationSequence.ImageOrientationPatient 1\\0\\0\\0\\1\\0
SharedFunctionalGroupsSequence.SegmentIdentificationSequence.ReferencedSegmentNumber 1
"""

ENHANCED_CT: Final = """
SharedFunctionalGroupsSequence.IrradiationEventIdentificationSequence.IrradiationEventUID 2.25.2711
SharedFunctionalGroupsSequence.CTImageFrameTypeSequence.FrameType DERIVED\\PRIMARY\\VOLUME\\NONE
SharedFunctionalGroupsSequence.CTImageFrameTypeSequence.PixelPresentation MONOCHROME
SharedFunctionalGroupsSequence.CTImageFrameTypeSequence.VolumetricProperties VOLUME
SharedFunctionalGroupsSequence.CTImageFrameTypeSequence.VolumeBasedCalculationTechnique NONE
SharedFunctionalGroupsSequence.PixelValueTransformationSequence.RescaleIntercept -1024
SharedFunctionalGroupsSequence.PixelValueTransformationSequence.RescaleSlope 1
SharedFunctionalGroupsSequence.PixelValueTransformationSequence.RescaleType HU
"""

ENHANCED_MR: Final = """
ResonantNucleus                 1H
KSpaceFiltering                 NONE
MagneticFieldStrength           1.5
ApplicableSafetyStandardAgency  IEC
ComplexImageComponent           MAGNITUDE
AcquisitionContrast             T1
AcquisitionDuration             120
SharedFunctionalGroupsSequence.MRImageFrameTypeSequence.FrameType DERIVED\\PRIMARY\\VOLUME\\NONE
SharedFunctionalGroupsSequence.MRImageFrameTypeSequence.PixelPresentation MONOCHROME
SharedFunctionalGroupsSequence.MRImageFrameTypeSequence.VolumetricProperties VOLUME
SharedFunctionalGroupsSequence.MRImageFrameTypeSequence.VolumeBasedCalculationTechnique NONE
SharedFunctionalGroupsSequence.MRImageFrameTypeSequence.ComplexImageComponent MAGNITUDE
SharedFunctionalGroupsSequence.MRImageFrameTypeSequence.AcquisitionContrast T1
SharedFunctionalGroupsSequence.PixelValueTransformationSequence.RescaleIntercept 0
SharedFunctionalGroupsSequence.PixelValueTransformationSequence.RescaleSlope 1
SharedFunctionalGroupsSequence.PixelValueTransformationSequence.RescaleType US
"""

IN_SPACE: Final = """
PositionReferenceIndicator      XY
"""
