"""Who is connected: one machine per identity, one session per pair, silence noticed, versions overlap."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.links.roll import DEAD, FEATURES, PROTOCOL, Alarm, Backoff, Refused, Roll, Standing
from federation.trust.names import Identity
from protos import trust_pb2 as wire
from tests.federation.members import Hand

GRID = b"g" * 16
SMALL, OWN, LARGE = (str(uuid.UUID(int=number << 100)) for number in (1, 2, 3))


class Side:
    """A roll with its clocks and what it told."""

    def __init__(self) -> None:
        self.clock, self.monotonic = Hand(), Hand(100.0)
        self.alarms: list[Alarm] = []
        self.roll = Roll(OWN, GRID, 7, self.clock, self.monotonic, self.alarms.append)

    def greet(self, node_id: str = LARGE, *, dialed: bool = False, **changes: Any) -> Standing:
        """Take in a Hello with some fields changed."""
        said = {
            "node_id": node_id,
            "grid_id": GRID,
            "instance": 1,
            "now_ms": int(self.clock() * 1000),
            "features": FEATURES,
            "protocol": PROTOCOL,
        }
        identity = Identity(GRID, node_id, "site", "name", 1, 0, 2)
        return self.roll.greet(wire.Hello(**(said | changes)), identity, is_dialed=dialed)


def test_a_hello_must_be_of_its_certificate_and_of_this_grid() -> None:
    side, identity = Side(), Identity(GRID, LARGE, "site", "name", 1, 0, 2)
    for hello in (wire.Hello(node_id=SMALL, grid_id=GRID), wire.Hello(node_id=LARGE, grid_id=b"h" * 16)):
        with pytest.raises(Refused, match="with the certificate of"):
            side.roll.greet(hello, identity, is_dialed=False)


def test_a_second_machine_with_one_identity_is_refused_until_the_first_is_silent() -> None:
    side = Side()
    side.greet(instance=1)
    with pytest.raises(Refused, match="another machine"):
        side.greet(instance=2)
    assert [alarm.kind for alarm in side.alarms] == ["clone"]
    side.monotonic.now += DEAD + 1
    assert side.greet(instance=2).instance == 2


def test_people_are_told_of_one_and_the_same_once_an_hour() -> None:
    """A machine that is refused dials again and again."""
    side = Side()
    for hours, told in ((0.0, 1), (0.1, 1), (0.9, 2), (0.9, 2), (0.2, 3)):
        side.monotonic.now += 3600 * hours
        if side.roll.standing(LARGE) is None:
            side.greet(instance=1)
        for _ in range(3):
            with pytest.raises(Refused, match="another machine"):
                side.greet(instance=2)
        assert len(side.alarms) == told
    with pytest.raises(Refused, match="speaks version"):
        side.greet(SMALL, protocol=PROTOCOL + 2)
    assert [alarm.kind for alarm in side.alarms] == [*["clone"] * 3, "version"]


def test_a_node_that_left_may_come_back_as_another_instance_at_once() -> None:
    side = Side()
    side.roll.leave(side.greet(instance=1))
    assert side.greet(instance=2)
    assert not side.alarms


def test_this_nodes_own_identity_elsewhere_is_an_alarm() -> None:
    side = Side()
    with pytest.raises(Refused, match="own identity"):
        side.greet(OWN)
    assert [alarm.kind for alarm in side.alarms] == ["clone"]


@pytest.mark.parametrize(("node_id", "kept"), [(SMALL, False), (LARGE, True)])
def test_of_two_sessions_the_one_stays_that_the_smaller_id_dialed(node_id: str, kept: bool) -> None:
    """Both sides dial at once; whichever order the Hellos come in, both keep the same session."""
    for first_is_ours in (True, False):
        side = Side()
        side.greet(node_id, dialed=first_is_ours)
        side.monotonic.now += 0.1
        if first_is_ours is kept:
            with pytest.raises(Refused) as refused:
                side.greet(node_id, dialed=not first_is_ours)
            assert refused.value.is_quiet
        else:
            assert side.greet(node_id, dialed=not first_is_ours).is_dialed is kept
        assert not side.alarms


def test_silence_ends_a_session_and_a_heartbeat_keeps_it() -> None:
    side = Side()
    standing = side.greet()
    side.monotonic.now += DEAD - 1
    side.roll.heard(standing)
    side.monotonic.now += DEAD - 1
    assert side.roll.is_current(standing)
    side.monotonic.now += 2
    assert side.roll.standing(LARGE) is None
    assert not side.roll.is_current(standing)


def test_an_old_session_that_ends_does_not_take_the_new_one_with_it() -> None:
    side = Side()
    old = side.greet()
    side.monotonic.now += DEAD + 1
    new = side.greet(instance=2)
    assert not side.roll.leave(old)
    side.roll.heard(old)
    assert side.roll.standing(LARGE) == new


@pytest.mark.parametrize(
    ("skew", "told"), [(0, ""), (299, ""), (-299, ""), (7200, "ahead of"), (-86400, "behind")]
)
def test_only_a_clock_that_is_off_by_more_than_five_minutes_is_told(skew: int, told: str) -> None:
    side = Side()
    standing = side.greet(now_ms=int((side.clock() + skew) * 1000))
    assert standing.skew == pytest.approx(skew, abs=0.01)
    assert [told in alarm.what for alarm in side.alarms] == ([True] if told else [])


@pytest.mark.parametrize(
    ("protocol", "speaks"),
    [(PROTOCOL - 1, True), (PROTOCOL, True), (PROTOCOL + 1, True), (PROTOCOL + 2, False)],
)
def test_a_node_speaks_with_the_version_before_and_after(protocol: int, speaks: bool) -> None:
    side = Side()
    if speaks:
        assert side.greet(protocol=protocol)
        return
    with pytest.raises(Refused, match="needs an update"):
        side.greet(protocol=protocol)
    assert [alarm.kind for alarm in side.alarms] == ["version"]


def test_features_are_those_both_sides_have() -> None:
    side = Side()
    assert side.greet(features=0xFF00 | 0b101).features == FEATURES & 0b101


@given(st.binary(max_size=300))
def test_fields_of_a_newer_version_survive_and_no_bytes_break_a_message(raw: bytes) -> None:
    """Unknown fields are kept as bytes; what is no message is refused by the parser and nothing else."""
    newer = wire.Hello(node_id="n").SerializeToString() + b"\xfa\x3f\x03new"
    assert b"new" in wire.Hello.FromString(newer).SerializeToString()
    for kind in (wire.LinkMessage, wire.JoinMessage, wire.ProbeRequest, wire.RenewRequest):
        try:
            kind.FromString(raw)
        except Exception as error:
            assert type(error).__name__ == "DecodeError"  # noqa: PT017


def _pauses(backoff: Backoff, start: float, failures: int) -> tuple[list[float], float]:
    """Return the pauses after so many failures in a row, and the moment at which the last one is over."""
    pauses, now = [], start
    for _ in range(failures):
        backoff.failed(now)
        pause = next(step / 20 for step in range(2000) if backoff.is_due(now + step / 20))
        pauses.append(pause)
        now += pause
    return pauses, now


def test_who_went_away_is_tried_every_second_or_two_with_jitter() -> None:
    for draw, factor in ((0.0, 0.8), (0.999, 1.2)):
        pauses, _ = _pauses(Backoff(lambda draw=draw: draw), 1000.0, 60)  # type: ignore[misc]
        assert pauses[:4] == pytest.approx([0.5 * factor, factor, 1.25 * factor, 1.25 * factor], abs=0.06)
        assert max(pauses) <= 1.5


def test_who_stays_away_is_tried_less_and_at_least_every_quarter_of_a_minute() -> None:
    backoff = Backoff(lambda: 0.999)
    pauses, now = _pauses(backoff, 1000.0, 1500)
    assert pauses == sorted(pauses)
    assert 12 < pauses[-1] <= 15
    backoff.worked()
    assert backoff.is_due(now)
    assert _pauses(backoff, now, 1)[0][0] < 1


def test_a_sign_that_lines_are_mended_has_who_is_away_tried_at_once() -> None:
    backoff = Backoff(lambda: 0.5)
    _, now = _pauses(backoff, 1000.0, 1500)
    backoff.failed(now)
    backoff.hopes(now)
    assert not backoff.is_due(now)
    assert backoff.is_due(now + 1)
    assert _pauses(backoff, now + 1, 1)[0][0] > 10, "in vain: it is as before"
