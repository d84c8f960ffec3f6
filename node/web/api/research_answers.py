"""What REST takes and answers about research: projects, exports, what is held back."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from .answers import Reason

Keys = Annotated[
    list[Annotated[str, Meta(max_length=500)]],
    Meta(max_length=100, description="Keyword=Value, as `StudyDate=2024-`; wildcards and ranges."),
]
Names = list[Annotated[str, Meta(min_length=1, max_length=64)]]
Short = Annotated[str, Meta(max_length=64)]
Purpose = Annotated[str, Meta(max_length=200, description="Why; an ethics number, for example.")]


class Partner(Struct, frozen=True, kw_only=True):
    """Another site that is in a project."""

    node_id: str
    name: str


class Project(Struct, frozen=True, kw_only=True):
    """A research project and how much of it waits."""

    name: str
    title: str
    profile: str
    archive: str
    members: list[str]
    approvers: list[str]
    reviewers: list[str]
    senders: list[str]
    holders: dict[str, str]
    ends: str
    quarantine_days: int
    smallest: int
    questions: int
    key: str
    """Tells the project's key from others; it may be known."""
    policy: str
    """SHA-256 of the policy that its instances go by."""
    partners: list[Partner]
    trusted: list[str]
    foreign_key: str
    exports: int
    held: int
    withdrawn: int


class ProjectChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; what is left out stays. Names in lists may be `+name` and `-name`."""

    title: Annotated[str, Meta(max_length=200)] | None = None
    profile: Short | None = None
    ae_title: Annotated[str, Meta(max_length=16)] | None = None
    members: Names | None = None
    approvers: Names | None = None
    reviewers: Names | None = None
    senders: Names | None = None
    trusted: Names | None = None
    holders: dict[str, str] | None = None
    ends: Annotated[str, Meta(max_length=10)] | None = None
    quarantine_days: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    smallest: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    questions: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class Sharing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With whom a project is shared."""

    peer: Annotated[str, Meta(min_length=1, max_length=64)]
    with_key: bool = True


class Shared(Struct, frozen=True, kw_only=True):
    """An offer that was made."""

    project: str
    node_id: str
    name: str
    key: str
    with_key: bool
    is_in_force: bool


class Offer(Struct, frozen=True, kw_only=True):
    """A project that another site offers."""

    project: str
    title: str
    profile: str
    ends: str
    key: str
    with_key: bool
    sender: str
    node_id: str
    when: float


class Acceptance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The people of this site, for a project that is taken in."""

    approvers: Names = []
    reviewers: Names = []


class ListLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a cohort list."""

    line: Annotated[int, Meta(ge=0, le=1_000_000)]
    patient: Short = ""
    issuer: Short = ""
    accession: Short = ""
    study: Short = ""
    subject_id: Short = ""
    time_point: Short = ""


class Question(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is meant: by a query or by a list."""

    query: Keys = []
    lines: Annotated[list[ListLine], Meta(max_length=10_000)] = []
    archive: Annotated[str, Meta(max_length=32)] = ""
    profile: Short = ""
    sites: Annotated[
        Names, Meta(description="Names of sites, or `here`; `beta/lab` = an archive of a site; none = all.")
    ] = []


class ExportOrder(Question, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order."""

    target: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1000,
            description="download: or archive:; who may manage the node also a path, S3, STOW-RS, AE.",
        ),
    ] = "download:"
    purpose: Purpose = ""
    is_standing: bool = False


class SiteCount(Struct, frozen=True, kw_only=True):
    """How much of an export lies at one site, rounded; -1 = too little to be told."""

    site: str
    subjects: int
    studies: int
    instances: int
    megabytes: int
    smallest: int
    state: str


class LineFinding(Struct, frozen=True, kw_only=True):
    """What became of a line of a list."""

    line: int
    finding: str
    why: str = ""


class Preview(Struct, frozen=True, kw_only=True):
    """What an export would hold, before anything runs."""

    sites: list[SiteCount]
    questions_left: int
    lines: list[LineFinding]
    findings: dict[str, int]


class ExportSite(Struct, frozen=True, kw_only=True):
    """How one site of an export stands."""

    node_id: str
    name: str
    archive: str
    standing: str
    why: str
    is_over: bool


class Progress(Struct, frozen=True, kw_only=True):
    """What is done just now."""

    step: str
    done: int
    total: int


class Export(Struct, frozen=True, kw_only=True):
    """One export and how far it is."""

    id: str
    project: str
    profile: str
    target: str
    standing: str
    who: str
    when: float
    purpose: str
    is_standing: bool
    approved_by: str
    released_by: str
    parts: int
    done: int
    progress: Progress
    found: int
    released: int
    size: int
    held: dict[str, int]
    subjects: list[str]
    manifest: str
    why: str
    parent: str
    requester: str
    sites: list[ExportSite]


class Withdrawing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is to be out of a project, by pseudonym or Patient ID."""

    subject: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Reason
    issuer: Short = ""


class Withdrawn(Struct, frozen=True, kw_only=True):
    """What a withdrawal did, here and at other sites."""

    projects: list[dict[str, Any]]


class Held(Struct, frozen=True, kw_only=True):
    """An instance that nothing vouches for."""

    id: str
    project: str
    reason: str
    sentence: str
    when: float
    until: float
    size: int
    source: str
    export: str
    subject: str
    SOPClassUID: str


class HeldAttribute(Struct, frozen=True, kw_only=True):
    """An attribute as it came."""

    tag: str
    keyword: str
    vr: str
    value: str


class HeldWhole(Held, frozen=True, kw_only=True):
    """The same with its attributes, identified: looking is on record."""

    attributes: list[HeldAttribute] = []


class Rerun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run it again; a rule for its equipment, or words that are allowed, stay with the project."""

    boxes: Annotated[list[Annotated[list[int], Meta(min_length=4, max_length=4)]], Meta(max_length=100)] = []
    is_clean: bool = False
    words: Annotated[Names, Meta(max_length=100)] = []
    reason: Annotated[str, Meta(max_length=1000)] = ""


class Curated(Struct, frozen=True, kw_only=True):
    """What became of it."""

    outcome: str
    reason: str = ""
    sentence: str = ""
    SOPInstanceUID: str = ""
    next: str = ""
