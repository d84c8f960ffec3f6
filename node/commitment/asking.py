"""What this node asked others to commit to, and what they said: rows that outlive commands and restarts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from catalog import Clock
from node.contracts import CommitmentResult, Reference
from node.state import Tables

NOT_MENTIONED: Final = 0
"""In the place of a Failure Reason: the result says nothing about the instance."""
_KEPT: Final = 90 * 86400.0
_MOST: Final = 1000
"""Requests that are remembered; the oldest go first."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request to another system, with its result once that is known; times are Unix seconds."""

    transaction: str
    ae_title: str
    host: str
    port: int
    references: list[Reference]
    asked: float
    is_accepted: bool = False
    """Whether the other system took the request."""
    refusal: str = ""
    reported: float = 0.0
    """When the result came; 0 = not yet."""
    failed: dict[str, int] = {}
    """SOP Instance UID to Failure Reason, NOT_MENTIONED where the result left it out."""
    RetrieveAETitle: str = ""

    @property
    def committed(self) -> list[Reference]:
        """What the other system promises to keep."""
        if not self.reported:
            return []
        return [each for each in self.references if each.SOPInstanceUID not in self.failed]


class Inquiries:
    """Rows of `Asked` by Transaction UID; commands and the running node use them at once."""

    def __init__(self, state: Tables, clock: Clock) -> None:
        self._table = state.table("commitments asked", Asked)
        self._clock = clock

    def begin(self, ae_title: str, host: str, port: int, references: Sequence[Reference]) -> Asked:
        """Write a request down before it is sent: its result may come by another way than its answer."""
        asked = Asked(
            transaction=f"2.25.{uuid.uuid4().int}",
            ae_title=ae_title,
            host=host,
            port=port,
            references=list(dict.fromkeys(references)),
            asked=self._clock(),
        )
        self._forget_old()
        self._table.put(asked.transaction.encode(), asked)
        return asked

    def answered(self, transaction: str, refusal: str = "") -> None:
        """Note whether the other system took the request."""
        self._change(transaction, lambda row: replace(row, is_accepted=not refusal, refusal=refusal))

    def take(self, ae_title: str, result: CommitmentResult) -> bool:
        """Keep a result; say whether it is one of something that was asked of this AE title."""
        row = self.get(result.TransactionUID)
        if row is None or row.ae_title != ae_title:
            return False
        committed = set(result.committed)
        reasons = {each.SOPInstanceUID: reason or 0x0110 for each, reason in result.failed}
        failed = {
            each.SOPInstanceUID: reasons.get(each.SOPInstanceUID, NOT_MENTIONED)
            for each in row.references
            if each not in committed or each.SOPInstanceUID in reasons
        }
        self._change(
            result.TransactionUID,
            lambda row: replace(
                row,
                is_accepted=True,
                reported=self._clock(),
                failed=failed,
                RetrieveAETitle=result.RetrieveAETitle,
            ),
        )
        return True

    def get(self, transaction: str) -> Asked | None:
        """Return one request."""
        return self._table.get(transaction.encode()[:200])

    def __iter__(self) -> Iterator[Asked]:
        """Yield all requests, the newest first."""
        rows = [row for _, row in self._table.scan()]
        yield from sorted(rows, key=lambda row: -row.asked)

    def _change(self, transaction: str, change: Callable[[Asked], Asked]) -> None:
        self._table.change({transaction.encode(): lambda row: row and change(row)})

    def _forget_old(self) -> None:
        before = self._clock() - _KEPT
        for place, row in enumerate(self):
            if row.asked < before or place >= _MOST:
                self._table.delete(row.transaction.encode())
