"""Links between programs do what they are told, and nothing else, to bytes and to connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from sim.links import CALM, SILENT, Link, Weather

Ends = tuple[Link, socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A link with one connection over it: near is who connected, far is the target."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = Link(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", link.port)) as near, server.accept()[0] as far:
            for each in (near, far):
                each.settimeout(60)
            yield link, near, far
        link.close()


def timed(source: socket.socket, sink: socket.socket, data: bytes) -> float:
    """Send some bytes; return the seconds until all were there, in order."""
    started = time.monotonic()
    sender = threading.Thread(target=source.sendall, args=(data,))
    sender.start()
    came = b""
    while len(came) < len(data):
        came += sink.recv(1 << 16)
    sender.join()
    assert came == data
    return time.monotonic() - started


def test_a_delay_is_of_one_direction_and_does_not_add_up(ends: Ends) -> None:
    link, near, far = ends
    link.be(there=Weather(delay=0.5))
    data = bytes(range(256)) * 4000
    assert 0.5 <= timed(near, far, data) < 2.0
    assert timed(far, near, data) < 0.5
    link.be(back=Weather(delay=0.5))
    assert timed(near, far, b"x") < 0.5 <= timed(far, near, b"x")


def test_a_rate_is_kept_and_lost_packets_come_late_but_whole(ends: Ends) -> None:
    link, near, far = ends
    link.be(there=Weather(rate=1e6))
    assert 0.4 <= timed(near, far, bytes(500_000)) < 1.5
    link.be(back=Weather(loss=0.02))
    assert timed(far, near, bytes(range(256)) * 1000) > 0.2


def test_what_was_sent_into_silence_comes_when_it_is_over(ends: Ends) -> None:
    link, near, far = ends
    link.be(there=SILENT, back=CALM)
    near.sendall(b"hello")
    far.sendall(b"are you there?")
    assert near.recv(100) == b"are you there?"
    far.settimeout(0.1)
    with pytest.raises(TimeoutError):
        far.recv(100)
    link.heal()
    far.settimeout(60)
    assert far.recv(100) == b"hello"


def test_a_link_passes_bytes_until_it_is_cut_and_again_when_it_is_healed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = Link(server.getsockname()[1])
        near, far = socket.create_connection(("127.0.0.1", link.port)), server.accept()[0]
        near.sendall(b"there")
        assert far.recv(10) == b"there"
        link.cut()
        assert near.recv(10) == far.recv(10) == b""
        with socket.create_connection(("127.0.0.1", link.port)) as refused:
            assert refused.recv(10) == b""
        link.heal()
        with socket.create_connection(("127.0.0.1", link.port)) as again:
            with server.accept()[0] as behind:
                behind.sendall(b"back")
            assert again.recv(10) == b"back"
        link.close()
        near.close()
        far.close()
