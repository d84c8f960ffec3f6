"""Objects on their way from the node that has them: fetched by one thread, made durable by another.

What came while one sync ran goes into the next; more than so many bytes are never here without being durable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from catalog import Clock, Damaged, Decision, Incoming, PacsError, Unavailable
from federation.copying import CopyItem, Order, Told
from federation.lanes import BULK
from federation.links.session import Spawn
from federation.objects import Wanted, receive, request_of
from federation.trust.assertion import Asker

from .rows import row_of
from .store import RESUMED_ABOVE, Arrived, is_whole

_SIGN: Final = 2.0
"""Seconds after which an owner is told that the work goes on."""
_AHEAD: Final = 32 << 20
"""Bytes that may be here without being durable."""
_SMALL_AT_ONCE: Final = 128
_LARGE_AT_ONCE: Final = 8
"""Objects of one call to the owner."""
_FIRST: Final = 4 << 20
_LEAST: Final = 1 << 20
_MOST: Final = 64 << 20
"""Bytes of one call: the first one, and the limits of the next ones ..."""
_PORTION: Final = 0.5
"""... which are as much as comes in so many seconds: more would only lie in the buffers of a slow link, and
what is urgent would have to wait behind it."""
_SLOWEST: Final = 64 << 10
"""Bytes per second below which a fetch is over its time."""


class Target(Protocol):
    """Where objects that come are to be kept."""

    def incoming(self, owner: bytes, study: str, sha256: bytes, size: int) -> Incoming:
        """Return an object of a study to be filled; it may have what came of it before."""

    def keep(self, owner: bytes, study: str, arrived: Sequence[Arrived]) -> Mapping[int, PacsError]:
        """Keep objects, durably; return which of them are not kept, and why. Raises PacsError: none is."""


class Fetch(NamedTuple):
    """How the node is reached that has the objects."""

    begin: Callable[..., Any]
    """As `PeerLink.fetch`."""
    letters: Callable[[str], Any]
    spawn: Spawn
    monotonic: Clock


class Pull:
    """One order on its way: `run` in a thread of its own, `durable` in the one that tells of it."""

    def __init__(self, node_id: str, fetch: Fetch, target: Target, order: Order, missing: list[int]) -> None:
        """Objects of the order, by index, come from a node."""
        self._node_id = node_id
        self._fetch = fetch
        self._target = target
        self._order = order
        self._left = missing
        self._lock = threading.Condition()
        self._came: list[tuple[int, Arrived]] = []
        self._waiting = 0
        """Bytes in `_came`."""
        self._failed: list[tuple[int, PacsError]] = []
        self._told: set[int] = set()
        self._is_over = self._is_unwanted = False
        self._call: Any = None
        self._size = _FIRST

    # The thread that fetches.

    def run(self) -> None:
        """Fetch everything, in the order asked for."""
        problem: PacsError | None = None
        try:
            left = list(self._left)
            while left and not self._is_unwanted:
                indexes = self._portion(left)
                self._take(indexes)
                left = left[len(indexes) :]
        except PacsError as error:
            problem = error
        except Exception as error:
            problem = Unavailable(f"What its owner sends cannot be read: {type(error).__name__}.")
        finally:
            self._end(problem or Unavailable("Its owner ended its answer too early."))

    def _portion(self, left: Sequence[int]) -> list[int]:
        """Return what one call is to bring; of large objects few, since each has its file open."""
        portion: list[int] = []
        size = large = 0
        for at in left[:_SMALL_AT_ONCE]:
            item = self._order.items[at]
            large += item.size > RESUMED_ABOVE
            size += item.size
            if portion and (size > self._size or large > _LARGE_AT_ONCE):
                break
            portion.append(at)
        return portion

    def _end(self, error: PacsError) -> None:
        with self._lock:
            settled = {at for at, _ in self._came} | {at for at, _ in self._failed} | self._told
            self._failed += [(at, error) for at in self._left if at not in settled]
            self._is_over = True
            self._lock.notify_all()

    def _take(self, indexes: list[int]) -> None:
        order, fetch, began = self._order, self._fetch, self._fetch.monotonic()
        landing = _Landing(self, self._incoming, [(at, order.items[at]) for at in indexes])
        try:
            wanted = [
                Wanted(row_of(order.items[at]).entry(order.StudyInstanceUID), offset)
                for at, offset in zip(indexes, landing.begun(), strict=True)
            ]
            request = request_of(order.owner.archive, wanted, BULK)
            timeout = 60.0 + sum(order.items[at].size for at in indexes) / _SLOWEST
            with fetch.letters(self._node_id):
                self._call = fetch.begin(self._node_id, Asker(), request, timeout, patient=True)
                try:
                    receive(self._call, landing)
                finally:
                    self._call.cancel()
        finally:
            landing.close()
        seconds = max(fetch.monotonic() - began, 0.001)
        rate = sum(order.items[at].size for at in indexes) / seconds
        self._size = int(min(max(rate * _PORTION, _LEAST), _MOST))

    def _incoming(self, item: CopyItem) -> Incoming:
        order = self._order
        return self._target.incoming(order.owner.name, order.StudyInstanceUID, item.sha256, item.size)

    def arrived(self, at: int, incoming: Incoming) -> None:
        """Hear that an object came; wait while too much is not durable yet."""
        row = row_of(self._order.items[at])
        if not is_whole(incoming, row):
            incoming.discard()
            self.failed(at, Damaged("What came are not the bytes that its owner named.", "It is sent again."))
            return
        with self._lock:
            self._came.append((at, Arrived(incoming, row)))
            self._waiting += row.holding.size
            self._lock.notify_all()
            self._lock.wait_for(lambda: self._waiting <= _AHEAD or self._is_unwanted)

    def failed(self, at: int, error: PacsError) -> None:
        """Hear that an object does not come."""
        with self._lock:
            self._failed.append((at, error))
            self._lock.notify_all()

    # The thread that answers.

    def durable(self) -> Iterator[Told]:
        """Yield what is durable, as it becomes so, until all is."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._came or self._failed or self._is_over, _SIGN)
                came, self._came = self._came, []
                failed, self._failed = self._failed, []
                self._told |= {at for at, _ in came} | {at for at, _ in failed}
                is_last = self._is_over and not came and not failed
            if is_last:
                return
            yield self._kept(came, failed)

    def _kept(self, came: list[tuple[int, Arrived]], failed: list[tuple[int, PacsError]]) -> Told:
        order, refused = self._order, dict[int, PacsError]()
        try:
            if came:
                arrived = [each for _, each in came]
                refused |= self._target.keep(order.owner.name, order.StudyInstanceUID, arrived)
        except PacsError as error:
            return Told((), (*failed, *((at, error) for at, _ in came)))
        finally:
            for _, each in came:
                each.incoming.discard()
            with self._lock:
                self._waiting -= sum(each.row.holding.size for _, each in came)
                self._lock.notify_all()
        failed += [(came[number][0], error) for number, error in refused.items()]
        return Told(tuple(at for number, (at, _) in enumerate(came) if number not in refused), tuple(failed))

    def cancel(self) -> None:
        """Want nothing more of it."""
        with self._lock:
            self._is_unwanted = True
            self._lock.notify_all()
        if self._call is not None:
            self._call.cancel()


class _Landing:
    """Where the objects of one call go; satisfies `Receiver`."""

    def __init__(
        self, pull: Pull, incoming: Callable[[CopyItem], Incoming], items: Sequence[tuple[int, CopyItem]]
    ) -> None:
        self._pull = pull
        self._incoming = incoming
        self._items = items
        self._early: dict[int, Incoming] = {}
        self._current: Incoming | None = None
        self._left = 0

    def begun(self) -> Iterator[int]:
        """Yield how much of each object is here; what came of a large one before is taken up."""
        for index, (_, item) in enumerate(self._items):
            if item.size > RESUMED_ABOVE:
                self._early[index] = self._incoming(item)
            yield self._early[index].size if index in self._early else 0

    def begin(
        self, index: int, size: int, corrections: list[Decision], system: str, *, is_limited: bool
    ) -> None:
        """Hear that an object comes."""
        _, item = self._items[index]
        if size != item.size:
            raise Damaged("Its owner sends another length than it named.", "It is fetched again.")
        self._current = self._early.pop(index, None) or self._incoming(item)
        self._left = size - self._current.size

    def data(self, piece: memoryview) -> None:
        """Take the next bytes."""
        if self._current is None or len(piece) > self._left:
            raise Damaged("Its owner sends bytes that nobody asked for.", "They are not taken.")
        self._current.space(len(piece))[:] = piece
        self._current.filled(len(piece))
        self._left -= len(piece)

    def end(self, index: int) -> None:
        """Hear that it is whole, as its owner says."""
        incoming, self._current = self._current, None
        if incoming is not None:
            self._pull.arrived(self._items[index][0], incoming)

    def failed(self, index: int, error: PacsError) -> None:
        """Hear that it does not come."""
        self._drop_current()
        self._pull.failed(self._items[index][0], error)

    def _drop_current(self) -> None:
        if self._current is not None:
            self._current.discard()
            self._current = None

    def close(self) -> None:
        """Let go what did not come to its end; of a large object the file stays."""
        self._drop_current()
        for incoming in self._early.values():
            incoming.discard()
