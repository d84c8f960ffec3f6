"""Three nodes over real mutual TLS: they join, connect, ask, expel, and notice what is wrong."""

from __future__ import annotations

import math
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from catalog import NotPermitted, Unavailable
from federation.links import joining
from federation.links.channels import asking
from federation.links.dialing import peer_certificate
from federation.links.joining import diagnose
from federation.links.roll import FEATURES, PROTOCOL
from federation.links.rpc import letter_of
from federation.trust.assertion import Asker
from federation.trust.rows import PeerRow
from federation.trust.trust import Trust
from protos import trust_pb2 as wire
from sim.links import Link
from tests.federation.nodes import Peer, copy_home, wait_for

Make = Callable[..., Peer]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes nodes, and stops them at the end."""
    made: list[Peer] = []

    def peer(name: str, home: Path | None = None, **settings: Any) -> Peer:
        made.append(Peer(home or tmp_path / name, name, **settings))
        return made[-1]

    yield peer
    for each in reversed(made):
        each.close()


@pytest.fixture
def three(make: Make) -> tuple[Peer, Peer, Peer]:
    """Alpha, who founded the grid, beta and gamma, all connected."""
    alpha, beta, gamma = make("alpha"), make("beta"), make("gamma")
    alpha.grid.found("CZ-MED")
    alpha.admit(beta)
    alpha.admit(gamma)
    wait_for(lambda: alpha.knows(beta, gamma) and beta.knows(alpha, gamma) and gamma.knows(alpha, beta))
    return alpha, beta, gamma


def test_three_nodes_join_and_every_pair_is_connected_and_can_ask(three: tuple[Peer, Peer, Peer]) -> None:
    for asker in three:
        for owner in three:
            if asker is not owner:
                assert asker.ask(owner) == b"hello from " + asker.name.encode()


def test_a_ticket_of_another_grid_is_noticed_before_anything_is_sent(make: Make) -> None:
    alpha, other, beta = make("alpha"), make("other"), make("beta")
    alpha.grid.found("A")
    other.grid.found("B")
    wrong = alpha.invite("beta")._replace(address=f"127.0.0.1:{other.member.ports['join']}")
    with pytest.raises(NotPermitted, match="do not go on"):
        beta.grid.ask(wrong)
    assert not (beta.home / "identity").exists()


def test_an_authority_that_does_not_know_the_ticket_cannot_take_a_node_in(make: Make) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.grid.found("A")
    for changed in ({"token_id": b"whatever"}, {"secret": b"guessed guessed!"}):
        with pytest.raises(NotPermitted, match="did not give out this ticket"):
            beta.grid.ask(alpha.invite("beta")._replace(**changed))


def test_a_node_that_waits_goes_on_after_a_restart_and_is_told_when_denied(
    make: Make, tmp_path: Path
) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.grid.found("A")
    beta.grid.ask(alpha.invite("beta"))
    assert not beta.grid.collect()
    beta.close()
    again = make("again", home=tmp_path / "beta", node_id=beta.node_id)
    assert alpha.member.registrar is not None
    alpha.member.registrar.deny(alpha.member.registrar.requests()[0][0], "admin", "who are you?")
    with pytest.raises(NotPermitted, match="who are you"):
        again.grid.collect()
    assert again.grid.joiner().waiting() is None


def test_an_expelled_node_loses_its_streams_within_five_seconds(three: tuple[Peer, Peer, Peer]) -> None:
    """Both a stream full of bytes and one over which nothing flows, at every node of the grid."""
    alpha, beta, gamma = three
    streams = [beta.stream(alpha), beta.stream(gamma), beta.stream(alpha, 1 << 16), gamma.stream(beta)]
    for stream in streams:
        assert next(stream) == b"first"
    assert alpha.member.authority is not None
    started = time.monotonic()
    alpha.member.authority.revoke(beta.node_id)
    for stream in streams:
        with pytest.raises(grpc.RpcError):
            for _ in stream:
                pass
    took = time.monotonic() - started
    wait_for(lambda: not alpha.knows(beta) and not gamma.knows(beta))
    print(f"all streams of an expelled node were cut within {took:.2f} s")
    assert took < 5
    for asker, owner in ((beta, alpha), (gamma, beta)):
        with pytest.raises((Unavailable, NotPermitted, grpc.RpcError)):
            asker.ask(owner, timeout=2)


def test_who_is_expelled_is_a_member_nowhere_any_more_until_it_is_let_in_again(
    three: tuple[Peer, Peer, Peer], make: Make
) -> None:
    """Also after a restart, when no certificate of it was seen yet."""
    alpha, beta, gamma = three
    authority, registrar, tables = alpha.member.authority, alpha.member.registrar, beta.grid.tables
    assert authority is not None
    assert registrar is not None

    def row() -> PeerRow:
        found = tables.peers.get(gamma.node_id.encode())
        assert found is not None
        return found

    assert row().state == "member"
    gamma.close()
    authority.revoke(gamma.node_id)
    wait_for(lambda: row().state == "revoked")
    assert row().site == "gamma"

    again = make("again", node_id=gamma.node_id)
    address = f"127.0.0.1:{alpha.member.ports['join']}"
    again.grid.ask(registrar.invite(address, "gamma", "peer", 3600, "admin", gamma.node_id))
    registrar.approve(registrar.requests()[0][0], "admin")
    assert again.grid.collect()
    wait_for(lambda: beta.knows(again) and row().state == "member")
    other = str(uuid.uuid4())
    alpha.grid.tables.peers.put(other.encode(), PeerRow(node_id=other, name="other", site="other"))
    authority.revoke(other)  # the newer list says of gamma too that it was expelled once
    wait_for(lambda: beta.member.trust.revoked_since(other) > 0)
    restarted = Trust(tables.documents, beta.member.trust.grid_id, time.time)
    assert not restarted.is_expelled(gamma.node_id, row().since)
    assert row().state == "member"


def test_a_cloned_node_is_refused_and_everybody_is_told(
    three: tuple[Peer, Peer, Peer], make: Make, tmp_path: Path
) -> None:
    alpha, beta, _ = three
    before = alpha.member.roll.standing(beta.node_id)
    assert before is not None
    clone = make("beta", home=copy_home(beta, tmp_path / "clone"), node_id=beta.node_id)
    wait_for(lambda: clone.member.links.failure(alpha.node_id) is not None)
    failure = clone.member.links.failure(alpha.node_id)
    assert failure is not None
    assert "another machine with the same identity" in failure.what
    wait_for(lambda: any(alarm.kind == "clone" for alarm in alpha.alarms))
    channel = clone.member.channels.channel(alpha.node_id, f"127.0.0.1:{alpha.member.ports['grid']}")
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/peerpacs.test.Echo/Say")(b"x", timeout=60)
    assert "Another machine" in letter_of(refused.value, "alpha").what
    assert beta.ask(alpha) == b"hello from beta"
    assert alpha.member.roll.instance_of(beta.node_id) == before.instance


@pytest.mark.parametrize("skew", [900.0, -900.0])
def test_a_clock_that_is_off_is_told_on_both_sides_and_changes_nothing_else(make: Make, skew: float) -> None:
    alpha, beta = make("alpha"), make("beta", skew=skew)
    alpha.grid.found("A")
    alpha.admit(beta)
    wait_for(lambda: alpha.knows(beta) and beta.knows(alpha))
    wait_for(lambda: all(any(alarm.kind == "clock" for alarm in peer.alarms) for peer in (alpha, beta)))
    assert alpha.ask(beta) == b"hello from alpha"
    assert beta.ask(alpha) == b"hello from beta"
    ahead = next(alarm.what for alarm in alpha.alarms if alarm.kind == "clock")
    assert ("ahead of" if skew > 0 else "behind") in ahead
    said = diagnose(
        f"127.0.0.1:{alpha.member.ports['join']}", beta.member.credentials.pair, lambda: time.time() + skew
    )
    assert any("clock" in sentence for sentence in said)


def test_who_asks_is_audited_on_both_sides_under_one_id(three: tuple[Peer, Peer, Peer]) -> None:
    alpha, beta, _ = three
    with asking(Asker("a1b2", "radiologist", "treatment", "WS1")) as asker:
        alpha.ask(beta)
    wait_for(
        lambda: [v for v in alpha.visits if v.asker == asker] and [v for v in beta.visits if v.asker == asker]
    )
    [out], [into] = ([visit for visit in peer.visits if visit.asker == asker] for peer in (alpha, beta))
    assert (out.direction, into.direction, out.outcome, into.outcome) == ("out", "in", "ok", "ok")
    assert (out.node_id, into.node_id, into.site) == (beta.node_id, alpha.node_id, "alpha")
    assert asker.request_id
    assert beta.echo.asked[-1].asker == asker


def test_a_channel_that_was_closed_meanwhile_is_a_letter_to_who_holds_it(
    three: tuple[Peer, Peer, Peer],
) -> None:
    """As when a certificate is renewed between asking for the channel and calling over it."""
    alpha, beta, _ = three
    channel = alpha.member.links.channel(beta.node_id)
    alpha.member.channels.drop(beta.node_id)
    with pytest.raises(Unavailable, match="made anew"):
        channel.unary_unary("/peerpacs.test.Echo/Say")(b"x", timeout=60)
    with pytest.raises(Unavailable, match="made anew"):
        next(channel.unary_stream("/peerpacs.test.Echo/Flow")(b"0"))
    questions = alpha.member.links.channel(beta.node_id, asks=True)
    assert next(questions.unary_stream("/peerpacs.test.Echo/Flow")(b"0")) == b"first"


def test_a_letter_crosses_the_wire(three: tuple[Peer, Peer, Peer]) -> None:
    alpha, beta, _ = three
    with pytest.raises(grpc.RpcError) as failed:
        alpha.ask(beta, b"fail")
    letter = letter_of(failed.value, "beta")
    assert (type(letter), letter.what, letter.next) == (Unavailable, "The tape robot sleeps.", "Wake it.")


def test_a_call_without_an_assertion_is_refused(three: tuple[Peer, Peer, Peer]) -> None:
    alpha, beta, _ = three
    pair, trust = alpha.member.credentials.pair, alpha.member.trust
    tls = grpc.ssl_channel_credentials(trust.roots_pem(), pair.key_pem, pair.chain_pem)
    name = (("grpc.ssl_target_name_override", f"{beta.node_id}.node.grid.internal"),)
    with grpc.secure_channel(f"127.0.0.1:{beta.member.ports['grid']}", tls, name) as channel:
        instance = (("pp-instance", str(alpha.member.instance)),)
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/peerpacs.test.Echo/Say")(b"x", timeout=60, metadata=instance)
    assert "assertion" in letter_of(refused.value, "beta").what


def test_nobody_gets_in_without_a_certificate_of_the_grid(three: tuple[Peer, Peer, Peer], make: Make) -> None:
    alpha, beta, _ = three
    stranger = make("stranger")
    stranger.grid.found("OTHER")
    pair = stranger.member.credentials.pair
    for own in ((pair.key_pem, pair.chain_pem), (None, None)):
        tls = grpc.ssl_channel_credentials(alpha.member.trust.roots_pem(), *own)
        name = (("grpc.ssl_target_name_override", f"{beta.node_id}.node.grid.internal"),)
        with (
            grpc.secure_channel(f"127.0.0.1:{beta.member.ports['grid']}", tls, name) as channel,
            pytest.raises(grpc.RpcError),
        ):
            channel.unary_unary("/peerpacs.test.Echo/Say")(b"x", timeout=3)
    assert not beta.echo.asked


def test_a_certificate_is_renewed_and_a_stream_and_new_calls_go_on(make: Make) -> None:
    """Certificates of eight seconds: after twelve, both nodes have others, and nothing was restarted."""
    alpha, beta = make("alpha", lifetime=8), make("beta", lifetime=8)
    alpha.grid.found("A")
    alpha.admit(beta)
    wait_for(lambda: alpha.knows(beta) and beta.knows(alpha))
    first = [peer.member.credentials.pair.identity.serial for peer in (alpha, beta)]
    ports = dict(beta.member.ports)
    wait_for(lambda: time.time() > beta.member.credentials.pair.identity.issued + 1)
    wait_for(
        lambda: all(
            peer.member.credentials.pair.identity.serial != serial
            for peer, serial in zip((alpha, beta), first, strict=True)
        )
    )
    time.sleep(max(0.0, 9 - 5))
    for asker, owner in ((alpha, beta), (beta, alpha)):
        # Each renewal, here every three seconds, connects anew: for a moment the other one is not there.
        wait_for(partial(asker.knows, owner))
        assert asker.ask(owner) == f"hello from {asker.name}".encode()
    assert beta.member.ports == ports


def test_a_node_whose_certificate_ended_is_refused_and_the_join_port_says_why(make: Make) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.grid.found("A")
    alpha.admit(beta)
    wait_for(lambda: alpha.knows(beta) and beta.knows(alpha))
    stream = beta.stream(alpha)
    assert next(stream) == b"first"
    alpha.skew = 40 * 86400.0
    started = time.monotonic()
    with pytest.raises(grpc.RpcError):
        next(stream)
    assert time.monotonic() - started < 5
    port = alpha.member.ports["join"]
    said = diagnose(f"127.0.0.1:{port}", beta.member.credentials.pair, time.time)
    assert any("ended on" in sentence for sentence in said), said


def test_a_certificate_renewed_while_it_is_looked_at_is_looked_at_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, beta = make("alpha", lifetime=5), make("beta")
    alpha.grid.found("A")
    alpha.admit(beta)
    looks: list[bytes] = []

    def slowly(address: str, proxy: str) -> bytes:
        looks.append(peer_certificate(address, proxy))
        if len(looks) == 1:
            wait_for(lambda: peer_certificate(address) != looks[0])
        return looks[-1]

    monkeypatch.setattr(joining, "peer_certificate", slowly)
    said = diagnose(f"127.0.0.1:{alpha.member.ports['join']}", beta.member.credentials.pair, time.time)
    assert said == ["alpha answers and would accept this node."]


def test_a_silent_peer_is_noticed_by_its_heartbeat(three: tuple[Peer, Peer, Peer]) -> None:
    alpha, beta, _ = three
    standing = alpha.member.roll.standing(beta.node_id)
    assert standing is not None
    before = standing.heard
    wait_for(lambda: (alpha.member.roll.standing(beta.node_id) or standing).heard > before)


def test_every_attempt_to_reach_who_is_away_is_a_connection_of_its_own(make: Make) -> None:
    """gRPC connects by rules of its own: an attempt of ours would only hear how the last of its own went."""
    link = Link(1)
    alpha, beta = make("alpha", addresses=(link.address,)), make("beta", is_dial_only=True)
    alpha.grid.found("A")
    link.target = alpha.member.ports["grid"]
    alpha.admit(beta)
    wait_for(lambda: beta.knows(alpha))
    link.close()
    dialed = beta.member.links._turns
    with socket.create_server(("127.0.0.1", link.port)) as refusing:
        refusing.settimeout(60)
        before, tried = dialed[alpha.node_id], 0
        while dialed[alpha.node_id] < before + 4:
            refusing.accept()[0].close()
            tried += 1
    assert abs(tried - (dialed[alpha.node_id] - before)) <= 1


def test_the_next_version_of_the_wire_is_spoken_with_and_the_one_after_is_refused_with_a_word(
    make: Make,
) -> None:
    """A newer node has features and fields that this one knows nothing of."""
    alpha, beta = make("alpha"), make("beta")
    alpha.grid.found("A")
    alpha.admit(beta)
    wait_for(lambda: alpha.knows(beta) and beta.knows(alpha))
    talk = beta.member.links._talk
    hello, unknown = talk.hello, b"\xfa\x3f\x03new"

    def speaks(version: int) -> float:
        """Have beta say so from its next session on; return when."""

        def newer(to: Any) -> wire.Hello:
            said = hello(to)
            said.protocol, said.features = version, said.features | 1 << 40
            said.MergeFromString(unknown)
            return said

        talk.hello = newer  # type: ignore[method-assign]
        return time.monotonic()

    def is_heard(since: float) -> bool:
        """Say whether both have a session since then, and end one that is older."""
        session = talk.session(alpha.node_id)
        if session is not None and session.standing is not None and session.standing.since < since:
            session.end()
        standings = (alpha.member.roll.standing(beta.node_id), beta.member.roll.standing(alpha.node_id))
        return all(standing is not None and standing.since > since for standing in standings)

    def failure() -> str:
        """Return what beta was told when it dialed."""
        letter = beta.member.links.failure(alpha.node_id)
        return letter.what if letter is not None else ""

    since = speaks(PROTOCOL + 1)
    wait_for(lambda: is_heard(since))
    standing = alpha.member.roll.standing(beta.node_id)
    assert standing is not None
    assert standing.features == FEATURES
    assert beta.ask(alpha) == b"hello from beta"
    speaks(PROTOCOL + 2)
    # One that is being opened meanwhile may have said the older version still: each is ended, however young.
    wait_for(lambda: not is_heard(math.inf) and any(alarm.kind == "version" for alarm in alpha.alarms))
    refused = next(alarm for alarm in alpha.alarms if alarm.kind == "version")
    assert refused.next == "This node needs an update."
    wait_for(lambda: f"speaks version {PROTOCOL + 2}" in failure())
    assert not alpha.knows(beta)


@pytest.mark.slow
def test_certificates_of_a_minute_are_renewed_for_as_long_as_the_grid_runs(make: Make) -> None:
    """Two and a half lifetimes: calls every second, none fails, and connections are made anew as they age."""
    alpha, beta = make("alpha", lifetime=60, max_age=20), make("beta", lifetime=60, max_age=20)
    alpha.grid.found("A")
    alpha.admit(beta)
    wait_for(lambda: alpha.knows(beta) and beta.knows(alpha))
    serials = set()
    for _ in range(150):
        assert wait_for(lambda: alpha.knows(beta), 5) < 5
        assert alpha.ask(beta, timeout=5) == b"hello from alpha"
        serials.add(beta.member.credentials.pair.identity.serial)
        time.sleep(1)
    assert len(serials) >= 4
