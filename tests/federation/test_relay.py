"""Nodes that can only dial out reach each other through a third, which forwards what it cannot read."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import Unavailable
from federation.links.dialing import dial
from federation.links.splicing import Splicer
from federation.links.tls import NotTls, client_hello, hello_size, server_name_in
from sim.links import Link
from tests.federation.nodes import Peer, wait_for

Make = Callable[..., Peer]
SECRET = b"PatientName=NOVAK^JAN " * 50


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes nodes, and stops them at the end."""
    made: list[Peer] = []

    def peer(name: str, **settings: Any) -> Peer:
        made.append(Peer(tmp_path / name, name, **settings))
        return made[-1]

    yield peer
    for each in reversed(made):
        each.close()


@pytest.fixture
def tap() -> Iterator[Link]:
    """A forwarder whose target is set by the test."""
    made = Link(1, keeps=True)
    yield made
    made.close()


def test_two_nodes_that_only_dial_out_talk_through_a_door_that_sees_ciphertext_only(
    make: Make, tap: Link
) -> None:
    """All that reaches or leaves the door passes a tap; names of nodes are in it, nothing that was said."""
    door = make("door", door_port=0, door_address=tap.address)
    beta, gamma = make("beta", is_dial_only=True), make("gamma", is_dial_only=True)
    door.grid.found("A")
    tap.target = door.member.ports["door"]
    for peer in (beta, gamma):
        door.admit(peer)
    wait_for(lambda: door.knows(beta, gamma))
    wait_for(lambda: beta.knows(gamma) and gamma.knows(beta))
    wait_for(lambda: beta.tables_relays(gamma) and gamma.tables_relays(beta))
    assert beta.ask(gamma, SECRET) == SECRET + b" from beta"
    assert gamma.ask(beta, SECRET) == SECRET + b" from gamma"
    assert door.member.splicer.bytes > 4 * len(SECRET)
    crossed = bytes(tap.crossed)
    assert gamma.node_id.encode() in crossed, "the tap saw the ClientHello of who asked for gamma"
    assert b"NOVAK" not in crossed
    assert b"Echo/Say" not in crossed
    assert not door.echo.asked


def test_a_node_calls_one_that_can_only_dial_out_to_it(make: Make) -> None:
    alpha, beta = make("alpha", door_port=0), make("beta", is_dial_only=True)
    alpha.grid.found("A")
    alpha.admit(beta)
    wait_for(lambda: alpha.knows(beta))
    wait_for(lambda: alpha.tables_relays(beta))
    assert alpha.ask(beta, SECRET) == SECRET + b" from alpha"
    stream = alpha.stream(beta, 1 << 16)
    assert next(stream) == b"first"
    assert sum(len(next(stream)) for _ in range(64)) == 64 << 16


def test_everything_works_through_an_http_proxy(make: Make) -> None:
    proxy = Link(None)
    alpha = make("alpha", door_port=0)
    beta = make("beta", is_dial_only=True, proxy=proxy.address)
    alpha.grid.found("A")
    alpha.admit(beta)
    wait_for(lambda: alpha.knows(beta) and beta.knows(alpha))
    assert beta.ask(alpha) == b"hello from beta"
    wait_for(lambda: alpha.tables_relays(beta))
    assert alpha.ask(beta) == b"hello from alpha"
    ports = alpha.member.ports
    assert {f"127.0.0.1:{ports[name]}" for name in ("join", "grid", "door")} <= set(proxy.connected)
    proxy.close()


def test_the_door_lets_nobody_in_who_names_no_node(make: Make) -> None:
    alpha = make("alpha", door_port=0)
    alpha.grid.found("A")
    unknown = client_hello("f" * 32 + ".back.grid.internal")
    for said in (b"GET / HTTP/1.1\r\n\r\n", client_hello("example.org"), unknown):
        with socket.create_connection(("127.0.0.1", alpha.member.ports["door"])) as visitor:
            visitor.sendall(said)
            visitor.settimeout(60)
            with contextlib.suppress(ConnectionError):
                assert visitor.recv(100) == b""


def test_the_nodes_own_name_leads_through_its_door(make: Make) -> None:
    alpha, beta = make("alpha", door_port=0), make("beta")
    alpha.grid.found("A")
    alpha.admit(beta)
    wait_for(lambda: alpha.knows(beta) and beta.knows(alpha))
    channel = beta.member.channels.channel(alpha.node_id, f"127.0.0.1:{alpha.member.ports['door']}")
    assert channel.unary_unary("/peerpacs.test.Echo/Say")(b"hi", timeout=60) == b"hi from beta"


@given(st.from_regex(r"[a-z0-9-]{1,40}(\.[a-z][a-z0-9]{0,20}){1,3}", fullmatch=True))
def test_the_name_in_a_client_hello_is_the_one_that_was_asked_for(name: str) -> None:
    hello = client_hello(name)
    assert hello_size(hello + b"more") == len(hello)
    assert hello_size(hello[:-1]) == 0
    assert server_name_in(hello) == name


@given(st.binary(max_size=400), st.integers(0, 600), st.integers(0, 255))
def test_no_bytes_do_more_than_be_refused(raw: bytes, at: int, value: int) -> None:
    hello = bytearray(client_hello("a.node.grid.internal"))
    hello[at % len(hello)] = value
    for data in (raw, b"\x16\x03\x01" + len(raw).to_bytes(2, "big") + raw, bytes(hello)):
        with contextlib.suppress(NotTls):
            if hello_size(data):
                server_name_in(data)


def test_spliced_bytes_arrive_whole_in_both_directions_and_so_does_the_end() -> None:
    splicer, stop = Splicer(), threading.Event()
    thread = threading.Thread(target=lambda: splicer.serve(stop), daemon=True)
    thread.start()
    a, left = socket.socketpair()
    right, b = socket.socketpair()
    splicer.splice(left, right, to_right=b"first ")
    sent = {a: os.urandom(3_000_000), b: os.urandom(2_000_000)}
    got: dict[socket.socket, bytes] = {}

    def send(end: socket.socket) -> None:
        end.sendall(sent[end])
        end.shutdown(socket.SHUT_WR)

    def receive(end: socket.socket) -> None:
        parts = []
        while chunk := end.recv(70_000):
            parts.append(chunk)
        got[end] = b"".join(parts)

    works = [threading.Thread(target=work, args=(end,)) for end in (a, b) for work in (send, receive)]
    for work in works:
        work.start()
    for work in works:
        work.join(60)
    assert got == {b: b"first " + sent[a], a: sent[b]}
    wait_for(lambda: not splicer._pairs)
    stop.set()
    thread.join(60)
    for end in (a, b):
        end.close()


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


def _reset(connection: socket.socket) -> None:
    """Close as a machine does whose process was killed: the other side is told at once."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_both_ends_of_a_pair_may_break_in_the_same_moment_and_other_pairs_go_on() -> None:
    splicer = Splicer()
    (a, left), (b, right), (c, near), (d, far) = (_connected() for _ in range(4))
    splicer.splice(left, right)
    splicer.splice(near, far)
    splicer.turn(0)
    splicer.turn(0)
    _reset(a)
    _reset(b)
    splicer.turn(10)
    c.sendall(b"on")
    while not splicer.bytes:
        splicer.turn(10)
    assert d.recv(2) == b"on"
    for end in (c, d):
        end.close()
    splicer.close()


def test_a_proxy_that_breaks_off_is_told_and_leaves_no_socket_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        dialed = threading.Thread(target=lambda: _reset(proxy.accept()[0]))
        dialed.start()
        with pytest.raises(Unavailable):
            dial("127.0.0.1:1", f"127.0.0.1:{proxy.getsockname()[1]}")
        dialed.join(60)
    gc.collect()
