"""The one door in: bytes become a durable, recorded instance, or a refusal that loses nothing.

DIMSE, web, import and replication all come through here. An instance is acknowledged only after its
bytes and its catalog row are on disk. Bytes that cannot be an instance go to the rejected shelf, those
of an unknown sender to the held shelf; both wait there for a person.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from catalog import (
    Arrival,
    CatalogWriter,
    Clock,
    Contradiction,
    Entry,
    Header,
    Holding,
    Incoming,
    MoreNeeded,
    NotPermitted,
    ObjectStore,
    OutOfSpace,
    PacsError,
    PatientKey,
    Recorded,
    Unavailable,
    Uncertain,
    Unreadable,
    scan,
)
from node.contracts import Caller, StoreResult
from node.damage import Mender
from node.held import HeldShelf
from node.rejected import Rejected, RejectedShelf
from node.storage import file_meta
from node.underway import Underway

logger = logging.getLogger(__name__)

SUCCESS: Final = 0x0000
_MISMATCH: Final = 0xB007
"""Warning, data set does not match SOP Class (PS3.4 Table B.2-1): stored, but something is wrong."""
_HEAD: Final = 1 << 20
"""Bytes scanned at first; headers hardly ever reach Pixel Data later than this."""
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


class Identity(NamedTuple):
    """How this archive names patients: its own issuer, and the Patient IDs that mean nobody."""

    issuer: str = ""
    placeholders: frozenset[str] = frozenset()

    def patient(self, header: Header, issuer_of_sender: str) -> PatientKey:
        """Return (issuer, id), or a patient of its own per study where the id names nobody."""
        issuer = header.IssuerOfPatientID or issuer_of_sender or self.issuer
        if not header.PatientID or header.PatientID.upper() in self.placeholders:
            return PatientKey(issuer, header.PatientID, header.StudyInstanceUID)
        return PatientKey(issuer, header.PatientID)


class Judgement(Protocol):
    """What persons decided about what arrives, see `node.sent_again`."""

    def admit(self, header: Header, caller: Caller) -> None:
        """Let an instance in; raises NotPermitted for what was erased."""

    def stored(self, header: Header, caller: Caller, part10: Callable[[], bytes]) -> None:
        """Hear that it is stored; raises PacsError when it says something that cannot be done."""


class NodeIngest:
    """Satisfies `Ingest` for one archive."""

    def __init__(
        self,
        store: ObjectStore,
        catalog: CatalogWriter,
        held: HeldShelf,
        rejected: RejectedShelf,
        identity: Identity,
        clock: Clock,
        on_new: Callable[[Entry, Recorded], None] = lambda entry, recorded: None,
        claim: Callable[[int], None] = lambda size: None,
        mender: Mender | None = None,
        judgement: Judgement | None = None,
    ) -> None:
        """Take the parts; `claim(size)` raises OutOfSpace when the archive may have no more bytes.

        Equal bytes of what the `mender` knows as damaged take its place.
        """
        self.store = store
        self.catalog = catalog
        self.held = held
        self.rejected = rejected
        self.identity = identity
        self.clock = clock
        self.on_new = on_new
        self.claim = claim
        self._mender = mender
        self.judgement = judgement
        self._underway = Underway()

    def is_damaged(self, sha256: bytes) -> bool:
        """Say whether the bytes are here, but not as they were stored."""
        return self._mender is not None and sha256 in self._mender.book

    def has_durably(self, SOPInstanceUID: str, sha256: bytes) -> bool:
        """Say whether exactly these bytes are recorded, and on the disk, whichever process took them in.

        Raises:
            Unavailable: they are recorded, but their disk is not there.
        """
        if sha256 in self._underway or self.is_damaged(sha256):
            return False
        if not self.catalog.holds(SOPInstanceUID, sha256):
            return False
        there = self.catalog.whereabouts(SOPInstanceUID, sha256)
        if there is not None:
            self.store.sync(there)
        return there is not None

    def begin(
        self, caller: Caller, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str, *, is_held: bool
    ) -> InstanceReception:
        """Start to take in one instance; its File Meta Information is written here, never taken over."""
        meta = file_meta(SOPClassUID, SOPInstanceUID, TransferSyntaxUID)
        incoming = self.store.incoming()
        incoming.space(len(meta))[:] = meta
        incoming.filled(len(meta))
        expected = Expected(SOPClassUID, SOPInstanceUID, TransferSyntaxUID, len(meta))
        return InstanceReception(self, incoming, caller, expected, is_held)

    def arrival(self, header: Header, syntax: str, holding: Holding, origin: Origin, issuer: str) -> Arrival:
        """Return what the catalog records of a stored object."""
        entry = Entry(
            StudyInstanceUID=header.StudyInstanceUID,
            SeriesInstanceUID=header.SeriesInstanceUID,
            SOPInstanceUID=header.SOPInstanceUID,
            SOPClassUID=header.SOPClassUID,
            TransferSyntaxUID=syntax,
            holding=holding,
            received=origin.received,
            source=origin.source,
            InstanceNumber=header.InstanceNumber,
            NumberOfFrames=header.NumberOfFrames,
            Rows=header.Rows,
            Columns=header.Columns,
        )
        patient = self.identity.patient(header, issuer)
        return Arrival(entry=entry, patient=patient, study=header.study, series=header.series)

    def keep(
        self,
        incoming: Incoming,
        header: Header,
        syntax: str,
        origin: Origin,
        issuer: str,
        *,
        is_away: bool = False,
    ) -> Recorded:
        """Make an instance durable and record it; the disk syncs while the catalog commits.

        `is_away` says that equal bytes are recorded on a disk that is not there: these take their place.

        Raises:
            OutOfSpace: nothing was kept.
        """
        self.claim(incoming.size)
        holding = self.store.keep(incoming, origin)
        try:
            arrival = self.arrival(header, syntax, holding, origin, issuer)
            if (is_away or self.is_damaged(holding.sha256)) and self._mends(arrival):
                return Recorded.SAME
            if origin.is_held:
                self.store.sync(holding)
                self.held.put(arrival)
                return Recorded.NEW
        except Exception:
            self.store.remove(holding)
            raise
        recorded = self._record(arrival)
        if recorded is not Recorded.SAME:
            self.on_new(arrival.entry, recorded)
        return recorded

    def _mends(self, arrival: Arrival) -> bool:
        """Put the bytes in the place of damaged ones; False when no row names those any more."""
        if self._mender is None:
            return False
        holding = arrival.entry.holding
        self.store.sync(holding)
        if self._mender.mend(arrival.entry.SOPInstanceUID, holding):
            return True
        self._mender.book.clear(holding.sha256)
        return False

    def _record(self, arrival: Arrival) -> Recorded:
        holding, is_spare = arrival.entry.holding, False
        self._underway.begin(holding)
        try:
            try:
                [recorded] = self.catalog.record([arrival])
            except Uncertain:
                # Its row may be there. The next start reads the bytes again and makes sure that it is.
                raise
            except Exception:
                self.store.remove(holding)
                raise
            try:
                self.store.sync(holding)
            except PacsError:
                # The disk failed under bytes that the catalog knows already; nobody was told of them.
                self.catalog.forget_lost(holding.__eq__)
                raise
            is_spare = recorded is Recorded.SAME
            return recorded
        finally:
            for spare in self._underway.end(holding, is_spare):
                if self.has_durably(arrival.entry.SOPInstanceUID, spare.sha256):
                    self.store.remove(spare)


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
            return self._reject(error)
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
            NotPermitted: the held shelf is full, or a person had it erased.
        """
        judgement, caller = self._ingest.judgement, self._caller
        if judgement is None or self._is_held:
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
