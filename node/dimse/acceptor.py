"""The acceptor: listens, waits for A-ASSOCIATE-RQs without threads, gives every association its own.

One thread watches the listening sockets, connections that have not asked for an association yet (PS3.8
Sta2) and those whose end we wait for (Sta13). A bare or half-sent connection therefore costs a descriptor
until ARTIM expires, and nothing more.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from catalog import Clock
from node.contracts import Access, Audit, Rejection, Scope
from node.measures import Sample

from .acceptance import Acceptance, request_length
from .dialing import REQUESTED
from .limits import Limits
from .outgoing import Convert
from .pulse import Pulse
from .reencode import reencode
from .session import Counters, Environment, trail

logger = logging.getLogger(__name__)
QUIET: Final = 0.25
"""An association that has been idle for so long is not in flight when the server stops."""


class DimseServer:
    """Answers DIMSE on any number of addresses; made by the composition root, one per process."""

    def __init__(
        self,
        resolve: Callable[[str], Scope | None],
        access: Access,
        audit: Audit,
        limits: Limits,
        clock: Clock,
        *,
        accept_unknown: bool = False,
        convert: Convert = reencode,
    ) -> None:
        """Take what opens the archives; `accept_unknown` lets SOP Classes and syntaxes of no table in.

        `convert` makes an instance fit a receiver that did not accept the syntax it is stored in.
        """
        self._environment = Environment(
            resolve, access, audit, limits, clock, Pulse(), Counters(), accept_unknown, convert
        )
        self._limits = limits
        self._listeners: dict[int, socket.socket] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._serving: dict[Acceptance, threading.Thread] = {}
        self._per_ae: Counter[str] = Counter()
        self._per_address: Counter[str] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self._is_stopping = False
        self._complained = -60.0
        self._turns = 0
        self._asked = -1
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self.serve, name="dimse-acceptor", daemon=True)

    def listen(self, host: str, port: int, *, shares_port: bool = False) -> int:
        """Bind an address and return the port (0 lets the system choose); `shares_port` sets SO_REUSEPORT.

        Raises:
            OSError: the address is taken or not ours.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            listener.listen(1024)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._listeners[listener.fileno()] = listener
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        return int(listener.getsockname()[1])

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def serve(self) -> None:
        """Serve until `stop`."""
        self._environment.pulse.start()
        try:
            while not self._is_stopping:
                self._turns += 1
                for descriptor, _ in self._epoll.poll(self._next_deadline()):
                    self._tend(descriptor)
                self._expire()
        finally:
            self._close()

    def stop(self, deadline: float) -> None:
        """Take no new associations, let what is in flight finish for `deadline` seconds, abort the rest."""
        until = time.monotonic() + deadline
        with self._lock:
            self._is_stopping = True
        if self._thread.is_alive():
            self._nudge()
            self._thread.join()
        while self._serving and time.monotonic() < until:
            self._end(is_last_call=False)
            time.sleep(0.02)
        self._end(is_last_call=True)
        for thread in tuple(self._serving.values()):
            thread.join(2.0)
        self._environment.pulse.stop()
        self._close()

    def counters(self) -> dict[str, int]:
        """Return what `status` shows: associations by state, refusals, what was received and sent."""
        waiting = [entry.is_ending for entry in tuple(self._waiting.values())]
        sessions = [acceptance.session for acceptance in tuple(self._serving)]
        serving = sum(session is not None and session.is_serving for session in sessions)
        return {
            "requested": waiting.count(False),
            "ending": waiting.count(True),
            "open": len(sessions),
            "serving": serving,
            **self._environment.counters.snapshot(),
        }

    def samples(self) -> Iterator[Sample]:
        """Yield what `/metrics` shows of the gateway."""
        yield Sample("associations", len(self._serving), ("scp",))
        yield Sample("associations", REQUESTED.now(), ("scu",))
        yield from self._environment.counters.samples()

    def is_listening(self) -> bool:
        """Say whether an address is bound and somebody watches it."""
        return bool(self._listeners) and self._thread.is_alive()

    def is_turning(self) -> bool:
        """Say whether the watch came round since this was last asked, and wake it for the next time."""
        turned, self._asked = self._turns != self._asked, self._turns
        self._nudge()
        return turned and self._thread.is_alive()

    def _tend(self, descriptor: int) -> None:
        """Do what a descriptor is ready for; no peer may end the watch for all others."""
        try:
            if descriptor in self._listeners:
                self._accept(self._listeners[descriptor])
            elif descriptor in self._waiting:
                self._hear(self._waiting[descriptor])
            elif descriptor == self._wake:
                os.eventfd_read(self._wake)
        except Exception as error:
            logger.error("A connection could not be served (%s); the others go on.", trail(error))
            if descriptor in self._waiting:
                self._drop(self._waiting[descriptor])

    def _accept(self, listener: socket.socket) -> None:
        while not self._is_stopping:
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._cannot_accept(error)
                return
            if len(self._waiting) >= self._limits.waiting:
                self._drop_oldest()
            address = str(peer[0]).removeprefix("::ffff:")
            self._watch(_Waiting(sock, address, time.monotonic() + self._limits.artim))

    def _cannot_accept(self, error: OSError) -> None:
        """Out of descriptors, most likely: give one back, and do not turn in circles."""
        now = time.monotonic()
        if now - self._complained > 60:
            self._complained = now
            logger.error(
                "Connections cannot be accepted: %s. Raise the limit of open files (ulimit -n).",
                error.strerror,
            )
        if self._waiting:
            self._drop_oldest()
        else:
            time.sleep(0.05)

    def _drop_oldest(self) -> None:
        self._drop(min(tuple(self._waiting.values()), key=lambda entry: entry.deadline))

    def _watch(self, entry: _Waiting) -> None:
        descriptor = entry.sock.fileno()
        entry.sock.setblocking(False)
        self._waiting[descriptor] = entry
        self._epoll.register(descriptor, select.EPOLLIN)

    def _hear(self, entry: _Waiting) -> None:
        """Read what came on a connection without an association."""
        try:
            data = entry.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(entry)
        elif not entry.is_ending:
            entry.received += data
            needed = request_length(entry.received, self._limits.associate_request)
            if needed is None or 0 < needed <= len(entry.received):
                self._give_thread(entry)

    def _give_thread(self, entry: _Waiting) -> None:
        acceptance = Acceptance(
            self._environment, entry.sock, entry.address, bytes(entry.received), self._admit
        )
        self._forget(entry)
        thread = threading.Thread(target=self._run, args=(acceptance,), name="dimse", daemon=True)
        self._serving[acceptance] = thread
        try:
            thread.start()
        except RuntimeError:
            del self._serving[acceptance]
            entry.sock.close()
            logger.error("There is no thread for another association; the connection was closed.")

    def _run(self, acceptance: Acceptance) -> None:
        try:
            acceptance.run()
        finally:
            if acceptance.calling_ae:
                self._discharge(acceptance)
            sock = acceptance.connection.sock
            with self._lock:
                self._serving.pop(acceptance, None)
                if self._is_stopping:
                    sock.close()
                else:
                    deadline = time.monotonic() + self._limits.artim
                    self._watch(_Waiting(sock, acceptance.address, deadline, is_ending=True))
            self._nudge()

    def _admit(self, calling_ae: str, address: str) -> Rejection | None:
        """Count an association, or say which limit it would break: always transient, PS3.8 Table 9-21."""
        limits = self._limits
        with self._lock:
            if self._is_stopping:
                return Rejection(2, 3, 1, "this node stops")
            if not self._is_paced(address):
                return Rejection(2, 3, 1, "associations come too fast from this address")
            for count, limit, what in (
                (self._per_ae.total(), limits.associations, "in all"),
                (self._per_ae[calling_ae or "?"], limits.associations_per_ae, "of this AE title"),
                (self._per_address[address], limits.associations_per_address, "from this address"),
            ):
                if count >= limit:
                    return Rejection(2, 3, 2, f"{count} associations {what} are open, the limit")
            self._per_ae[calling_ae or "?"] += 1
            self._per_address[address] += 1
        return None

    def _is_paced(self, address: str) -> bool:
        """A bucket of tokens per address, refilled with time."""
        now, rate, burst = time.monotonic(), self._limits.associations_per_second, self._limits.burst
        if len(self._buckets) > 4096:
            full = [
                name for name, (then, left) in self._buckets.items() if left + (now - then) * rate > burst
            ]
            for name in full:
                del self._buckets[name]
        then, left = self._buckets.get(address, (now, float(burst)))
        left = min(float(burst), left + (now - then) * rate)
        is_paced = left >= 1
        self._buckets[address] = (now, left - is_paced)
        return is_paced

    def _discharge(self, acceptance: Acceptance) -> None:
        with self._lock:
            for counter, key in (
                (self._per_ae, acceptance.calling_ae),
                (self._per_address, acceptance.address),
            ):
                counter[key] -= 1
                if counter[key] <= 0:
                    del counter[key]

    def _next_deadline(self) -> float:
        entries = tuple(self._waiting.values())
        if not entries:
            return -1
        return max(0.0, min(entry.deadline for entry in entries) - time.monotonic()) + 0.005

    def _expire(self) -> None:
        now = time.monotonic()
        for entry in tuple(self._waiting.values()):
            if entry.deadline <= now:
                self._drop(entry)

    def _drop(self, entry: _Waiting) -> None:
        self._forget(entry)
        entry.sock.close()

    def _forget(self, entry: _Waiting) -> None:
        descriptor = entry.sock.fileno()
        self._waiting.pop(descriptor, None)
        self._epoll.unregister(descriptor)

    def _close(self) -> None:
        """Close what the watching thread held; associations go on."""
        with self._lock:
            self._is_stopping = True
            if self._wake < 0:
                return
            for entry in tuple(self._waiting.values()):
                self._drop(entry)
            for listener in self._listeners.values():
                listener.close()
            self._listeners.clear()
            self._epoll.close()
            os.close(self._wake)
            self._wake = -1

    def _end(self, is_last_call: bool) -> None:
        """Abort associations that have nothing in flight, or all of them."""
        now = time.monotonic()
        for acceptance in tuple(self._serving):
            session = acceptance.session
            is_idle = session is not None and not session.is_serving and now - session.last_served > QUIET
            if is_last_call or is_idle:
                with self._lock:
                    if acceptance in self._serving:
                        acceptance.abort()

    def _nudge(self) -> None:
        with self._lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)


class _Waiting:
    """A connection without an association: what it sent so far, and when ARTIM expires."""

    def __init__(self, sock: socket.socket, address: str, deadline: float, is_ending: bool = False) -> None:
        self.sock = sock
        self.address = address
        self.deadline = deadline
        self.is_ending = is_ending
        self.received = bytearray()
