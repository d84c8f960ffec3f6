"""Bytes nobody should send: whatever comes, the server neither crashes nor hangs, and serves the next."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from catalog import PacsError, encode_identifier
from node.dimse import Limits, Requestor
from node.dimse.commands import Command, decode_command, encode_command
from node.dimse.negotiation import negotiate
from node.dimse.pdu import ASSOCIATE_AC, ASSOCIATE_RQ, Violation, decode_associate, encode_associate
from tests.node.dimse.archive import CT_IMAGE, Node, identifier, instances, serving
from tests.node.dimse.peers import until
from tests.node.dimse.wire import (
    EXPLICIT,
    IMPLICIT,
    RELEASE_RQ,
    STUDY_FIND,
    Raw,
    associate,
    context,
    everything,
    p_data,
)

ASKED = associate(
    context(1, "1.2.840.10008.1.1", IMPLICIT),
    context(3, CT_IMAGE, EXPLICIT, IMPLICIT),
    context(5, STUDY_FIND, IMPLICIT),
    context(7, "1.2.840.10008.5.1.4.1.2.2.3", IMPLICIT),
    more=bytes.fromhex("5400001d 0019") + CT_IMAGE.encode() + b"\1\1",
)


@pytest.fixture(scope="module")
def alpha() -> Iterator[Node]:
    with serving(Limits(artim=0.2, message=0.2, associations_per_second=1e6)) as node:
        for stored in instances(2, 500):
            node.archive.put(stored)
        yield node


def conversation() -> bytes:
    """Return everything a good SCU would say after its association is accepted."""
    keys = encode_identifier(identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3"), IMPLICIT)
    echo = Command(CommandField=0x30, MessageID=1, AffectedSOPClassUID="1.2.840.10008.1.1")
    store = Command(
        CommandField=1, MessageID=2, CommandDataSetType=0, AffectedSOPClassUID=CT_IMAGE,
        AffectedSOPInstanceUID="1.2.9", Priority=0,
    )  # fmt: skip
    find = Command(
        CommandField=0x20, MessageID=3, CommandDataSetType=0, AffectedSOPClassUID=STUDY_FIND, Priority=0
    )
    return b"".join(
        (
            p_data(1, 3, encode_command(echo)),
            p_data(3, 3, encode_command(store)),
            p_data(3, 0, bytes(300)),
            p_data(3, 2, bytes(100)),
            p_data(5, 3, encode_command(find)),
            p_data(5, 2, keys),
            RELEASE_RQ,
        )
    )


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few things wrong."""
    bent = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(bent))
        kind = chance.randrange(5)
        if kind == 0:
            bent[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            bent[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del bent[place : place + chance.randint(1, 20)]
        elif kind == 3:
            bent[place:place] = chance.randbytes(chance.randint(1, 20))
        else:
            bent[place : place + 4] = struct.pack(
                ">I", chance.choice((0, 1, 6, 65536, 1 << 31, (1 << 32) - 1))
            )
        if not bent:
            bent = bytearray(b"\0")
    return bytes(bent)


def say(node: Node, request: bytes, more: bytes) -> None:
    """Ask for an association, say more once there is an answer, and read until the server has had enough."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", node.port), 5) as sock:
        sock.sendall(request)
        if not sock.recv(65536):
            return
        sock.sendall(more)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


def test_mutated_conversations_do_no_harm(alpha: Node, caplog: pytest.LogCaptureFixture) -> None:
    chance, threads = random.Random(4711), threading.active_count()
    good = conversation()
    with caplog.at_level(logging.ERROR):
        accepted = alpha.server.counters()["accepted"]
        for round in range(300):
            if round % 4:
                say(alpha, ASKED, mutated(chance, good))
            else:
                say(alpha, mutated(chance, ASKED), good)
    assert not [record.getMessage() for record in caplog.records if record.name.startswith("node")]
    assert alpha.server.counters()["accepted"] - accepted > 200
    until(lambda: alpha.server.counters()["open"] == 0)
    assert Requestor("VIEWER", "127.0.0.1", alpha.port, "ALPHA").echo() < 5
    until(lambda: threading.active_count() <= threads)


def test_the_conversation_itself_is_answered(alpha: Node) -> None:
    with Raw(alpha.port, ask=ASKED) as raw:
        raw.send(conversation())
        kinds = []
        while (kind := raw.pdu()[0]) not in (0, 6, 7):
            kinds.append(kind)
        assert kind == 6
        assert kinds == [4] * 5


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=600))
def test_any_bytes_after_the_accept_do_no_harm(alpha: Node, data: bytes) -> None:
    say(alpha, ASKED, data)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_a_command_set_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        encode_command(decode_command(data))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 1 << 30))
@example(seed=48961240).via("no presentation context is left of the request")
def test_a_bent_request_is_negotiated_or_a_violation(seed: int) -> None:
    try:
        request = decode_associate(mutated(random.Random(seed), ASKED)[6:])
    except Violation:
        return
    answer = negotiate(request, None, Limits(), everything, accept_unknown=True).answer
    assert decode_associate(encode_associate(answer, ASSOCIATE_RQ)[6:]).results


@settings(max_examples=300, deadline=None)
@given(
    command=st.builds(
        Command,
        CommandField=st.integers(0, 65535),
        MessageID=st.none() | st.integers(0, 65535),
        AffectedSOPClassUID=st.none() | st.from_regex(r"[0-9.]{1,64}", fullmatch=True),
        MoveDestination=st.none() | st.from_regex(r"[A-Z]{1,16}", fullmatch=True),
        Status=st.none() | st.integers(0, 65535),
        OffendingElement=st.none() | st.binary(min_size=4, max_size=4),
        NumberOfFailedSuboperations=st.none() | st.integers(0, 65535),
    )
)
def test_a_command_set_comes_back_as_it_went(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


def misbehaving(listener: socket.socket, chance: random.Random) -> None:
    """Be an SCP that answers A-ASSOCIATE and C-FIND with something bent."""
    keys = encode_identifier(identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3"), IMPLICIT)
    pending = Command(
        CommandField=0x8020, MessageIDBeingRespondedTo=1, CommandDataSetType=1,
        AffectedSOPClassUID=STUDY_FIND, Status=0xFF00,
    )  # fmt: skip
    final = Command(CommandField=0x8020, MessageIDBeingRespondedTo=1, Status=0)
    answers = p_data(1, 3, encode_command(pending)) + p_data(1, 2, keys)
    answers += p_data(1, 3, encode_command(final))
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        with sock, contextlib.suppress(OSError):
            sock.settimeout(1)
            request = decode_associate(sock.recv(65536)[6:])
            accept = encode_associate(
                negotiate(request, None, Limits(), everything, accept_unknown=False).answer, ASSOCIATE_AC
            )
            is_accept_bent = chance.randrange(3) == 0
            sock.sendall(mutated(chance, accept) if is_accept_bent else accept)
            sock.recv(65536)
            sock.sendall(answers if is_accept_bent else mutated(chance, answers))
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass


def test_a_misbehaving_scp_only_ever_causes_an_error_in_words() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    scp = threading.Thread(target=misbehaving, args=(listener, random.Random(815)))
    scp.start()
    limits = Limits(connect=0.5, message=0.5, idle=0.5)
    requestor = Requestor("OURS", "127.0.0.1", listener.getsockname()[1], "THEIRS", limits=limits)
    keys = identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="")
    outcomes = set()
    for _ in range(200):
        try:
            outcomes.add(str(len(list(requestor.find(keys)))))
        except PacsError as error:
            outcomes.add(type(error).__name__)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    scp.join(60)
    assert {"1", "Unavailable"} <= outcomes
