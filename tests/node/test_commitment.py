"""Storage Commitment as a device meets it: what is committed is safe, and the result comes, come what may."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog import NotPermitted
from node.app import Node
from node.contracts import Device, Service
from node.devices import DEV_RULE, UNVERIFIED
from node.dimse.commands import N_ACTION_RQ, Command
from node.dimse.meanings import MEANINGS
from node.dimse.tls import Security, client_context, server_context
from node.storage.places import place_of, segment_path
from sim.ports import free_port
from tests.homes import Peer, edited, phantoms, serving
from tests.node.committing import LOOPBACK, PUSH_INSTANCE, Results, action, asking, listening, pairs
from tests.running import until
from tests.split import objects_of, serving_split

N_GET_RQ, N_SET_RQ, N_CREATE_RQ, N_DELETE_RQ = 0x0110, 0x0120, 0x0140, 0x0150
BOTH = (Service.ECHO, Service.STORE, Service.COMMIT)


@pytest.fixture(
    params=[
        pytest.param(serving, id="whole"),
        pytest.param(serving_split, id="split", marks=pytest.mark.slow),
    ]
)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    with request.param(tmp_path / "home") as alpha:
        yield alpha


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Node]:
    """A node of one process, for what is done to its disks."""
    with serving(tmp_path / "home") as alpha:
        yield alpha


def damage(node: Node, SOPInstanceUID: str) -> None:
    """Flip one byte of a stored file where it lies on the disk."""
    [claim] = node.catalog.claims([SOPInstanceUID])[SOPInstanceUID]
    place = place_of(claim.entry.holding.where)
    with segment_path(objects_of(node), place.segment).open("r+b") as segment:
        segment.seek(place.offset + 512 + claim.entry.holding.size - 7)
        byte = segment.read(1)[0]
        segment.seek(-1, 1)
        segment.write(bytes([byte ^ 1]))


def test_a_device_in_the_book_is_told_on_an_association_of_its_own(node: Node) -> None:
    sent = phantoms(1, instances=3)
    Peer(node).store(*sent)
    called_back, same = Results(), Results()
    with listening(called_back) as port:
        node.devices.put(Device(ae_title="CT1", address=LOOPBACK, port=port, services=BOTH))
        asked = action(pairs(*sent))
        with asking(node.ports["dicom"], same) as scu:
            assert scu.ask(asked) == 0
            kind, committed, failed = called_back.only()
    assert (kind, committed, failed) == (1, {one.SOPInstanceUID for one in sent}, {})
    said = called_back.taken[0][1]
    assert said.TransactionUID == asked.TransactionUID
    assert said.RetrieveAETitle == "ALPHA"
    assert "FailedSOPSequence" not in said
    assert not same.taken


def test_a_device_that_is_not_in_the_book_is_told_on_the_association_it_asked_on(node: Node) -> None:
    sent = phantoms(2, instances=2)
    Peer(node).store(*sent)
    results = Results()
    with asking(node.ports["dicom"], results) as scu:
        assert scu.ask(action(pairs(*sent))) == 0
        assert results.only()[0] == 1
    until(lambda: not node.main.commitment.waiting())


def test_request_and_result_go_over_tls(tmp_path: Path) -> None:
    with serving(tmp_path / "home", tls={"host": LOOPBACK, "port": free_port()}) as node:
        sent = phantoms(1, instances=2)
        assert set(Peer(node).store(*sent)) == {0}
        certificate, key = node.home / "tls" / "node.crt", node.home / "tls" / "node.key"
        called_back, secure = Results(), Security(client_context(authorities=certificate))
        with listening(called_back, tls=server_context(certificate, key, ssl.CERT_NONE, None)) as port:
            row = Device(ae_title="CT1", address=LOOPBACK, port=port, services=BOTH, tls=UNVERIFIED)
            node.devices.put(row)
            with asking(node.ports["tls"], Results(), security=secure) as scu:
                assert scu.ask(action(pairs(*sent))) == 0
            assert called_back.only() == (1, {one.SOPInstanceUID for one in sent}, {})


def test_what_lies_on_a_second_disk_is_committed_while_that_is_there(whole: Node, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    verbs = whole.desk.verbs()
    verbs["add_volume"](path=str(tmp_path / "disk"), who="tester")
    verbs["set_read_only"](path=str(whole.main.folder), who="tester", is_wanted=True)
    until(lambda: [each["state"] for each in verbs["volumes"]()] == ["read-only", "ok"])
    [one] = phantoms(1, instances=1)
    assert Peer(whole).store(one) == [0]
    assert list((tmp_path / "disk").rglob("*.tar"))
    results = Results()
    with asking(whole.ports["dicom"], results) as scu:
        assert scu.ask(action(pairs(one))) == 0
        assert results.only() == (1, {one.SOPInstanceUID}, {})
        (tmp_path / "disk").rename(tmp_path / "unplugged")
        until(lambda: verbs["volumes"]()[1]["state"] == "missing")
        assert scu.ask(action(pairs(one))) == 0
        [told] = until(lambda: [row for row in whole.main.commitment.waiting() if row["why"]])
    assert "1 of 1 instances are not safe yet" in told["why"]
    assert len(results.taken) == 1, "while the disk is away it is neither promised nor given up"


def test_who_left_is_told_when_it_comes_again(node: Node) -> None:
    [one] = phantoms(3, instances=1)
    Peer(node).store(one)
    gone, back = Results(), Results()
    gone.statuses = [0x0110]
    with asking(node.ports["dicom"], gone) as scu:
        assert scu.ask(action(pairs(one))) == 0
        until(lambda: gone.refused)
    until(lambda: node.main.commitment.waiting()[0]["why"])
    [waiting] = node.desk.status()["commitments"]
    assert waiting["ae_title"] == "CT1"
    assert "0110" in waiting["why"]
    with asking(node.ports["dicom"], back):
        assert back.only()[:2] == (1, {one.SOPInstanceUID})
    until(lambda: not node.main.commitment.waiting())


def test_each_reference_is_told_once_with_its_own_reason(node: Node) -> None:
    good, damaged, other, rejected, deleted = (phantoms(number, instances=1)[0] for number in range(4, 9))
    peer = Peer(node)
    peer.store(good, damaged, other, rejected, deleted)
    damage(node, damaged.SOPInstanceUID)
    node.desk.verbs()["reject"](study_of(node, rejected.SOPInstanceUID), reason="wrong patient", who="test")
    node.desk.verbs()["delete"](study_of(node, deleted.SOPInstanceUID), reason="wrong patient", who="test")
    references = [
        *pairs(good, good, damaged, rejected, deleted),
        ("1.2.840.10008.5.1.4.1.1.4", other.SOPInstanceUID),
        (good.SOPClassUID, "1.2.3.4"),
        ("1.2.840.10008.1.1", "1.2.3.5"),
    ]
    results = Results()
    with asking(node.ports["dicom"], results) as scu:
        assert scu.ask(action(references)) == 0
        kind, committed, failed = results.only()
    assert (kind, committed) == (2, {good.SOPInstanceUID})
    assert failed == {
        damaged.SOPInstanceUID: 0x0110,
        rejected.SOPInstanceUID: 0x0112,
        deleted.SOPInstanceUID: 0x0112,
        other.SOPInstanceUID: 0x0119,
        "1.2.3.4": 0x0112,
        "1.2.3.5": 0x0122,
    }
    assert [row.SOPInstanceUID for row in node.main.care.book] == [damaged.SOPInstanceUID]


def study_of(node: Node, SOPInstanceUID: str) -> str:
    [claim] = node.catalog.claims([SOPInstanceUID])[SOPInstanceUID]
    return claim.entry.StudyInstanceUID


def test_a_uid_in_conflict_is_committed_only_when_every_version_is_safe(node: Node) -> None:
    [one] = phantoms(10, instances=1)
    other = edited(one, PatientID="4711")
    Peer(node).store(one, other)
    results = Results()
    with asking(node.ports["dicom"], results) as scu:
        assert scu.ask(action(pairs(one))) == 0
        assert results.only()[:2] == (1, {one.SOPInstanceUID})
        _, second = node.catalog.claims([one.SOPInstanceUID])[one.SOPInstanceUID]
        place = place_of(second.entry.holding.where)
        with segment_path(objects_of(node), place.segment).open("r+b") as segment:
            segment.seek(place.offset + 512 + 200)
            segment.write(b"damage")
        assert scu.ask(action(pairs(one))) == 0
        until(lambda: len(results.taken) == 2)
    assert results.read(1) == (2, set(), {one.SOPInstanceUID: 0x0110})


def test_what_an_unknown_sender_stored_is_not_committed_until_it_is_released(tmp_path: Path) -> None:
    [one] = phantoms(11, instances=1)
    results = Results()
    with serving(tmp_path / "home", is_trusting=False) as node:
        node.devices.put(Device(ae_title="CT1", services=BOTH))
        assert Peer(node, "STRANGER").store(one) == [0]
        with asking(node.ports["dicom"], results) as scu:
            assert scu.ask(action(pairs(one))) == 0
            assert results.only()[2] == {one.SOPInstanceUID: 0x0112}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda asked: asked.__delattr__("TransactionUID"), 0x0115),
        (lambda asked: asked.__delattr__("ReferencedSOPSequence"), 0x0115),
        (lambda asked: setattr(asked, "ReferencedSOPSequence", []), 0x0115),
        (lambda asked: asked.ReferencedSOPSequence[0].__delattr__("ReferencedSOPInstanceUID"), 0x0115),
        (lambda asked: asked.ReferencedSOPSequence[0].__delattr__("ReferencedSOPClassUID"), 0x0115),
        (lambda asked: setattr(asked, "TransactionUID", ["1.2", "1.3"]), 0x0115),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(node: Node, change: Any, status: int) -> None:
    asked = action([("1.2.840.10008.5.1.4.1.1.2", "1.2.3")])
    change(asked)
    results = Results()
    with asking(node.ports["dicom"], results) as scu:
        assert scu.ask(asked) == status
        assert scu.ask(action([("1.2.840.10008.5.1.4.1.1.2", "1.2.3")])) == 0, "the association goes on"
        assert results.only()[2] == {"1.2.3": 0x0112}


def test_other_actions_and_other_instances_are_refused(node: Node) -> None:
    asked = action([("1.2.840.10008.5.1.4.1.1.2", "1.2.3")])
    with asking(node.ports["dicom"], Results()) as scu:
        assert scu.ask(asked, kind=2) == 0x0123
        assert scu.ask(asked, instance="1.2.3") == 0x0112
        assert scu.ask(asked, instance="1.2.840.10008.1.40.1") == 0x0119
        for operation in (N_GET_RQ, N_SET_RQ, N_CREATE_RQ, N_DELETE_RQ):
            command = Command(CommandField=operation, RequestedSOPInstanceUID=PUSH_INSTANCE)
            assert scu.say(command) == 0x0211


def test_every_status_that_is_answered_is_in_the_statement(node: Node) -> None:
    asked = action([("1.2.840.10008.5.1.4.1.1.2", "1.2.3")])
    heard: set[int] = set()
    results = Results()
    with asking(node.ports["dicom"], results) as scu:
        other = Command(CommandField=N_GET_RQ, RequestedSOPInstanceUID=PUSH_INSTANCE)
        heard |= {scu.ask(asked, kind=kind) for kind in (None, 1, 2)}
        heard |= {scu.ask(asked, instance=uid) for uid in ("", "1.2.3", "1.2.840.10008.1.40.1")}
        heard |= {scu.ask(data) for data in (None, b"", b"\xff" * 60, bytes((8 << 20) + 2))}
        heard |= {scu.say(other)}
        results.only()
        node.devices.put(Device(ae_title="CT1", services=(Service.ECHO,)))
        node.devices.remove(DEV_RULE.ae_title)
        until(lambda: scu.ask(asked) == 0x0124)
    elsewhere = {0x0110, 0x0118, 0x0124, 0x0210}
    assert heard | elsewhere == {one.status for one in MEANINGS[N_ACTION_RQ]}


def test_who_may_not_ask_is_told_so_when_the_association_begins(tmp_path: Path) -> None:
    with serving(tmp_path / "home", is_trusting=False) as node:
        node.devices.put(Device(ae_title="CT1", services=(Service.ECHO, Service.STORE)))
        with pytest.raises(NotPermitted), asking(node.ports["dicom"], Results()):
            pass
        [refusal] = node.desk.status()["refusals"]
    assert refusal["remedy"] == "peerpacs devices edit CT1 --services +commit"


def test_a_transaction_uid_is_one_request(node: Node) -> None:
    sent = phantoms(12, instances=2)
    Peer(node).store(*sent)
    results = Results()
    asked, other = action(pairs(*sent), "1.2.3.9"), action(pairs(sent[0]), "1.2.3.9")
    results.statuses = [0x0110]
    with asking(node.ports["dicom"], results) as scu:
        assert scu.ask(asked) == 0
        until(lambda: results.refused)
        assert scu.ask(other) == 0x0210, "it is in use"
        assert scu.ask(asked) == 0, "the same again is the same request"
        assert results.only()[0] == 1
        until(lambda: not node.main.commitment.waiting())
        assert scu.ask(other) == 0
        until(lambda: len(results.taken) == 2)
    assert results.read(1) == (2, set(), {sent[0].SOPInstanceUID: 0x0131})


def test_ten_thousand_references_are_answered_each_once(node: Node) -> None:
    asked = [("1.2.840.10008.5.1.4.1.1.2", f"1.2.826.0.1.3680043.8.498.{10**37 + n}") for n in range(10_000)]
    results = Results()
    with asking(node.ports["dicom"], results) as scu:
        assert scu.ask(action(asked)) == 0
        assert results.only()[2] == {uid: 0x0112 for _, uid in asked}
