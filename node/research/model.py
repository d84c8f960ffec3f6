"""What research is made of, as rows of the node's state: projects, policies, exports, withdrawals."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A research project: its name is also its key's, and pseudonyms begin with it."""

    name: str
    title: str = ""
    profile: str = "research"
    """A profile of the anonymizer, or a policy of this node."""
    archive: str = ""
    """The archive of this node that keeps its de-identified set; empty = none yet."""
    members: tuple[str, ...] = ()
    """Who may order exports; empty = whoever may use the node's command line."""
    approvers: tuple[str, ...] = ()
    """One of them approves each export before it runs; empty = none has to."""
    reviewers: tuple[str, ...] = ()
    """One of them looks at each export before it is released; empty = none has to."""
    senders: tuple[str, ...] = ()
    """AE titles of the device book that may send to the project's archive, where it is de-identified."""
    holders: dict[str, str] = {}
    """Who can open the escrow, two together: name and public key."""
    rules: tuple[dict[str, Any], ...] = ()
    """Pixel rules that curators added, in the words of a policy."""
    words: tuple[str, ...] = ()
    """Words that curators allowed in texts."""
    ends: str = ""
    """The last day, as 2027-12-31; empty = no end."""
    quarantine_days: int = 30
    smallest: int = 10
    """Counts below this are not told, and answers differ by at least so many subjects."""
    questions: int = 200
    """How many different questions about counts are answered in all."""
    partners: tuple[str, ...] = ()
    """Nodes (their ids) of other sites that are in the project too."""
    trusted: tuple[str, ...] = ()
    """Partners whose orders run without anybody here approving each: a standing approval."""
    foreign_key: str = ""
    """The id of the project's key if this node has none: it orders and receives, and exports nothing."""


class OwnPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy of this node, as it was put in."""

    name: str
    document: dict[str, Any]
    digest: str
    who: str
    when: float


class Standing(StrEnum):
    """How an export stands."""

    ASKED = "waits for approval"
    READY = "ready"
    RUNNING = "running"
    STAGED = "waits for a look before release"
    DONE = "released"
    FAILED = "failed"
    REFUSED = "refused"
    STOPPED = "stopped"
    STANDING = "standing"
    """Each study that becomes complete and matches begins an increment."""
    GATHERING = "waits for sites"
    """Ordered at several sites; what they release is gathered here."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One series, or a whole study, that goes into an export."""

    StudyInstanceUID: str
    SeriesInstanceUID: str = ""
    """Empty = all of the study."""
    issuer: str = ""
    patient: str = ""
    subject_id: str = ""
    time_point: str = ""


class SitePart(msgspec.Struct, frozen=True, kw_only=True):
    """What one site has to do with an export that goes to several."""

    node_id: str
    name: str
    archive: str = ""
    """Which of the site's archives, as the site calls it; empty = the one that it grants."""
    standing: str = ""
    """As the site told last; empty = it was not asked yet."""
    why: str = ""
    gathered: tuple[str, ...] = ()
    """Its releases that are here."""
    is_over: bool = False
    """Nothing more comes from there."""


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """One export of one archive for one project, or of several sites if it has parts."""

    id: str
    project: str
    archive: str
    profile: str
    target: str
    """A folder, a zip file, s3://bucket/prefix, https://..., ae:NAME, archive:, or outbox:, from where it is
    fetched by whoever ordered it."""
    standing: Standing
    who: str
    when: float
    purpose: str = ""
    query: str = ""
    is_standing: bool = False
    """It asks again for each study that becomes complete."""
    chosen: int = 0
    """How many series or studies are in it; which, stands in a sealed file as long as it is made."""
    approved_by: str = ""
    released_by: str = ""
    parts: int = 0
    done: int = 0
    """Parts that are de-identified and verified."""
    found: int = 0
    """Instances that the door out gave."""
    released: int = 0
    size: int = 0
    held: dict[str, int] = {}
    """Reason and how many instances were held back for it."""
    subjects: tuple[str, ...] = ()
    """Pseudonyms that were released."""
    manifest: str = ""
    """SHA-256 of the manifest."""
    why: str = ""
    """What went wrong, as a sentence."""
    parent: str = ""
    """The export that this is an increment or a part of."""
    requester: str = ""
    """The node at another site that ordered it."""
    sites: tuple[SitePart, ...] = ()
    """Where it was ordered, if it is one of several sites."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One instance that nothing vouches for; its bytes lie encrypted, or in the archive it came from."""

    id: str
    project: str
    reason: str
    sentence: str
    when: float
    until: float
    """When it is forgotten."""
    size: int = 0
    source: str = ""
    """AE title it came from; empty if an export met it."""
    export: str = ""
    archive: str = ""
    SOPInstanceUID: str = ""
    """Of what an export met: it is read again from the archive."""
    subject: str = ""
    """Pseudonym, if it got that far."""
    SOPClassUID: str = ""
    issuer: str = ""
    """Whose its Patient ID is if it does not say so, by the sender's row in the device book."""


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """A subject that is not to be in a project any more."""

    project: str
    subject: str
    who: str
    when: float
    reason: str = ""
