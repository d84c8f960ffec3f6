"""C-MOVE and C-GET when something is slow, dies, is cancelled or does not fit; C-FIND cancelled midway."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from catalog import Attributes, Entry, Query, encode_identifier
from node.contracts import Device
from node.dimse import Limits, Requestor
from node.dimse.association import Association
from node.dimse.commands import Command, decode_command, encode_command
from node.dimse.delivery import Delivery
from node.dimse.dialing import Peer, dial, hang_up
from node.dimse.negotiation import Context
from node.dimse.reencode import reencode
from node.dimse.syntaxes import STORAGE
from tests.node.dimse.archive import CT_IMAGE, Node, Stored, identifier, instances, serving
from tests.node.dimse.peers import until
from tests.node.dimse.wire import EXPLICIT, STUDY_FIND

STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
BRISK = Limits(progress=0.1, connect=2.0, response=2.0, message=5.0)


@pytest.fixture
def alpha() -> Iterator[Node]:
    with serving(BRISK) as node:
        for stored in instances(20, 3000):
            node.archive.put(stored)
        yield node


class Asker:
    """An SCU that sees every response as it comes."""

    def __init__(self, node: Node, uid: str, *storage: str) -> None:
        proposed = [(uid, (EXPLICIT,)), *((one, (EXPLICIT,)) for one in storage)]
        roles = dict.fromkeys(storage, (False, True))
        peer = Peer("ALPHA", "127.0.0.1", node.port, "VIEWER")
        self.association: Association = dial(peer, proposed, Limits(message=20), roles)
        self.context: Context = self.association.contexts[1]
        self.uid = uid

    def ask(self, field: int, keys: Attributes, destination: str | None = None, message_id: int = 7) -> None:
        command = Command(
            CommandField=field, MessageID=message_id, CommandDataSetType=1, AffectedSOPClassUID=self.uid,
            MoveDestination=destination, Priority=1,
        )  # fmt: skip
        self.association.send(self.context, encode_command(command), encode_identifier(keys, EXPLICIT))

    def cancel(self, message_id: int = 7) -> None:
        command = Command(CommandField=0x0FFF, MessageIDBeingRespondedTo=message_id)
        self.association.send(self.context, encode_command(command))

    def next(self) -> Command:
        context, command = self.association.receive_command()
        if command.has_data_set:
            self.association.receive_data_set(context, 1 << 20)
        return command

    def final(self) -> Command:
        while (command := self.next()).Status in (0xFF00, 0xFF01):
            pass
        return command

    def close(self) -> None:
        hang_up(self.association, release=True)


def study() -> Attributes:
    return identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")


def to(node: Node, port: int, **options: tuple[str, ...]) -> None:
    node.book.destinations["DEST"] = Device(ae_title="DEST", address="127.0.0.1", port=port, **options)  # type: ignore[arg-type]


def test_a_find_is_cancelled_in_the_middle(alpha: Node) -> None:
    closed = threading.Event()

    def endless(query: Query) -> Iterator[Attributes]:
        try:
            while True:
                yield study()
        finally:
            closed.set()

    alpha.archive.answers = endless
    asker = Asker(alpha, STUDY_FIND)
    asker.ask(0x20, study())
    for _ in range(100):
        assert asker.next().Status in (0xFF00, 0xFF01)
    asker.cancel()
    final = asker.final()
    assert (final.Status, final.has_data_set) == (0xFE00, False)
    assert closed.is_set()
    asker.ask(0x20, study())
    asker.cancel(message_id=99)
    assert asker.next().Status in (0xFF00, 0xFF01)
    asker.cancel()
    assert asker.final().Status == 0xFE00
    asker.close()


def test_our_find_can_be_cancelled(alpha: Node) -> None:
    alpha.archive.answers = lambda query: (study() for _ in iter(int, 1))
    find = Requestor("VIEWER", "127.0.0.1", alpha.port, "ALPHA").find(study())
    for number, _ in enumerate(find):
        if number == 10:
            find.cancel()
    assert find.status == 0xFE00


def test_answers_of_a_slow_search_are_not_held_back(alpha: Node) -> None:
    go_on = threading.Event()

    def slow(query: Query) -> Iterator[Attributes]:
        yield study()
        go_on.wait(60)
        yield study()

    alpha.archive.answers = slow
    asker = Asker(alpha, STUDY_FIND)
    asker.ask(0x20, study())
    assert asker.next().Status in (0xFF00, 0xFF01)
    go_on.set()
    assert asker.final().Status == 0
    asker.close()


def test_a_caller_that_leaves_in_the_middle_of_a_find_ends_the_search(alpha: Node) -> None:
    closed = threading.Event()

    def endless(query: Query) -> Iterator[Attributes]:
        try:
            while True:
                yield study()
        finally:
            closed.set()

    alpha.archive.answers = endless
    asker = Asker(alpha, STUDY_FIND)
    asker.ask(0x20, study())
    asker.next()
    hang_up(asker.association, release=False)
    assert closed.wait(60)
    until(lambda: alpha.server.counters()["open"] == 0)


class Destination:
    """A storage SCP that does to each C-STORE what `act` says."""

    def __init__(self, *acts: str) -> None:
        self.acts = list(acts)
        self.associations = 0
        self.commands: list[Command] = []
        self.ended = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(60)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.associations += 1
            with sock:
                try:
                    self._associate(sock)
                except OSError:
                    continue

    def _associate(self, sock: socket.socket) -> None:
        body = self._pdu(sock)[1]
        results, offset = b"", 68
        while offset < len(body):
            kind, length = body[offset], int.from_bytes(body[offset + 2 : offset + 4], "big")
            value = body[offset + 4 : offset + 4 + length]
            if kind == 0x20:
                syntax = value[value.index(b"\x40\0", 8) :]
                first = syntax[: 4 + int.from_bytes(syntax[2:4], "big")]
                item = bytes((value[0], 0, 0, 0)) + first
                results += b"\x21\0" + struct.pack(">H", len(item)) + item
            offset += 4 + length
        user = bytes.fromhex("50000008 51000004 00004000")
        answer = body[:68] + bytes.fromhex("10000015") + b"1.2.840.10008.3.1.1.1" + results + user
        sock.sendall(b"\2\0" + struct.pack(">I", len(answer)) + answer)
        while self._message(sock):
            pass

    def _message(self, sock: socket.socket) -> bool:
        kind, body = self._pdu(sock)
        if kind == 5:
            sock.sendall(b"\6\0\0\0\0\4\0\0\0\0")
        if kind != 4:
            return False
        command = decode_command(body[6:])
        self.commands.append(command)
        while not self._pdu(sock)[1][5] & 2:
            pass
        act = self.acts.pop(0) if self.acts else "0000"
        if act == "die":
            return False
        if act.startswith("wait"):
            if self.ended.wait(float(act[4:])):
                return False
            act = "0000"
        answer = encode_command(
            Command(
                CommandField=0x8001, MessageIDBeingRespondedTo=command.MessageID, Status=int(act, 16),
                AffectedSOPClassUID=command.AffectedSOPClassUID,
                AffectedSOPInstanceUID=command.AffectedSOPInstanceUID,
            )
        )  # fmt: skip
        sock.sendall(struct.pack(">BxIIBB", 4, len(answer) + 6, len(answer) + 2, body[4], 3) + answer)
        return True

    def _pdu(self, sock: socket.socket) -> tuple[int, bytes]:
        header = self._read(sock, 6)
        return header[0], self._read(sock, int.from_bytes(header[2:], "big"))

    def _read(self, sock: socket.socket, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = sock.recv(length - len(data))
            if not part:
                raise OSError("the peer is gone")
            data += part
        return data


def test_every_store_names_its_originator_and_keeps_the_priority(alpha: Node) -> None:
    with Destination() as destination:
        to(alpha, destination.port)
        asker = Asker(alpha, STUDY_MOVE)
        asker.ask(0x21, study(), "DEST", message_id=4711)
        final = asker.final()
        asker.close()
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0, 20)
    assert final.NumberOfRemainingSuboperations is None
    assert destination.associations == 1
    for command in destination.commands:
        assert command.MoveOriginatorApplicationEntityTitle == "VIEWER"
        assert command.MoveOriginatorMessageID == 4711
        assert command.Priority == 1


def test_pending_comes_at_the_start_and_while_nothing_moves_and_counts_add_up(alpha: Node) -> None:
    with Destination("0000", "wait0.7", "A700", "B007") as destination:
        to(alpha, destination.port)
        asker = Asker(alpha, STUDY_MOVE)
        asker.ask(0x21, study(), "DEST")
        responses: list[Command] = []
        while not responses or responses[-1].Status == 0xFF00:
            responses.append(asker.next())
        asker.close()
    assert responses[0].NumberOfRemainingSuboperations == 20
    assert len(responses) >= 5
    for pending in responses[:-1]:
        assert not pending.has_data_set
        counts = (
            pending.NumberOfRemainingSuboperations, pending.NumberOfCompletedSuboperations,
            pending.NumberOfFailedSuboperations, pending.NumberOfWarningSuboperations,
        )  # fmt: skip
        assert sum(count or 0 for count in counts) == 20
    final = responses[-1]
    assert (final.Status, final.has_data_set) == (0xB000, True)
    assert (final.NumberOfCompletedSuboperations, final.NumberOfFailedSuboperations) == (18, 1)
    assert final.NumberOfWarningSuboperations == 1


def test_a_destination_that_dies_costs_one_sub_operation_each_time(alpha: Node) -> None:
    with Destination("0000", "die", "0000", "0000", "die", "0000") as destination:
        to(alpha, destination.port)
        moved = Requestor("VIEWER", "127.0.0.1", alpha.port, "ALPHA").move(study(), "DEST")
    assert (moved.status, moved.completed, moved.failed) == (0xB000, 18, 2)
    assert moved.failed_uids == ("1.2.3.4.2", "1.2.3.4.5")
    assert destination.associations == 3


def test_a_destination_that_always_dies_is_given_up(alpha: Node) -> None:
    with Destination(*["die"] * 20) as destination:
        to(alpha, destination.port)
        moved = Requestor("VIEWER", "127.0.0.1", alpha.port, "ALPHA").move(study(), "DEST")
    assert (moved.status, moved.completed, moved.failed) == (0xA702, 0, 20)
    assert destination.associations == 3


def test_a_destination_that_never_answers_fails_after_its_time(alpha: Node) -> None:
    with Destination("wait4") as destination:
        to(alpha, destination.port)
        moved = Requestor("VIEWER", "127.0.0.1", alpha.port, "ALPHA").move(
            identifier(QueryRetrieveLevel="IMAGE", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4",
                       SOPInstanceUID="1.2.3.4.1"), "DEST",
        )  # fmt: skip
    assert (moved.status, moved.failed) == (0xA702, 1)
    assert "no answer" in moved.comment


def test_a_move_is_cancelled_in_the_middle_and_says_what_remains(alpha: Node) -> None:
    with Destination("0000", "wait1", *["wait0.1"] * 18) as destination:
        to(alpha, destination.port)
        asker = Asker(alpha, STUDY_MOVE)
        asker.ask(0x21, study(), "DEST")
        until(lambda: len(destination.commands) >= 2)
        asker.cancel()
        final = asker.final()
        asker.close()
    assert final.Status == 0xFE00
    counts = (
        final.NumberOfRemainingSuboperations, final.NumberOfCompletedSuboperations,
        final.NumberOfFailedSuboperations, final.NumberOfWarningSuboperations,
    )  # fmt: skip
    assert counts[0] is not None
    assert counts[0] >= 10
    assert sum(count or 0 for count in counts) == 20


def test_a_cancel_does_not_wait_for_a_destination_that_hangs() -> None:
    with serving(Limits(response=60, progress=0.1)) as node, Destination("wait6") as destination:
        for stored in instances(3):
            node.archive.put(stored)
        to(node, destination.port)
        asker = Asker(node, STUDY_MOVE)
        asker.ask(0x21, study(), "DEST")
        until(lambda: destination.commands)
        started = time.monotonic()
        asker.cancel()
        assert asker.final().Status == 0xFE00
        assert time.monotonic() - started < 4
        asker.close()


def test_a_caller_that_aborts_ends_its_move(alpha: Node) -> None:
    with Destination(*["wait0.2"] * 20) as destination:
        to(alpha, destination.port)
        asker = Asker(alpha, STUDY_MOVE)
        asker.ask(0x21, study(), "DEST")
        until(lambda: len(destination.commands) >= 2)
        hang_up(asker.association, release=False)
        until(lambda: alpha.server.counters()["open"] == 0)
        assert len(destination.commands) < 20
    assert alpha.trail.of("move")[0][0] == "broken"


def test_a_get_is_cancelled_between_two_instances(alpha: Node) -> None:
    asker = Asker(alpha, STUDY_GET, CT_IMAGE)
    asker.ask(0x10, study())
    stored = 0
    while (command := asker.next()).CommandField != 0x8010 or command.Status == 0xFF00:
        if command.CommandField == 1:
            stored += 1
            if stored == 3:
                asker.cancel()
            answer = Command(CommandField=0x8001, MessageIDBeingRespondedTo=command.MessageID, Status=0)
            asker.association.send(asker.association.contexts[3], encode_command(answer))
    assert (command.Status, command.NumberOfCompletedSuboperations) == (0xFE00, 3)
    assert command.NumberOfRemainingSuboperations == 17
    asker.close()


def test_a_move_that_awaits_a_far_instance_is_cancelled_within_a_second(alpha: Node) -> None:
    alpha.archive.far = {alpha.archive.entries[4].SOPInstanceUID}
    with Destination() as destination:
        to(alpha, destination.port)
        asker = Asker(alpha, STUDY_MOVE)
        asker.ask(0x21, study(), "DEST")
        assert alpha.archive.awaited.wait(60)
        assert asker.next().Status == 0xFF00
        asker.cancel()
        started = time.monotonic()
        final = asker.final()
        asker.close()
    assert time.monotonic() - started < 1
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0xFE00, 4)
    assert (final.NumberOfFailedSuboperations, final.NumberOfRemainingSuboperations) == (0, 16)
    assert alpha.archive.expected == [], "what was fetched ahead is wanted no more"


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_get_that_awaits_a_far_instance_is_cancelled_and_counts_what_was_sent(
    alpha: Node, is_answered: bool
) -> None:
    """The answer to the one before may come before the C-CANCEL, while the next one is awaited, or after."""
    alpha.archive.far = {alpha.archive.entries[1].SOPInstanceUID}
    asker = Asker(alpha, STUDY_GET, CT_IMAGE)
    asker.ask(0x10, study())
    while (command := asker.next()).CommandField != 1:
        assert command.Status == 0xFF00
    answer = Command(CommandField=0x8001, MessageIDBeingRespondedTo=command.MessageID, Status=0)
    assert alpha.archive.awaited.wait(60)
    if is_answered:
        asker.association.send(asker.association.contexts[3], encode_command(answer))
    asker.cancel()
    if not is_answered:
        asker.association.send(asker.association.contexts[3], encode_command(answer))
    final = asker.final()
    asker.close()
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0xFE00, 1)
    assert (final.NumberOfFailedSuboperations, final.NumberOfRemainingSuboperations) == (0, 19)


def test_a_caller_that_leaves_while_a_far_instance_is_awaited_ends_its_get(alpha: Node) -> None:
    alpha.archive.far = {alpha.archive.entries[1].SOPInstanceUID}
    asker = Asker(alpha, STUDY_GET, CT_IMAGE)
    asker.ask(0x10, study())
    assert alpha.archive.awaited.wait(60)
    hang_up(asker.association, release=False)
    until(lambda: alpha.trail.of("get"))
    assert alpha.trail.of("get")[0][0] == "broken"


def test_a_get_without_role_selection_fails_every_sub_operation(alpha: Node) -> None:
    peer = Peer("ALPHA", "127.0.0.1", alpha.port, "VIEWER")
    asker = Asker(alpha, STUDY_GET)
    asker.close()
    asker.association = dial(peer, [(STUDY_GET, (EXPLICIT,)), (CT_IMAGE, (EXPLICIT,))], Limits())
    asker.context = asker.association.contexts[1]
    asker.ask(0x10, study())
    final = asker.final()
    assert (final.Status, final.NumberOfFailedSuboperations) == (0xA702, 20)
    asker.close()


def test_the_device_book_narrows_what_is_proposed_and_accepted(alpha: Node) -> None:
    alpha.archive.put(Stored(CT_IMAGE, "1.2.3.4.77", "1.2.840.10008.1.2.4.70", b"compressed"))
    with Destination() as destination:
        to(alpha, destination.port, transfer_syntaxes=(EXPLICIT,))
        moved = Requestor("VIEWER", "127.0.0.1", alpha.port, "ALPHA").move(study(), "DEST")
    assert (moved.completed, moved.failed_uids) == (20, ("1.2.3.4.77",))
    assert destination.associations == 1
    alpha.book.device = Device(ae_title="VIEWER", transfer_syntaxes=(EXPLICIT,))
    sent = list(
        Requestor("VIEWER", "127.0.0.1", alpha.port, "ALPHA").store(
            [*instances(1, 500, "1.9", "1.2.840.10008.1.2.4.70"), *instances(1, 500, "1.8")]
        )
    )
    assert [one.status for one in sent] == [0x0110, 0]


def test_more_pairs_than_one_association_holds_go_over_several(alpha: Node) -> None:
    classes = sorted(STORAGE)[:150]
    pairs = [(uid, syntax) for syntax in ("1.2.840.10008.1.2.4.70", EXPLICIT) for uid in classes]
    many = [Stored(uid, f"1.2.3.4.{number}", syntax, b"data") for number, (uid, syntax) in enumerate(pairs)]
    with serving() as beta:
        delivery = Delivery(Peer("ALPHA", "127.0.0.1", beta.port, "X"), BRISK, reencode, expected=pairs)
        for one in many:
            delivery.begin(one)
            assert delivery.end().status == 0
        delivery.close()
        until(lambda: beta.server.counters()["open"] == 0)
        assert beta.server.counters()["accepted"] == 3
        assert {u: s.TransferSyntaxUID for u, s in beta.archive.instances.items()} == {
            one.SOPInstanceUID: one.TransferSyntaxUID for one in many
        }


def test_more_than_65535_sub_operations_saturate_the_counters_and_all_run(alpha: Node) -> None:
    one: Entry = alpha.archive.entries[0]
    alpha.archive.entries = [one] * 70_000
    alpha.archive.missing = {one.SOPInstanceUID}
    with Destination() as destination:
        to(alpha, destination.port)
        asker = Asker(alpha, STUDY_MOVE)
        asker.ask(0x21, study(), "DEST")
        first = asker.next()
        assert first.NumberOfRemainingSuboperations == 0xFFFF
        final = asker.final()
        assert (final.Status, final.NumberOfFailedSuboperations) == (0xA702, 0xFFFF)
        hang_up(asker.association, release=False)


def test_the_next_instance_is_opened_while_the_last_is_awaited_and_all_are_closed(alpha: Node) -> None:
    with Destination("0000", "die") as destination:
        to(alpha, destination.port)
        Requestor("VIEWER", "127.0.0.1", alpha.port, "ALPHA").move(study(), "DEST")
    assert all(stored.is_closed for stored in alpha.archive.instances.values())
