"""A keeper has what its owner named, durably, or says why not; a receipt alone is never relied on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import Damaged, NotPermitted, PacsError, Selection, Unavailable
from federation import copying
from federation.copying import Told
from federation.lanes import BULK, URGENT, Lanes
from node.copies import pulling
from node.copies.ledger import Placed
from tests.federation.nodes import wait_for
from tests.homes import edited, phantoms
from tests.node.keepers import MB, Keeper, flip, pair


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Keeper, Keeper]]:
    """Alpha with studies, and beta that keeps copies."""
    yield from pair(tmp_path_factory.mktemp("keepers"))


def test_a_copy_is_the_same_bytes_and_comes_once(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(1, instances=40, size=30_000))
    assert alpha.copied(beta, uid) == (40, [])
    for entry in alpha.node.catalog.select(Selection(studies=(uid,))):
        assert beta.copy(alpha, uid, entry.holding.sha256) == alpha.whole(entry)
    given = len(alpha.given)
    beta.reopen()
    assert alpha.copied(beta, uid) == (40, [])
    assert len(alpha.given) == given


def test_what_was_rejected_or_has_another_version_is_copied_too(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    first = phantoms(2, instances=2, size=30_000)
    uid = alpha.store(first)
    alpha.store([edited(first[0], StudyDescription="another")])
    assert len(alpha.order(uid).items) == 3
    assert alpha.copied(beta, uid) == (3, [])


def test_a_large_object_that_broke_off_goes_on_where_it_was(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(3, instances=1, size=12 * MB))
    size = alpha.order(uid).items[0].size
    alpha.grants[0] = alpha.grants[0].__class__(**{**_fields(alpha.grants[0]), "rate": 1})
    pieces = threading.Semaphore(9)
    gate = threading.Event()

    def rest(seconds: float) -> None:
        if not pieces.acquire(blocking=False) and not gate.is_set():
            gate.set()
            raise Unavailable("The line is cut.")

    alpha.rest = rest
    count, failed = alpha.copied(beta, uid)
    assert count == 0
    assert isinstance(failed[0], Unavailable)
    alpha.rest = lambda seconds: None
    beta.reopen()
    before = len(alpha.given)
    assert alpha.copied(beta, uid) == (1, [])
    wait_for(lambda: len(alpha.given) > before)
    came, again = 9 * MB, alpha.given[-1].size
    assert again <= size - came + MB
    alpha.grants[0] = alpha.grants[0].__class__(**{**_fields(alpha.grants[0]), "rate": 0})


def test_a_slow_line_is_waited_for_and_a_keeper_that_says_nothing_is_not(
    two: tuple[Keeper, Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, beta = two
    monkeypatch.setattr(copying, "_SILENT", 0.6)
    monkeypatch.setattr(pulling, "_SIGN", 0.1)
    uid = alpha.store(phantoms(15, instances=1, size=3 * MB))
    alpha.grants[0] = alpha.grants[0].__class__(**{**_fields(alpha.grants[0]), "rate": 1})
    alpha.rest = lambda seconds: time.sleep(0.4)
    began = time.monotonic()
    assert alpha.copied(beta, uid) == (1, [])
    assert time.monotonic() - began > 0.8, "the line was not slow"
    alpha.rest = lambda seconds: None
    alpha.grants[0] = alpha.grants[0].__class__(**{**_fields(alpha.grants[0]), "rate": 0})
    is_over = threading.Event()

    def silent(visitor: object, order: object) -> Iterator[Told]:
        yield Told()
        is_over.wait(60)

    monkeypatch.setattr(beta.keeping, "keep", silent)
    with pytest.raises(Unavailable, match="said nothing"):
        alpha.copied(beta, uid)
    is_over.set()


def _fields(row: object) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__struct_fields__}  # type: ignore[attr-defined]


def test_damaged_bytes_are_never_kept(two: tuple[Keeper, Keeper], tmp_path: Path) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(4, instances=3, size=30_000))
    entry = alpha.node.catalog.select(Selection(studies=(uid,)))[0]
    flip(alpha.node.home, alpha.whole(entry))
    count, failed = alpha.copied(beta, uid)
    assert count == 2
    assert [type(error) for error in failed] == [Damaged]
    assert not beta.copies.has(alpha.owner, uid, entry.holding.sha256)


def test_a_keeper_that_lost_or_changed_a_copy_cannot_prove_it(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(5, instances=4, size=30_000))
    assert alpha.copied(beta, uid) == (4, [])
    node_id = beta.peer.node_id
    assert alpha.proofs.prove("main", uid, node_id)
    digests = [item.sha256 for item in alpha.order(uid).items]
    flip(beta.folder, beta.copy(alpha, uid, digests[0]))
    beta.copies.drop(alpha.owner, uid, [digests[1]])
    assert not alpha.proofs.prove("main", uid, node_id)
    assert alpha.ledger.receipts(uid, node_id).all() == set(digests[2:])
    assert "2 of 4" in alpha.alarms[-1]
    assert not alpha.proofs.have_all("main", uid, [node_id])
    assert alpha.copied(beta, uid) == (4, [])
    assert alpha.proofs.have_all("main", uid, [node_id], within=0)


def test_a_keeper_that_comes_back_proves_what_it_took_last(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    node_id = beta.peer.node_id
    for number in range(12):
        uid = alpha.store(phantoms(16, number, instances=1))
        assert alpha.copied(beta, uid) == (1, [])
        alpha.ledger.place(uid, Placed(archive="main", rule="all", nodes=(node_id,), is_met=True))
    beta.copies.drop(alpha.owner, uid)
    alpha.proofs.returned(node_id)
    assert alpha.proofs.audit_step()
    assert not alpha.ledger.receipts(uid, node_id).all()


def test_a_keeper_answers_each_owner_about_its_own_copies_only(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(6, instances=2, size=30_000))
    assert alpha.copied(beta, uid) == (2, [])
    [listed] = list(alpha.link.listing(beta.peer.node_id, "main", study=uid))
    assert {item.sha256 for item in listed.items} == {item.sha256 for item in alpha.order(uid).items}
    assert next(iter(alpha.link.listing(beta.peer.node_id, "other", study=uid))).items == ()
    assert alpha.link.drop(beta.peer.node_id, "other", uid) == 0
    assert alpha.link.drop(beta.peer.node_id, "main", uid) == 2
    assert not beta.copies.has(alpha.owner, uid, listed.items[0].sha256)


def test_whom_nothing_is_granted_gets_no_copy(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(7, instances=2, size=30_000))
    grants, alpha.grants[:] = list(alpha.grants), []
    count, failed = alpha.copied(beta, uid)
    alpha.grants[:] = grants
    assert count == 0
    assert {type(error) for error in failed} == {NotPermitted}


def test_a_full_keeper_says_so_and_keeps_nothing_half(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(8, instances=2, size=30_000))
    beta.copies.limit = 1
    with pytest.raises(PacsError, match="room"):
        alpha.copied(beta, uid)
    beta.copies.limit = 0
    assert alpha.copied(beta, uid) == (2, [])


def test_bulk_rests_while_something_urgent_goes_to_the_same_peer_but_not_for_ever() -> None:
    lanes = Lanes(time.monotonic, patience=60, linger=0.05)
    with lanes.call("b", URGENT), lanes.call("other", BULK) as free:
        free.turn()
        assert lanes.waited_for == 1, "for bulk nobody waits"
    assert lanes.rested == 0
    over: list[float] = []

    def copy() -> None:
        with lanes.call("b", BULK) as lane:
            lane.turn()
            over.append(time.monotonic())

    with lanes.call("b", URGENT):
        thread = threading.Thread(target=copy)
        thread.start()
        assert over == []
        ended = time.monotonic()
    thread.join(60)
    assert over[0] >= ended + 0.05
    lanes = Lanes(time.monotonic, patience=0.2)
    with lanes.call("b", URGENT), lanes.call("b", BULK) as lane:
        lane.turn()
    assert lanes.rested >= 0.2
