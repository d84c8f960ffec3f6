"""What a modality's data sets carry besides identity: tables of elements, one Kind for each sort of instance.

They give phantoms the weight of real headers (more than a hundred elements with sequences and a private
block), because header size and variety are what a catalog's speed depends on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from . import multiframe as groups
from . import tables

PRIVATE_CREATOR: Final = "PEERPACS PHANTOM"
PADDING_TAG: Final = 0x002910FF
"""The private element that brings an instance to the size asked for."""


class Kind(NamedTuple):
    """One sort of instance, as a modality writes it."""

    Modality: str
    SOPClassUID: str
    bits: int
    """Bits Allocated; 0 for what has no pixels."""
    matrix: tuple[int, int]
    """Rows and Columns as they usually are."""
    tables: tuple[str, ...]
    varying: tuple[str, ...] = ()
    """Attributes that differ from instance to instance besides those that every instance has."""
    samples: int = 1
    is_multiframe: bool = False

    @property
    def pixel_bits(self) -> int:
        """Bits of a whole pixel, all samples."""
        return self.bits * self.samples


_PLACE: Final = ("ImagePositionPatient", "SliceLocation", "FrameOfReferenceUID")
_GROUPS: Final = (
    "AcquisitionDateTime",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
)
_I: Final = (tables.EVERY, tables.IMAGE)
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1"

KINDS: Final[dict[str, Kind]] = {
    "CT": Kind("CT", f"{_STORAGE}.2", 16, (512, 512), (*_I, tables.TOMOGRAPHIC, tables.CT), _PLACE),
    "MR": Kind("MR", f"{_STORAGE}.4", 16, (320, 320), (*_I, tables.TOMOGRAPHIC, tables.MR), _PLACE),
    "XA": Kind("XA", f"{_STORAGE}.12.1", 8, (1024, 1024), (*_I, tables.XA), ("NumberOfFrames",),
               is_multiframe=True),
    "DX": Kind("DX", f"{_STORAGE}.1.1", 16, (2544, 2048), (*_I, tables.RADIOGRAPH, tables.DX)),
    "MG": Kind("MG", f"{_STORAGE}.1.2", 16, (3328, 2560), (*_I, tables.RADIOGRAPH, tables.MG)),
    "CR": Kind("CR", f"{_STORAGE}.1", 16, (2128, 1760), (*_I, tables.CR)),
    "US": Kind("US", f"{_STORAGE}.3.1", 8, (608, 800), (*_I, tables.COLOUR, tables.US),
               ("NumberOfFrames", "PhotometricInterpretation"), samples=3, is_multiframe=True),
    "PT": Kind("PT", f"{_STORAGE}.128", 16, (208, 208), (*_I, tables.TOMOGRAPHIC, tables.PT),
               (*_PLACE, "ImageIndex", "NumberOfSlices")),
    "ENHANCED-CT": Kind("CT", f"{_STORAGE}.2.1", 16, (512, 512), (*_I, groups.ENHANCED, groups.ENHANCED_CT),
                        _GROUPS, is_multiframe=True),
    "ENHANCED-MR": Kind("MR", f"{_STORAGE}.4.1", 16, (320, 320), (*_I, groups.ENHANCED, groups.ENHANCED_MR),
                        _GROUPS, is_multiframe=True),
    "RTDOSE": Kind("RTDOSE", f"{_STORAGE}.481.2", 16, (208, 208), (*_I, groups.RTDOSE),
                   ("FrameOfReferenceUID", "NumberOfFrames", "GridFrameOffsetVector"), is_multiframe=True),
    "RTSTRUCT": Kind("RTSTRUCT", f"{_STORAGE}.481.3", 0, (0, 0), (tables.EVERY, groups.IN_SPACE),
                     ("FrameOfReferenceUID",)),
    "RTPLAN": Kind("RTPLAN", f"{_STORAGE}.481.5", 0, (0, 0), (tables.EVERY, groups.IN_SPACE),
                     ("FrameOfReferenceUID",)),
    "SEG": Kind("SEG", f"{_STORAGE}.66.4", 1, (512, 512), (*_I, groups.SEG),
                _GROUPS[1:], is_multiframe=True),
    "SR": Kind("SR", f"{_STORAGE}.88.33", 0, (0, 0), (tables.EVERY,)),
}  # fmt: skip
"""Every sort of instance, by the word for it in studies, scenarios and traffic."""


def header(kind_name: str) -> Dataset:
    """Return a new data set with everything of the kind that does not vary, without pixels."""
    kind = KINDS[kind_name]
    ds = Dataset()
    ds.SOPClassUID = kind.SOPClassUID
    ds.Modality = kind.Modality
    for table in kind.tables:
        for line in table.strip().splitlines():
            path, _, value = line.partition(" ")
            _put(ds, path.split("."), value.strip())
    if kind.Modality not in _WITHOUT_REQUEST:
        ds.RequestAttributesSequence = Sequence([_request()])
    _add_private_block(ds)
    return ds


_WITHOUT_REQUEST: Final = ("RTDOSE", "RTSTRUCT", "RTPLAN")


def _put(ds: Dataset, path: list[str], text: str) -> None:
    keyword = path[0]
    if len(path) > 1:
        if keyword not in ds:
            setattr(ds, keyword, Sequence([Dataset()]))
        _put(getattr(ds, keyword)[0], path[1:], text)
    elif text:
        setattr(ds, keyword, _value(keyword, text))
    elif keyword in ds:
        delattr(ds, keyword)


def _value(keyword: str, text: str) -> object:
    if text == "[]":
        return Sequence()
    match dictionary_VR(keyword):
        case "SQ":
            return Sequence([code(*text.split(" ", 2))])
        case "AT":
            return int(text, 16)
        case "US" | "SS" | "UL" | "US or SS":
            values: list[object] = [int(value) for value in text.split("\\")]
        case "FD" | "FL":
            values = [float(value) for value in text.split("\\")]
        case _:
            values = list(text.split("\\"))
    return values[0] if len(values) == 1 else values


def code(CodeValue: str, CodingSchemeDesignator: str, CodeMeaning: str) -> Dataset:
    """Return the item of a code sequence, PS3.3 Table 8.8-1a."""
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
    item.ScheduledProtocolCodeSequence = Sequence([code("PPX-1", "99PEERPACS", "Phantom examination")])
    return item


def _add_private_block(ds: Dataset) -> None:
    acquisition = ds.private_block(0x0019, PRIVATE_CREATOR, create=True)
    acquisition.add_new(0x10, "LO", "Phantom acquisition")
    acquisition.add_new(0x11, "DS", ["0.25", "0.5", "1.0"])
    acquisition.add_new(0x12, "FD", 12.5)
    acquisition.add_new(0x13, "SQ", [code("PPX-2", "99PEERPACS", "Private item")])
    image = ds.private_block(0x0029, PRIVATE_CREATOR, create=True)
    image.add_new(0x10, "CS", "PHANTOM HEADER")
    image.add_new(0x20, "OB", bytes(range(256)))
