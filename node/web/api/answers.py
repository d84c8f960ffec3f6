"""What the REST API takes and answers, as structs: the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from federation.identities import ForeignIds
from federation.live import Mode
from federation.outcomes import OnPartial
from node.contracts import Service
from node.rejected import Rejected

Limit = Annotated[int, Meta(ge=1, le=10_000, description="At most so many.")]
Reason = Annotated[str, Meta(min_length=1, max_length=1000, description="Why; it goes on record.")]
Uid = Annotated[str, Meta(min_length=1, max_length=64)]
Attributes = dict[str, Any]
"""Keyword to value; a value of several is a list."""


class StudyQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which studies."""

    key: Annotated[
        tuple[str, ...], Meta(description="Keyword=Value as in C-FIND, once or more; wildcards and ranges.")
    ] = ()
    limit: Limit = 100


class Study(Struct, frozen=True, kw_only=True):
    """One study, its series and where to get it."""

    study: Attributes
    series: list[Attributes]
    instances: int
    bytes: int
    dicomweb: str
    zip: str


class LifeEvent(Struct, frozen=True, kw_only=True):
    """Something that happened."""

    time: str
    sentence: str


class Life(Struct, frozen=True, kw_only=True):
    """What happened to a study, oldest first, and how it is now."""

    StudyInstanceUID: str
    events: list[LifeEvent]
    now: str


class ZipQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How a study is packed."""

    dicomdir: Annotated[bool, Meta(description="As a medium: a DICOMDIR, and names of PS3.10.")] = False


class TrafficQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How far back."""

    seconds: Annotated[float, Meta(gt=0, le=366 * 86_400.0)] = 86_400.0


class SeriesTraffic(Struct, frozen=True, kw_only=True):
    """A series that arrived."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    time: float
    """When the newest of it came, in seconds since 1970."""
    instances: int
    bytes: int
    modality: str
    device: str


class Traffic(Struct, frozen=True, kw_only=True):
    """What arrived, oldest first."""

    now: float
    is_cut: bool
    """Only the last changes were looked at, so something may be missing."""
    series: list[SeriesTraffic]


class ChangesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """From where on."""

    since: Annotated[int, Meta(ge=0, le=(1 << 62), description="`last` of the answer before; 0 = all.")] = 0
    limit: Limit = 100


class ChangeRow(Struct, frozen=True, kw_only=True):
    """The newest statement about a study or series."""

    seq: int
    StudyInstanceUID: str
    SeriesInstanceUID: str
    """Empty: it is about the study."""
    is_gone: bool


class Changes(Struct, frozen=True, kw_only=True):
    """Part of the change log; with another epoch the log began anew, so begin at 0."""

    epoch: str
    last: int
    is_done: bool
    changes: list[ChangeRow]


class TransferSeries(Struct, frozen=True, kw_only=True):
    """How far one series of a transfer is, in instances."""

    SeriesInstanceUID: str
    planned: int
    done: int
    failed: int


class Transfer(Struct, frozen=True, kw_only=True):
    """Something that this node sends."""

    id: str
    kind: str
    archive: str
    destination: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUIDs: list[str]
    lane: str
    standing: str
    who: str
    created: float
    started: float | None
    ended: float | None
    planned: int
    done: int
    failed: int
    bytes: int
    tries: int
    is_stuck: bool
    next_try: float | None
    why: str
    next: str
    says: str
    series: list[TransferSeries] = []


class TransferFailure(Struct, frozen=True, kw_only=True):
    """One instance that was not taken, and why."""

    SeriesInstanceUID: str
    SOPInstanceUID: str
    why: str


class TransferWhole(Transfer, frozen=True, kw_only=True):
    """A transfer with what failed of it."""

    failures: list[TransferFailure] = []


class Forward(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to send where."""

    target: Annotated[str, Meta(min_length=1, max_length=200, description="A UID, or study/series/instance.")]
    destination: Annotated[str, Meta(min_length=1, max_length=16, description="AE title of a device.")]
    lane: Annotated[str, Meta(pattern="^(now|normal|bulk)$")] = "normal"
    reason: Annotated[str, Meta(max_length=1000)] = ""


class Lane(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How urgent."""

    lane: Annotated[str, Meta(pattern="^(now|normal|bulk)$")] = "now"


class OverQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which transfers."""

    over: Annotated[bool, Meta(description="Also those that are done or cancelled.")] = True


class DeviceRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the device book says about an AE title; what is left out keeps its default."""

    address: Annotated[str, Meta(max_length=255)] = ""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    services: tuple[Service, ...] = (Service.ECHO,)
    called: tuple[str, ...] = ()
    move_destinations: tuple[str, ...] = ()
    issuer: Annotated[str, Meta(max_length=64)] = ""
    transfer_syntaxes: tuple[str, ...] = ()
    character_set: Annotated[str, Meta(max_length=200)] = ""
    is_lenient: bool = False
    complete_after: Annotated[float, Meta(ge=1, le=1_000_000)] = 60.0
    note: Annotated[str, Meta(max_length=1000)] = ""
    all_issuers: bool = False
    foreign_ids: ForeignIds = ForeignIds.PREFIX
    grid_mode: Mode = Mode.SYNCED
    on_partial: OnPartial = OnPartial.COMPLETE
    on_incomplete: OnPartial = OnPartial.FAIL
    stale_after: Annotated[float, Meta(ge=1)] = 86_400.0
    tls: Annotated[str, Meta(max_length=80)] = ""


class Echo(Struct, frozen=True, kw_only=True):
    """A device answered."""

    seconds: float


class ArchiveRow(Struct, frozen=True, kw_only=True):
    """An archive and what it holds."""

    name: str
    ae_titles: list[str]
    quota_mb: int
    note: str
    studies: int
    series: int
    instances: int
    bytes: int
    stored_bytes: int
    is_nearly_full: bool
    clock: str
    """Why nothing is deleted by the node's clock; empty where it is believed."""


class AuditQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines of the audit."""

    word: Annotated[str, Meta(max_length=200, description="Only lines that contain it.")] = ""
    event: Annotated[str, Meta(max_length=64)] = ""
    user: Annotated[str, Meta(max_length=100)] = ""
    outcome: Annotated[str, Meta(max_length=100)] = ""
    since: Annotated[int, Meta(ge=0, le=(1 << 62), description="Lines with a higher sequence only.")] = 0
    limit: Limit = 100
    newest: Annotated[bool, Meta(description="The last lines that match, newest first.")] = False


class AuditBreak(Struct, frozen=True, kw_only=True):
    """A place where the chain does not hold."""

    file: str
    line: int
    why: str


class AuditCheck(Struct, frozen=True, kw_only=True):
    """What a walk over the whole audit found; `last` is to be noted for the next one."""

    lines: int
    last: str
    breaks: list[AuditBreak]


class HeldRow(Struct, frozen=True, kw_only=True):
    """What one unknown sender stored of one study."""

    source: str
    StudyInstanceUID: str
    instances: int
    bytes: int
    since: float


class HeldVerdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is judged: a sender's, a study's, or both."""

    reason: Reason
    source: Annotated[str, Meta(max_length=64)] = ""
    study: Annotated[str, Meta(max_length=64)] = ""


class Judged(Struct, frozen=True, kw_only=True):
    """How much was judged."""

    studies: int
    instances: int


RejectedRow = Rejected


class Shelved(Struct, frozen=True, kw_only=True):
    """What became of a rejected data set."""

    name: str
    outcome: str


class ResolvedQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which conflicts."""

    resolved: bool = False


class ConflictRow(Struct, frozen=True, kw_only=True):
    """A UID that several versions claim."""

    SOPInstanceUID: str
    StudyInstanceUID: str
    differences: list[str]
    since: float
    is_resolved: bool
    versions: list[dict[str, Any]]


class ConflictWhole(ConflictRow, frozen=True, kw_only=True):
    """A conflict with what its versions say where they differ."""

    values: dict[str, list[str]] = {}


class Preference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version counts from now on."""

    sha256: Annotated[str, Meta(min_length=4, max_length=64)]
    reason: Reason


class Why(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reason."""

    reason: Reason


class ViewerWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a viewer is to look."""

    everywhere: bool = False
    """At all sites of the grid, in place of this archive."""


class ViewerUrl(Struct, frozen=True, kw_only=True):
    """How a viewer without a cookie opens one study, for reading and for some minutes."""

    weasis: str
    """Starts Weasis where it is installed."""
    dicomweb: str
    """The DICOMweb service, of that study alone; whoever knows the URL may read it."""
    ends: float


class ImportOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to import."""

    source: Annotated[str, Meta(min_length=1, max_length=4096, description="A path on the node's machine.")]
    issuer: Annotated[str, Meta(max_length=64, description="Whose Patient IDs without an issuer are.")] = ""
    patient: Annotated[str, Meta(max_length=64, description="Patient ID here of whom all of it is.")] = ""


class Job(Struct, frozen=True, kw_only=True):
    """Long work that has begun, and where to ask how it is."""

    id: str
    url: str


class Login(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name and password."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]


class NewPassword(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A password in place of the one there was."""

    old: Annotated[str, Meta(min_length=1, max_length=1024)]
    new: Annotated[str, Meta(min_length=1, max_length=1024)]


class SessionNow(Struct, frozen=True, kw_only=True):
    """Who is logged in."""

    user: str
    grants: list[str]
    is_one_time: bool
    """A password of one's own must be set first."""
    csrf: str
    """To be sent as X-CSRF-Token with whatever changes something; empty where there is no cookie."""


class Problem(Struct, frozen=True, kw_only=True):
    """RFC 9457, and what can be done next."""

    title: str
    status: int
    detail: str
    next: str
