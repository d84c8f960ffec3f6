"""What a service needs while it answers: who asks, what the called AE title opens, and how to reply."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from catalog import Clock, Damaged, Matching
from node.contracts import Access, Audit, Caller, Device, Line, Scope, Service, Verdict
from node.measures import Distribution, Sample

from .association import Association
from .commands import RESPONSE, Command, encode_command, error_comment, offending_element
from .limits import Limits
from .negotiation import Context
from .outgoing import Convert
from .pulse import Pulse
from .statuses import NOT_AUTHORIZED, SUCCESS, is_warning
from .tls import Security

logger = logging.getLogger(__name__)
TOLD: Final = 5
"""Requests of one association that its log sentence tells one by one."""
STUDIES: Final = 1000
"""Studies stored over one association before they are put on record and counted anew."""
VERDICT_HOLDS: Final = 1.0
"""Seconds for which an answer of `Access.may` is used again within one association."""


REJECTION_REASONS: Final = {
    (1, 2): "application_context",
    (1, 3): "calling_ae",
    (1, 7): "called_ae",
    (2, 2): "protocol_version",
    (3, 1): "congestion",
    (3, 2): "limit",
}
"""Source and reason of the A-ASSOCIATE-RJs that are sent, PS3.8 Table 9-21, as a label says them."""
COUNTED: Final = (
    "accepted", "refused", "violations",
    "received_instances", "received_bytes", "sent_instances", "sent_bytes",
)  # fmt: skip

Secure = Callable[[Device], Security | None]
"""Says how a device of the book is called."""


class Counters:
    """What `status` and `/metrics` show of the gateway; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = Counter(dict.fromkeys(COUNTED, 0))
        self._rejections: Counter[tuple[int, int]] = Counter()
        self.store_seconds = Distribution()
        self.find_seconds = {"local": Distribution(), "grid": Distribution()}
        """By scope: of what this node holds, and of what all nodes hold together."""

    def add(self, **numbers: int) -> None:
        """Add to several numbers at once."""
        with self._lock:
            for name, number in numbers.items():
                self._numbers[name] += number

    def snapshot(self) -> dict[str, int]:
        """Return all numbers."""
        with self._lock:
            return dict(self._numbers)

    def refuse(self, source: int, reason: int) -> None:
        """Count an A-ASSOCIATE-RJ, PS3.8 Table 9-21."""
        with self._lock:
            self._numbers["refused"] += 1
            self._rejections[source, reason] += 1

    def samples(self) -> Iterator[Sample]:
        """Yield what `/metrics` shows of these numbers."""
        with self._lock:
            numbers, rejections = dict(self._numbers), dict(self._rejections)
        yield Sample("instances_received_total", numbers["received_instances"], ("dimse",))
        yield Sample("received_bytes_total", numbers["received_bytes"], ("dimse",))
        yield Sample("store_seconds", self.store_seconds.spread())
        for scope, seconds in self.find_seconds.items():
            yield Sample("find_seconds", seconds.spread(), (scope,))
        for pair, reason in REJECTION_REASONS.items():
            yield Sample("association_rejections_total", rejections.get(pair, 0), (reason,))


@dataclass(frozen=True, slots=True)
class Environment:
    """What every association of a server shares."""

    resolve: Callable[[str], Scope | None]
    access: Access
    audit: Audit
    limits: Limits
    clock: Clock
    pulse: Pulse
    counters: Counters
    accept_unknown: bool
    convert: Convert
    secure: Secure
    relay: str = ""
    """Where another process of this node serves AE titles that this one does not open."""


@dataclass(slots=True)
class Tally:
    """What was done over one association, for its log sentence and its audit events; bounded in size."""

    instances: int = 0
    size: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    studies: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    untold: int = 0

    def tell(self, what: str) -> None:
        """Remember what the log sentence shall say; after the first few only how many more there were."""
        if len(self.told) < TOLD:
            self.told.append(what)
        else:
            self.untold += 1

    def sentence(self) -> str:
        """Return all that was done, in words."""
        parts = list(self.told)
        if self.untold:
            parts.append(f"{self.untold} requests more")
        if self.statuses:
            refused = sum(self.statuses.values()) - self.instances
            size = f"{self.size / 1e6:.1f} MB"
            parts.insert(0, f"stored {self.instances} instances ({size}), {refused} not")
        return ", ".join(parts) or "nothing asked"


def tell_refusal(environment: Environment, caller: Caller, service: Service, verdict: Verdict) -> None:
    """Put on record that a service was refused, and say in the log what would allow it."""
    detail = {"service": service.value, "why": verdict.why}
    environment.audit.record("refusal", caller, "refused", detail)
    logger.info(
        "%s may not %s at %s: %s %s",
        caller.ae_title, service.value, caller.called_ae, verdict.why, verdict.remedy,
    )  # fmt: skip


class Session:
    """One association from its acceptance to its end, as its services see it."""

    def __init__(
        self,
        environment: Environment,
        association: Association,
        caller: Caller,
        scope: Scope,
        matching: Mapping[str, Matching],
    ) -> None:
        self.environment = environment
        self.association = association
        self.caller = caller
        self.scope = scope
        self.matching = matching
        self.tally = Tally()
        self.line: Line | None = None
        """Over which results of Storage Commitment may go out."""
        self.is_serving = False
        """Whether a message is being answered, so that shutting down waits for it."""
        self.last_served = time.monotonic()
        self._verdicts: dict[Service, tuple[float, Verdict]] = {}

    def may(self, service: Service) -> Verdict:
        """Ask whether the caller may use the service; anew each second, so that a change works at once."""
        now = time.monotonic()
        asked, verdict = self._verdicts.get(service, (-VERDICT_HOLDS, None))
        if verdict is None or now - asked >= VERDICT_HOLDS:
            verdict = self.environment.access.may(self.caller, service)
            self._verdicts[service] = (now, verdict)
            if not verdict.is_allowed:
                tell_refusal(self.environment, self.caller, service, verdict)
        return verdict

    def stored(self, status: int, size: int, StudyInstanceUID: str, seconds: float) -> None:
        """Count an answered C-STORE, and how long its sender waited."""
        self.environment.counters.store_seconds.add(seconds)
        tally = self.tally
        tally.statuses[status] += 1
        if status == SUCCESS or is_warning(status):
            tally.instances += 1
            tally.size += size
            tally.studies[StudyInstanceUID] += 1
            self.environment.counters.add(received_instances=1, received_bytes=size)
            if len(tally.studies) >= STUDIES:
                self.record_stored()

    def record_stored(self) -> None:
        """Put what was stored on record, an event for each study."""
        audit, studies = self.environment.audit, self.tally.studies
        for study, instances in studies.items():
            audit.record("store", self.caller, "success", {"StudyInstanceUID": study, "instances": instances})
        studies.clear()

    def respond(
        self,
        context: Context,
        request: Command,
        status: int,
        comment: str = "",
        tags: tuple[str, ...] = (),
    ) -> None:
        """Send a response without a data set."""
        self.association.send(context, response(request, status, comment, tags))

    def refuse(self, context: Context, request: Command, service: Service) -> bool:
        """Answer 0124 if the caller may not use the service, and say whether that happened."""
        if self.may(service).is_allowed:
            return False
        comment = f"{self.caller.ae_title or 'This AE'} may not {service.value} here"
        self.respond(context, request, NOT_AUTHORIZED, comment)
        return True


def response(request: Command, status: int, comment: str = "", tags: tuple[str, ...] = ()) -> bytes:
    """Return the command set of a response without a data set."""
    return encode_command(
        Command(
            CommandField=request.CommandField | RESPONSE,
            MessageIDBeingRespondedTo=request.MessageID,
            AffectedSOPClassUID=request.AffectedSOPClassUID or request.RequestedSOPClassUID,
            AffectedSOPInstanceUID=request.AffectedSOPInstanceUID or request.RequestedSOPInstanceUID,
            EventTypeID=request.EventTypeID,
            ActionTypeID=request.ActionTypeID,
            Status=status,
            ErrorComment=error_comment(comment),
            OffendingElement=offending_element(tags),
        )
    )


def trail(error: BaseException) -> str:
    """Return where an unforeseen error came from; a message may hold a patient's data and is left out.

    What is damaged speaks of rows and segments only, and is told.
    """
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " > ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in frames)
    told = f": {error}" if isinstance(error, Damaged) else ""
    return f"{type(error).__name__} at {places}{told}"
