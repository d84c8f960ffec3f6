"""One instance after the other, as they arrive, in a process of its own; nothing of them touches a disk.

What earlier instances of a subject told is remembered in memory, for a bounded number of subjects, so that a
later one is searched for it too. A leak holds whatever comes of that subject until this process ends.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from anonymizer.assignment import Assignment
from anonymizer.keys import read_key
from anonymizer.leaks import Needles
from anonymizer.policy import Policy
from anonymizer.quarantine import Reason
from anonymizer.text import Identifiers
from anonymizer.worker import Known, Outcome, Worker, die_with_parent

_REMEMBERED = 2000
_ARRIVAL = "arrival"


class Arrivals:
    """De-identifies what comes under one policy with one key."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._issuer = worker.engine.assignment.issuer
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._leaking: set[str] = set()
        self._suspects: OrderedDict[str, bool] = OrderedDict()

    def take(self, data: bytes, issuer: str = "") -> tuple[Outcome, bytes]:
        """The outcome, and the finished file if it may be released; never raises for what came.

        `issuer` is whose the Patient ID is if it does not say so; empty = whose this process was told.
        """
        known_issuer = issuer or self._issuer
        self._worker.engine.assignment = replace(self._worker.engine.assignment, issuer=known_issuer)
        surveyed = self._worker.survey_bytes(_ARRIVAL, data)
        if surveyed.reason:
            return Outcome(_ARRIVAL, surveyed.digest, reason=surveyed.reason, sentence=surveyed.sentence), b""
        identity = surveyed.subject.identity
        before = self._known.pop(identity, Known(Identifiers(), Needles()))
        known = Known(before.identifiers | surveyed.subject.identifiers, before.needles | surveyed.needles)
        self._known[identity] = known
        known = replace(known, suspects=self._suspected(surveyed.series, data, known))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        outcome, file = self._worker.process_bytes(_ARRIVAL, data, known, surveyed.digest)
        if outcome.reason == Reason.LEAK_FOUND:
            self._leaking.add(identity)
        elif identity in self._leaking:
            sentence = "Another instance of its subject leaked, so the whole subject is held."
            return replace(outcome, name="", reason=Reason.LEAK_FOUND, sentence=sentence), b""
        return outcome, file

    def _suspected(self, series: str, data: bytes, known: Known) -> frozenset[str]:
        """The series, if each image of it must be read by OCR; its first image tells."""
        if not series:
            return frozenset()
        is_suspect = self._suspects.pop(series, None)
        if is_suspect is None:
            is_suspect = self._worker.engine.is_suspect(data, known.identifiers)
        self._suspects[series] = is_suspect
        while len(self._suspects) > _REMEMBERED:
            self._suspects.popitem(last=False)
        return frozenset([series]) if is_suspect else frozenset()


_arrivals: Arrivals | None = None


def begin(policy: Policy, key_file: Path, assignment: Assignment) -> None:
    """Makes this process ready for `take`; it dies with the process that started it."""
    global _arrivals
    die_with_parent()
    _arrivals = Arrivals(Worker(policy, read_key(key_file), Path("/nonexistent"), assignment=assignment))


def take(data: bytes, issuer: str) -> tuple[Outcome, bytes]:
    """`Arrivals.take` in that process."""
    assert _arrivals is not None
    return _arrivals.take(data, issuer)
