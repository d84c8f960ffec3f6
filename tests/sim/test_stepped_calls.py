"""gRPC played over sockets answers, refuses and breaks as the real one, to which the same tests are put."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from catalog import NotFound, PacsError, Unavailable
from federation.links import dialing
from federation.links.rpc import abort, channel_options, letters, server_options
from federation.links.tls import server_name_in
from federation.trust.certificates import (
    Issuer,
    Node,
    make_intermediate,
    make_leaf,
    make_root,
    to_der,
    to_pem,
)
from federation.trust.keys import make_key
from federation.trust.names import server_name
from protos import trust_pb2 as wire
from protos import trust_pb2_grpc as services
from sim.links import SILENT, Line, Link
from sim.stepping.calls import installed
from sim.stepping.frames import hello
from tests.federation.nodes import Peer, wait_for

pytestmark = pytest.mark.timeout(60)
OWNER = str(uuid.uuid4())


@pytest.fixture(autouse=True, params=["played", "real"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Has gRPC played for the time of a test, or be the real one: both have to do what is claimed."""
    with installed() if request.param == "played" else contextlib.nullcontext():
        yield request.param


PLAYED = pytest.mark.parametrize("kind", ["played"], indirect=True)
"""What is ours alone, or takes the real one a minute."""


class Pair(NamedTuple):
    """A key and its chain."""

    key: bytes
    chain: list[x509.Certificate]


NOBODY = Pair(b"", [])


class Papers:
    """A grid's root and what it issues."""

    def __init__(self) -> None:
        now, key, self._key = time.time(), make_key(), make_key()
        self.root = make_root("CZ-MED", key, now)
        self._between = make_intermediate(Issuer(self.root, key), "CZ-MED", self._key.public_key(), now)

    def pair(self, node_id: str, ago: float = 0.0, lifetime: float = 3600.0) -> Pair:
        """Return what a node has."""
        issuer, key = Issuer(self._between, self._key), make_key()
        node = Node(node_id, "Brno", "brno")
        leaf = make_leaf(issuer, b"g" * 32, node, key.public_key(), time.time() - ago, lifetime)
        return Pair(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), [leaf, self._between]
        )


class Host:
    """A server with the methods of a test."""

    def __init__(self, papers: Papers, pair: Pair) -> None:
        self.pool, self.pair = ThreadPoolExecutor(8), pair
        self.server = grpc.server(self.pool, options=server_options())

        def in_force() -> Any:
            shown = (self.pair.key, to_pem(self.pair.chain))
            return grpc.ssl_server_certificate_configuration([shown], to_pem([papers.root]))

        tls = grpc.dynamic_ssl_server_credentials(in_force(), in_force, require_client_authentication=True)
        self.port = self.server.add_secure_port("127.0.0.1:0", tls)
        self.contexts: queue.SimpleQueue[grpc.ServicerContext] = queue.SimpleQueue()
        self.go_on = threading.Event()
        self.server.add_generic_rpc_handlers((self._methods(),))
        self.server.start()

    def _methods(self) -> Any:
        def say(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.contexts.put(context)
            if request == b"letter":
                abort(context, NotFound("No such study.", "Look elsewhere."))
            if request == b"fails":
                raise ValueError("broken")
            if request == b"waits":
                self.go_on.wait(30)
            return request.upper()

        def count(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            self.contexts.put(context)
            for number in range(int(request)):
                yield str(number).encode()
            if request == b"3":
                self.go_on.wait(30)

        def add(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            self.contexts.put(context)
            return b"".join(requests)

        def echo(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            self.contexts.put(context)
            for request in requests:
                yield request.upper()

        methods: dict[str, Any] = {
            "Say": grpc.unary_unary_rpc_method_handler(say),
            "Count": grpc.unary_stream_rpc_method_handler(count),
            "Add": grpc.stream_unary_rpc_method_handler(add),
            "Echo": grpc.stream_stream_rpc_method_handler(echo),
        }
        return grpc.method_handlers_generic_handler("t", methods)

    def close(self) -> None:
        """End it."""
        self.go_on.set()
        self.server.stop(0).wait(20)
        self.pool.shutdown()


@pytest.fixture(scope="module")
def papers() -> Papers:
    """A grid's certificates."""
    return Papers()


@pytest.fixture
def host(papers: Papers) -> Iterator[Host]:
    """A server that wants certificates."""
    made = Host(papers, papers.pair(OWNER))
    yield made
    made.close()


Open = Callable[..., grpc.Channel]


@pytest.fixture
def channel(papers: Papers, host: Host) -> Iterator[Open]:
    """Opens channels to it, as a node with a certificate unless told otherwise."""
    opened: list[grpc.Channel] = []

    def make(
        pair: Pair | None = None,
        name: str = OWNER,
        port: int = 0,
        proxy: str = "",
        options: tuple[tuple[str, Any], ...] = (),
        roots: list[x509.Certificate] | None = None,
    ) -> grpc.Channel:
        shown = papers.pair(str(uuid.uuid4())) if pair is None else pair
        own = (shown.key, to_pem(shown.chain)) if shown.chain else (None, None)
        tls = grpc.ssl_channel_credentials(to_pem(roots or [papers.root]), *own)
        said = [*channel_options(server_name(name), proxy), *options]
        opened.append(grpc.secure_channel(f"127.0.0.1:{port or host.port}", tls, said))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_the_four_kinds_of_call_answer(channel: Open) -> None:
    to = channel()
    assert to.unary_unary("/t/Say")(b"a") == b"A"
    assert list(to.unary_stream("/t/Count")(b"2")) == [b"0", b"1"]
    assert to.stream_unary("/t/Add")(iter([b"a", b"b"])) == b"ab"
    assert list(to.stream_stream("/t/Echo")(iter([b"a", b"b"]))) == [b"A", b"B"]
    assert to.unary_unary("/t/Say").future(b"a").result() == b"A"


def test_requests_and_answers_alternate_for_as_long_as_both_like(channel: Open) -> None:
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = channel().stream_stream("/t/Echo")(iter(said.get, None))
    for each in (b"a", b"b", b"c"):
        said.put(each)
        assert next(call) == each.upper()
    said.put(None)
    assert next(call, None) is None
    assert call.code() is grpc.StatusCode.OK


@PLAYED
def test_a_call_that_ended_well_leaves_its_connection_to_the_next_one(channel: Open, host: Host) -> None:
    to = channel()
    for _ in range(3):
        to.unary_unary("/t/Say")(b"a")
    assert len({host.contexts.get().peer() for _ in range(3)}) == 1


def test_a_letter_crosses_as_it_was_written(channel: Open) -> None:
    with pytest.raises(NotFound) as refused, letters("alpha"):
        channel().unary_unary("/t/Say")(b"letter")
    assert (refused.value.what, refused.value.next) == ("No such study.", "Look elsewhere.")


def _code(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as failed:
        call()
    assert isinstance(failed.value, grpc.Call)
    return failed.value.code()


def test_what_fails_says_how_in_the_codes_of_grpc(
    channel: Open, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    to, codes = channel(), grpc.StatusCode
    say = to.unary_unary("/t/Say")
    assert _code(lambda: to.unary_unary("/t/What")(b"")) is codes.UNIMPLEMENTED
    assert _code(lambda: say(b"fails")) is codes.UNKNOWN
    assert _code(lambda: say(bytes(5 << 20))) is codes.RESOURCE_EXHAUSTED
    assert "broken" in caplog.text
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    assert _code(lambda: channel(port=port).unary_unary("/t/Say")(b"a")) is codes.UNAVAILABLE
    assert say(b"a") == b"A"


def test_a_deadline_ends_a_call_on_both_sides(channel: Open, host: Host) -> None:
    to, codes = channel(), grpc.StatusCode
    assert _code(lambda: to.unary_unary("/t/Say")(b"waits", timeout=2.0)) is codes.DEADLINE_EXCEEDED
    context = host.contexts.get()
    wait_for(lambda: not context.is_active())
    call = to.unary_stream("/t/Count")(b"3", timeout=2.0)
    assert [next(call) for _ in range(3)] == [b"0", b"1", b"2"]
    assert _code(lambda: next(call)) is codes.DEADLINE_EXCEEDED
    assert "Deadline Exceeded" in call.details()


def test_who_cancels_is_told_so_and_the_handler_sees_that_nobody_waits(channel: Open, host: Host) -> None:
    call = channel().unary_stream("/t/Count")(b"3")
    ended: queue.SimpleQueue[grpc.StatusCode] = queue.SimpleQueue()
    call.add_done_callback(lambda over: ended.put(over.code()))
    assert next(call) == b"0"
    context, gone = host.contexts.get(), threading.Event()
    assert context.add_callback(gone.set)
    call.cancel()
    assert ended.get(timeout=30) is grpc.StatusCode.CANCELLED
    assert gone.wait(30)
    assert not context.is_active()
    assert not context.add_callback(gone.set)


def test_a_call_that_nobody_holds_any_more_is_over_for_its_handler_too(channel: Open, host: Host) -> None:
    call = channel().unary_stream("/t/Count")(b"3")
    assert next(call) == b"0"
    del call
    context = host.contexts.get()
    wait_for(lambda: not context.is_active())


def test_a_handler_that_waits_for_requests_is_told_when_the_caller_is_gone(channel: Open, host: Host) -> None:
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = channel().stream_stream("/t/Echo")(iter(said.get, None))
    said.put(b"a")
    assert next(call) == b"A"
    context = host.contexts.get()
    call.cancel()
    said.put(None)
    wait_for(lambda: not context.is_active())


def test_a_call_that_is_cut_by_the_server_is_cancelled_for_who_made_it(channel: Open, host: Host) -> None:
    call = channel().unary_stream("/t/Count")(b"3")
    assert [next(call) for _ in range(3)] == [b"0", b"1", b"2"]
    host.contexts.get().cancel()
    assert _code(lambda: next(call)) is grpc.StatusCode.CANCELLED


def test_a_channel_that_is_closed_ends_its_calls_and_takes_none(channel: Open) -> None:
    to = channel()
    call = to.unary_stream("/t/Count")(b"3")
    assert next(call) == b"0"
    to.close()
    assert _code(lambda: list(call)) is grpc.StatusCode.CANCELLED
    with pytest.raises(ValueError, match="closed channel"):
        to.unary_unary("/t/Say")(b"a")


def test_a_server_that_stops_lets_calls_end_for_its_grace_and_frees_its_port(
    channel: Open, host: Host
) -> None:
    to = channel()
    call = to.unary_unary("/t/Say").future(b"waits")
    host.contexts.get()
    stopped = host.server.stop(30)
    refused = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert _code(lambda: to.unary_unary("/t/Say")(b"a")) in refused
    host.go_on.set()
    assert call.result() == b"WAITS"
    assert stopped.wait(30)
    socket.create_server(("127.0.0.1", host.port)).close()


def test_a_server_that_stops_at_once_breaks_off(channel: Open, host: Host) -> None:
    call = channel().unary_stream("/t/Count")(b"3")
    assert next(call) == b"0"
    assert host.server.stop(0).wait(30)
    assert _code(lambda: list(call)) is grpc.StatusCode.UNAVAILABLE


def test_a_server_is_only_who_its_certificate_says_and_the_grid_made(papers: Papers, channel: Open) -> None:
    codes, other = grpc.StatusCode, Papers()
    for wrong in (channel(name=str(uuid.uuid4())), channel(roots=[other.root])):
        assert _code(lambda to=wrong: to.unary_unary("/t/Say")(b"a")) is codes.UNAVAILABLE


def test_a_caller_without_a_certificate_of_the_grid_that_counts_now_is_not_let_in(
    papers: Papers, channel: Open, host: Host
) -> None:
    node = str(uuid.uuid4())
    for shown in (NOBODY, Papers().pair(node), papers.pair(node, ago=7200, lifetime=60)):
        call = channel(shown).unary_unary("/t/Say")
        assert _code(lambda call=call: call(b"a")) is grpc.StatusCode.UNAVAILABLE
    assert host.contexts.empty()


def test_a_handler_sees_the_certificate_of_who_calls(papers: Papers, channel: Open, host: Host) -> None:
    pair = papers.pair(str(uuid.uuid4()))
    channel(pair).unary_unary("/t/Say")(b"a", metadata=(("pp-a", "b"), ("pp-c-bin", b"\xff")))
    context = host.contexts.get()
    assert context.auth_context()["x509_pem_cert"] == [to_pem(pair.chain[:1])]
    said = [tuple(each) for each in context.invocation_metadata()]
    assert [each for each in said if each[0].startswith("pp-")] == [("pp-a", "b"), ("pp-c-bin", b"\xff")]


def test_a_new_certificate_is_shown_from_the_next_connection_on(
    papers: Papers, channel: Open, host: Host
) -> None:
    address = f"127.0.0.1:{host.port}"
    assert dialing.peer_certificate(address) == to_der(host.pair.chain[0])
    host.pair = papers.pair(OWNER)
    assert dialing.peer_certificate(address, name=server_name(OWNER)) == to_der(host.pair.chain[0])


@PLAYED
def test_a_door_finds_the_name_in_what_a_caller_begins_with() -> None:
    assert server_name_in(hello(server_name(OWNER))) == server_name(OWNER)
    assert server_name_in(hello("")) == ""


def test_a_line_that_is_cut_breaks_calls_off_and_one_that_is_whole_again_carries_them(
    channel: Open, host: Host
) -> None:
    line = Line(host.port)
    try:
        to = channel(proxy=line.settings["grid.proxy"])
        call = to.unary_stream("/t/Count")(b"3")
        assert next(call) == b"0"
        line.cut()
        assert _code(lambda: list(call)) is grpc.StatusCode.UNAVAILABLE
        assert _code(lambda: to.unary_unary("/t/Say")(b"a")) is grpc.StatusCode.UNAVAILABLE
        line.heal()
        say = to.unary_unary("/t/Say")
        # Who just failed to connect is not dialed again at once: other calls are told so.
        assert _code(lambda: say(b"a")) is grpc.StatusCode.UNAVAILABLE
        assert say(b"a", wait_for_ready=True, timeout=30) == b"A"
        assert say(b"a") == b"A"
    finally:
        line.close()


def test_a_call_that_waits_for_its_peer_begins_when_the_line_is_whole_again(
    channel: Open, host: Host
) -> None:
    link = Link(host.port)
    try:
        link.cut()
        call = channel(port=link.port).unary_stream("/t/Count")(b"2", wait_for_ready=True, timeout=30)
        link.heal()
        assert list(call) == [b"0", b"1"]
    finally:
        link.close()


@PLAYED
def test_a_line_gone_silent_is_noticed_by_a_sign_of_life_that_does_not_come(
    channel: Open, host: Host
) -> None:
    link, often = Link(host.port), (("grpc.keepalive_time_ms", 200), ("grpc.keepalive_timeout_ms", 300))
    try:
        call = channel(port=link.port, options=often).unary_stream("/t/Count")(b"3")
        assert [next(call) for _ in range(3)] == [b"0", b"1", b"2"]
        ended = threading.Event()
        threading.Thread(target=lambda: (call.code(), ended.set()), daemon=True).start()
        assert not ended.wait(1.0)
        link.be(SILENT, SILENT)
        assert ended.wait(30)
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert "keepalive" in call.details()
    finally:
        link.close()


def test_nodes_join_connect_ask_and_expel_over_it(tmp_path: Path) -> None:
    """The grid's own parts: enrolment, sessions, the gate, assertions, and letters in between."""
    alpha, beta = Peer(tmp_path / "alpha", "alpha"), Peer(tmp_path / "beta", "beta")
    try:
        alpha.grid.found("CZ-MED")
        alpha.admit(beta)
        wait_for(lambda: alpha.knows(beta) and beta.knows(alpha))
        assert alpha.ask(beta) == b"hello from alpha"
        assert beta.ask(alpha) == b"hello from beta"
        with pytest.raises(Unavailable, match="tape robot"), letters("beta"):
            alpha.ask(beta, b"fail")
        stream = beta.stream(alpha)
        assert next(stream) == b"first"
        assert alpha.member.authority is not None
        alpha.member.authority.revoke(beta.node_id)
        with pytest.raises(grpc.RpcError):
            next(stream)
        wait_for(lambda: not alpha.knows(beta))
        with pytest.raises((PacsError, grpc.RpcError)):
            beta.ask(alpha, timeout=2)
    finally:
        beta.close()
        alpha.close()


def test_generated_stubs_ask_who_shows_a_certificate_but_wants_none(tmp_path: Path) -> None:
    """The enrolment port of an authority, as `peerpacs join` first meets it."""
    alpha = Peer(tmp_path / "alpha", "alpha")
    try:
        alpha.grid.found("CZ-MED")
        address = f"127.0.0.1:{alpha.member.ports['join']}"
        leaf = x509.load_der_x509_certificate(dialing.peer_certificate(address))
        tls = grpc.ssl_channel_credentials(to_pem([leaf]))
        with grpc.secure_channel(address, tls, channel_options(server_name(alpha.node_id))) as channel:
            reply = services.EnrollStub(channel).Probe(wire.ProbeRequest(), timeout=30)
        assert reply.node_id == alpha.node_id
    finally:
        alpha.close()
