"""What can go wrong, as a person and a peer need to hear it.

PacsError
├── NotPermitted    the caller may not do this here
├── NotFound        nothing by that name is here
├── BadRequest      the request contradicts itself or the standard
├── Unreadable      the bytes are not a data set we can understand
├── Contradiction   the data set is not what its command or envelope said
├── OutOfSpace      a disk, a quota or the map is full
├── Busy            a limit was reached; the same request may succeed later
├── Damaged         bytes on disk are not the bytes that were stored
└── Unavailable     the thing exists, but whoever holds it does not answer
    └── Uncertain   nobody answered whether it was done; it may have been

Each carries two sentences: what happened, and what the person can do next. Each border (DIMSE, web,
wire) keeps one table from these classes to its own status codes.
"""

from __future__ import annotations

from typing import ClassVar


class PacsError(Exception):
    """Something a person must be told: `what` happened and what to do `next`."""

    retry: ClassVar[bool] = False
    """Whether the same request can succeed later without anybody changing anything."""

    def __init__(self, what: str, next: str = "") -> None:
        super().__init__(f"{what} {next}".strip())
        self.what = what
        self.next = next


class NotPermitted(PacsError):
    """The caller may not do this here."""


class NotFound(PacsError):
    """Nothing by that name is here."""


class BadRequest(PacsError):
    """The request contradicts itself or the standard; `tags` names the offending elements."""

    def __init__(self, what: str, next: str = "", tags: tuple[str, ...] = ()) -> None:
        super().__init__(what, next)
        self.tags = tags


class Unreadable(PacsError):
    """The bytes are not a data set we can understand."""


class Contradiction(PacsError):
    """The data set is not what its command or envelope said it would be."""


class OutOfSpace(PacsError):
    """A disk, a quota or the map is full."""

    retry = True


class Busy(PacsError):
    """A limit was reached; the same request may succeed later."""

    retry = True


class Damaged(PacsError):
    """Bytes on disk are not the bytes that were stored."""


class Unavailable(PacsError):
    """The thing exists, but whoever holds it does not answer."""

    retry = True


class Uncertain(Unavailable):
    """Nobody answered whether it was done; it may have been, so nothing may be undone."""
