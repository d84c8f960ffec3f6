"""Where connections are that have no association: listening sockets, Sta2 and Sta13, watched by one thread.

A bare or half-sent connection therefore costs a descriptor until ARTIM expires, and nothing more. A server
has one for its plain ports and one for its TLS ports, so that handshakes hold up nobody but each other.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable

from .arrivals import Arrival, Departure, TurnedAway
from .limits import Limits
from .session import trail
from .transport import Closed, Connection

logger = logging.getLogger(__name__)
Receive = Callable[[socket.socket, str, float], Arrival]
"""Takes a fresh connection, its address and when ARTIM expires."""
Give = Callable[[Arrival], None]
"""Takes an arrival that needs a thread now; the vestibule has let go of it."""
TellTurned = Callable[[str, TurnedAway], None]
"""Takes the address of a connection that was turned away, and why."""


class Vestibule:
    """Accepts on any number of addresses, and gives up whoever asks for an association."""

    def __init__(
        self, name: str, limits: Limits, receive: Receive, give: Give, tell_turned: TellTurned
    ) -> None:
        self._limits = limits
        self._receive = receive
        self._give = give
        self._tell_turned = tell_turned
        self._listeners: dict[int, socket.socket] = {}
        self._waiting: dict[int, Arrival | Departure] = {}
        self._lock = threading.Lock()
        self._is_stopping = False
        self._complained = -60.0
        self._turns = 0
        self._asked = -1
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self.serve, name=name, daemon=True)

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
        """Watch in a thread of its own, unless that was begun."""
        if self._thread.ident is None:
            self._thread.start()

    def serve(self) -> None:
        """Watch until `stop`."""
        try:
            while not self._is_stopping:
                self._turns += 1
                for descriptor, _ in self._epoll.poll(self._next_deadline()):
                    self._tend(descriptor)
                self._expire()
        finally:
            self._close()

    def stop(self) -> None:
        """Accept nothing more, and close what waits."""
        self._is_stopping = True
        if self._thread.is_alive():
            self._nudge()
            self._thread.join()
        self._close()

    def waiting(self) -> list[bool]:
        """Say for each connection whether its end is waited for."""
        return [entry.is_ending for entry in tuple(self._waiting.values())]

    def is_listening(self) -> bool:
        """Say whether an address is bound and somebody watches it."""
        return bool(self._listeners) and self._thread.is_alive()

    def is_turning(self) -> bool:
        """Say whether the watch came round since this was last asked, and wake it for the next time."""
        turned, self._asked = self._turns != self._asked, self._turns
        self._nudge()
        return turned and self._thread.is_alive()

    def see_off(self, connection: Connection, address: str) -> None:
        """Wait for the peer to close a connection on which everything is said, until ARTIM expires."""
        deadline = time.monotonic() + self._limits.artim
        with self._lock:
            if self._is_stopping:
                connection.close()
                return
            connection.sock.setblocking(False)
            self._watch(Departure(connection, address, deadline))
        self._nudge()

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
            sock.setblocking(False)
            self._watch(self._receive(sock, address, time.monotonic() + self._limits.artim))

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

    def _watch(self, entry: Arrival | Departure) -> None:
        descriptor = entry.sock.fileno()
        self._waiting[descriptor] = entry
        self._epoll.register(descriptor, select.EPOLLIN)

    def _hear(self, entry: Arrival | Departure) -> None:
        """Read what came on a connection without an association."""
        try:
            if entry.hear() and isinstance(entry, Arrival):
                self._give_up(entry)
        except Closed:
            self._drop(entry)
        except TurnedAway as error:
            departure = Departure(entry.sock, entry.address, entry.deadline)
            self._waiting[entry.sock.fileno()] = departure
            departure.say(error.farewell)
            self._tell_turned(entry.address, error)

    def _give_up(self, arrival: Arrival) -> None:
        self._forget(arrival)
        try:
            self._give(arrival)
        except BaseException:
            arrival.close()
            raise

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

    def _drop(self, entry: Arrival | Departure) -> None:
        self._forget(entry)
        entry.close()

    def _forget(self, entry: Arrival | Departure) -> None:
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

    def _nudge(self) -> None:
        with self._lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)
