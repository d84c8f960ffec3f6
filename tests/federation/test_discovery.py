"""mDNS finds addresses of nodes of one's own grid, and nothing else."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator

import pytest
from zeroconf import ServiceInfo, Zeroconf

from federation.links.discovery import SERVICE, Discovery
from tests.federation.nodes import wait_for

GRID, OTHER = b"g" * 16, b"o" * 16
LOOPBACK = socket.inet_aton("127.0.0.1")
ALPHA, BETA, GAMMA = (str(uuid.uuid4()) for _ in range(3))


@pytest.fixture
def seen() -> Iterator[list[Discovery]]:
    """Collects what is to be closed."""
    made: list[Discovery] = []
    yield made
    for each in made:
        each.close()


def _announced(seen: list[Discovery], grid: bytes, node_id: str, port: int) -> Discovery:
    found = Discovery(grid, node_id, 7, ["127.0.0.1"])
    seen.append(found)
    found.begin([LOOPBACK], port)
    return found


def test_a_node_of_the_same_grid_is_found_and_one_of_another_is_not(seen: list[Discovery]) -> None:
    alpha = _announced(seen, GRID, ALPHA, 7443)
    _announced(seen, OTHER, GAMMA, 7445)
    beta = _announced(seen, GRID, BETA, 7444)
    wait_for(lambda: alpha.addresses(BETA) and beta.addresses(ALPHA))
    assert (alpha.addresses(BETA), beta.addresses(ALPHA)) == (("127.0.0.1:7444",), ("127.0.0.1:7443",))
    assert alpha.addresses(GAMMA) == alpha.addresses(ALPHA) == ()


def test_an_announcement_that_makes_no_sense_is_passed_over(seen: list[Discovery]) -> None:
    alpha = _announced(seen, GRID, ALPHA, 7443)
    liar = Zeroconf(interfaces=["127.0.0.1"])
    said: list[dict[str, str | bytes]] = [
        {},
        {"grid_id": GRID.hex(), "node_id": "../x"},
        {"node_id": b"\xff"},
    ]
    for number, properties in enumerate(said):
        name = f"liar{number}.{SERVICE}"
        info = ServiceInfo(SERVICE, name, 1, addresses=[LOOPBACK], properties=properties, server="l.local.")
        liar.register_service(info, cooperating_responders=True)
    beta = _announced(seen, GRID, BETA, 7444)
    wait_for(lambda: alpha.addresses(BETA))
    assert not [each for each, _ in alpha._found.values() if each != BETA]
    assert beta
    liar.close()
