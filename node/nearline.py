"""Objects that lie at peers, on their way here: asked for once however many wait, from the best holder.

What is waited for comes first, what is only expected soon behind it. A stream that breaks, or an object that
fails, goes on at the next holder from the byte it had reached; an object counts once its SHA-256 is right.
What nobody wants any more is given up.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from catalog import Clock, Entry, NotFound, NotPermitted, PacsError, Unavailable
from federation.objects import AT_ONCE, Wanted, receive, request_of
from federation.owners import owner_of
from federation.sourcing import Source, nobody_of
from node.measures import Sample
from node.nearline_cache import CopyCache
from node.nearline_copy import Copy
from node.nearline_landing import Landing
from node.nearline_way import Call, Link, Way, Wish

STALLED: Final = 10.0
"""Seconds without a byte after which a stream is given up."""
STREAMS: Final = 2
"""At once from one peer: more do not add, and leave room for what is urgent."""
_SLOWEST: Final = 256 << 10
"""Bytes per second below which a call is over its time."""
_DOWN_FOR: Final = 1.0
"""Seconds for which a peer that broke off is asked last."""
_TURN: Final = 1.0
_LISTEN: Final = 0.25
"""Seconds after which whoever waits is asked whether the object is still wanted."""
_JUST_NOW: Final = 2.0
"""Seconds for which what its owner said with an object counts, when it is taken for the first time."""
_MOST_CAME: Final = 256


class Fetches:
    """All objects on their way to this node; threads of the node take turns."""

    def __init__(
        self,
        cache: CopyCache,
        sources: Callable[[Entry], list[Source]],
        link: Link,
        monotonic: Clock,
        site: str = "",
        instead: Callable[[Entry], list[Source]] = lambda entry: [],
    ) -> None:
        """`site` is this node's own; `sources` says who states to hold an object's series.

        `instead` says who else has it; that may take a moment, and is asked when all who state it broke off.
        """
        self.cache = cache
        self.sources = sources
        self._instead = instead
        self._link = link
        self._now = monotonic
        self._site = site
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        """Told to as many threads as can do something now: waking all for each object costs more than it."""
        self._landed = threading.Condition(self._lock)
        """Told when something is over that somebody waits for."""
        self._ways: dict[bytes, Way] = {}
        """By SHA-256, until they are over."""
        self._came: dict[bytes, tuple[float, bytes]] = {}
        """By SHA-256: when what nobody has taken yet came, and from which owner."""
        self._waiting: list[Way] = []
        self._streams: Counter[bytes] = Counter()
        self._queued: Counter[bytes] = Counter()
        self._rates: dict[bytes, float] = {}
        self._down: dict[bytes, float] = {}
        self._calls: set[Call] = set()
        self._is_ending = False
        self._sizes: Counter[str] = Counter()
        self._failures: Counter[tuple[str, str]] = Counter()

    # What retrievers ask.

    def expect(self, entries: Iterable[Entry], wish: Wish, priority: int) -> None:
        """Have objects fetched that are not here; nobody waits."""
        found: dict[tuple[str, str], list[Source]] = {}
        for entry in entries:
            series = entry.StudyInstanceUID, entry.SeriesInstanceUID
            if series not in found:
                found[series] = self._having(entry)
            self._begin(entry, wish, priority, found[series])

    def get(self, entry: Entry, wish: Wish, priority: int = 0) -> Copy:
        """Return an object's copy; wait until it is here.

        Raises:
            NotFound, Damaged, OutOfSpace, Unavailable: no holder gave it; the last one's reason.
            Unwanted: the wish says so.
        """
        has_turned = False
        for _ in range(5):
            copy, way = self._open_or_begin(entry, wish, priority)
            if copy is not None:
                return copy
            if way is None:
                continue
            self._wait(way, wish)
            if way.error is not None:
                # Another role or purpose was refused, or given it for itself alone: this one asks anew.
                if isinstance(way.error, NotPermitted | NotFound) and way.use != wish.use:
                    continue
                # Its owner broke off just now, so whoever keeps it is asked too; once.
                if isinstance(way.error, Unavailable) and not has_turned and self._instead(entry):
                    has_turned = True
                    continue
                raise way.error
            # What its owner says of it is what it said a moment ago.
            if way.source is not None and (copy := self._opened(way.source.owner, entry, wish)) is not None:
                return copy
        raise Unavailable("There is no room for what is fetched.", "Raise grid.cache_mb, or free some disk.")

    def avoid(self, owner: bytes) -> None:
        """Ask an owner last for a moment: it did not answer something else."""
        with self._lock:
            self._down[owner] = self._now() + _DOWN_FOR

    def leave(self, wish: Wish) -> None:
        """Give up what nobody else wants; streams that carry such objects go on with the others alone."""
        with self._lock:
            gone = []
            for way in self._ways.values():
                if wish in way.wishes:
                    del way.wishes[wish]
                    if not way.wishes:
                        gone.append(way)
            calls = {way.call for way in gone if way.call is not None}
            for call in calls:
                call.is_given_up = True
            names = {id(way) for way in gone if way.call is None}
            self._waiting = [way for way in self._waiting if id(way) not in names]
            for way in gone:
                if way.call is None and way.source is not None:
                    self._queued[way.source.owner] -= way.entry.holding.size
                    self._end(way, _given_up())
        for call in calls:
            call.cancel()

    def _open_or_begin(self, entry: Entry, wish: Wish, priority: int) -> tuple[Copy | None, Way | None]:
        with self._lock:
            if (way := self._on_its_way(entry.holding.sha256, wish, priority)) is not None:
                return None, way
            came, owner = self._came.pop(entry.holding.sha256, (0.0, b""))
        if (
            owner
            and self._now() - came < _JUST_NOW
            and (copy := self._opened(owner, entry, wish)) is not None
        ):
            return copy, None
        found, is_refused = self._having(entry), False
        for source in found:
            copy = self.cache.open(source.owner, entry)
            if copy is None:
                continue
            if not wish.may_have(copy.said):
                copy.close()
                is_refused = True
                continue
            if copy.said.state == source.state:
                return copy, None
            # Its owner says something else of the study since: a correction is to be had with it.
            copy.close()
            self.cache.drop(source.owner, entry)
        return None, self._begin(entry, wish, priority, found, is_anew=is_refused)

    def _having(self, entry: Entry) -> list[Source]:
        """Return who can give an object: others too, if all who state it and seem to be there broke off."""
        found = self.sources(entry)
        there = [source for source in found if source.is_reachable]
        if there and all(map(self._is_down, there)):
            found = [*found, *(each for each in self._instead(entry) if each not in found)]
        return found

    def _is_down(self, source: Source) -> bool:
        return self._now() < self._down.get(source.owner, 0.0)

    def _opened(self, owner: bytes, entry: Entry, wish: Wish) -> Copy | None:
        copy = self.cache.open(owner, entry)
        if copy is None or wish.may_have(copy.said):
            return copy
        copy.close()
        return None

    def _on_its_way(self, name: bytes, wish: Wish, priority: int) -> Way | None:
        way = self._ways.get(name)
        if way is not None:
            way.wishes[wish] = None
            way.priority = min(way.priority, priority)
        return way

    def _begin(
        self, entry: Entry, wish: Wish, priority: int, sources: list[Source], *, is_anew: bool = False
    ) -> Way | None:
        """Have one object come; None if it came a moment ago and is not wanted anew."""
        name = entry.holding.sha256
        with self._lock:
            if (way := self._on_its_way(name, wish, priority)) is not None:
                return way
            if not is_anew and any(self.cache.has(source.owner, entry) for source in sources):
                return None
            way = Way(entry, wish, priority, [each for each in sources if each.is_reachable])
            self._ways[name] = way
            self._enqueue(way, nobody_of(sources))
            return way

    def _wait(self, way: Way, wish: Wish) -> None:
        while True:
            with self._lock:
                way.waiting += 1
                try:
                    if way.is_over or self._landed.wait_for(lambda: way.is_over, _LISTEN):
                        return
                finally:
                    way.waiting -= 1
                call = way.call
            if call is not None and self._now() - call.moved > STALLED:
                call.cancel()
            wish.check()

    # The queue.

    def _enqueue(self, way: Way, otherwise: PacsError) -> None:
        """Have the way go on at its best source, or end it; the lock is held."""
        if not way.sources:
            self._end(way, way.error or otherwise)
            return
        way.source = min(way.sources, key=self._rank)
        self._queued[way.source.owner] += way.entry.holding.size
        self._waiting.append(way)
        if self._streams[way.source.owner] < STREAMS:
            self._work.notify()

    def _rank(self, source: Source) -> tuple[bool, bool, float]:
        """Same site first, then whoever will be done first; who broke off just now comes last."""
        owner = source.owner
        seconds = self._queued[owner] / self._rates.get(owner, 1e8)
        return self._is_down(source), source.site != self._site, seconds

    def _end(self, way: Way, error: PacsError | None) -> None:
        way.error, way.is_over = error, True
        if way.part is not None and error is not None:
            way.part.discard()
        self._ways.pop(way.entry.holding.sha256, None)
        if way.waiting:
            self._landed.notify_all()

    def _next(self) -> Call | None:
        """Take the most urgent objects of one source and one asker; the lock is held."""
        ready = [way for way in self._waiting if way.source and self._streams[way.source.owner] < STREAMS]
        if not ready:
            return None
        first = min(ready, key=lambda way: way.priority)
        assert first.source is not None
        ways = [
            way
            for way in ready
            if way.source and way.source.owner == first.source.owner and way.asker == first.asker
        ]
        chosen = sorted(ways, key=lambda way: way.priority)[:AT_ONCE]
        taken = set(map(id, chosen))
        self._waiting = [way for way in self._waiting if id(way) not in taken]
        call = Call(first.source, chosen, first.asker, self._now())
        self._streams[first.source.owner] += 1
        self._calls.add(call)
        for way in chosen:
            way.call, way.use = call, (first.asker.role, first.asker.purpose)
        return call

    # The work.

    def turn(self) -> bool:
        """Fetch what is most urgent, or wait a while for something; for threads that come back at once."""
        with self._lock:
            call = self._next()
            if call is None:
                if not self._is_ending:
                    self._work.wait(_TURN)
                return False
        self._run(call)
        return True

    def end(self) -> None:
        """Have no turn wait for something to do any more."""
        with self._lock:
            self._is_ending = True
            self._work.notify_all()

    def _run(self, call: Call) -> None:
        source, owner = call.source, owner_of(call.source.owner)
        landing = Landing(self, call)
        started, problem = self._now(), None
        try:
            size = sum(way.entry.holding.size for way in call.ways)
            wanted = [Wanted(way.entry, way.part.length if way.part else 0) for way in call.ways]
            request = request_of(owner.archive, wanted, call.ways[0].priority)
            timeout = STALLED + size / _SLOWEST
            with self._link.letters(owner.node_id):
                patient = started >= self._down.get(source.owner, 0.0)
                call.stream = self._link.fetch(owner.node_id, call.asker, request, timeout, patient=patient)
                if call.is_cancelled:
                    call.stream.cancel()
                receive(call.stream, landing)
        except PacsError as error:
            problem = error
        except Exception as error:
            problem = Unavailable(f"What {source.site} sends cannot be read: {type(error).__name__}.")
        finally:
            if call.stream is not None:
                call.stream.cancel()
            self._over(call, problem, landing.size, self._now() - started)

    def _over(self, call: Call, problem: PacsError | None, size: int, seconds: float) -> None:
        source = call.source
        with self._lock:
            self._calls.discard(call)
            self._streams[source.owner] -= 1
            self._sizes[source.site] += size
            if size and seconds:
                self._rates[source.owner] = size / seconds
            if isinstance(problem, Unavailable) and not call.is_given_up:
                self._down[source.owner] = self._now() + _DOWN_FOR
            for way in call.ways:
                self._queued[source.owner] -= way.entry.holding.size
            for way in [way for way in call.ways if not way.is_over and way.call is call]:
                if call.is_given_up:
                    self._go_on(way, _given_up())
                else:
                    self._failed(way, problem or Unavailable(f"{source.site} ended its answer too early."))
            if self._waiting:
                self._work.notify()

    def _failed(self, way: Way, error: PacsError) -> None:
        """Go on at another source; the lock is held."""
        assert way.source is not None
        self._failures[way.source.site, type(error).__name__] += 1
        way.leave(error)
        self._go_on(way, error)

    def _go_on(self, way: Way, error: PacsError) -> None:
        """Have somebody asked again for what is wanted; the lock is held."""
        way.call = None
        if way.wishes:
            self._enqueue(way, error)
        else:
            self._end(way, error)

    def failed(self, way: Way, error: PacsError) -> None:
        """Hear from a stream that one of its objects does not come."""
        with self._lock:
            self._failed(way, error)

    def landed(self, way: Way) -> None:
        """Hear from a stream that one of its objects is whole."""
        with self._lock:
            self._end(way, None)
            if not way.waiting and way.source is not None:
                self._came[way.entry.holding.sha256] = self._now(), way.source.owner
                while len(self._came) > _MOST_CAME:
                    del self._came[next(iter(self._came))]

    def now(self) -> float:
        """Return the monotonic time."""
        return self._now()

    def step(self) -> None:
        """Give up streams over which nothing comes."""
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            if self._now() - call.moved > STALLED:
                call.cancel()

    def samples(self) -> Iterator[Sample]:
        """Yield what was fetched and what failed, by site."""
        with self._lock:
            sizes, failures = dict(self._sizes), dict(self._failures)
        for site, size in sizes.items():
            yield Sample("transfer_bytes_total", size, (site, "in"))
        for (site, error), count in failures.items():
            yield Sample("transfer_failures_total", count, (site, error))


def _given_up() -> PacsError:
    return Unavailable("Nobody wanted it any more while it came.")
