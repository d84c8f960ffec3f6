"""What the gateways of a node have let in and counted, put together: limits and numbers are the node's."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from node.dimse import Admission
from node.dimse.session import COUNTED
from node.measures import Sample, Spread

from .wire import Beat, Guest, Refused

_PRESENT: Final = frozenset({"requested", "ending", "open", "serving"})
"""Counters that tell how many there are now, and not how many there have been."""
_PRESENT_SAMPLES: Final = frozenset({"associations"})


class Ledger:
    """The associations of all gateways together: one set of limits, whoever lets them in."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._lock = threading.Lock()
        self._guests: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        self._beats: dict[str, Beat] = {}
        self._gone: list[Beat] = []
        """What gateways had counted that have ended, as one beat."""

    def admit(self, guest: Guest) -> Refused | None:
        """Count an association in, or say which limit it would break."""
        rejection = self._admission.admit(guest.calling_ae, guest.address)
        if rejection is not None:
            return Refused(rejection.result, rejection.source, rejection.reason, rejection.why)
        with self._lock:
            self._guests[guest.gateway][guest.calling_ae, guest.address] += 1
        return None

    def discharge(self, guest: Guest) -> None:
        """Count an association out."""
        with self._lock:
            self._guests[guest.gateway][guest.calling_ae, guest.address] -= 1
        self._admission.discharge(guest.calling_ae, guest.address)

    def heard(self, beat: Beat) -> None:
        """Note what a gateway has counted."""
        with self._lock:
            self._beats[beat.gateway] = beat

    def ended(self, gateway: str) -> None:
        """Count out everything a gateway that has ended had let in; what it counted stays counted."""
        with self._lock:
            guests = self._guests.pop(gateway, Counter())
            beat = self._beats.pop(gateway, None)
            if beat is not None:
                lasting = {name: count for name, count in beat.counters.items() if name not in _PRESENT}
                samples = [each for each in beat.samples if each.name not in _PRESENT_SAMPLES]
                self._gone = [_together([*self._gone, Beat("", lasting, samples)])]
        for (calling_ae, address), number in guests.items():
            for _ in range(number):
                self._admission.discharge(calling_ae, address)

    def counters(self) -> dict[str, int]:
        """Return the sum of what the gateways have counted: nothing yet, before they first told."""
        return dict.fromkeys((*_PRESENT, *COUNTED), 0) | self._all().counters

    def samples(self) -> Iterator[Sample]:
        """Yield the sum of what the gateways show to watchers."""
        yield from self._all().samples

    def _all(self) -> Beat:
        with self._lock:
            return _together([*self._gone, *self._beats.values()])


def _together(beats: Iterable[Beat]) -> Beat:
    counters: Counter[str] = Counter()
    samples: dict[tuple[str, tuple[str, ...]], float | Spread] = {}
    for beat in beats:
        counters.update(beat.counters)
        for name, value, labels in beat.samples:
            known = samples.get((name, labels))
            samples[name, labels] = value if known is None else _sum(known, value)
    return Beat(
        "", dict(counters), [Sample(name, value, labels) for (name, labels), value in samples.items()]
    )


def _sum(one: float | Spread, other: float | Spread) -> float | Spread:
    if isinstance(one, Spread) and isinstance(other, Spread):
        pairs = zip(one.up_to, other.up_to, strict=True)
        up_to = tuple((bound, ours + theirs) for (bound, ours), (_, theirs) in pairs)
        return Spread(up_to, one.number + other.number, one.total + other.total)
    assert not isinstance(one, Spread)
    assert not isinstance(other, Spread)
    return one + other
