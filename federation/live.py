"""Grid questions that ask the owners: live all of them, hybrid those whose copies are old; then merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from catalog import Attributes, Query
from catalog.order import decoded, study_order
from catalog.statements import Stated

from .asking import MOST_MATCHES, LiveMatch
from .fanout import DEADLINE, Breaker, Reply, Round
from .foreign import attributes_of, series_of, study_of
from .identities import Asker
from .outcomes import Outcome, Part
from .sight import Grid, Live, Sight, Standing
from .union import limited

FRESH: Final = 15.0
"""Seconds up to which hybrid trusts a copy."""


class Mode(StrEnum):
    """Where the answers of a grid question come from."""

    SYNCED = "synced"
    HYBRID = "hybrid"
    LIVE = "live"


class Done(NamedTuple):
    """What became of one question to one owner."""

    source: int
    matches: list[LiveMatch]
    is_cut: bool = False
    error: str = ""


Ask = Callable[[int, Query, int, float, Callable[[Done], None]], None]
"""Puts a question to a source: at most so many matches, within so many seconds; calls back once, soon."""
Now = Callable[[], float]


class LiveGrid:
    """Asks owners and merges; `now` is a monotonic clock in seconds."""

    def __init__(self, grid: Grid, ask: Ask, breakers: Callable[[int], Breaker], now: Now) -> None:
        self._grid = grid
        self._ask = ask
        self._breakers = breakers
        self._now = now

    def ask(
        self, query: Query, asker: Asker, mode: Mode, deadline: float = DEADLINE, block: str = ""
    ) -> tuple[Iterator[Attributes], list[Outcome]]:
        """Return the matches, and how each site took part; returns when the round is over.

        `block` is the private block that matches are to carry. How they took part is final once all matches
        are out: only then it is known who listed no instances.

        Raises:
            BadRequest: a key has a value that its VR does not allow.
        """
        sight = Sight(self._grid, asker, query, block)
        standing = sight.standing
        asked = {source: each for source, each in standing.items() if _is_asked(sight, source, mode)}
        can_judge = sight.can_judge
        has_copy = frozenset(source for source, each in standing.items() if each.age is not None)
        replies = (
            self._round(sight.wide, asked, has_copy if can_judge else frozenset(), deadline) if asked else {}
        )
        sight.add_live({source: _live(reply) for source, reply in replies.items() if reply.is_answered})
        outcomes = [
            _outcome(each, replies.get(source), can_judge and (_has_copy(each) or source not in asked))
            for source, each in standing.items()
        ]
        return _judged(limited(sight.find(), query.limit), sight, outcomes), outcomes

    def _round(
        self, query: Query, asked: Mapping[int, Standing], has_copy: frozenset[int], deadline: float
    ) -> dict[int, Reply]:
        breakers = {source: self._breakers(source) for source in asked}
        start = self._now()
        reachable = [source for source, each in asked.items() if each.is_reachable]
        round = Round(reachable, breakers, has_copy=has_copy, now=start, deadline=deadline)
        done: SimpleQueue[Done] = SimpleQueue()
        for source, end in round.asked().items():
            self._ask(source, query, MOST_MATCHES, end - start, done.put)
        while (until := round.until(self._now())) is not None:
            try:
                came = done.get(timeout=max(until - self._now(), 0.0))
            except Empty:
                continue
            if came.error:
                round.failed(came.source, came.error, self._now())
            else:
                round.answered(came.source, came.matches, came.is_cut, self._now())
        unreachable = {source: Reply([], "it cannot be reached") for source in asked.keys() - set(reachable)}
        return {**round.replies, **unreachable}


def _judged(matches: Iterator[Attributes], sight: Sight, outcomes: list[Outcome]) -> Iterator[Attributes]:
    """Yield the matches, and then say of owners that listed no instances that they could not judge."""
    yield from matches
    for place, standing in enumerate(sight.standing.values()):
        if standing.owner in sight.answers.unlisted:
            outcomes[place] = outcomes[place]._replace(can_judge=False, part=Part.FALLBACK)


def _is_asked(sight: Sight, source: int, mode: Mode) -> bool:
    standing = sight.standing[source]
    if standing.hashes is not None:
        # No mirror holds more of it than hashes: it is asked unless they say that it has nothing.
        return mode is Mode.LIVE or standing.age is None or sight.hinted(source) is not False
    if mode is Mode.SYNCED:
        return False
    is_fresh = standing.age is not None and standing.age <= FRESH
    return mode is Mode.LIVE or not is_fresh


def _has_copy(standing: Standing) -> bool:
    return standing.age is not None and standing.hashes is None


def _outcome(standing: Standing, reply: Reply | None, can_judge: bool) -> Outcome:
    if reply is not None and reply.is_answered:
        # Of what it did not tell, only a copy that can judge the question makes the answer whole.
        error = "it has more matches than one answer holds" if reply.is_cut else ""
        return Outcome(standing.site, Part.LIVE, 0.0, error, can_judge or not reply.is_cut)
    error = reply.error if reply else ""
    if standing.age is None:
        return Outcome(standing.site, Part.NONE, None, error)
    part = Part.MIRROR if reply is None else Part.FALLBACK
    return Outcome(standing.site, part, standing.age, error, can_judge)


def _live(reply: Reply) -> Live:
    """Return an owner's matches by study; what cannot be read is left out, as it is from a mirror."""
    stated: dict[str, Stated] = {}
    answers: dict[str, list[Attributes]] = {}
    tails: list[bytes] = []
    for match in reply.matches:
        study = study_of(match.rows[0]) if match.rows else None
        if study is None:
            continue
        uid = study.StudyInstanceUID
        series = [each for row in match.rows[1:] if (each := series_of(row)) is not None]
        answers[uid] = [found for row in match.answers if (found := attributes_of(row)) is not None]
        stated[uid] = Stated(study, series)
        tails.append(study_order(decoded(study.attributes)) + uid.encode())
    return Live(stated, answers, sorted(tails), not reply.is_cut)
