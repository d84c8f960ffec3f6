"""Experiments with two sites of a grid: how soon one finds what the other took, and it is safe at both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Final
from uuid import uuid4

from ..cases import CT_512_KB
from ..committing import request_of
from ..pdu import ProtocolError
from ..phantoms import SMALLEST, Study, instances, study
from ..targets import Finder, Target
from .loading import load
from .outcome import Outcome, Plan, Say

_AT_ONCE: Final = 50
"""Studies that one question names (a list of UIDs, PS3.4 C.2.2.2.2)."""
_PAUSE: Final = 0.005
_NUMBER: Final = "NumberOfStudyRelatedInstances"
_COMMITTED: Final = 1
"""Event Type ID: all instances are committed (PS3.4 Table J.3-3)."""


def _awaited(
    finder: Finder, studies: Sequence[Study], wanted: Callable[[Study, dict[str, str]], bool], patience: float
) -> None:
    """Ask until every study is found as wanted. Raises ProtocolError if none more was for so many seconds."""
    left = {made.StudyInstanceUID: made for made in studies}
    since = time.monotonic()
    while left:
        asked = "\\".join(list(left)[:_AT_ONCE])
        found = finder.find("STUDY", StudyInstanceUID=asked, **{_NUMBER: ""})
        here = [row["StudyInstanceUID"] for row in found if wanted(left[row["StudyInstanceUID"]], row)]
        for uid in here:
            del left[uid]
        if here:
            since = time.monotonic()
        elif time.monotonic() - since > patience:
            missing = f"{len(left)} of {len(studies)} studies are not elsewhere"
            raise ProtocolError(f"{missing}; nothing came for {patience:g} s.")
        else:
            time.sleep(_PAUSE)


def _is_whole(made: Study, row: dict[str, str]) -> bool:
    """Say whether all instances are known; a site that does not count is believed."""
    return int(row[_NUMBER] or made.series * made.instances) >= made.series * made.instances


def _refuse_known(finder: Finder, studies: Sequence[Study]) -> None:
    asked = "\\".join(made.StudyInstanceUID for made in studies[:_AT_ONCE])
    if finder.find("STUDY", StudyInstanceUID=asked):
        raise ProtocolError(
            "It has studies of this seed already, so nothing can be measured. Use another --seed."
        )


class Sync:
    """Small studies, one by one and then many at once, each awaited at the other site."""

    name = "sync"
    title = "From stored at one site to found at another"
    paper = ""
    _BASE: Final = 15_000_000

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Store studies at the target, and ask elsewhere until they are found."""
        one_by_one, many = (
            self._studies(plan, 0, plan.some(500, 20)),
            self._studies(plan, 100_000, plan.some(20_000, 100)),
        )
        outcome.of, outcome.unit = len(one_by_one) + len(many), "studies"
        outcome.way = "C-STORE and C-FIND" if target.address else "STOW-RS and C-FIND"
        outcome.columns = ("studies", "median ms", "95 % ms", "slowest ms")
        outcome.samples["lags"] = lags = []
        with target.at_elsewhere().finder() as finder:
            _refuse_known(finder, one_by_one)
            for made in one_by_one:
                for _ in target.store(list(instances(made))):
                    pass
                began = time.perf_counter()
                _awaited(finder, [made], _is_whole, target.timeout)
                lags.append(1000 * (time.perf_counter() - began))
                outcome.done += 1
        self._tell(lags, outcome)
        began = time.perf_counter()
        load(target, many, outcome, say)
        stored = time.perf_counter()
        say(f"sync: {target.name} has {len(many)} studies; they are awaited elsewhere")
        # Asked anew: whoever is silent while others load may be sent away.
        with target.at_elsewhere().finder() as finder:
            _awaited(finder, many, _is_whole, target.timeout)
        outcome.done += len(many)
        outcome.summary["many at once: elsewhere so long after the last was stored, s"] = (
            time.perf_counter() - stored
        )
        outcome.summary["many at once, studies/s"] = len(many) / (time.perf_counter() - began)

    @staticmethod
    def _tell(lags: list[float], outcome: Outcome) -> None:
        ordered = sorted(lags)
        late = ordered[int(0.95 * (len(ordered) - 1))]
        outcome.rows.append((len(lags), median(lags), late, ordered[-1]))
        outcome.summary |= {"found elsewhere, median ms": median(lags), "found elsewhere, 95 % ms": late}

    def _studies(self, plan: Plan, first: int, count: int) -> list[Study]:
        return [study(plan.seed, self._BASE + first + n, size=SMALLEST) for n in range(count)]


class Replicate:
    """Studies of CT images of 512 KB, until the target commits to them, as its rules of copies demand."""

    name = "replicate"
    title = "From stored at one site to safe at another"
    paper = ""
    _BASE: Final = 16_000_000
    _INSTANCES: Final = 16

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Store studies, have the target commit to them, and fetch them at the other site."""
        count = plan.some(2000, 2 * self._INSTANCES) // self._INSTANCES
        studies = [
            study(plan.seed, self._BASE + n, instances=self._INSTANCES, size=CT_512_KB) for n in range(count)
        ]
        outcome.of, outcome.unit = count, "studies"
        outcome.columns = ("studies", "MB", "stored s", "committed s", "fetched there, mean s")
        there = target.at_elsewhere()
        outcome.way = f"C-STORE, Storage Commitment, and {there.way} elsewhere"
        with there.finder() as finder:
            _refuse_known(finder, studies)
        began = time.perf_counter()
        load(target, studies, outcome, say)
        stored = time.perf_counter() - began
        say(f"replicate: {target.name} has {count} studies and is asked to commit to them")
        for made in studies:
            self._commit(target, made)
        committed = time.perf_counter() - began
        with there.finder() as finder:
            _awaited(finder, studies, _is_whole, target.timeout)
        fetched = [self._fetch(there, made, outcome) for made in studies]
        megabytes = count * self._INSTANCES * CT_512_KB / 1e6
        outcome.rows.append((count, megabytes, stored, committed, mean(fetched)))
        outcome.summary = {
            "stored, MB/s": megabytes / stored,
            "stored and committed, MB/s": megabytes / committed,
            "committed so long after the last was stored, s": committed - stored,
        }

    @staticmethod
    def _commit(target: Target, made: Study) -> None:
        # A Transaction UID is new each time, whatever the seed (PS3.4 J.3.2.1.1).
        asked = [(each.SOPClassUID, each.SOPInstanceUID) for each in instances(made)]
        try:
            kind = target.commit(request_of(f"2.25.{uuid4().int}", asked))
        except TimeoutError:
            # The rule is with the target, and who may keep copies of its studies is for it to say.
            raise ProtocolError(
                f"No result of Storage Commitment came in {target.timeout:g} s on the same association. "
                "Where a rule asks for copies first, see whether they can be made: at a PeerPACS node, "
                "peerpacs copies lacking says why not."
            ) from None
        except ProtocolError as error:
            raise ProtocolError(
                f"It took no request for Storage Commitment: {error} See whether it offers that to "
                f"{target.calling}, which some only do to an AE title that they know."
            ) from None
        if kind != _COMMITTED:
            raise ProtocolError("It did not commit to all instances that it acknowledged.")

    def _fetch(self, there: Target, made: Study, outcome: Outcome) -> float:
        with there.retriever() as retriever:
            fetched = retriever.study(made.StudyInstanceUID, made.total_size)
        if fetched.instances != self._INSTANCES:
            raise ProtocolError(f"{fetched.instances} of {self._INSTANCES} instances came from elsewhere.")
        outcome.done += 1
        return fetched.seconds
