"""The state rules of PS3.8 9.2, one byte at a time where that matters."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from catalog import Unavailable, encode_identifier
from node.contracts import Rejection
from node.dimse import Limits
from node.dimse.association import Association
from node.dimse.commands import Command, decode_command, encode_command
from node.dimse.dialing import Peer, dial, hang_up
from node.dimse.negotiation import Context
from node.dimse.transport import Connection
from tests.node.dimse.archive import CT_IMAGE, Node, identifier, serving
from tests.node.dimse.peers import until
from tests.node.dimse.wire import (
    ABORT,
    EXPLICIT,
    IMPLICIT,
    RELEASE_RP,
    RELEASE_RQ,
    STUDY_FIND,
    VERIFICATION,
    Raw,
    associate,
    context,
    echo_request,
    item,
    p_data,
)

Over = Callable[[str, int], None]


@pytest.fixture
def alpha() -> Iterator[Node]:
    with serving() as node:
        yield node


@pytest.fixture
def artim_over(alpha: Node, monkeypatch: pytest.MonkeyPatch) -> Over:
    """Returns what waits until so many connections are in a state, and lets their ARTIM expire."""

    def let(state: str, count: int) -> None:
        until(lambda: alpha.server.counters()[state] == count)
        alpha.let_artim_expire(monkeypatch)

    return let


def aborted(raw: Raw) -> tuple[int, int]:
    """Return source and reason of the A-ABORT that must come now."""
    kind, body = raw.pdu()
    assert kind == 7
    return body[2], body[3]


def response(raw: Raw) -> Command:
    kind, body = raw.pdu()
    assert kind == 4
    return decode_command(body[6:])


@pytest.mark.parametrize(
    "pdu",
    [
        RELEASE_RQ,
        RELEASE_RP,
        b"\x02" + associate()[1:],
        p_data(1, 3, b"nothing"),
        b"\x03\0\0\0\0\x04\0\1\1\1",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\0\0\0\0\0",
    ],
)
def test_anything_but_a_request_in_sta2_is_aborted_by_the_service_user(alpha: Node, pdu: bytes) -> None:
    with Raw(alpha.port) as raw:
        raw.send(pdu)
        assert aborted(raw)[0] == 0


def test_an_abort_in_sta2_only_closes(alpha: Node, artim_over: Over) -> None:
    with Raw(alpha.port) as raw:
        raw.send(ABORT)
        artim_over("ending", 1)
        assert raw.pdu()[0] == 0


def test_artim_ends_a_connection_that_asks_for_nothing(alpha: Node, artim_over: Over) -> None:
    with Raw(alpha.port) as silent, Raw(alpha.port) as half:
        half.send(associate()[:40])
        artim_over("requested", 2)
        assert silent.pdu()[0] == 0
        assert half.pdu()[0] == 0


def test_a_request_may_come_byte_by_byte(alpha: Node) -> None:
    with Raw(alpha.port) as raw:
        for byte in associate():
            raw.send(bytes((byte,)))
        assert raw.pdu()[0] == 2
        for byte in echo_request():
            raw.send(bytes((byte,)))
        assert response(raw).Status == 0


def test_titles_and_reserved_bytes_come_back_in_the_accept(alpha: Node) -> None:
    request = bytearray(associate(called=b"  ALPHA", calling=b" RAW "))
    request[42:74] = bytes(range(32))
    with Raw(alpha.port) as raw:
        raw.send(bytes(request))
        kind, body = raw.pdu()
    assert kind == 2
    assert body[4:68] == bytes(request[10:74])


@pytest.mark.parametrize(
    ("request_", "triple"),
    [
        (associate(version=2), (1, 2, 2)),
        (associate(application="1.2.3"), (1, 1, 2)),
        (associate(called=b"OTHER"), (1, 1, 7)),
    ],
)
def test_a_rejection_has_its_own_triple(alpha: Node, request_: bytes, triple: tuple[int, int, int]) -> None:
    with Raw(alpha.port) as raw:
        raw.send(request_)
        kind, body = raw.pdu()
        assert (kind, tuple(body[1:])) == (3, triple)


def test_a_rejection_by_the_device_book_is_sent_as_it_is(alpha: Node) -> None:
    alpha.book.rejection = Rejection(2, 3, 2, "not now")
    with Raw(alpha.port) as raw:
        raw.send(associate())
        assert raw.pdu() == (3, bytes((0, 2, 3, 2)))


@pytest.mark.parametrize(
    "request_",
    [
        associate(context(2, VERIFICATION, IMPLICIT)),
        associate(context(1, VERIFICATION, IMPLICIT), context(1, VERIFICATION, EXPLICIT)),
        associate(item(0x20, b"\1\0\0\0")),
        associate(item(0x77, b"no presentation context")),
        associate(more=item(0x53, b"\0")),
        associate()[:-1] + b"\xff",
        associate(max_pdu=7),
    ],
)
def test_a_request_that_contradicts_itself_is_aborted(alpha: Node, request_: bytes) -> None:
    with Raw(alpha.port) as raw:
        raw.send(request_[:2] + struct.pack(">I", len(request_) - 6) + request_[6:])
        kind, _ = raw.pdu()
        assert kind in (2, 7)
    until(lambda: alpha.server.counters()["open"] == 0)


def test_unknown_items_are_skipped(alpha: Node) -> None:
    with Raw(alpha.port) as raw:
        raw.send(associate(context(1, VERIFICATION, IMPLICIT), item(0x77, b"what"), more=item(0x99, b"this")))
        assert raw.pdu()[0] == 2
        assert raw.is_open()


@pytest.mark.parametrize(
    ("pdu", "reason"),
    [
        (associate(), 2),
        (b"\x02" + associate()[1:], 2),
        (RELEASE_RP, 2),
        (b"\x03\0\0\0\0\x04\0\1\1\1", 2),
        (b"\x09\0\0\0\0\x04abcd", 1),
        (b"\x00\0\0\0\0\x00", 1),
        (b"\x04\0\0\0\0\x00", 6),
        (b"\x04\0\0\0\0\x03abc", 6),
        (b"\x04\0\xff\xff\xff\xff" + bytes(6), 6),
        (b"\x04\0\0\0\0\x06" + struct.pack(">IBB", 1, 1, 3), 6),
        (b"\x04\0\0\0\0\x08" + struct.pack(">IBB", 200, 1, 3) + b"ab", 6),
        (p_data(3, 3, encode_command(Command(CommandField=0x30, MessageID=1))), 6),
        (p_data(1, 2, b"data set"), 6),
        (p_data(1, 3, b"\0\0"), 6),
        (p_data(1, 3, b""), 6),
        (p_data(1, 3, encode_command(Command(CommandField=0x30))), 5),
        (b"\x05\0\0\0\0\x06abcdef", 6),
    ],
)
def test_a_violation_is_aborted_by_the_provider_with_its_reason(
    alpha: Node, artim_over: Over, pdu: bytes, reason: int
) -> None:
    with Raw(alpha.port, ask=associate()) as raw:
        raw.send(pdu)
        assert aborted(raw) == (2, reason)
        artim_over("ending", 1)
        assert raw.pdu()[0] == 0
    until(lambda: alpha.server.counters()["open"] == 0)


def test_a_command_may_be_split_anywhere_and_a_pdu_may_hold_several_values(alpha: Node) -> None:
    command = encode_command(Command(CommandField=0x30, MessageID=7, AffectedSOPClassUID=VERIFICATION))
    values = [
        struct.pack(">IBB", 2 + len(command[:10]), 1, 1) + command[:10],
        struct.pack(">IBB", 2, 1, 1),
        struct.pack(">IBB", 2 + len(command[10:]), 1, 3) + command[10:],
    ]
    with Raw(alpha.port, ask=associate()) as raw:
        body = b"".join(values)
        raw.send(struct.pack(">BxI", 4, len(body)) + body)
        assert response(raw).MessageIDBeingRespondedTo == 7
        for byte in command[:-1]:
            raw.send(p_data(1, 1, bytes((byte,))))
        raw.send(p_data(1, 3, command[-1:]))
        assert response(raw).Status == 0


def test_a_command_in_the_middle_of_a_data_set_is_aborted(alpha: Node) -> None:
    store = Command(CommandField=1, MessageID=1, CommandDataSetType=0, AffectedSOPClassUID=CT_IMAGE,
                    AffectedSOPInstanceUID="1.2.3")  # fmt: skip
    with Raw(alpha.port, ask=associate(context(1, CT_IMAGE, EXPLICIT))) as raw:
        raw.send(p_data(1, 3, encode_command(store)) + p_data(1, 0, b"half") + echo_request())
        assert aborted(raw) == (2, 6)
    until(lambda: alpha.archive.abandoned == ["1.2.3"])


def test_an_abort_in_the_middle_of_a_data_set_forgets_the_instance(alpha: Node) -> None:
    store = Command(CommandField=1, MessageID=1, CommandDataSetType=0, AffectedSOPClassUID=CT_IMAGE,
                    AffectedSOPInstanceUID="1.2.3")  # fmt: skip
    with Raw(alpha.port, ask=associate(context(1, CT_IMAGE, EXPLICIT))) as raw:
        raw.send(p_data(1, 3, encode_command(store)) + p_data(1, 0, b"half") + ABORT)
        until(lambda: alpha.archive.abandoned == ["1.2.3"])
    assert not alpha.archive.instances


def test_silence_in_the_middle_of_a_message_is_aborted() -> None:
    with serving(Limits(message=0.5)) as node, Raw(node.port, ask=associate()) as raw:
        raw.send(echo_request()[:20])
        assert aborted(raw)[0] == 0


def test_an_idle_association_is_aborted_in_the_end() -> None:
    with serving(Limits(idle=0.3, message=0.2)) as node, Raw(node.port, ask=associate()) as raw:
        assert aborted(raw)[0] == 0


def test_release_is_answered_and_the_connection_waits_for_the_peer_to_close(alpha: Node) -> None:
    with Raw(alpha.port, ask=associate()) as raw:
        raw.send(RELEASE_RQ)
        assert raw.pdu() == (6, bytes(4))
        until(lambda: alpha.server.counters()["ending"] == 1)
    until(lambda: alpha.server.counters()["ending"] == 0)


def test_artim_closes_after_the_release_when_the_peer_does_not(alpha: Node, artim_over: Over) -> None:
    with Raw(alpha.port, ask=associate()) as raw:
        raw.send(RELEASE_RQ)
        assert raw.pdu()[0] == 6
        artim_over("ending", 1)
        assert raw.pdu()[0] == 0


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (Command(CommandField=0x30, MessageID=1, AffectedSOPClassUID=CT_IMAGE), 0x0122),
        (Command(CommandField=0x130, MessageID=1, AffectedSOPClassUID=VERIFICATION), 0x0211),
        (Command(CommandField=0x01, MessageID=1, AffectedSOPClassUID=VERIFICATION), 0x0211),
        (Command(CommandField=0x20, MessageID=1, AffectedSOPClassUID=VERIFICATION), 0x0211),
        (Command(CommandField=0x77, MessageID=1), 0x0211),
    ],
)
def test_a_command_that_fits_nothing_is_refused_and_the_next_one_works(
    alpha: Node, command: Command, status: int
) -> None:
    with Raw(alpha.port, ask=associate()) as raw:
        raw.send(p_data(1, 3, encode_command(command)))
        assert response(raw).Status == status
        assert raw.is_open()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"AffectedSOPClassUID": VERIFICATION}, 0x0122),
        ({"AffectedSOPInstanceUID": None}, 0x0117),
        ({"AffectedSOPInstanceUID": "1.2/x"}, 0x0117),
        ({"AffectedSOPInstanceUID": "1." * 40}, 0x0117),
        ({"CommandDataSetType": 0x0101}, 0x0212),
    ],
)
def test_a_store_request_that_contradicts_itself_has_its_status(
    alpha: Node, changes: dict[str, object], status: int
) -> None:
    said = {
        "CommandField": 1,
        "MessageID": 9,
        "CommandDataSetType": 0,
        "AffectedSOPClassUID": CT_IMAGE,
        "AffectedSOPInstanceUID": "1.2.3",
        **changes,
    }
    command = Command(**said)  # type: ignore[arg-type]
    with Raw(
        alpha.port, ask=associate(context(1, VERIFICATION, IMPLICIT), context(3, CT_IMAGE, EXPLICIT))
    ) as raw:
        raw.send(p_data(3, 3, encode_command(command)))
        if command.has_data_set:
            raw.send(p_data(3, 0, b"some") + p_data(3, 2, b"data"))
        answer = response(raw)
        assert (answer.Status, answer.MessageIDBeingRespondedTo) == (status, 9)
        assert answer.ErrorComment
        assert raw.is_open()
    assert not alpha.archive.instances


def test_responses_and_cancels_for_nothing_are_ignored(alpha: Node) -> None:
    with Raw(alpha.port, ask=associate()) as raw:
        raw.send(p_data(1, 3, encode_command(Command(CommandField=0x0FFF, MessageIDBeingRespondedTo=5))))
        raw.send(
            p_data(1, 3, encode_command(Command(CommandField=0x8030, MessageIDBeingRespondedTo=5, Status=0)))
        )
        assert raw.is_open()


def test_a_find_with_an_identifier_beyond_the_limit_or_none_is_refused() -> None:
    command = Command(CommandField=0x20, MessageID=1, CommandDataSetType=0, AffectedSOPClassUID=STUDY_FIND)
    bare = Command(CommandField=0x20, MessageID=2, AffectedSOPClassUID=STUDY_FIND)
    asked = associate(context(1, VERIFICATION, IMPLICIT), context(3, STUDY_FIND, IMPLICIT))
    with serving(Limits(identifier=1000)) as node, Raw(node.port, ask=asked) as raw:
        raw.send(p_data(3, 3, encode_command(command)) + p_data(3, 2, bytes(1002)))
        assert response(raw).Status == 0xA700
        raw.send(p_data(3, 3, encode_command(bare)))
        assert response(raw).Status == 0x0212
        raw.send(p_data(3, 3, encode_command(command)) + p_data(3, 2, b"\1\2\3\4\5\6\7\x08"))
        assert response(raw).Status in (0xA900, 0xC000)
        assert raw.is_open()


def test_a_release_collision_ends_for_the_requestor_and_data_under_way_is_dropped() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    association = Association(Connection(ours, 5), {}, 16384, 16384)
    peer = threading.Thread(target=_collide, args=(theirs,))
    peer.start()
    association.release()
    peer.join(60)
    ours.close()
    theirs.close()
    assert not peer.is_alive()


def _collide(sock: socket.socket) -> None:
    assert sock.recv(10) == RELEASE_RQ
    sock.sendall(p_data(1, 2, b"late") + RELEASE_RQ)
    assert sock.recv(10) == RELEASE_RP
    sock.sendall(RELEASE_RP)


def test_a_pdu_never_exceeds_what_the_peer_takes(alpha: Node) -> None:
    alpha.archive.answers = lambda query: iter([{"0020000D": {"vr": "UI", "Value": ["1.2." + "3" * 50]}}] * 3)
    asked = encode_identifier(identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=""), IMPLICIT)
    command = Command(CommandField=0x20, MessageID=1, CommandDataSetType=0, AffectedSOPClassUID=STUDY_FIND)
    with Raw(alpha.port, ask=associate(context(1, STUDY_FIND, IMPLICIT), max_pdu=64)) as raw:
        data = encode_command(command)
        raw.send(p_data(1, 3, data) + p_data(1, 2, asked))
        received = b""
        while b"\x00\x09\x02\x00\x00\x00\x00\x00" not in received:
            kind, body = raw.pdu()
            assert kind == 4
            assert len(body) <= 64
            received = received + body[6:] if not body[5] & 2 else body[6:]


def test_an_unlimited_peer_gets_large_pdus_and_is_accepted(alpha: Node) -> None:
    with Raw(alpha.port, ask=associate(max_pdu=0)) as raw:
        assert raw.is_open()


def test_our_requestor_is_told_what_an_abort_and_garbage_mean() -> None:
    for said in (
        ABORT,
        b"\x09\0\0\0\0\x00",
        b"\x02\0\xff\xff\xff\xff",
        b"\x03\0\0\0\0\x02ab",
        b"HTTP/1.0 400 Bad",
    ):
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=_say, args=(listener, said))
        thread.start()
        peer = Peer("X", "127.0.0.1", listener.getsockname()[1], "ALPHA")
        with pytest.raises(Unavailable):
            dial(peer, [(VERIFICATION, (IMPLICIT,))], Limits(connect=2))
        thread.join(60)
        listener.close()


def _say(listener: socket.socket, said: bytes) -> None:
    sock, _ = listener.accept()
    with sock:
        sock.recv(65536)
        sock.sendall(said)


def test_hanging_up_on_a_dead_peer_does_not_raise(alpha: Node) -> None:
    association = dial(Peer("ALPHA", "127.0.0.1", alpha.port, "X"), [(VERIFICATION, (IMPLICIT,))], Limits())
    assert isinstance(association.contexts[1], Context)
    association.connection.shut()
    hang_up(association, release=True)
