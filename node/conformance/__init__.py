"""The DICOM Conformance Statement by PS3.2 Annex N, made from the tables that the node works by."""

from .claims import Key, SopClass, keys, sop_classes
from .statement import any_node, statement

__all__ = ["Key", "SopClass", "any_node", "keys", "sop_classes", "statement"]
