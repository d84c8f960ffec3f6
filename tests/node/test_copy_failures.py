"""What fails below copies: nothing acknowledged is lost, nothing is believed that was not seen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path

import grpc
import pytest
import zmq
from msgspec.structs import replace

from catalog import Entry, Move, Moved, Selection, Unavailable
from federation.copying import CopyItem, CopyLink
from federation.links.rpc import letters
from federation.objects import PeerLink
from federation.owners import Owner
from federation.trust.policy import ALL, Grant, Op
from federation.trust.rows import PeerRow
from node.app.damage import look_at_copies
from node.copies.carrier import CopyCarrier
from node.copies.ledger import Placed
from node.copies.pulling import Fetch
from node.copies.returning import Home, Returning
from node.copies.rows import row_of
from node.copies.store import Arrived, CopyStore
from node.storage import VolumeStore
from node.storage.elsewhere import place_elsewhere
from node.transfers import Kind, Lane, Order, Outcome, Verdict
from node.transfers.messages import Job
from node.transfers.worker import Hands
from tests.homes import Peer, phantoms, serving
from tests.node.copies import damage
from tests.node.keepers import SMALL, Keeper, flip, pair
from tests.running import until


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Keeper, Keeper]]:
    """Alpha with studies, and beta that keeps copies."""
    yield from pair(tmp_path_factory.mktemp("keepers"))


def carried(
    alpha: Keeper, beta: Keeper, uid: str, damaged: list[Entry], link: CopyLink | None = None
) -> Outcome:
    """Have alpha's transfer bring beta a study, once, over some link; return how that ended."""
    node_id = beta.peer.node_id
    alpha.ledger.place(uid, Placed(archive="main", rule="all", nodes=(node_id,)))
    order = Order(kind=Kind.COPY, destination=node_id, archive="main", StudyInstanceUID=uid)
    carrier = CopyCarrier(
        alpha.ledger,
        link or alpha.link,
        alpha.peer.node_id,
        lambda name: alpha.node.catalog,
        lambda node_id: "",
        lambda archive, uid: False,
        lambda archive, entry: damaged.append(entry),
    )
    with zmq.Context() as context, context.socket(zmq.DEALER) as wire:
        hands = Hands(Job(order.id, "lease", 1, order, Lane.BULK, 1), wire, time.time, lambda: False)
        return carrier.carry(hands.job, hands)


def test_an_object_that_always_fails_holds_up_nothing_else_of_its_study(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(21, instances=300, size=4000))
    bad = alpha.node.archive("main").catalog.versions((uid,))[0]
    flip(alpha.node.home, alpha.whole(bad))
    damaged: list[Entry] = []
    outcome = carried(alpha, beta, uid, damaged)
    assert (outcome.verdict, outcome.blames_destination) == (Verdict.LATER, False)
    assert [entry.SOPInstanceUID for entry in damaged] == [bad.SOPInstanceUID]
    assert len(alpha.ledger.receipts(uid, beta.peer.node_id).all()) == 299
    said = beta.copies.said(alpha.owner, uid)
    assert said is not None
    assert said.readable, "readers are not told of what did come"


def test_a_deleted_series_goes_at_its_keeper_although_the_line_broke_in_the_middle(
    two: tuple[Keeper, Keeper],
) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(26, instances=4, series=2, size=4000))
    node_id, catalog = beta.peer.node_id, alpha.node.archive("main").catalog
    assert carried(alpha, beta, uid, []).verdict is Verdict.OVER
    entries = catalog.versions((uid,))
    gone = [each for each in entries if each.SeriesInstanceUID == entries[0].SeriesInstanceUID]
    verbs = alpha.node.desk.verbs()
    verbs["delete"](target=entries[0].SeriesInstanceUID, reason="a test", who="ann")
    catalog.purge(uid, gone)

    def broken(channel: str) -> grpc.Channel:
        raise Unavailable("The line broke.", "")

    with pytest.raises(Unavailable):
        carried(alpha, beta, uid, [], CopyLink(broken, str, lambda name, run: None, time.monotonic))
    assert alpha.ledger.droppings.owing(uid) == [node_id]
    assert alpha.ledger.droppings.studies() == {uid}
    assert carried(alpha, beta, uid, []).verdict is Verdict.OVER
    left = {each.holding.sha256 for each in entries} - {each.holding.sha256 for each in gone}
    assert {row.holding.sha256 for row in beta.copies.study(alpha.owner, uid)} == left
    row = alpha.ledger.droppings.of(uid)[node_id]
    assert (row.dropped, row.all(), row.done > 0) == (len(gone), set(), True)


def test_a_copy_that_the_door_never_takes_keeps_nothing_else_from_coming_home(
    two: tuple[Keeper, Keeper],
) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(22, instances=5, size=20_000))
    assert alpha.copied(beta, uid) == (5, [])
    garbage = (b"no DICOM file at all %d" % number * 50 for number in count())
    # Copies are listed by their SHA-256: this one is the first.
    data = next(data for data in garbage if sha256(data).digest()[0] == 0)
    incoming = beta.copies.incoming(alpha.owner, uid, sha256(data).digest(), len(data))
    incoming.space(len(data))[:] = data
    incoming.filled(len(data))
    row = row_of(CopyItem("1.2", "1.3", "1.4", "1.5", sha256(data).digest(), len(data), "CT", 1))
    beta.copies.keep(alpha.owner, uid, [Arrived(incoming, row)])
    incoming.discard()
    archive = alpha.node.archive("main")
    lost = {entry.holding for entry in archive.catalog.versions((uid,))}
    assert len(archive.catalog.forget_lost(lambda holding: holding in lost)) == 5
    home = Home(
        Owner(alpha.peer.node_id, "main"),
        archive.catalog,
        archive.ingest,
        lambda: archive.care.book,
        lambda source: "",
        lambda decision: None,
        lambda uid: None,
    )
    # All of it comes before anything is kept, so that it is one batch.
    fetch = Fetch(PeerLink(alpha._channel, str).fetch, letters, lambda name, run: run(), time.monotonic)
    connected = [beta.peer.node_id]
    returning = Returning(home, alpha.ledger, alpha.link, lambda: connected, fetch, time.time)
    assert returning.recover_step()
    assert len(archive.catalog.select(Selection(studies=(uid,)))) == 5
    assert not returning.recover_step(), "what cannot come is not tried for ever"


def test_a_disk_that_does_not_answer_is_no_damage_and_no_reason_to_drop_copies(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with serving(tmp_path / "node") as node:
        archive, copying = node.archive("main"), node.neighbourhood.copying
        volumes = archive.segments
        assert isinstance(volumes, VolumeStore)
        volumes.list.add(disk)
        volumes.list.mark(0, is_read_only=True)
        until(lambda: [state.state for state in volumes.states()][1:] == ["ok"])
        assert set(Peer(node).store(*phantoms(1, instances=2))) == {0}
        entries = [entry for _, entry in archive.care.inspector.entries()]
        assert [copying.each["main"].is_sound(entry) for entry in entries] == [True, True]
        disk.rename(tmp_path / "unplugged")
        until(lambda: not any(copying.each["main"].is_sound(entry) for entry in entries))
        assert [*archive.care.book] == []


def test_copies_of_what_lies_at_their_keeper_alone_never_go(tmp_path: Path) -> None:
    with serving(tmp_path / "node") as node:
        archive, copying = node.archive("main"), node.neighbourhood.copying
        assert set(Peer(node).store(*phantoms(1, instances=2))) == {0}
        entries = [entry for _, entry in archive.care.inspector.entries()]
        uid = entries[0].StudyInstanceUID
        copying.ledger.received(uid, "keeper", [entry.holding.sha256 for entry in entries])
        for placed in (None, Placed(archive="main", rule="all", nodes=())):
            copying.ledger.place(uid, placed)
            assert copying.each["main"].may_drop(uid)
        moves = [
            Move(each.SOPInstanceUID, each.holding, replace(each.holding, where=place_elsewhere(each)))
            for each in entries
        ]
        assert archive.catalog.relocate(moves) == [Moved.NOW, Moved.NOW]
        for placed in (None, Placed(archive="main", rule="all", nodes=())):
            copying.ledger.place(uid, placed)
            assert not copying.each["main"].may_drop(uid)


def test_equal_bytes_of_two_owners_are_both_there_after_a_kill(
    two: tuple[Keeper, Keeper], tmp_path: Path
) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(23, instances=1, size=20_000))
    assert alpha.copied(beta, uid) == (1, [])
    [row] = beta.copies.study(alpha.owner, uid)
    incoming = beta.copies.incoming(alpha.owner, uid, row.holding.sha256, row.holding.size)
    data = beta.copy(alpha, uid, row.holding.sha256)
    incoming.space(len(data))[:] = data
    incoming.filled(len(data))
    beta.copies.keep(b"gamma/main", uid, [Arrived(incoming, row)])
    incoming.discard()
    # What lies there now is what a kill leaves.
    shutil.copytree(beta.folder, tmp_path / "killed")
    after = CopyStore(tmp_path / "killed", time.time, SMALL)
    assert [after.prove(each, uid, row.holding.sha256, b"") for each in (alpha.owner, b"gamma/main")] == [
        b"\1",
        b"\1",
    ]
    after.close()


def test_rows_of_copies_that_were_damaged_are_made_again_from_the_objects(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    uid = alpha.store(phantoms(24, instances=6, size=20_000))
    node_id = beta.peer.node_id
    assert carried(alpha, beta, uid, []).verdict is Verdict.OVER
    had = beta.copies.study(alpha.owner, uid)
    receipts = alpha.ledger.receipts(uid, node_id)

    def break_down() -> None:
        damage(beta.folder / "rows")
        look_at_copies(beta.folder, time.time())

    given = len(alpha.given)
    beta.reopen(break_down)
    assert list(beta.folder.glob("rows.damaged-*"))
    assert beta.copies.study(alpha.owner, uid) == had
    assert not alpha.proofs.prove("main", uid, node_id), "it was not told what the owner had said"
    assert alpha.ledger.receipts(uid, node_id).all() == receipts.all()
    assert carried(alpha, beta, uid, []).verdict is Verdict.OVER
    assert len(alpha.given) == given, "no bytes go twice"
    assert alpha.proofs.prove("main", uid, node_id)
    beta.reopen()
    assert beta.copies.study(alpha.owner, uid) == had


def test_a_member_that_was_never_connected_has_heard_of_nothing_and_one_that_joined_later_need_not(
    tmp_path: Path,
) -> None:
    with serving(tmp_path / "node") as node:
        copying, tables = node.neighbourhood.copying, node.grid.tables
        for name, since in (("early", 1_000), ("late", int(time.time()) + 60)):
            row = PeerRow(node_id=name, name=name, site=name.upper(), since=since)
            tables.peers.put(name.encode(), row)
            grant = Grant(peer=f"node:{name}", share=ALL.name, ops=(Op.CATALOG,))
            tables.grants.put(name.encode(), grant)
        tables.shares.put(ALL.name.encode(), ALL)
        assert set(Peer(node).store(*phantoms(1))) == {0}
        [entry] = [entry for _, entry in node.main.care.inspector.entries()]
        node.desk.verbs()["delete"](target=entry.StudyInstanceUID, reason="a test", who="ann")
        copying._hear()
        assert {name: heard for name, (_, heard) in copying.members.heard().items()} == {
            "early": 0.0,
            "late": 0.0,
        }
        assert copying.members.lost() == [], "it is lost in its time"
        [order] = node.desk.verbs()["deletions"]()["orders"]
        assert order["unheard"] == ["early"]
