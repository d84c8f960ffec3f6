"""The case of Storage Commitment: a thousand instances, each read again, asked for as one request."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .association import COMMITMENT, Association
from .cases import CT_512_KB, Contestant, Figures, Filled
from .clients import ClientError
from .pdu import encode_uid
from .phantoms import Study, instances, study
from .report import Goal, Row
from .servers import PeerPACS, Server

_SEED: Final = 33
_ALL_COMMITTED: Final = 1


@dataclass(slots=True)
class Commitment(Filled):
    """N-ACTION to N-EVENT-REPORT on one association, for a study that is stored already.

    The node has no promise of the kernel that the bytes come from the platters: they were written moments
    ago. It reads all of them through its files and hashes them, each time.
    """

    count: int = 1000
    name: str = "commit"
    _transactions: int = 0

    @property
    def title(self) -> str:
        return f"Commitment of {self.count} x 512 KB"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("request to result", "s", more_is_better=False, goal=Goal(at_most=2.0)),
            Row("server CPU", "s", more_is_better=False),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": PeerPACS}

    def held(self) -> list[Study]:
        return [self._study()]

    def measure(self, server: Server, run: int) -> Figures:
        asked = [(one.SOPClassUID, one.SOPInstanceUID) for one in instances(self._study())]
        self._transactions += 1
        request = request_of(f"2.25.{time.time_ns()}{self._transactions}", asked)
        before = server.cpu_seconds()
        with Association(server.address, [COMMITMENT]) as association:
            began = time.perf_counter()
            kind, result = association.commit(request)
            seconds = time.perf_counter() - began
        if kind != _ALL_COMMITTED or sum(encode_uid(uid) in result for _, uid in asked) != self.count:
            raise ClientError(f"{server.name} did not commit to all of {self.count} instances.")
        return {"request to result": seconds, "server CPU": server.cpu_seconds() - before}

    def _study(self) -> Study:
        return study(_SEED, 1, instances=self.count, size=CT_512_KB)


def request_of(transaction: str, asked: Iterable[tuple[str, str]]) -> bytes:
    """Return the Action Information in Implicit VR Little Endian, PS3.4 Table J.3-1."""
    items = b"".join(
        _element(0xFFFE, 0xE000, _element(8, 0x1150, encode_uid(kind)) + _element(8, 0x1155, encode_uid(uid)))
        for kind, uid in asked
    )
    return _element(8, 0x1195, encode_uid(transaction)) + _element(8, 0x1199, items)


def _element(group: int, element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", group, element, len(value)) + value
