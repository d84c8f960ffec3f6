"""The tests of states, services, retrieving and limits run twice: on a plain port, and all bytes in TLS."""

from __future__ import annotations

import pytest

from node.dimse import Requestor, Security
from node.dimse.dialing import Peer
from tests.node.dimse import archive, peers, wire
from tests.node.dimse.keys import Pair

BOTH_WAYS = ("test_states", "test_services", "test_retrieving", "test_limits")
PLAIN_ONLY = (
    # Half an A-ASSOCIATE-RQ is no half handshake; test_tls has those.
    "test_five_hundred_bare_and_half_open_connections_leave_nothing",
    # It counts associations by the second, which handshakes slow down.
    "test_associations_that_come_too_fast_are_told_to_wait",
    # It opens ports of its own.
    "test_two_servers_share_a_port",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if (
        metafunc.module.__name__.rpartition(".")[2] in BOTH_WAYS
        and metafunc.function.__name__ not in PLAIN_ONLY
    ):
        metafunc.parametrize("protection", ["plain", "tls"], indirect=True)


@pytest.fixture(scope="session")
def own_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A certificate of this machine, and its key."""
    return Pair(tmp_path_factory.mktemp("tls"), "alpha")


@pytest.fixture(autouse=True)
def protection(request: pytest.FixtureRequest, own_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every node listen with TLS, and everybody who calls one know that."""
    if getattr(request, "param", "plain") == "plain":
        return
    context, security = own_pair.server(), Security(own_pair.client())
    monkeypatch.setattr(archive.Node, "tls", staticmethod(lambda: context))
    monkeypatch.setattr(archive.Node, "security", security)
    monkeypatch.setattr(wire.Raw, "tls", security.context)
    monkeypatch.setattr(peers, "CLIENT_TLS", ["+tla", "+cf", str(own_pair.certificate)])
    shown = ["+tls", str(own_pair.key), str(own_pair.certificate), "-ic"]
    monkeypatch.setattr(peers, "SERVER_TLS", shown)
    monkeypatch.setattr(Peer.__new__, "__defaults__", (security,))
    monkeypatch.setitem(Requestor.__init__.__kwdefaults__, "security", security)
