"""Errors on the web: RFC 9457 problem documents with what happened and what the person can do next."""

from __future__ import annotations

import http.client
from typing import ClassVar, Final

import msgspec

from catalog import (
    BadRequest,
    Busy,
    Contradiction,
    Damaged,
    NotFound,
    NotPermitted,
    OutOfSpace,
    PacsError,
    Unavailable,
    Unreadable,
)
from node.pixels import NotConvertible

MEDIA_TYPE: Final = "application/problem+json"


class WebError(PacsError):
    """An error that only exists on the web; `status` is its HTTP status."""

    status: ClassVar[int]


class Malformed(WebError):
    """The request is not what HTTP, RFC 2046 or PS3.18 allow."""

    status = 400


class NotAcceptable(WebError):
    """There is no representation of it that the Accept header allows, PS3.18 8.7.5."""

    status = 406


class TooSlow(WebError):
    """The request's body came too slowly."""

    status = 408


class Gone(WebError):
    """It was here, and a person removed it, PS3.18 Table 10.4.3-1."""

    status = 410


class TooLarge(WebError):
    """The request, or what it asks for, is larger than this node takes."""

    status = 413


class UnsupportedType(WebError):
    """The request's body is of a media type that is not taken here."""

    status = 415


class NoSuchRange(WebError):
    """None of the bytes asked for exist."""

    status = 416


_STATUS: Final[tuple[tuple[type[PacsError], int], ...]] = (
    (NotPermitted, 403),
    (NotFound, 404),
    (BadRequest, 400),
    (NotConvertible, 406),
    (Contradiction, 400),
    (Busy, 503),
    (Unavailable, 503),
    (OutOfSpace, 507),
    (Unreadable, 500),
    (Damaged, 500),
)
"""What each class of our errors is on the web; Unreadable and Damaged are about what is stored here."""


def status_of(error: PacsError) -> int:
    """Return the HTTP status for an error."""
    if isinstance(error, WebError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def document(status: int, what: str, next: str) -> bytes:
    """Return a problem document, RFC 9457 3."""
    title = http.client.responses.get(status, "Error")
    return msgspec.json.encode({"title": title, "status": status, "detail": what, "next": next})
