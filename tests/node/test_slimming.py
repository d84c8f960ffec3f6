"""What goes from the disk of a full node, in which order, and what never does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import Verb
from tests.homes import serving
from tests.node.slimmed import Hospital


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with serving(tmp_path / "node") as node:
        found = Hospital(node, tmp_path / "ledger", studies=3)
        yield found
        found.ledger.close()


def test_the_least_recently_used_goes_first_and_no_more_than_has_to(hospital: Hospital) -> None:
    now, total = time.time(), hospital.archive.catalog.totals().stored
    order = hospital.uids[1:] + hospital.uids[:1]
    used = {uid: now + 10 * number for number, uid in enumerate(order, 1)}
    slimming = hospital.slimming(used=used.__getitem__, bytes_over=lambda here: here - total + 1)
    assert slimming.step()
    assert not slimming.step()
    assert [hospital.are_away(uid) for uid in order] == [{True}, {False}, {False}]
    assert hospital.ledger.lying_away() == order[:1]


def test_what_was_used_lately_or_is_held_or_is_not_proved_stays(hospital: Hospital) -> None:
    lately, held, other = hospital.uids
    used = {lately: time.time() + 55}
    hospital.archive.register.make(Verb.HOLD, (held,), reason="a lawsuit", who="me")
    hospital.is_proved = False
    assert not hospital.slimming(used=lambda uid: used.get(uid, 0.0), keep_for=20.0).step()
    hospital.is_proved = True
    slimming = hospital.slimming(used=lambda uid: used.get(uid, 0.0), keep_for=20.0)
    assert slimming.step()
    assert not slimming.step()
    away = [uid for uid in hospital.uids if hospital.are_away(uid) == {True}]
    assert away == [other]


def test_what_is_pinned_stays_although_it_is_the_least_recently_used(hospital: Hospital) -> None:
    verbs, now = hospital.node.desk.verbs(), time.time()
    pinned, older, newer = hospital.uids
    used = {pinned: now + 10, older: now + 20, newer: now + 30}
    verbs["pin"](study=pinned, who="ann")
    total = hospital.archive.catalog.totals().stored
    first = hospital.slimming(used=used.__getitem__, bytes_over=lambda here: here - total + 1)
    assert first.step()
    assert not first.step()
    assert [hospital.are_away(uid) for uid in hospital.uids] == [{False}, {True}, {False}]
    everything = hospital.slimming(used=used.__getitem__)
    assert everything.step()
    assert not everything.step()
    assert [hospital.are_away(uid) for uid in hospital.uids] == [{False}, {True}, {True}]
    verbs["unpin"](study=pinned, who="ann")
    assert hospital.slimming(used=used.__getitem__).step()
    assert hospital.are_away(pinned) == {True}


def test_what_is_pinned_while_others_prove_it_stays(hospital: Hospital) -> None:
    def pin_all() -> None:
        for uid in hospital.uids:
            hospital.pins.add(uid, "ann")

    hospital.at_proof = pin_all
    assert not hospital.slimming().step()
    assert not hospital.ledger.lying_away()


def test_what_is_pinned_when_it_is_away_comes_home(hospital: Hospital) -> None:
    assert hospital.slimming().step()
    [away] = hospital.ledger.lying_away()
    hospital.homecoming.step()
    assert hospital.asked == []
    hospital.pins.add(away, "ann")
    hospital.now += 61
    hospital.homecoming.step()
    assert hospital.asked == [away]
