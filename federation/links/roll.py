"""Who is connected: Hellos judged, heartbeats counted, the dead told from the silent. No wire and no thread.

One session per pair of nodes. Time that passes is taken from a monotonic clock; the other side's clock is
looked at only to tell a person that one of the two is wrong.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from statistics import median
from typing import Final, NamedTuple

from catalog import Clock, NotPermitted
from federation.trust.names import Identity, spoken
from protos import trust_pb2 as wire

HEARTBEAT: Final = 5.0
"""Seconds between two heartbeats."""
DEAD: Final = 15.0
"""Seconds of silence after which a session is over."""
PROTOCOL: Final = 2
"""Version of the wire; a node speaks with the one before and the one after."""
FEATURES: Final = 0b111
"""Bit 0: sessions and gossip. Bit 1: forwarding and dialing back. Bit 2: signed assertions."""
_FIRST: Final = 0.5
_SOON: Final = 1.25
_LONGEST: Final = 12.5
"""Seconds between two attempts to reach a peer, before chance: the first, after a minute, after an hour."""
_PATIENCE: Final = 300.0
"""Who has been away for so many times a pause is tried no more often than that."""
_TELL_AGAIN: Final = 3600.0
SKEW: Final = 300.0
"""Seconds by which clocks may differ before people are told."""


class Alarm(NamedTuple):
    """Something a person must be told of."""

    kind: str
    """clock, clone, certificate, revocation, version."""
    node_id: str
    what: str
    next: str


class Standing(NamedTuple):
    """How a session is, for a person."""

    identity: Identity
    instance: int
    features: int
    """Those that both sides have."""
    skew: float
    """Seconds by which the other clock is ahead of ours."""
    since: float
    heard: float
    """Monotonic seconds, as `since`."""
    is_dialed: bool
    """Whether this node dialed."""


class Refused(NotPermitted):
    """A session that cannot be: `is_quiet` when it is one too many and nothing is wrong."""

    def __init__(self, what: str, next: str = "", *, is_quiet: bool = False) -> None:
        super().__init__(what, next)
        self.is_quiet = is_quiet


class Roll:
    """The live sessions of one node."""

    def __init__(
        self,
        own_id: str,
        grid_id: bytes,
        instance: int,
        clock: Clock,
        monotonic: Clock,
        alarm: Callable[[Alarm], None],
    ) -> None:
        self._own_id = own_id
        self._grid_id = grid_id
        self.instance = instance
        self._clock = clock
        self._monotonic = monotonic
        self._tell = alarm
        self._told: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._live: dict[str, Standing] = {}

    def greet(self, hello: wire.Hello, identity: Identity, *, is_dialed: bool) -> Standing:
        """Take a session in, after its Hello; `identity` is what its certificate says.

        A second session of the same machine takes the place of the first when the node with the smaller id
        dialed it, so that both sides keep the same one.

        Raises:
            Refused: it cannot be; the letter says why.
        """
        self._check_names(hello, identity)
        now = self._monotonic()
        skew = hello.now_ms / 1000 - self._clock()
        standing = Standing(identity, hello.instance, hello.features & FEATURES, skew, now, now, is_dialed)
        with self._lock:
            live = self._live.get(identity.node_id)
            if live is not None and now - live.heard < DEAD:
                self._check_second(live, standing)
            self._live[identity.node_id] = standing
        self._tell_skew(identity, skew)
        return standing

    def _check_names(self, hello: wire.Hello, identity: Identity) -> None:
        if hello.grid_id != self._grid_id or hello.node_id != identity.node_id:
            raise Refused(
                f"A session of {hello.node_id[:40]!r} in the grid {spoken(hello.grid_id)} came with the "
                f"certificate of {identity.node_id} in {spoken(identity.grid_id)}.",
                "Restore identity/ of that node from its own backup.",
            )
        if identity.node_id == self._own_id:
            what = "Somebody else calls with this node's own identity."
            self._alarm(Alarm("clone", identity.node_id, what, "Stop one of the two machines."))
            raise Refused(what, "Two machines run one home: stop one of them.")
        if abs(hello.protocol - PROTOCOL) > 1:
            older = "This node" if hello.protocol > PROTOCOL else identity.name
            what = (
                f"{identity.name} speaks version {hello.protocol} of the grid's wire, this node {PROTOCOL}."
            )
            self._alarm(Alarm("version", identity.node_id, what, f"{older} needs an update."))
            raise Refused(what, f"{older} needs an update.")

    def _check_second(self, live: Standing, new: Standing) -> None:
        if live.instance != new.instance:
            what = f"{live.identity.name} is connected already, from another machine with the same identity."
            remedy = "If it was copied or restored as a second machine, stop one and join it as a new node."
            self._alarm(Alarm("clone", live.identity.node_id, what, remedy))
            raise Refused(what, remedy)
        dialer = self._own_id if new.is_dialed else new.identity.node_id
        if dialer != min(self._own_id, new.identity.node_id) and live.is_dialed != new.is_dialed:
            raise Refused(f"{live.identity.name} is connected already.", is_quiet=True)

    def _tell_skew(self, identity: Identity, skew: float) -> None:
        if abs(skew) <= SKEW:
            return
        ahead = "ahead of" if skew > 0 else "behind"
        what = f"The clock of {identity.name} is {abs(skew):.0f} s {ahead} this node's."
        self._alarm(Alarm("clock", identity.node_id, what, "On the wrong one: timedatectl set-ntp true"))

    def _alarm(self, alarm: Alarm) -> None:
        """Tell people, but the same only once an hour: who is refused dials again and again."""
        name, now = (alarm.kind, alarm.node_id), self._monotonic()
        if now - self._told.get(name, float("-inf")) >= _TELL_AGAIN:
            self._told[name] = now
            self._tell(alarm)

    def heard(self, standing: Standing) -> None:
        """Note that something came over this session."""
        with self._lock:
            live = self._live.get(standing.identity.node_id)
            if live is not None and live.since == standing.since:
                self._live[standing.identity.node_id] = live._replace(heard=self._monotonic())

    def leave(self, standing: Standing) -> bool:
        """Take a session out; say whether it was the live one."""
        with self._lock:
            live = self._live.get(standing.identity.node_id)
            if live is None or live.since != standing.since or live.is_dialed != standing.is_dialed:
                return False
            del self._live[standing.identity.node_id]
            return True

    def is_current(self, standing: Standing) -> bool:
        """Say whether this is the live session of its node, and was heard of lately."""
        live = self._live.get(standing.identity.node_id)
        return (
            live is not None
            and live.since == standing.since
            and live.is_dialed == standing.is_dialed
            and self._monotonic() - live.heard < DEAD
        )

    def standing(self, node_id: str) -> Standing | None:
        """Return the live session of a node, or None."""
        live = self._live.get(node_id)
        return live if live is not None and self._monotonic() - live.heard < DEAD else None

    def instance_of(self, node_id: str) -> int:
        """Return the instance of a node's live session, or 0."""
        live = self.standing(node_id)
        return live.instance if live is not None else 0

    def skew(self) -> float | None:
        """Return how far the median of the peers' clocks is ahead, in seconds; None without live sessions."""
        live = self.everybody().values()
        return median(each.skew for each in live) if live else None

    def skew_of(self, node_id: str) -> float:
        """Return the seconds by which a connected node's clock is ahead of this one's."""
        live = self.standing(node_id)
        return live.skew if live is not None else 0.0

    def told_time(self, standing: Standing, now: float) -> None:
        """Note what time it is at the other end of a session."""
        with self._lock:
            live = self._live.get(standing.identity.node_id)
            if live is not None and live.since == standing.since:
                skew = now - self._clock()
                self._live[standing.identity.node_id] = live._replace(skew=skew)

    def everybody(self) -> dict[str, Standing]:
        """Return all live sessions by node_id."""
        return {node_id: live for node_id in list(self._live) if (live := self.standing(node_id))}


class Backoff:
    """When to try again: soon for who just went away, less often for who stays away; `now` is monotonic.

    Half a second, doubled up to 1.25 s for the first minutes, since a line that is mended is to be of use at
    once; then a three hundredth of the absence, at most 12.5 s. All 0.8 to 1.2 times, as drawn.
    """

    def __init__(self, draw: Callable[[], float]) -> None:
        """`draw` returns a number in [0, 1)."""
        self._draw = draw
        self._failures = 0
        self._since = 0.0
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        """Say whether the time has come."""
        return now >= self._next

    def failed(self, now: float) -> None:
        """Note a failure."""
        if not self._failures:
            self._since = now
        longest = min(max(_SOON, (now - self._since) / _PATIENCE), _LONGEST)
        pause = min(longest, _FIRST * 2.0 ** min(self._failures, 8))
        self._failures += 1
        self._next = now + pause * (0.8 + 0.4 * self._draw())

    def hopes(self, now: float) -> None:
        """Try soon, whatever was found: there is a sign that lines are mended."""
        self._next = min(self._next, now + _FIRST + self._draw() * _FIRST)

    def worked(self) -> None:
        """Note a success."""
        self._failures, self._next = 0, 0.0
