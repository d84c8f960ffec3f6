"""Storage Commitment of one archive as its provider: takes requests, has them judged, and tells the result.

The result goes to the port that the device book names, over an association of its own. Who has no port
there is told over the association it asked on while that is open, and else over the next one it opens
for Storage Commitment. Nothing is dropped: what cannot be told is tried again with growing pauses.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from msgspec.structs import replace

from catalog import Clock, PacsError, Unavailable
from node.contracts import Audit, Caller, CommitmentAnswer, CommitmentResult, Device, Line, Reference

from .asking import Inquiries
from .promises import FIRST_PAUSE, Judged, Promise, Promises, Stage, digest_of, is_due, later, named
from .safety import AWAITING, COMMITTED, DUPLICATE_TRANSACTION, LATER, RESOURCE_LIMITATION, Judge

logger = logging.getLogger(__name__)

Call = Callable[[Device, str], AbstractContextManager[Line]]
"""Opens an association to a device, as the AE title named, over which results can go."""

_DUPLICATE_INVOCATION: Final = 0x0210
_INVALID_ARGUMENT: Final = 0x0115
_MOST_OPEN: Final = 1000
"""Requests of one AE title that are not answered yet."""
_BEAT: Final = 0.5
_OTHERS: Final = 2.0
"""Seconds that another process of the node has first, which may have an association of the device."""
_FRESH: Final = 600.0
"""Seconds for which a finding may be told; afterwards the bytes are read again first."""
_PATIENCE: Final = 86400.0
"""Seconds within which everything must have become safe; then what is not has failed."""
GIVEN_UP_AFTER: Final = 7 * 86400.0
"""Seconds after which a result is no longer sent by itself, and `peerpacs status` raises an alarm."""


class Commitments:
    """Satisfies `Commitment`; `judge_step` and `report_step` are the work behind it."""

    def __init__(
        self,
        promises: Promises,
        inquiries: Inquiries,
        judge: Judge,
        device: Callable[[str], Device | None],
        call: Call,
        audit: Audit,
        clock: Clock,
        *,
        rest: float = 0.0,
    ) -> None:
        """`device` finds the row of an AE title in the device book, `call` opens an association to it.

        `rest` seconds pass before a request is judged: where another process judges it, which cannot know
        whether the response is out.
        """
        self._rest = rest
        self._promises = promises
        self._inquiries = inquiries
        self._judge = judge
        self._device = device
        self._call = call
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._asked_on: dict[bytes, Line] = {}
        self._unanswered: set[bytes] = set()
        self._failed_on: dict[bytes, Line] = {}
        """The association over which a result could not be told, so that it is not tried without a pause."""
        self._to_judge = threading.Event()
        self._to_report = threading.Event()

    def request(self, line: Line, TransactionUID: str, references: Sequence[Reference]) -> CommitmentAnswer:
        """Take a request; with status 0000 it is durable. Call `answered` once the response is out.

        The same request again is one request. Another one under a Transaction UID that is in use is refused;
        under one that was used, it is taken and fails with reason 0131.

        Raises:
            OutOfSpace: it could not be written down.
        """
        caller, now = line.caller, self._clock()
        key, digest = self._promises.key(caller.ae_title, TransactionUID), digest_of(references)
        with self._lock:
            waiting = self._promises.get(key)
            if waiting is not None and waiting.digest != digest:
                return CommitmentAnswer(_DUPLICATE_INVOCATION, "This Transaction UID is in use")
            if waiting is None and self._count(caller.ae_title) >= _MOST_OPEN:
                return CommitmentAnswer(RESOURCE_LIMITATION, f"{_MOST_OPEN} requests are open already")
            used = self._promises.answered(key)
            promise = waiting or Promise(
                ae_title=caller.ae_title,
                address=caller.address,
                called_ae=caller.called_ae,
                transaction=TransactionUID,
                digest=digest,
                instances=len(references),
                asked=now,
                due=now + self._rest,
                is_reused=used is not None and used.digest != digest,
            )
            self._unanswered.add(key)
            self._asked_on[key] = line
            try:
                if waiting is None:
                    self._promises.add(promise, references)
                else:
                    self._promises.put(key, replace(waiting, due=now, tries=0, is_given_up=False))
            except BaseException:
                self._unanswered.discard(key)
                self._asked_on.pop(key, None)
                raise
        self._record(promise, "accepted", {"instances": len(references)})
        return CommitmentAnswer(COMMITTED)

    def answered(self, line: Line, TransactionUID: str) -> None:
        """Say that the response is out, so that the result may follow."""
        self._unanswered.discard(self._promises.key(line.caller.ae_title, TransactionUID))
        self._to_judge.set()

    def opened(self, line: Line) -> None:
        """Say that an association is open which may be told results."""
        with self._lock:
            self._lines.append(line)
        self._to_report.set()

    def closed(self, line: Line) -> None:
        """Say that it ended."""
        with self._lock:
            if line in self._lines:
                self._lines.remove(line)
            for lines in (self._asked_on, self._failed_on):
                for key in [key for key, known in lines.items() if known is line]:
                    del lines[key]

    def take_result(self, caller: Caller, result: CommitmentResult) -> CommitmentAnswer:
        """Keep the result of something this node asked; with status 0000 it is durable."""
        if not self._inquiries.take(caller.ae_title, result):
            return CommitmentAnswer(_INVALID_ARGUMENT, "That transaction was not asked of this AE title")
        detail = {"TransactionUID": result.TransactionUID, **_counts(result)}
        self._audit.record("commitment", caller, "reported", detail)
        return CommitmentAnswer(COMMITTED)

    def judge_step(self) -> bool:
        """Judge the request that has waited longest; say whether there was one that is due."""
        now = self._clock()
        due = [
            (promise.asked, key, promise)
            for key, promise in self._promises.scan()
            if promise.stage is Stage.ASKED and is_due(promise, now) and key not in self._unanswered
        ]
        if not due:
            return False
        _, key, promise = min(due)
        self._judge_one(key, promise)
        self._to_report.set()
        return True

    def hasten(self) -> None:
        """Judge at once what waits for other sites: one of them has something more."""
        now = self._clock()
        for key, promise in self._promises.scan():
            if promise.stage is Stage.ASKED and promise.tries:
                self._promises.put(key, replace(promise, due=now))
        self._to_judge.set()

    def report_step(self) -> bool:
        """Try to tell whoever's result is due; say whether something was told."""
        is_told = self.line_step()
        found = [item for item in self._promises.scan() if item[1].stage is Stage.JUDGED]
        return self._call_devices(found, self._clock()) or is_told

    def line_step(self) -> bool:
        """Tell results over associations that are open in this process; say whether something was told."""
        now = self._clock()
        found = [item for item in self._promises.scan() if item[1].stage is Stage.JUDGED]
        is_told = False
        for key, promise in sorted(found, key=lambda item: item[1].judged):
            if line := self._line(key, promise, now):
                try:
                    is_told |= self._tell(key, promise, line)
                except Unavailable as error:
                    self.closed(line)
                    self._put_off(key, promise, error.what)
        return is_told

    def judge_forever(self, stop: threading.Event) -> None:
        """Judge as requests come, until told to stop; for a thread of its own."""
        self._repeat(self.judge_step, self._to_judge, stop)

    def report_forever(self, stop: threading.Event) -> None:
        """Tell results as they are known, until told to stop; for a thread of its own."""
        self._repeat(self.report_step, self._to_report, stop)

    def tell_forever(self, stop: threading.Event) -> None:
        """Tell results over open associations, until told to stop; another process does all the rest."""
        self._repeat(self.line_step, self._to_report, stop)

    def wake(self) -> None:
        """Have those that go on for ever look at whether they were told to stop."""
        self._to_judge.set()
        self._to_report.set()

    def tidy(self) -> None:
        """Forget what is long over."""
        for promise in self._promises.tidy():
            self._record(promise, "dropped", {"why": promise.why})
            logger.error("The result for %s was never taken and is dropped.", named(promise))

    def waiting(self) -> list[dict[str, Any]]:
        """Return what is not answered yet, and why, for `peerpacs status`; the oldest first."""
        rows = sorted((promise for _, promise in self._promises.scan()), key=lambda promise: promise.asked)
        return [
            {
                "ae_title": promise.ae_title,
                "transaction": promise.transaction,
                "instances": promise.instances,
                "asked": promise.asked,
                "stage": promise.stage.value,
                "tries": promise.tries,
                "next": promise.due,
                "why": promise.why,
                "is_given_up": promise.is_given_up,
            }
            for promise in rows
        ]

    def _count(self, ae_title: str) -> int:
        return sum(promise.ae_title == ae_title for _, promise in self._promises.scan())

    def _repeat(self, step: Callable[[], bool], wake: threading.Event, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                if step():
                    continue
            except Unavailable:
                # The catalog of this gateway is away: nothing is told meanwhile, and nothing lost.
                stop.wait(_BEAT)
            except Exception:
                logger.exception("Storage Commitment failed in a way nobody foresaw; it is tried again")
            # What woke it is forgotten before it looks again: nothing that comes meanwhile is missed.
            wake.wait(_BEAT)
            wake.clear()

    def _judge_one(self, key: bytes, promise: Promise) -> Promise:
        """Find what is safe and write it down, or when to look again."""
        references, _ = self._contents(key)
        if promise.is_reused:
            reasons = [DUPLICATE_TRANSACTION] * len(references)
        else:
            reasons = self._judge.judge(references, promise.asked)
        late, awaiting, now = reasons.count(LATER), reasons.count(AWAITING), self._clock()
        if awaiting or (late and now - promise.asked < _PATIENCE):
            waiting = replace(later(promise, now, _why(promise, late, awaiting)), stage=Stage.ASKED)
            if awaiting:
                waiting = replace(waiting, due=now + FIRST_PAUSE)
            self._promises.put(key, waiting)
            return waiting
        reasons = [RESOURCE_LIMITATION if reason == LATER else reason for reason in reasons]
        failed = Counter(f"{reason:04X}" for reason in reasons if reason)
        detail = {"committed": reasons.count(COMMITTED), "failed": dict(failed)}
        self._record(promise, "failure" if failed else "success", detail)
        return self._promises.judge(key, promise, Judged(references, reasons))

    def _contents(self, key: bytes) -> tuple[list[Reference], list[int]]:
        judged = self._promises.contents(key)
        return judged.references, judged.reasons

    def _line(self, key: bytes, promise: Promise, now: float) -> Line | None:
        """Return the association to tell this over, if it is not for us to open one."""
        device = self._device(promise.ae_title)
        if device is not None and device.port and not promise.tries:
            return None
        with self._lock:
            failed_on = None if is_due(promise, now) else self._failed_on.get(key)
            usable = [line for line in self._lines if _is_of(line, promise) and line is not failed_on]
            asked_on = self._asked_on.get(key)
            return asked_on if asked_on in usable else next(iter(usable), None)

    def _call_devices(self, found: list[tuple[bytes, Promise]], now: float) -> bool:
        """Open one association to each device with results that are due, and tell it all of them."""
        by_title: dict[str, list[tuple[bytes, Promise]]] = {}
        for key, _ in found:
            promise = self._promises.get(key)
            if promise and is_due(promise, now) and not promise.is_given_up:
                by_title.setdefault(promise.ae_title, []).append((key, promise))
        is_told = False
        for ae_title, due in by_title.items():
            device = self._device(ae_title)
            if device is None or not device.port:
                why = f"{ae_title} has no port in the device book, and no association of its own is open"
                for key, promise in due:
                    if not 0 <= now - promise.due < _OTHERS:
                        self._put_off(key, promise, why)
                continue
            is_told |= self._call_one(device, due)
        return is_told

    def _call_one(self, device: Device, due: list[tuple[bytes, Promise]]) -> bool:
        is_told = False
        left = dict(due)
        try:
            with self._call(device, due[0][1].called_ae) as line:
                for key, promise in due:
                    is_told |= self._tell(key, promise, line)
                    del left[key]
        except PacsError as error:
            for key, promise in left.items():
                self._put_off(key, promise, error.what)
        return is_told

    def _tell(self, key: bytes, promise: Promise, line: Line) -> bool:
        """Tell one result over an open association; say whether it was acknowledged.

        Raises:
            Unavailable: the association does not work (any more).
        """
        if self._clock() - promise.judged > _FRESH:
            promise = self._judge_one(key, promise)
            if promise.stage is not Stage.JUDGED:
                return False
        result = self._result(key, promise)
        answer = line.report(result)
        if answer.status and not _is_warning(answer.status):
            said = f" ({answer.comment})" if answer.comment else ""
            with self._lock:
                self._failed_on[key] = line
            self._put_off(key, promise, f"{promise.ae_title} answered {answer.status:04X}{said}")
            return False
        self._promises.settle(key, promise)
        with self._lock:
            self._asked_on.pop(key, None)
            self._failed_on.pop(key, None)
        self._record(promise, "told", _counts(result))
        logger.info("The result for %s was told: %s.", named(promise), _counts(result))
        return True

    def _result(self, key: bytes, promise: Promise) -> CommitmentResult:
        references, reasons = self._contents(key)
        pairs = list(zip(references, reasons, strict=True))
        return CommitmentResult(
            promise.transaction,
            tuple(each for each, reason in pairs if reason == COMMITTED),
            tuple((each, reason) for each, reason in pairs if reason != COMMITTED),
            promise.called_ae,
        )

    def _put_off(self, key: bytes, promise: Promise, why: str) -> None:
        now, why = self._clock(), why.rstrip(".")
        waiting = later(promise, now, why)
        if now - promise.asked > GIVEN_UP_AFTER and not promise.is_given_up:
            waiting = replace(waiting, is_given_up=True)
            self._record(promise, "given up", {"why": why})
            logger.error("The result for %s is not tried any more: %s.", named(promise), why)
        elif not promise.tries:
            logger.warning("The result for %s could not be told yet: %s.", named(promise), why)
        self._promises.put(key, waiting)

    def _record(self, promise: Promise, outcome: str, detail: dict[str, Any]) -> None:
        told = {"TransactionUID": promise.transaction, **detail}
        self._audit.record("commit", promise.caller, outcome, told)


def _why(promise: Promise, late: int, awaiting: int) -> str:
    if awaiting:
        return f"{awaiting} of {promise.instances} instances are not at enough other sites yet"
    return f"{late} of {promise.instances} instances are not safe yet"


def _is_of(line: Line, promise: Promise) -> bool:
    return (line.caller.ae_title, line.caller.called_ae) == (promise.ae_title, promise.called_ae)


def _is_warning(status: int) -> bool:
    """Whether a response says that it was done with reservations: PS3.7 Annex C.4."""
    return status in (0x0107, 0x0116)


def _counts(result: CommitmentResult) -> dict[str, int]:
    return {"committed": len(result.committed), "failed": len(result.failed)}
