"""Which media types stand for which transfer syntaxes of pixel data: PS3.18 Tables 8.7.3-2 to 8.7.3-6."""

from __future__ import annotations

from typing import Final

from .media import OCTETS

_SYNTAX: Final = "1.2.840.10008.1.2."
MEDIA_TYPES: Final[dict[str, tuple[str, ...]]] = {
    "image/jpeg": ("4.70", "4.50", "4.51", "4.57"),
    "image/dicom-rle": ("5",),
    "image/x-dicom-rle": ("5",),
    "image/jls": ("4.80", "4.81"),
    "image/x-jls": ("4.80", "4.81"),
    "image/jp2": ("4.90", "4.91"),
    "image/jpx": ("4.92", "4.93"),
    "image/jphc": ("4.201", "4.202", "4.203"),
    "image/jxl": ("4.110", "4.111", "4.112"),
    "video/mpeg2": ("4.100", "4.101"),
    "video/mp4": ("4.102", "4.103", "4.104", "4.105", "4.106"),
    "video/h265": ("4.107", "4.108"),
}
"""The first is the default; syntaxes without their common beginning."""


def syntaxes_of(media_type: str) -> tuple[str, ...]:
    """Return the transfer syntaxes that a media type stands for, the default first."""
    return tuple(_SYNTAX + tail for tail in MEDIA_TYPES.get(media_type, ()))


def media_type_of(TransferSyntaxUID: str) -> str:
    """Return the media type of frames in a transfer syntax."""
    for media_type, tails in MEDIA_TYPES.items():
        if TransferSyntaxUID.removeprefix(_SYNTAX) in tails and TransferSyntaxUID.startswith(_SYNTAX):
            return media_type
    return OCTETS


def is_video(TransferSyntaxUID: str) -> bool:
    """Say whether the pixel data is one stream that no frame can be taken out of."""
    return media_type_of(TransferSyntaxUID).startswith("video/")
