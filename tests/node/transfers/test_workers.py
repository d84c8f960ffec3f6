"""Workers lease transfers over inproc, ipc and tcp by URL alone; who dies loses the lease, not the job."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from catalog import BadRequest
from node.state import State
from node.transfers import Kind, Lane, Order, Standing, TransferQueue
from node.transfers.leases import LEASE
from node.transfers.serving import LeaseServer
from node.transfers.wires import Keys, listen, make_keys, reach
from node.transfers.worker import Pulse, Worker
from tests.node.transfers.worker_process import INSTANCES, Writer
from tests.running import until

ROOT = Path(__file__).parents[3]


class Node:
    """A queue that serves workers; `ahead` moves its clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ahead = 0.0
        self.state = State(folder / "state")
        self.keys = make_keys(folder / "secrets" / "transfers.key")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.url = ""
        self.open()

    def open(self) -> None:
        """Begin to serve, as after a crash."""
        self.context = zmq.Context()
        self.queue = TransferQueue(self.state, self.folder / "transfers", lambda: time.time() + self.ahead)
        self.server = LeaseServer(self.queue, self.context, self.queue.clock)
        if self.url:
            self.listen(self.url)

    def listen(self, url: str) -> None:
        """Let workers come by this URL."""
        self.url = self.server.listen(url, self.keys if url.startswith("tcp") else None)

    def until(self, claim: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Serve until the claim is true."""

        def step() -> Any:
            self.server.step(0.02)
            return claim()

        return until(step, seconds)

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        """Start a worker in a process of its own, that writes into the file of that name."""
        command = [sys.executable, "-m", "tests.node.transfers.worker_process", self.url]
        keys = [str(self.folder / "secrets" / "worker.key")] if self.url.startswith("tcp") else []
        process = subprocess.Popen([*command, str(self.folder / name), *keys], cwd=ROOT)
        self.processes.append(process)
        return process

    def written(self, *names: str) -> list[str]:
        """Return what workers wrote."""
        files = [self.folder / name for name in names]
        return [line for file in files if file.exists() for line in file.read_text().splitlines()]

    def order(self, study: str, pace: float = 0.0, lane: Lane = Lane.NORMAL) -> str:
        """Order a study, with so many seconds between its instances."""
        order = Order(kind=Kind.DELIVER, destination=study, StudyInstanceUID=study, detail=str(pace))
        return self.queue.enqueue(order, lane).id

    def stands(self, id: str, standing: Standing) -> Callable[[], bool]:
        """Return the claim that a transfer stands so."""
        return lambda: self.queue.find(id).standing is standing


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    for process in node.processes:
        process.kill()
        process.wait()
    node.server.close()
    node.context.destroy(linger=0)
    node.state.close()


def url_of(kind: str, folder: Path) -> str:
    return {"ipc": f"ipc://{folder}/workers", "tcp": "tcp://127.0.0.1:*"}[kind]


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_a_worker_in_another_process_carries_transfers(node: Node, tmp_path: Path, kind: str) -> None:
    node.listen(url_of(kind, tmp_path))
    ids = [node.order(f"1.{number}") for number in range(5)]
    node.worker("out")
    for id in ids:
        node.until(node.stands(id, Standing.DONE))
    assert Counter(node.written("out")) == {f"1.{n}.{i}": 1 for n in range(5) for i in range(INSTANCES)}
    assert node.queue.find(ids[0]).series[0].done == INSTANCES


def test_a_worker_in_this_process_carries_transfers_by_the_same_words(node: Node, tmp_path: Path) -> None:
    node.listen("inproc://workers")
    id = node.order("1.1")
    pulse = Pulse(node.context, node.url, time.time)
    worker = Worker(node.context, node.url, {Kind.DELIVER: Writer(tmp_path / "out")}, pulse, time.time)
    node.until(lambda: worker.step() or node.stands(id, Standing.DONE)())
    node.until(node.stands(id, Standing.DONE))
    worker.close()
    pulse.close()
    assert len(node.written("out")) == INSTANCES


def test_what_a_killed_worker_had_is_finished_by_another_and_nothing_answered_goes_twice(
    node: Node, tmp_path: Path
) -> None:
    node.listen(url_of("ipc", tmp_path))
    id = node.order("1.1", pace=0.05)
    first = node.worker("first")
    node.until(lambda: len(node.written("first")) >= 5)
    first.kill()
    first.wait()
    node.until(lambda: True)
    node.worker("second")
    node.until(lambda: True)
    assert node.stands(id, Standing.RUNNING)()
    node.ahead += LEASE + 1
    node.until(node.stands(id, Standing.DONE))
    lines = Counter(node.written("first", "second"))
    assert len(lines) == INSTANCES
    assert sum(lines.values()) <= INSTANCES + 1, "only the one whose answer nobody heard may go twice"


def test_a_worker_outlives_the_node_and_carries_on(node: Node, tmp_path: Path) -> None:
    node.listen(url_of("tcp", tmp_path))
    id = node.order("1.1", pace=0.1)
    node.worker("out")
    node.until(lambda: len(node.written("out")) >= 5)
    node.server.close()
    node.context.destroy(linger=0)
    node.open()
    node.until(node.stands(id, Standing.DONE))
    assert sorted(Counter(node.written("out")).values()) == [1] * INSTANCES


def test_an_urgent_transfer_overtakes_a_bulk_one_between_its_instances(node: Node, tmp_path: Path) -> None:
    node.listen(url_of("ipc", tmp_path))
    bulk = node.order("1.1", pace=0.1, lane=Lane.BULK)
    node.worker("out")
    node.until(lambda: len(node.written("out")) >= 2)
    urgent = node.order("2.1", lane=Lane.NOW)
    node.until(node.stands(urgent, Standing.DONE))
    assert not node.stands(bulk, Standing.DONE)()
    node.until(node.stands(bulk, Standing.DONE))
    lines = node.written("out")
    assert lines.index("2.1.0") < lines.index(f"1.1.{INSTANCES - 1}")
    assert len(lines) == len(set(lines)) == 2 * INSTANCES


def test_a_running_transfer_can_be_paused_resumed_and_cancelled(node: Node, tmp_path: Path) -> None:
    node.listen(url_of("ipc", tmp_path))
    id = node.order("1.1", pace=0.05)
    node.worker("out")
    node.until(lambda: len(node.written("out")) >= 2)
    node.queue.pause(id)
    node.until(lambda: id not in node.queue.leases)
    paused_at = len(node.written("out"))
    assert node.queue.find(id).series[0].done == paused_at < INSTANCES
    node.queue.resume(id)
    node.until(lambda: len(node.written("out")) > paused_at)
    node.queue.cancel(id)
    node.until(lambda: id not in node.queue.leases)
    assert node.stands(id, Standing.CANCELLED)()
    assert len(node.written("out")) < INSTANCES


def test_over_tcp_nobody_comes_in_without_the_key(node: Node, tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        listen(node.context, "tcp://127.0.0.1:*")
    node.listen(url_of("tcp", tmp_path))
    node.order("1.1")
    public, secret = (key.decode() for key in zmq.curve_keypair())
    strangers = [
        reach(node.context, node.url, "stranger", Keys(node.keys.server_public, public, secret)),
        node.context.socket(zmq.DEALER),
    ]
    strangers[1].connect(node.url)
    from node.transfers.messages import PROTOCOL, Ready, encode

    for stranger in strangers:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.send(encode(Ready(PROTOCOL, "stranger", (Kind.DELIVER,), 0)))
    node.until(lambda: node.server._doorkeeper and node.server._doorkeeper.refused)
    for _ in range(10):
        node.server.step(0.02)
    assert not node.server._workers
    assert not any(stranger.poll(100) for stranger in strangers)
    for stranger in strangers:
        stranger.close()


def test_what_nobody_understands_harms_nobody(node: Node, tmp_path: Path) -> None:
    node.listen(url_of("ipc", tmp_path))
    rude = reach(node.context, node.url, "rude")
    for message in (b"", b"\xff" * 100, b"\x91\xa4over", b"\x93\xa4beat\xa1a\xa1b", b"\x96\xa3job"):
        rude.send(message)
    id = node.order("1.1")
    node.worker("out")
    node.until(node.stands(id, Standing.DONE))
    rude.close()


def test_a_thousand_small_transfers_take_seconds(node: Node, tmp_path: Path) -> None:
    node.listen("inproc://workers")
    count = 1000
    node.queue.enqueue_all(
        [Order(kind=Kind.REPORT, destination=f"AE{n % 10}", detail=str(n)) for n in range(count)]
    )

    class Nothing:
        def carry(self, job: Any, hands: Any) -> Any:
            from node.transfers import Outcome, Verdict

            return Outcome(Verdict.OVER)

    stopping = threading.Event()

    def work() -> None:
        pulse = Pulse(node.context, node.url, time.time)
        worker = Worker(node.context, node.url, {Kind.REPORT: Nothing()}, pulse, time.time)
        while not stopping.is_set():
            worker.step(0.05)
        worker.close()
        pulse.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    while any(node.queue.counts().values()):
        node.server.step(0.05)
        assert time.monotonic() < started + 60
    print(f"{count / (time.monotonic() - started):.0f} transfers/s")
    stopping.set()
    for thread in threads:
        thread.join()
