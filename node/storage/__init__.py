"""The local object store: DICOM files in append-only segments that are tar files, and their first bytes."""

from .incoming import Buffers
from .part10 import IMPLEMENTATION_CLASS_UID, Meta, data_set_offset, file_meta, read_meta
from .reading import StoredFile
from .replay import Damage, Item, Kept, KeptDecision, SegmentEnd
from .resuming import ResumedObject
from .segments import SegmentStore, StorageSettings
from .spread import VolumeState, VolumeStore
from .volumes import Volume, has_objects

__all__ = [
    "IMPLEMENTATION_CLASS_UID",
    "Buffers",
    "Damage",
    "Item",
    "Kept",
    "KeptDecision",
    "Meta",
    "ResumedObject",
    "SegmentEnd",
    "SegmentStore",
    "StorageSettings",
    "StoredFile",
    "Volume",
    "VolumeState",
    "VolumeStore",
    "data_set_offset",
    "file_meta",
    "has_objects",
    "read_meta",
]
