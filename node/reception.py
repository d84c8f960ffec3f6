"""One instance on its way in: what came is compared with what was announced, kept, or set aside."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from catalog import (
    Contradiction,
    Header,
    Incoming,
    MoreNeeded,
    NotPermitted,
    OutOfSpace,
    PacsError,
    Recorded,
    Unavailable,
    Unreadable,
    scan,
)
from node.contracts import Caller, StoreResult
from node.rejected import Rejected

if TYPE_CHECKING:
    from node.ingest import NodeIngest

logger = logging.getLogger(__name__)

SUCCESS: Final = 0x0000
_MISMATCH: Final = 0xB007
"""Warning, data set does not match SOP Class (PS3.4 Table B.2-1): stored, but something is wrong."""
_HEAD: Final = 1 << 20
"""Bytes scanned at first; headers hardly ever reach Pixel Data later than this."""
_UID: Final = re.compile(rb"(?<![0-9.])[0-9]{1,40}(?:\.[0-9]{1,40}){3,30}")
"""What may be a UID; those of a data set stand in it as text, whether or not it can be read."""
_STATUS: Final[tuple[tuple[type[PacsError], int], ...]] = (
    (OutOfSpace, 0xA700),
    (Contradiction, 0xA900),
    (Unreadable, 0xC000),
    (NotPermitted, 0x0124),
    (Unavailable, 0xA700),
)
"""PS3.4 Table B.2-1: out of resources, data set does not match SOP Class, cannot understand; PS3.7 Annex C:
not authorised."""


class Origin(NamedTuple):
    """Where an object came from, as its segment remembers it."""

    source: str
    received: int
    is_held: bool


class Expected(NamedTuple):
    """What the C-STORE command said the data set would be, and how long our File Meta Information is."""

    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    meta_length: int


class InstanceReception:
    """One instance on its way in; satisfies `Reception`."""

    def __init__(
        self, ingest: NodeIngest, incoming: Incoming, caller: Caller, expected: Expected, is_held: bool
    ) -> None:
        self._ingest = ingest
        self._incoming = incoming
        self._caller = caller
        self._expected = expected
        self._is_held = is_held
        self.space = incoming.space
        self.filled = incoming.filled

    def finish(self) -> StoreResult:
        """Make it durable and record it; never raises for what a sender can do wrong."""
        try:
            header = self._read_header()
            self.keep(header)
        except (Unreadable, Contradiction) as error:
            return self._erased() or self._reject(error)
        except PacsError as error:
            logger.error("An instance from %s was not stored: %s", self._caller.ae_title, error)
            return _refusal(error)
        except OSError as error:
            logger.error("An instance from %s was not stored: %s", self._caller.ae_title, error)
            return StoreResult(0xA700, "Storage failed, nothing was kept; send again later")
        finally:
            self._incoming.discard()
        if header.is_cut_short:
            comment = "The data set is cut short; kept as it came"
            return StoreResult(_MISMATCH, comment, header.StudyInstanceUID)
        return StoreResult(SUCCESS, StudyInstanceUID=header.StudyInstanceUID)

    def keep(self, header: Header) -> Recorded:
        """Store and record the instance under what its own header says.

        Raises:
            OutOfSpace: nothing was kept.
            NotPermitted: the held shelf is full, a person had it erased, or the node is retired.
        """
        self._ingest.may_begin()
        judgement, caller = self._ingest.judgement, self._caller
        if judgement is None:
            return self._keep(header)
        if self._is_held:
            # Even where it would wait for a person.
            judgement.refuse_erased(
                (header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID), caller
            )
            return self._keep(header)
        judgement.admit(header, caller)
        recorded = self._keep(header)
        judgement.stored(header, caller, lambda: self._incoming.read_at(0, self._incoming.size))
        return recorded

    def _keep(self, header: Header) -> Recorded:
        ingest, caller = self._ingest, self._caller
        digest = self._incoming.digest()
        is_away = False
        try:
            if ingest.has_durably(header.SOPInstanceUID, digest):
                return Recorded.SAME
        except Unavailable:
            is_away = True
        if self._is_held:
            if ingest.held.holds(header.SOPInstanceUID, digest) and not ingest.is_damaged(digest):
                return Recorded.SAME
            ingest.held.admit(self._incoming.size)
        origin = Origin(caller.ae_title, int(ingest.clock() * 1000), self._is_held)
        issuer = caller.device.issuer if caller.device else ""
        syntax = self._expected.TransferSyntaxUID
        return ingest.keep(self._incoming, header, syntax, origin, issuer, is_away=is_away)

    def abandon(self) -> None:
        """Forget it: the association ended in the middle."""
        self._incoming.discard()

    def _read_header(self) -> Header:
        header = read_header(self._incoming, self._expected.TransferSyntaxUID, self._expected.meta_length)
        check(header, self._expected)
        return header

    def _erased(self) -> StoreResult | None:
        """Return the refusal of what names something erased, which is not even set aside; else None."""
        judgement = self._ingest.judgement
        if judgement is None:
            return None
        named = {each.decode() for each in _UID.findall(self._incoming.head(_HEAD))}
        try:
            judgement.refuse_erased({self._expected.SOPInstanceUID, *named}, self._caller)
        except NotPermitted as error:
            return _refusal(error)
        return None

    def _reject(self, error: PacsError) -> StoreResult:
        result, caller, expected = _refusal(error), self._caller, self._expected
        record = Rejected(
            name="",
            source=caller.ae_title,
            address=caller.address,
            when=int(self._ingest.clock() * 1000),
            size=self._incoming.size,
            status=result.status,
            why=error.what,
            SOPClassUID=expected.SOPClassUID,
            SOPInstanceUID=expected.SOPInstanceUID,
            TransferSyntaxUID=expected.TransferSyntaxUID,
            is_held=self._is_held,
        )
        try:
            kept = self._ingest.rejected.put(self._incoming, record)
        except OSError as full:
            logger.error("A refused data set from %s could not be set aside: %s", caller.ae_title, full)
            return StoreResult(0xA700, "Out of space; the data set was also refused")
        text = "A data set from %s was refused with %04X and lies in rejected/%s: %s"
        logger.warning(text, caller.ae_title, result.status, kept.name, error.what)
        return result


def read_header(incoming: Incoming, TransferSyntaxUID: str, meta_length: int) -> Header:
    """Scan the header of an object that has come in whole.

    Raises:
        Unreadable: it is not a data set in that transfer syntax.
    """
    total = incoming.size - meta_length
    limit = _HEAD
    while True:
        try:
            return scan(incoming.head(limit)[meta_length:], TransferSyntaxUID, total)
        except MoreNeeded as more:
            limit = max(more.size + meta_length, limit * 8)


def check(header: Header, expected: Expected) -> None:
    """Compare a data set with the command that announced it (PS3.4 B.2.3).

    Raises:
        Contradiction: a UID is missing, or is not the one announced.
    """
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not getattr(header, keyword):
            raise Contradiction(f"{keyword} is missing or empty.", "Mend it at the sender and send again.")
    if header.SOPInstanceUID != expected.SOPInstanceUID:
        raise Contradiction("SOPInstanceUID is not the one the command named.", "Mend the sender.")
    if header.SOPClassUID != expected.SOPClassUID:
        raise Contradiction("SOPClassUID is not the one the command named.", "Mend the sender.")


def _refusal(error: PacsError) -> StoreResult:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 0x0110)
    return StoreResult(status, error.what[:64])
