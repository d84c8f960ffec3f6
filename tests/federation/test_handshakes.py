"""Many who connect at one moment, in a process of its own: what is shown here once ended the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catalog import Unavailable
from federation.links.dialing import peer_certificate
from federation.trust.certificates import parse

SERVING = """
import sys
import time
from pathlib import Path
from federation.links.server import GridServer
from federation.trust.certificates import Node, parse
from federation.trust.keys import make_key
from tests.federation.members import make_grid

grid = make_grid(Path(sys.argv[1]))
alpha = grid.node("alpha")
server = GridServer(alpha.credentials, alpha.trust, time.monotonic, time.sleep, gate=None)
print(server.bind("127.0.0.1", 0), flush=True)
server.start()
for _ in sys.stdin:
    key = make_key()
    chain = grid.authority.issue(Node(alpha.node_id, "alpha", "alpha"), key.public_key())
    alpha.credentials.replace(key, chain)
    print(parse(chain[0]).serial_number, flush=True)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A node's enrolment port; each line it reads has it renew its certificate, and say its number."""
    command = [sys.executable, "-c", SERVING, str(tmp_path / "grid")]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield child
    child.kill()
    child.communicate()


def test_many_who_connect_at_once_end_no_node_also_while_its_certificate_is_renewed(
    server: subprocess.Popen[str],
) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    address = f"127.0.0.1:{int(server.stdout.readline())}"

    def connect(_: int) -> bytes:
        try:
            return peer_certificate(address)
        except Unavailable:
            return b""

    with ThreadPoolExecutor(16) as many:
        for _ in range(2):
            shown = many.map(connect, range(800))
            server.stdin.write("renew\n")
            server.stdin.flush()
            renewed = int(server.stdout.readline() or 0)
            assert all(shown)
            assert server.poll() is None
            assert parse(connect(0)).serial_number == renewed
