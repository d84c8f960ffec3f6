"""The border to the web server: whose thread answers, and requests that come in pieces."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from node.web.gateway import Server


def _who_answers(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    name = threading.current_thread().name + environ.get("HTTP_X_LONG", "")
    start_response("200 OK", [("Content-Length", str(len(name)))])
    return [name.encode()]


@contextmanager
def _serving(threads: int) -> Iterator[int]:
    server = Server(("127.0.0.1", 0), _who_answers, threads=threads, timeout=60)
    server.prepare()
    acceptor = threading.Thread(target=server.serve)
    acceptor.start()
    try:
        yield int(server.bind_addr[1])
    finally:
        server.stop()
        acceptor.join()


def _ask(line: HTTPConnection) -> bytes:
    line.request("GET", "/")
    return line.getresponse().read()


def test_a_request_right_behind_another_is_answered_by_the_same_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("node.web.gateway._NEXT", 10_000)
    with _serving(threads=4) as port:
        line = HTTPConnection("127.0.0.1", port, timeout=60)
        assert len({_ask(line) for _ in range(8)}) == 1
        line.close()


def test_a_connection_that_stays_leaves_the_only_thread_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.web.gateway._NEXT", 60_000)
    with _serving(threads=1) as port:
        lines = [HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(3)]
        for _ in range(3):
            assert len({_ask(line) for line in lines}) == 1
        for line in lines:
            line.close()


@pytest.mark.parametrize("step", [1, 7, 300])
def test_a_request_is_the_same_in_whatever_pieces_it_comes(step: int) -> None:
    text = "0123456789" * 200
    request = f"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {text}\r\n\r\n".encode()
    with _serving(threads=1) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), step):
            line.sendall(request[start : start + step])
        answer = HTTPResponse(line)
        answer.begin()
        assert answer.read().decode().endswith(text)
