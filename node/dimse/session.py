"""What a service needs while it answers: who asks, what the called AE title opens, and how to reply."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from catalog import Clock, Matching
from node.contracts import Access, Audit, Caller, Scope, Service, Verdict

from .association import Association
from .commands import RESPONSE, Command, encode_command, error_comment, offending_element
from .limits import Limits
from .negotiation import Context
from .outgoing import Convert
from .pulse import Pulse
from .statuses import NOT_AUTHORIZED

logger = logging.getLogger(__name__)
VERDICT_HOLDS: Final = 1.0
"""Seconds for which an answer of `Access.may` is used again within one association."""


COUNTED: Final = (
    "accepted", "refused", "violations",
    "received_instances", "received_bytes", "sent_instances", "sent_bytes",
)  # fmt: skip


class Counters:
    """What `status` shows of the gateway; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = Counter(dict.fromkeys(COUNTED, 0))

    def add(self, **numbers: int) -> None:
        """Add to several numbers at once."""
        with self._lock:
            for name, number in numbers.items():
                self._numbers[name] += number

    def snapshot(self) -> dict[str, int]:
        """Return all numbers."""
        with self._lock:
            return dict(self._numbers)


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


@dataclass(slots=True)
class Tally:
    """What was stored over one association, for its log sentence and its audit events."""

    instances: int = 0
    size: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    studies: Counter[str] = field(default_factory=Counter)
    done: list[str] = field(default_factory=list)
    """Sentences about finds, moves and gets."""


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
                detail = {"service": service.value, "why": verdict.why}
                self.environment.audit.record("refusal", self.caller, "refused", detail)
                logger.info(
                    "%s may not %s at %s: %s %s",
                    self.caller.ae_title, service.value, self.caller.called_ae, verdict.why, verdict.remedy,
                )  # fmt: skip
        return verdict

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
            AffectedSOPClassUID=request.AffectedSOPClassUID,
            AffectedSOPInstanceUID=request.AffectedSOPInstanceUID,
            Status=status,
            ErrorComment=error_comment(comment),
            OffendingElement=offending_element(tags),
        )
    )


def trail(error: BaseException) -> str:
    """Return where an unforeseen error came from; its message may hold a patient's data and is left out."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " > ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {places}"
