"""Watchers are answered over plain HTTP, and none of them can take the node's time, memory or descriptors."""

from __future__ import annotations

import http.client
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.measures import Measures, Sample
from node.watching import Check, Pages, Readiness, WatchServer
from node.watching.exposition import Exposition
from node.watching.readiness import has_room, is_writable
from tests.running import until


class Served:
    """A server on a free port, over checks whose outcome a test decides."""

    def __init__(self) -> None:
        self.why = {"storage": "", "catalog": ""}
        measures = Measures()
        measures.add(lambda: [Sample("holdings", 5, ("ONLINE",))])
        checks = [Check(name, self._probe(name)) for name in self.why]
        pages = Pages(Exposition(measures), Readiness(checks), time.monotonic)
        self.now = time.monotonic
        self.server = WatchServer(pages, lambda: self.now())
        self.port = self.server.listen("127.0.0.1", 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.server.serve, args=(self._stop,))
        self._thread.start()

    def _probe(self, name: str) -> Callable[[], str]:
        return lambda: self.why[name]

    def get(self, target: str, method: str = "GET") -> tuple[int, str]:
        """Return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, target)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def say(self, data: bytes) -> bytes:
        """Send bytes and return all that comes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
            sock.sendall(data)
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
            return answer

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.server.close()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


def test_a_live_and_ready_node_says_so(served: Served) -> None:
    assert served.get("/livez") == (200, "ok\n")
    assert served.get("/readyz") == (200, "ok\n")
    assert served.get("/readyz?verbose")[1].splitlines() == [
        "[+]storage ok",
        "[+]catalog ok",
        "readyz check passed",
    ]
    status, text = served.get("/metrics")
    assert (status, 'peerpacs_holdings{availability="ONLINE"} 5.0' in text) == (200, True)


def test_a_node_that_is_not_ready_says_why_and_stays_live(served: Served) -> None:
    served.why["storage"] = "Read-only file system"
    _, text = until(lambda: next((got for got in [served.get("/readyz")] if got[0] == 503), None))
    assert text.splitlines()[0] == "[-]storage failed: Read-only file system"
    assert served.get("/livez")[0] == 200
    served.why["storage"] = ""
    assert until(lambda: served.get("/readyz?verbose=1")[0] == 200)


def test_there_is_nothing_else_and_no_healthz(served: Served) -> None:
    assert {served.get(path)[0] for path in ("/", "/healthz", "/readyz/", "/metrics/x")} == {404}
    assert served.get("/livez", "HEAD") == (200, "")
    assert served.get("/livez", "POST")[0] == 405
    assert served.say(b"GET /livez\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert served.say(b"GET /livez HTTP/1.1\r\nX: " + b"y" * 9000).startswith(b"HTTP/1.1 431")


def test_requests_in_small_pieces_are_understood(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as sock:
        for byte in b"GET /livez HTTP/1.0\r\n\r\n":
            sock.sendall(bytes((byte,)))
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_clients_that_hang_are_put_out_and_others_served(served: Served) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(60)]
    assert served.get("/livez") == (200, "ok\n")
    assert len(served.server._visits) <= 33
    served.now = lambda: time.monotonic() + 60
    until(lambda: not served.server._visits)
    for sock in silent:
        sock.settimeout(60)
        assert sock.recv(1) == b""
        sock.close()


def test_a_reader_that_never_reads_costs_one_connection_for_a_while(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert served.get("/metrics")[0] == 200
        served.now = lambda: time.monotonic() + 60
        until(lambda: not served.server._visits)


def test_noise_harms_nobody(served: Served) -> None:
    chance = random.Random(5)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(150):
        noise = chance.randbytes(chance.randrange(1, 200))
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as sock:
            sock.sendall(b"GET /" + noise + b"\r\n\r\n" if number % 2 else noise)
            if number % 3 == 0:
                sock.shutdown(socket.SHUT_WR)
    assert served.get("/readyz") == (200, "ok\n")
    until(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)


def test_a_folder_that_cannot_be_written_or_is_full_is_noticed(tmp_path: Path) -> None:
    assert is_writable(tmp_path) == ""
    assert not [*tmp_path.iterdir()]
    assert has_room(tmp_path, 1) == ""
    assert "MB are free" in has_room(tmp_path, 1 << 60)
    gone = Readiness([Check("storage", lambda: is_writable(tmp_path / "gone"))])
    assert gone.findings()[0].why == "No such file or directory"
    read_only = Readiness([Check("storage", lambda: is_writable(Path("/proc/self")))])
    assert read_only.findings()[0].why
