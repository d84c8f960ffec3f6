"""From the configuration's sections to the settings that the parts understand."""

from __future__ import annotations

from typing import Final

from node.config import Config
from node.dimse import Limits
from node.storage import StorageSettings

MB: Final = 1 << 20


def storage_settings(config: Config) -> StorageSettings:
    """Return the settings of the segments."""
    storage = config.storage
    return StorageSettings(
        seal_at=storage.segment_mb * MB,
        buffered_at_most=storage.spill_above_mb * MB,
        budget=storage.buffer_mb * MB,
        full_below=storage.stop_below_mb * MB,
        resume_above=storage.resume_above_mb * MB,
    )


def limits(config: Config) -> Limits:
    """Return the limits of associations."""
    dicom = config.dicom
    return Limits(
        associations=dicom.max_associations,
        associations_per_ae=dicom.max_associations_per_ae,
        associations_per_address=dicom.max_associations_per_address,
        associations_per_second=dicom.max_new_associations_per_second,
        burst=2 * dicom.max_new_associations_per_second,
        max_pdu=dicom.max_pdu,
        artim=dicom.artim_timeout,
        idle=dicom.idle_timeout,
        message=dicom.network_timeout,
        connect=dicom.connect_timeout,
    )
