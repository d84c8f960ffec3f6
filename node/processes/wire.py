"""What processes of one node say to the one that writes: a verb, an archive and a body, in three frames.

Bodies are msgpack of the types below. Only processes of the node's own user reach the socket.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

import catalog
from catalog import Arrival, Decision, Entry, Move, Moved, PacsError, Recorded
from node.measures import Sample


class Call(StrEnum):
    """What can be asked of the writer."""

    RECORD = "record"
    FORGET = "forget"
    RELOCATE = "relocate"
    DECIDE = "decide"
    RESTORE = "restore"
    ADMIT = "admit"
    DISCHARGE = "discharge"
    BEAT = "beat"


class Orders(msgspec.Struct, frozen=True):
    """What a gateway is told when it starts."""

    home: str
    name: str
    writer: str
    """Where the writing process listens."""
    dicom: tuple[str, int] = ("", 0)
    tls: tuple[str, int] = ("", 0)
    """Address and port to share; port 0 = none."""
    relay: str = ""
    """Where AE titles are served that gateways do not open: the grid's."""


class Guest(msgspec.Struct, frozen=True, array_like=True):
    """An association that a gateway wants to let in, or that has ended."""

    gateway: str
    calling_ae: str
    address: str


class Beat(msgspec.Struct, frozen=True, array_like=True):
    """That a gateway lives, and what it has counted since it began."""

    gateway: str
    counters: dict[str, int]
    samples: list[Sample]


class Refused(msgspec.Struct, frozen=True, array_like=True):
    """Why an association is not let in: the fields of a `Rejection`."""

    result: int
    source: int
    reason: int
    why: str


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """What went wrong, as the class and the sentences of a `PacsError`."""

    kind: str
    what: str
    next: str

    @classmethod
    def of(cls, error: PacsError) -> Failure:
        """Return what an error says."""
        return cls(type(error).__name__, error.what, error.next)

    def error(self) -> PacsError:
        """Return the error again."""
        kind = getattr(catalog, self.kind, PacsError)
        assert issubclass(kind, PacsError)
        return kind(self.what, self.next)


BODIES: Final[dict[Call, Any]] = {
    Call.RECORD: list[Arrival],
    Call.FORGET: list[Entry],
    Call.RELOCATE: list[Move],
    Call.DECIDE: Decision,
    Call.RESTORE: Decision,
    Call.ADMIT: Guest,
    Call.DISCHARGE: Guest,
    Call.BEAT: Beat,
}
ANSWERS: Final[dict[Call, Any]] = {
    Call.RECORD: list[Recorded],
    Call.FORGET: None,
    Call.RELOCATE: list[Moved],
    Call.DECIDE: None,
    Call.RESTORE: None,
    Call.ADMIT: Refused | None,
    Call.DISCHARGE: None,
    Call.BEAT: None,
}
GOOD: Final = b"good"
BAD: Final = b"bad"
encode: Final = msgspec.msgpack.Encoder().encode
decode_body: Final = {call: msgspec.msgpack.Decoder(kind).decode for call, kind in BODIES.items()}
decode_answer: Final = {call: msgspec.msgpack.Decoder(kind).decode for call, kind in ANSWERS.items()}
decode_failure: Final = msgspec.msgpack.Decoder(Failure).decode
