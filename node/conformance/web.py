"""Tables of DICOMweb: the transactions, from the routes that serve them, and the media types of pixels."""

from __future__ import annotations

from pydicom.uid import UID

from node.web.application import ROUTES
from node.web.pixelmedia import MEDIA_TYPES, syntaxes_of

from .markdown import table


def transactions() -> str:
    """Return the table of transactions and where they are."""
    rows = [(route.what.capitalize(), f"`{route.method} {route.path}`") for route in ROUTES]
    return table(
        "5-7", "DICOMweb transactions, below the root of a service", ("Transaction", "Request"), rows
    )


def pixel_media_types() -> str:
    """Return the table of media types of frames; the first syntax is the default."""
    rows = [
        (f"`{media_type}`", ", ".join(f"{UID(uid).name} ({uid})" for uid in syntaxes_of(media_type)))
        for media_type in MEDIA_TYPES
        if not media_type.startswith("video/")
    ]
    return table("5-8", "Media types of compressed frames", ("Media type", "Transfer syntaxes"), rows)
