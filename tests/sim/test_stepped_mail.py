"""The stand-in for pyzmq says what libzmq says, and a node's sockets work over it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from catalog import BadRequest, NotFound, PacsError, Unavailable
from node.bell import Bell
from node.control import ControlServer, HomeLock, ask
from node.state import State
from node.transfers import Kind, Order, Standing, TransferQueue
from node.transfers.serving import LeaseServer
from node.transfers.wires import Keys, listen, reach
from node.transfers.worker import Pulse, Worker
from sim.stepping import mail
from tests.node.transfers.worker_process import INSTANCES, Writer

SOON = 5000
"""Milliseconds within which what libzmq carries on threads of its own has arrived."""


@pytest.fixture(params=["libzmq", "stand-in"])
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """ZeroMQ itself, and what stands in for it."""
    with mail.installed() if request.param == "stand-in" else contextlib.nullcontext():
        yield request.param


@pytest.fixture
def stood_in() -> Iterator[None]:
    with mail.installed():
        yield


@pytest.fixture
def context(library: str) -> Iterator[Any]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)
    _kept.clear()


@pytest.fixture(params=["inproc", "ipc"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"inproc": "inproc://queue", "ipc": f"ipc://{tmp_path}/queue"}[request.param]


_kept: list[Any] = []
"""Sockets of the test under way, lest libzmq complain of some that are forgotten and not closed."""


def made(context: Any, kind: int, **options: Any) -> Any:
    socket = context.socket(kind)
    _kept.append(socket)
    for name, value in options.items():
        socket.setsockopt(getattr(zmq, name), value)
    return socket


def heard(socket: Any) -> list[bytes]:
    """Return the next message, that is on its way."""
    assert socket.poll(SOON) == zmq.POLLIN
    return list(socket.recv_multipart(zmq.NOBLOCK))


def error_of(action: Callable[[], object]) -> int | None:
    with pytest.raises(zmq.ZMQError) as caught:
        action()
    return caught.value.errno


def test_what_is_asked_is_answered_in_turn_and_only_in_turn(context: Any, url: str) -> None:
    rep, first, second = made(context, zmq.REP), made(context, zmq.REQ), made(context, zmq.REQ)
    rep.bind(url)
    for req in (first, second):
        req.connect(url)
        assert error_of(req.recv) == zmq.EFSM
    first.send(b"1")
    assert error_of(lambda: first.send(b"again")) == zmq.EFSM
    assert error_of(lambda: rep.send(b"unasked")) == zmq.EFSM
    assert heard(rep) == [b"1"]
    second.send_multipart([b"2", b"", b"two"])
    assert rep.poll(20) == 0, "it has something to answer first"
    assert error_of(lambda: rep.recv(zmq.NOBLOCK)) == zmq.EFSM
    rep.send(b"one")
    assert heard(first) == [b"one"]
    assert heard(rep) == [b"2", b"", b"two"]
    rep.send_multipart([b"a", b"b"])
    assert second.poll(SOON)
    assert (second.recv(), second.getsockopt(zmq.RCVMORE), second.recv()) == (b"a", 1, b"b")
    first.send(b"3")
    assert heard(rep) == [b"3"]


def test_a_router_knows_who_came_by_name_and_says_who_is_gone(context: Any, url: str) -> None:
    router = made(context, zmq.ROUTER, ROUTER_HANDOVER=1, ROUTER_MANDATORY=1)
    router.bind(url)
    assert router.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode() == url
    named, nameless = made(context, zmq.DEALER, IDENTITY=b"ann"), made(context, zmq.DEALER)
    for dealer in (named, nameless):
        dealer.connect(url)
    named.send(b"I am", zmq.SNDMORE)
    named.send(b"Ann")
    assert heard(router) == [b"ann", b"I am", b"Ann"]
    nameless.send(b"hello")
    name, said = heard(router)
    assert (len(name), name[:1], said) == (5, b"\0", b"hello")
    router.send_multipart([name, b"hello you"])
    router.send_multipart([b"ann", b"hello Ann"], zmq.NOBLOCK)
    assert (heard(nameless), heard(named)) == ([b"hello you"], [b"hello Ann"])
    assert error_of(lambda: router.send_multipart([b"bob", b"?"])) == zmq.EHOSTUNREACH
    router.setsockopt(zmq.ROUTER_MANDATORY, 0)
    router.send_multipart([b"bob", b"?"])


def test_who_comes_under_a_name_that_is_taken_takes_it_over(context: Any) -> None:
    router = made(context, zmq.ROUTER, ROUTER_HANDOVER=1)
    router.bind("inproc://queue")
    old, new = made(context, zmq.DEALER, IDENTITY=b"ann"), made(context, zmq.DEALER, IDENTITY=b"ann")
    old.connect("inproc://queue")
    old.send(b"old")
    assert heard(router) == [b"ann", b"old"]
    new.connect("inproc://queue")
    new.send(b"new")
    assert heard(router) == [b"ann", b"new"]
    router.send_multipart([b"ann", b"for one"])
    assert heard(new) == [b"for one"]
    assert old.poll(20) == 0
    with pytest.raises(zmq.Again):
        old.send(b"nobody hears", zmq.NOBLOCK)


def test_without_handover_the_first_keeps_its_name(context: Any, url: str) -> None:
    router = made(context, zmq.ROUTER)
    router.bind(url)
    first, second = made(context, zmq.DEALER, IDENTITY=b"ann"), made(context, zmq.DEALER, IDENTITY=b"ann")
    for dealer, said in ((first, b"1"), (second, b"2")):
        dealer.connect(url)
        dealer.send(said)
        if dealer is first:
            assert heard(router) == [b"ann", b"1"]
    assert router.poll(50) == 0
    router.send_multipart([b"ann", b"x"])
    assert heard(first) == [b"x"]


def test_what_is_sent_before_anybody_is_bound_waits(context: Any, url: str) -> None:
    req, dealer = made(context, zmq.REQ), made(context, zmq.DEALER)
    for socket in (req, dealer):
        socket.connect(url)
        socket.send(b"early")
    router = made(context, zmq.ROUTER)
    router.bind(url)
    assert sorted(heard(router)[1:] for _ in range(2)) == [[b"", b"early"], [b"early"]]


def test_what_was_said_last_is_heard_after_who_said_it_has_closed(context: Any, url: str) -> None:
    router, dealer = made(context, zmq.ROUTER), made(context, zmq.DEALER, IDENTITY=b"ann")
    router.bind(url)
    dealer.connect(url)
    dealer.send(b"first")
    assert heard(router) == [b"ann", b"first"]
    router.send_multipart([b"ann", b"farewell"])
    assert dealer.poll(SOON)
    dealer.send(b"last")
    assert router.poll(SOON)
    router.close()
    assert heard(dealer) == [b"farewell"]
    again = made(context, zmq.ROUTER)
    until_again(lambda: again.bind(url))
    other = made(context, zmq.DEALER, IDENTITY=b"bob")
    other.connect(url)
    other.send(b"last")
    other.close()
    assert heard(again) == [b"bob", b"last"]


def test_over_ipc_a_worker_finds_the_queue_again_and_in_process_it_does_not(context: Any, url: str) -> None:
    router, dealer = made(context, zmq.ROUTER), made(context, zmq.DEALER, IDENTITY=b"ann")
    router.bind(url)
    dealer.connect(url)
    dealer.send(b"1")
    assert heard(router) == [b"ann", b"1"]
    router.close()
    again = made(context, zmq.ROUTER)
    until_again(lambda: again.bind(url))
    if url.startswith("ipc"):
        until_heard(again, lambda: dealer.send(b"2"))
        again.send_multipart([b"ann", b"welcome"])
        assert heard(dealer) == [b"welcome"]
    else:
        with pytest.raises(zmq.Again):
            say_for_a_second(dealer)


def say_for_a_second(dealer: Any) -> None:
    for _ in range(100):
        dealer.send(b"2", zmq.NOBLOCK)
        dealer.poll(10)


# libzmq closes sockets, and has others learn of it, on threads of its own: that may take a moment.


def until_again(bind: Callable[[], object]) -> object:
    """Bind once the one that closed has let go."""
    deadline = time.monotonic() + SOON / 1000
    while True:
        try:
            return bind()
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or time.monotonic() > deadline:
                raise


def until_heard(router: Any, say: Callable[[], object]) -> None:
    for _ in range(20):
        say()
        if router.poll(500):
            router.recv_multipart()
            return
    raise AssertionError("nothing was heard")


def test_addresses_that_are_none_or_taken_are_refused_alike(context: Any, tmp_path: Path) -> None:
    made(context, zmq.ROUTER).bind("inproc://taken")
    folder = tmp_path / "folder"
    folder.mkdir()
    wrong = {
        "inproc://taken": zmq.EADDRINUSE,
        "nonsense": zmq.EINVAL,
        f"ipc://{tmp_path}/no/such": errno.ENOENT,
        f"ipc://{tmp_path}/{'h' * 120}": errno.ENAMETOOLONG,
        f"ipc://{folder}": zmq.EADDRINUSE,
    }
    socket = made(context, zmq.ROUTER)
    assert {url: error_of(lambda url=url: socket.bind(url)) for url in wrong} == wrong
    assert error_of(lambda: socket.connect("nonsense")) == zmq.EINVAL


def test_an_ipc_path_is_a_socket_file_that_goes_to_who_binds_last_and_stays(
    context: Any, tmp_path: Path
) -> None:
    first, second, dealer = (made(context, kind) for kind in (zmq.ROUTER, zmq.ROUTER, zmq.DEALER))
    path = tmp_path / "queue"
    for router in (first, second):
        router.bind(f"ipc://{path}")
        assert stat.S_ISSOCK(path.stat().st_mode)
        path.chmod(0o600)
    dealer.connect(f"ipc://{path}")
    dealer.send(b"x")
    assert heard(second)[1:] == [b"x"]
    assert first.poll(0) == 0
    context.destroy(linger=0)
    assert path.exists(), "who bound it has to remove it"


def test_frames_are_bytes_or_frames_and_no_text(context: Any) -> None:
    rep, req = made(context, zmq.REP), made(context, zmq.REQ)
    rep.bind("inproc://queue")
    req.connect("inproc://queue")
    req.send_multipart([bytearray(b"1"), memoryview(b"2"), zmq.Frame(b"3")], copy=False)
    frames = rep.recv_multipart(copy=False)
    assert [frame.bytes for frame in frames] == [b"1", b"2", b"3"]
    rep.send(frames[0], copy=False)
    assert req.recv(copy=False).bytes == b"1"
    for wrong in ("text", 5):
        with pytest.raises(TypeError):
            req.send(wrong)


def test_what_is_longer_than_who_listens_allows_never_arrives(context: Any, tmp_path: Path) -> None:
    rep, req = made(context, zmq.REP, MAXMSGSIZE=1000), made(context, zmq.REQ)
    rep.bind(f"ipc://{tmp_path}/rep")
    req.connect(f"ipc://{tmp_path}/rep")
    req.send(b"x" * 1001)
    other = made(context, zmq.REQ)
    other.connect(f"ipc://{tmp_path}/rep")
    other.send(b"x" * 1000)
    assert heard(rep) == [b"x" * 1000]
    rep.send(b"")
    assert rep.poll(50) == 0


def test_whoever_waits_is_woken_by_a_message_a_bell_or_the_end(context: Any) -> None:
    rep, req, bell = made(context, zmq.REP), made(context, zmq.REQ), Bell()
    rep.bind("inproc://queue")
    req.connect("inproc://queue")
    events: list[object] = []

    def listen() -> None:
        events.append(bell.wait(30, rep))
        events.append(bell.wait(30, rep))
        events.append(rep.recv())
        rep.send(b"")
        try:
            rep.recv()
        except zmq.ContextTerminated:
            events.append("over")
        rep.close()

    thread = threading.Thread(target=listen)
    thread.start()
    bell.ring()
    req.send(b"hello")
    assert heard(req) == [b""]
    req.close()
    context.term()
    thread.join()
    bell.close()
    # Either wait may have heard both, as the bell and the message come together.
    assert events[-2:] == [b"hello", "over"]


def test_who_has_nobody_to_send_to_waits_for_somebody(context: Any) -> None:
    dealer, router = made(context, zmq.DEALER, SNDTIMEO=10, RCVTIMEO=10), made(context, zmq.ROUTER)
    for action in (lambda: dealer.send(b"x"), dealer.recv):
        with pytest.raises(zmq.Again):
            action()
    router.bind("inproc://queue")
    dealer.setsockopt(zmq.SNDTIMEO, -1)
    thread = threading.Thread(target=dealer.connect, args=("inproc://queue",))
    thread.start()
    thread.join()
    dealer.send(b"x")
    assert heard(router)[1:] == [b"x"]


def test_what_is_closed_is_refused_alike(context: Any) -> None:
    socket = context.socket(zmq.DEALER)
    socket.close()
    assert socket.closed
    socket.close()
    assert error_of(lambda: socket.send(b"")) == zmq.ENOTSOCK
    assert error_of(lambda: socket.poll(0)) == zmq.ENOTSUP
    context.term()
    assert context.closed
    assert error_of(lambda: context.socket(zmq.REQ)) == zmq.ENOTSUP


def test_a_poller_waits_for_sockets_and_descriptors_together(context: Any) -> None:
    router, dealer, (reading, writing) = made(context, zmq.ROUTER), made(context, zmq.DEALER), os.pipe()
    router.bind("inproc://queue")
    dealer.connect("inproc://queue")
    poller = zmq.Poller()
    for each in (reading, router):
        poller.register(each, zmq.POLLIN)
    assert poller.poll(0) == []
    dealer.send(b"x")
    assert dict(poller.poll(SOON)) == {router: zmq.POLLIN}
    os.write(writing, b"x")
    assert dict(poller.poll(SOON)) == {reading: zmq.POLLIN, router: zmq.POLLIN}
    poller.unregister(router)
    os.close(writing)
    assert dict(poller.poll())[reading] & zmq.POLLIN
    os.close(reading)


def test_names_in_process_belong_to_one_context(library: str) -> None:
    with zmq.Context() as alpha, zmq.Context() as beta:
        for context in (alpha, beta):
            made(context, zmq.ROUTER).bind("inproc://transfers")
        for context in (alpha, beta):
            context.destroy(0)
    _kept.clear()


def fail() -> None:
    raise NotFound("It went wrong.", "Do this.")


def test_a_command_reaches_a_running_node(library: str, tmp_path: Path) -> None:
    stop = threading.Event()
    with HomeLock(tmp_path, "node"):
        server = ControlServer(tmp_path, {"double": lambda number: 2 * number, "fail": fail})
        with pytest.raises(Unavailable, match="does not answer for 0 s"):
            ask(tmp_path, "double", timeout=0.1, number=1)
        thread = threading.Thread(target=server.serve, args=(stop,))
        thread.start()
        assert [ask(tmp_path, "double", number=number) for number in range(5)] == [0, 2, 4, 6, 8]
        with pytest.raises(NotFound, match="went wrong"):
            ask(tmp_path, "fail")
        with pytest.raises(PacsError, match="does not know"):
            ask(tmp_path, "nothing")
        stop.set()
        server.wake()
        thread.join()
        server.close()
    assert not (tmp_path / "run" / "control").exists()
    with pytest.raises(Unavailable):
        ask(tmp_path, "double", number=1)


def test_workers_in_this_process_carry_transfers(library: str, url: str, tmp_path: Path) -> None:
    state, context, stop = State(tmp_path / "state"), zmq.Context(), threading.Event()
    queue = TransferQueue(state, tmp_path / "transfers", time.time)
    server = LeaseServer(queue, context, time.time)
    server.listen(url)
    pulse = Pulse(context, url, time.time)
    workers = [
        Worker(context, url, {Kind.DELIVER: Writer(tmp_path / f"{number}")}, pulse, time.time)
        for number in range(2)
    ]

    def run(step: Callable[[float], object]) -> None:
        while not stop.is_set():
            step(5.0)

    loops = [(each.step, each.wake) for each in (pulse, *workers)]
    threads = [threading.Thread(target=run, args=(step,)) for step, _ in loops]
    for thread in threads:
        thread.start()
    orders = [Order(kind=Kind.DELIVER, destination=f"1.{n}", StudyInstanceUID=f"1.{n}") for n in range(4)]
    ids = [transfer.id for transfer in queue.enqueue_all(orders)]
    deadline = time.monotonic() + 60
    while any(queue.find(id).standing is not Standing.DONE for id in ids):
        server.step(0.5)
        assert time.monotonic() < deadline
    stop.set()
    for _, wake in loops:
        wake()
    for thread in threads:
        thread.join()
    server.close()
    for each in (*workers, pulse):
        each.close()
    context.term()
    state.close()
    lines = [
        line for n in range(2) if (file := tmp_path / f"{n}").exists() for line in file.read_text().split()
    ]
    assert sorted(lines) == sorted(f"1.{n}.{i}" for n in range(4) for i in range(INSTANCES))


def test_what_has_no_stand_in_is_refused_in_words(stood_in: None, tmp_path: Path) -> None:
    keys = Keys(*("k" * 40,) * 4)
    with zmq.Context() as context:
        for action in (listen, lambda *args: reach(context, "tcp://127.0.0.1:5", "ann", keys)):
            with pytest.raises(BadRequest, match="stand-in for ZeroMQ has no way to tcp"):
                action(context, "tcp://127.0.0.1:*", keys)
        with pytest.raises(NotImplementedError, match="kind"):
            context.socket(zmq.PUB)
        socket = context.socket(zmq.REQ)
        for option in (zmq.IMMEDIATE, zmq.CONFLATE):
            with pytest.raises(mail.NotStoodIn, match="option"):
                socket.setsockopt(option, 1)
        with pytest.raises(NotImplementedError, match="waiting"):
            zmq.Poller().register(socket)


def test_whoever_waits_waits_in_poll_and_nowhere_else(
    stood_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []

    class Poll:
        """Time passes at once: what is not there now never comes."""

        def __init__(self) -> None:
            self._poll = real()
            self.register = self._poll.register

        def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
            waits.append(timeout)
            return self._poll.poll(0)

    real = select.poll
    monkeypatch.setattr(select, "poll", Poll)
    with zmq.Context() as context:
        dealer = made(context, zmq.DEALER, RCVTIMEO=60_000, SNDTIMEO=70_000)
        for action in (dealer.recv, lambda: dealer.send(b"x")):
            with pytest.raises(zmq.Again):
                action()
        assert dealer.poll(80_000) == 0
        bell = Bell()
        assert not bell.wait(90, dealer)
        bell.close()
    assert waits == [60_000, 70_000, 80_000, 90_000]


def test_afterwards_zeromq_is_itself_again_and_no_descriptor_is_left() -> None:
    real = zmq.Context, zmq.Socket, zmq.Poller
    before = len(os.listdir("/proc/self/fd"))
    with mail.installed():
        assert zmq.Context is mail.Context
        with zmq.Context() as context:
            made(context, zmq.REP).bind("inproc://x")
            made(context, zmq.REQ).connect("inproc://x")
    assert (zmq.Context, zmq.Socket, zmq.Poller) == real
    assert len(os.listdir("/proc/self/fd")) == before
