"""The acceptor: connections come in through its vestibules, every association gets a thread of its own."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from catalog import Clock
from node.contracts import Access, Audit, Rejection, Scope
from node.measures import Sample

from .acceptance import Acceptance
from .admission import Admission, CountedAdmission
from .arrivals import Arrival, SecureArrival, TurnedAway
from .dialing import REQUESTED
from .limits import Limits
from .outgoing import Convert
from .pulse import Pulse
from .reencode import reencode
from .session import Counters, Environment, Secure
from .transport import Connection
from .vestibule import Receive, Vestibule

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
        secure: Secure = lambda device: None,
        admission: Admission | None = None,
        relay: str = "",
    ) -> None:
        """Take what opens the archives; `accept_unknown` lets SOP Classes and syntaxes of no table in.

        `convert` makes an instance fit a receiver that did not accept the syntax it is stored in; `secure`
        says how a device is called for a C-MOVE. `admission` counts for several processes together, one of
        which serves at `relay` what the others do not open.
        """
        self._environment = Environment(
            resolve, access, audit, limits, clock, Pulse(), Counters(), accept_unknown, convert, secure, relay
        )
        self._limits = limits
        self._vestibules: dict[Callable[[], ssl.SSLContext] | None, Vestibule] = {}
        self._serving: dict[Acceptance, threading.Thread] = {}
        self._admission = admission or CountedAdmission(limits)
        self._lock = threading.Lock()
        self._is_started = self._is_stopping = False

    def listen(
        self,
        host: str,
        port: int,
        *,
        shares_port: bool = False,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> int:
        """Bind an address and return the port (0 lets the system choose); `shares_port` sets SO_REUSEPORT.

        With `tls` every connection begins with a handshake in the context that it returns at that moment.

        Raises:
            OSError: the address is taken or not ours.
        """
        vestibule = self._vestibule(tls)
        bound = vestibule.listen(host, port, shares_port=shares_port)
        if self._is_started:
            vestibule.start()
        return bound

    def start(self) -> None:
        """Serve in threads of its own."""
        self._environment.pulse.start()
        self._is_started = True
        for vestibule in self._vestibules.values():
            vestibule.start()

    def stop(self, deadline: float) -> None:
        """Take no new associations, let what is in flight finish for `deadline` seconds, abort the rest."""
        until = time.monotonic() + deadline
        with self._lock:
            self._is_stopping = True
        for vestibule in self._vestibules.values():
            vestibule.stop()
        while self._serving and time.monotonic() < until:
            self._end(is_last_call=False)
            time.sleep(0.02)
        self._end(is_last_call=True)
        for thread in tuple(self._serving.values()):
            thread.join(2.0)
        self._environment.pulse.stop()

    def counters(self) -> dict[str, int]:
        """Return what `status` shows: associations by state, refusals, what was received and sent."""
        waiting = [is_ending for room in self._vestibules.values() for is_ending in room.waiting()]
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
        """Say whether addresses are bound and somebody watches them."""
        rooms = tuple(self._vestibules.values())
        return bool(rooms) and all(room.is_listening() for room in rooms)

    def is_turning(self) -> bool:
        """Say whether every watch came round since this was last asked, and wake it for the next time."""
        rooms = tuple(self._vestibules.values())
        return bool(rooms) and sum(room.is_turning() for room in rooms) == len(rooms)

    def _vestibule(self, tls: Callable[[], ssl.SSLContext] | None) -> Vestibule:
        if tls not in self._vestibules:
            longest = self._limits.associate_request
            receive: Receive = partial(Arrival, longest=longest)
            if tls is not None:
                receive = partial(SecureArrival, longest=longest, context=tls)
            name = "dimse-tls-acceptor" if tls else "dimse-acceptor"
            self._vestibules[tls] = vestibule = Vestibule(
                name,
                self._limits,
                receive,
                lambda arrival: self._give_thread(vestibule, arrival),
                self._turned,
            )
        return self._vestibules[tls]

    def _turned(self, address: str, turned: TurnedAway) -> None:
        """Put on record that a connection was turned away before it could say who it is."""
        self._environment.counters.add(refused=1)
        self._environment.access.turned_away(address, turned.why, turned.remedy)
        logger.warning("%s was turned away: %s. To change that: %s.", address, turned.why, turned.remedy)

    def _give_thread(self, vestibule: Vestibule, arrival: Arrival) -> None:
        connection = arrival.connection(self._limits.message)
        acceptance = Acceptance(
            self._environment, connection, arrival.address, bytes(arrival.received), self._admit
        )
        self._serve(acceptance, vestibule.see_off)

    def take(self, sock: socket.socket, address: str, received: bytes) -> None:
        """Serve an association whose A-ASSOCIATE-RQ another process of this node received."""
        connection = Connection(sock, self._limits.message)
        acceptance = Acceptance(self._environment, connection, address, received, self._admit)
        self._serve(acceptance, lambda connection, address: connection.close())

    def _serve(self, acceptance: Acceptance, see_off: Callable[[Connection, str], None]) -> None:
        thread = threading.Thread(target=self._run, args=(see_off, acceptance), name="dimse", daemon=True)
        self._serving[acceptance] = thread
        try:
            thread.start()
        except RuntimeError:
            del self._serving[acceptance]
            acceptance.connection.close()
            logger.error("There is no thread for another association; the connection was closed.")

    def _run(self, see_off: Callable[[Connection, str], None], acceptance: Acceptance) -> None:
        try:
            acceptance.run()
        finally:
            if acceptance.calling_ae:
                self._admission.discharge(acceptance.calling_ae, acceptance.address)
            with self._lock:
                self._serving.pop(acceptance, None)
            see_off(acceptance.connection, acceptance.address)

    def _admit(self, calling_ae: str, address: str) -> Rejection | None:
        if self._is_stopping:
            return Rejection(2, 3, 1, "this node stops")
        return self._admission.admit(calling_ae, address)

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
