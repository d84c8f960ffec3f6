"""Whole nodes of a grid in the test's own process: real keys, real tables, real gRPC over mutual TLS."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from catalog import Unavailable
from federation.links.gate import Gate, Visit
from federation.links.roll import Alarm
from federation.trust.rows import Tables
from federation.trust.ticket import Ticket
from node.grid import Grid, Membership, Outside, Settings
from node.state import State

STEP = 0.05


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> float:
    """Wait until something is true; return the seconds it took."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < seconds, "it did not become true"
        time.sleep(0.01)
    return time.monotonic() - started


class Peer:
    """One node: its parts, and what it would have told its admin."""

    def __init__(
        self,
        home: Path,
        name: str,
        skew: float = 0.0,
        node_id: str = "",
        serve: Callable[[Gate], Callable[[grpc.Server], None]] | None = None,
        **settings: Any,
    ) -> None:
        self.home, self.name, self.skew = home, name, skew
        self.alarms: list[Alarm] = []
        self.visits: list[Visit] = []
        self.stop = threading.Event()
        self.pace = 1.0
        self.state = State(home / "state")
        self.threads: list[threading.Thread] = []
        self.echo = Echo()
        outside = Outside(
            clock=lambda: time.time() + self.skew,
            monotonic=time.monotonic,
            spawn=self._spawn,
            audit=self.visits.append,
            alarm=self.alarms.append,
            stop=self.stop,
            services=lambda gate: (self.echo.register(gate), *((serve(gate),) if serve else ())),
        )
        made = Settings(node_id=node_id or str(uuid.uuid4()), name=name, site=name, **settings)
        self.node_id = made.node_id
        self.grid = Grid(home, made, Tables(self.state.table), outside)
        self.grid.start()
        self._spawn("step", self._steps)

    def _spawn(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=f"{self.name} {name}", daemon=True)
        self.threads.append(thread)
        thread.start()

    def _steps(self) -> None:
        while not self.stop.wait(STEP):
            self.grid.step()

    @property
    def member(self) -> Membership:
        """Its membership."""
        return self.grid.member()

    def invite(self, site: str, template: str = "peer") -> Ticket:
        """Return a ticket to this node's grid."""
        assert self.member.registrar is not None
        address = f"127.0.0.1:{self.member.ports['join']}"
        return self.member.registrar.invite(address, site, template, 3600, "admin")

    def admit(self, joiner: Peer) -> None:
        """Have a node join, as two admins would."""
        assert self.member.registrar is not None
        waiting = joiner.grid.ask(self.invite(joiner.name))
        [(request_id, request)] = self.member.registrar.requests()
        assert request.words == waiting.words
        self.member.registrar.approve(request_id, "admin")
        assert joiner.grid.collect()

    def knows(self, *others: Peer) -> bool:
        """Say whether it is connected with all of them."""
        return all(self.member.roll.standing(other.node_id) is not None for other in others)

    def tables_relays(self, other: Peer) -> tuple[str, ...]:
        """Return where somebody forwards to another node, as far as this one knows."""
        row = self.grid.tables.peers.get(other.node_id.encode())
        return row.relays if row else ()

    def ask(self, other: Peer, text: bytes = b"hello", timeout: float = 60.0) -> bytes:
        """Make one call to another node."""
        channel = self.member.links.channel(other.node_id)
        answer: bytes = channel.unary_unary("/peerpacs.test.Echo/Say")(text, timeout=timeout)
        return answer

    def stream(self, other: Peer, size: int = 0) -> Iterator[bytes]:
        """Begin a call that goes on for ever; with size 0, after one message nothing comes."""
        channel = self.member.links.channel(other.node_id)
        call: Iterator[bytes] = channel.unary_stream("/peerpacs.test.Echo/Flow")(str(size).encode())
        return call

    def close(self) -> None:
        """Stop the node."""
        self.stop.set()
        self.echo.stop.set()
        self.grid.close()
        for thread in self.threads:
            thread.join(60)
        self.state.close()


class Echo:
    """A service for tests: it answers with what was said and who said it, and streams without end."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.asked: list[Any] = []

    def register(self, gate: Gate) -> Callable[[grpc.Server], None]:
        """Return what adds it to a server."""

        def say(request: bytes, context: grpc.ServicerContext) -> bytes:
            visitor = gate.visitor(context)
            self.asked.append(visitor)
            if request == b"fail":
                raise Unavailable("The tape robot sleeps.", "Wake it.")
            return request + b" from " + visitor.identity.site.encode()

        def flow(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            yield b"first"
            size = int(request)
            while size and not self.stop.is_set():
                yield bytes(size)
            self.stop.wait()

        handlers: dict[str, Any] = {
            "Say": grpc.unary_unary_rpc_method_handler(say),
            "Flow": grpc.unary_stream_rpc_method_handler(flow),
        }
        generic = grpc.method_handlers_generic_handler("peerpacs.test.Echo", handlers)
        return lambda server: server.add_generic_rpc_handlers((generic,))


def copy_home(peer: Peer, to: Path) -> Path:
    """Return a copy of a node's home, as a snapshot of its virtual machine would be."""
    (to / "state").mkdir(parents=True)
    shutil.copytree(peer.home / "identity", to / "identity")
    peer.state._environment.copy(str(to / "state"))
    return to
