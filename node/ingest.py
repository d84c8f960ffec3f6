"""The one door in: bytes become a durable, recorded instance, or a refusal that loses nothing.

DIMSE, web, import and replication all come through here. An instance is acknowledged only after its
bytes and its catalog row are on disk. Bytes that cannot be an instance go to the rejected shelf, those
of an unknown sender to the held shelf; both wait there for a person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from catalog import (
    Arrival,
    CatalogWriter,
    Clock,
    Entry,
    Header,
    Holding,
    Incoming,
    ObjectStore,
    PacsError,
    PatientKey,
    Recorded,
    Uncertain,
)
from node.contracts import Caller
from node.damage import Mender
from node.held import HeldShelf
from node.reception import Expected, InstanceReception, Origin
from node.rejected import RejectedShelf
from node.storage import file_meta
from node.underway import Underway


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

    def refuse_erased(self, uids: Iterable[str], caller: Caller) -> None:
        """Raise NotPermitted, with an alarm, if one of these UIDs names something that was erased."""

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
        may_begin: Callable[[], None] = lambda: None,
        judgement: Judgement | None = None,
    ) -> None:
        """Take the parts; `claim(size)` raises OutOfSpace when the archive may have no more bytes.

        `may_begin` raises NotPermitted where nothing new is taken. Equal bytes of what the `mender` knows
        as damaged take its place.
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
        self.may_begin = may_begin
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
