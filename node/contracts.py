"""What the gateway may ask of the node, so that DIMSE and web are written once for every archive and peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from catalog import Attributes, Catalog, Entry, Query
from federation.identities import ForeignIds
from federation.live import Mode
from federation.outcomes import Decision, OnPartial, Outcome


class Service(StrEnum):
    """What a device may be allowed to do; one word each in the device book and in error texts."""

    ECHO = "echo"
    STORE = "store"
    FIND = "find"
    MOVE = "move"
    GET = "get"
    COMMIT = "commit"
    """Storage Commitment: to ask for it, PS3.4 Annex J."""
    REJECT = "reject"
    """To have instances rejected by the Key Objects it stores (IHE RAD TF-2 4.66)."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the device book: an AE title as a person allowed it (state, not configuration)."""

    ae_title: str
    address: str = ""
    """Host or CIDR network it calls from; empty = any address."""
    port: int = 0
    """Where it listens for C-STORE, C-ECHO and the results of Storage Commitment; 0 = it does not."""
    services: tuple[Service, ...] = (Service.ECHO,)
    called: tuple[str, ...] = ()
    """Called AE titles it may use; empty = those of the default archive, `*` = every archive's."""
    move_destinations: tuple[str, ...] = ()
    """AE titles it may C-MOVE to; empty = itself only, `*` = every device of the book with a port."""
    issuer: str = ""
    """Assigning authority of the Patient IDs it sends without one; empty = the node's."""
    transfer_syntaxes: tuple[str, ...] = ()
    """Only these are accepted from and proposed to it; empty = all."""
    character_set: str = ""
    """Specific Character Set of answers to it; empty = as needed (ISO_IR 192 when not ASCII)."""
    is_lenient: bool = False
    """Accept a missing or wildcard unique key above the query level (PS3.4 C.4.1.3)."""
    complete_after: float = 60.0
    """Seconds of silence after which a study it sends counts as complete."""
    note: str = ""
    all_issuers: bool = False
    """In the grid, a Patient ID without an issuer may mean any hospital's, not only its own issuer's."""
    foreign_ids: ForeignIds = ForeignIds.PREFIX
    """How it is shown Patient IDs of issuers that are not its own: `prefix` as ISSUER/ID, or `keep`."""
    grid_mode: Mode = Mode.SYNCED
    """Where grid answers come from: `synced` catalogs, the owners (`live`), or both (`hybrid`)."""
    grid_details: bool = False
    """Whether grid answers carry the private block PEERPACS 1.0 although it did not ask for it."""
    on_partial: OnPartial = OnPartial.COMPLETE
    """How a grid answer ends that stands on old copies of catalogs."""
    on_incomplete: OnPartial = OnPartial.FAIL
    """How one ends where a granted site has no copy, or one older than `stale_after`."""
    stale_after: float = 86_400.0
    """Seconds after which a copy of a catalog counts as none."""
    purpose: str = "treatment"
    """Purpose of use that owners in the grid are told: treatment, payment, research, operation, or other."""
    tls: str = ""
    """How its port is called: empty = without TLS; `verify` = its certificate must be of an authority this
    node trusts, and name its address; `sha256:...` = it must be this certificate; `unverified` = any."""


class Caller(NamedTuple):
    """Who asks, as the gateway knows it; `device` is None for one that is not in the book."""

    ae_title: str
    address: str
    called_ae: str
    device: Device | None = None
    user: str = ""
    """Who logged in, for what comes over the web."""


class Verdict(NamedTuple):
    """The answer to "may this caller do this to that", with the sentence for the log and the page."""

    is_allowed: bool
    why: str = ""
    remedy: str = ""
    """The command that would allow it."""
    is_held: bool = False
    """Allowed to store, but a person must release what arrives."""


class Rejection(NamedTuple):
    """A-ASSOCIATE-RJ result, source, reason: PS3.8 Table 9-21, with the sentence for people."""

    result: int
    source: int
    reason: int
    why: str
    remedy: str = ""


class Access(Protocol):
    """The single place that answers "may this caller do this to that"."""

    def admit(self, calling_ae: str, address: str, called_ae: str) -> Caller | Rejection:
        """Let an association in, or say why not; a refusal is remembered for `peerpacs status`."""

    def turned_away(self, address: str, why: str, remedy: str) -> None:
        """Remember a connection that ended before it said who calls, for `peerpacs status`."""

    def may(self, caller: Caller, service: Service) -> Verdict:
        """Say whether the caller may use the service; a refusal is remembered."""

    def destination(self, caller: Caller, ae_title: str) -> Device | None:
        """Return the device that `ae_title` names if the caller may C-MOVE to it, else None (A801)."""


class StoreResult(NamedTuple):
    """Status of a C-STORE-RSP (PS3.4 Table B.2-1) and its Error Comment (at most 64 characters, no PHI)."""

    status: int
    comment: str = ""
    StudyInstanceUID: str = ""
    """Of the instance, for the audit trail: the command does not say it."""


class Reception(Protocol):
    """One C-STORE in progress: the data set's bytes go in, a status comes out."""

    def space(self, length: int) -> memoryview:
        """Return a writable view of `length` bytes for the next part of the data set.

        Raises:
            OutOfSpace: the sender must get A700; read on and drop the rest of the data set.
        """

    def filled(self, length: int) -> None:
        """Say that `length` bytes of the last space now count."""

    def finish(self) -> StoreResult:
        """Make it durable and record it; never raises for what a sender can do wrong."""

    def abandon(self) -> None:
        """Forget it: the association ended in the middle."""


class Ingest(Protocol):
    """The one door in."""

    def begin(
        self, caller: Caller, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str, *, is_held: bool
    ) -> Reception:
        """Start to take in one instance."""


class Outgoing(Protocol):
    """One instance on its way out, corrected if a person corrected it."""

    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    size: int
    """Length of the data set in bytes, without File Meta Information."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer with the data set from `offset`; return how many bytes there were."""

    def close(self) -> None:
        """Give back what reading took."""


class Place(NamedTuple):
    """Where bytes lie in an open file, for sending them without reading them."""

    descriptor: int
    offset: int
    is_there: Callable[[], bool]
    """Says afterwards whether what was sent really were these bytes."""


@runtime_checkable
class InFile(Protocol):
    """What an `Outgoing` may be besides: one whose data set may lie in a file of this machine as it is."""

    def place(self) -> Place | None:
        """Return where the data set begins, behind its File Meta Information; good until `close`."""


@runtime_checkable
class InMemory(Protocol):
    """What an `Outgoing` may be besides: one whose data set may lie in this process's memory as it is."""

    def view(self) -> memoryview | None:
        """Return the data set, which does not change any more."""


class Unwanted(Exception):
    """Whoever asked for something does not want it any more; nothing has failed."""


class Retriever(Protocol):
    """The one door out."""

    def expect(self, entries: Sequence[Entry], is_unwanted: Callable[[], bool] = bool) -> None:
        """Hear which instances will be opened soon, in this order, so that far ones can be fetched ahead.

        `is_unwanted` is asked a few times a second while one is awaited, by the thread that opens it. What
        was expected before is expected no more; with no entries, nothing is.
        """

    def open(self, entry: Entry) -> Outgoing:
        """Open an instance for sending.

        Raises:
            Unwanted: it was awaited until nobody wanted it any more.
            NotFound: it is gone.
            Damaged: its bytes are not what was stored; they are never sent.
            Unavailable: whoever holds it does not answer.
        """


class Insight(Protocol):
    """What only the keeper of an archive knows beyond its `Catalog`; others do without."""

    def headers(self, entries: Sequence[Entry]) -> list[bytes]:
        """Return the DICOM JSON (PS3.18 Annex F) of each instance's whole header, in order.

        Bulk data is `#offset,length` into the data set. Empty where the instance itself has to be read: it
        came a moment ago, or it leaves with corrections.
        """

    def state_of(self, StudyInstanceUID: str) -> bytes:
        """Return what changes with every decision about the study."""

    def was_here(self, target: tuple[str, ...]) -> bool:
        """Say whether a study, series or instance that cannot be seen was here once."""


class Reference(NamedTuple):
    """One instance as Storage Commitment names it, PS3.3 Table C.14-1."""

    SOPClassUID: str
    SOPInstanceUID: str


class CommitmentResult(NamedTuple):
    """The result of a Storage Commitment request: what an N-EVENT-REPORT says, PS3.4 J.3.3."""

    TransactionUID: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]
    """With the Failure Reason (0008,1197) of each."""
    RetrieveAETitle: str = ""


class CommitmentAnswer(NamedTuple):
    """Status of an N-ACTION-RSP or N-EVENT-REPORT-RSP (PS3.7 Annex C) and its Error Comment."""

    status: int
    comment: str = ""


class Line(Protocol):
    """An open association over which its other side can be told results."""

    @property
    def caller(self) -> Caller:
        """The other side."""

    def report(self, result: CommitmentResult) -> CommitmentAnswer:
        """Send an N-EVENT-REPORT and return what is answered.

        Raises:
            Unavailable: the association ended, or nothing was answered in time.
        """


class Commitment(Protocol):
    """Storage Commitment of one archive, and the results of what this node asked others."""

    def request(self, line: Line, TransactionUID: str, references: Sequence[Reference]) -> CommitmentAnswer:
        """Take a request; with status 0000 it is durable. Call `answered` once the response is out."""

    def answered(self, line: Line, TransactionUID: str) -> None:
        """Say that the response is out, so that the result may follow."""

    def opened(self, line: Line) -> None:
        """Say that an association is open which may be told results."""

    def closed(self, line: Line) -> None:
        """Say that it ended."""

    def take_result(self, caller: Caller, result: CommitmentResult) -> CommitmentAnswer:
        """Keep the result of something this node asked; with status 0000 it is durable."""


class GridAnswer(NamedTuple):
    """What a question to the grid comes to."""

    matches: Iterator[Attributes]
    decide: Callable[[], Decision]
    """Says how it ends; to be asked once all matches are out."""
    outcomes: list[Outcome]
    """How each site took part."""
    request_id: str
    """Under which the audits of all nodes that were asked tell of it."""
    warning: Callable[[], str] = lambda: ""
    """Says which sites may be missing from it, and whose copies are old; at any length, and as `decide`."""
    give_up: Callable[[], None] = lambda: None
    """Has the matches end soon, from any thread: no other site is asked for them any more."""


class GridCatalog(Catalog, Protocol):
    """The grid as one caller sees it."""

    def ask(self, query: Query) -> GridAnswer:
        """Return the matches and how each site took part; owners that had to be asked have answered then."""


class Scope(NamedTuple):
    """What a called AE title or a web root opens: an archive's catalog and its doors."""

    name: str
    ae_title: str
    catalog: Catalog
    ingest: Ingest
    retriever: Retriever
    insight: Insight | None = None
    commitment: Commitment | None = None
    """None: the archive commits to nothing."""
    grid: GridCatalog | None = None
    """Where the catalog is the grid's: the same catalog, with what it says beside its matches."""
    seen_by: Callable[[Caller], Scope] | None = None
    """Where it depends on who calls: returns what that caller is given."""


class Audit(Protocol):
    """The append-only record of who did what."""

    def record(self, event: str, caller: Caller | None, outcome: str, detail: Mapping[str, Any]) -> None:
        """Append one event; returns at once and never fails the caller."""
