"""The single place that answers "may this caller do this to that": deny by default, say why, remember it.

Nobody may do more than C-ECHO unless a row of the device book says so; what an unknown sender stores is
held for a person unless the configuration says otherwise. Each refusal is kept with the command that
would allow it, so that nobody has to read logs to find out why a modality cannot send.
"""

from __future__ import annotations

import logging
import shlex
import socket
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from threading import Lock
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from catalog import Clock, OutOfSpace, Unavailable
from node.archives import DEFAULT
from node.closed import REMEDY as LATER
from node.closed import Closed
from node.contracts import Caller, Device, Rejection, Service, Verdict
from node.devices import ANY, LOOPBACK, DeviceBook
from node.drain import REMEDY, WHAT, Drain
from node.sections import REJECTED_SUFFIX, Config, UnknownSenders
from node.state import State

logger = logging.getLogger(__name__)

Titles = Callable[[], Mapping[str, str]]
"""Returns the archive that each called AE title opens."""

_KEPT: Final = 200
_RESOLVED_FOR: Final = 60.0
"""Seconds for which a host name's addresses are believed."""
_CALLING_AE_NOT_RECOGNISED: Final = (1, 1, 3)
_CALLED_AE_NOT_RECOGNISED: Final = (1, 1, 7)
_CONGESTED: Final = (2, 3, 1)
"""Result, source and reason of A-ASSOCIATE-RJ, PS3.8 Table 9-21."""
_ALLOWED: Final = Verdict(True)


class Refusal(Struct, frozen=True, kw_only=True):
    """What one AE at one address was refused: the last time, how often, and what would allow it."""

    ae_title: str
    address: str
    called_ae: str
    what: str
    why: str
    remedy: str
    count: int
    first: float
    last: float
    """Unix seconds."""


class Refusals:
    """The last 200 refusals, one row for each (AE, address, what); counted here, written by `step`."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._table = state.table("refusals", Refusal)
        self._clock = clock
        self._lock = Lock()
        self._writing = Lock()
        """Held until what was taken from `_pending` can be read, so that nothing is in neither."""
        self._pending: dict[bytes, Refusal] = {}

    def note(self, caller: Caller, what: str, why: str, remedy: str) -> None:
        """Count a refusal; costs no disk access."""
        key = f"{caller.ae_title}\0{caller.address}\0{what}".encode()
        now = self._clock()
        refusal = Refusal(
            ae_title=caller.ae_title,
            address=caller.address,
            called_ae=caller.called_ae,
            what=what,
            why=why,
            remedy=remedy,
            count=1,
            first=now,
            last=now,
        )
        with self._lock:
            self._pending[key] = _merged(self._pending.pop(key, None), refusal)
            if len(self._pending) > _KEPT:
                del self._pending[next(iter(self._pending))]

    def step(self) -> None:
        """Write what was counted since the last step, and let the oldest go."""
        with self._writing:
            self._write()

    def _write(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            self._table.change({key: _adding(refusal) for key, refusal in pending.items()})
        except (OutOfSpace, Unavailable):
            with self._lock:
                newer, self._pending = self._pending, pending
                for key, refusal in newer.items():
                    self._pending[key] = _merged(self._pending.pop(key, None), refusal)
            raise
        rows = sorted(self._table.scan(), key=lambda item: item[1].last)
        self._table.change({key: lambda _: None for key, _ in rows[:-_KEPT]})

    def last(self) -> list[Refusal]:
        """Return the refusals, the newest first."""
        self.step()
        return sorted((row for _, row in self._table.scan()), key=lambda row: -row.last)

    def forget(self, ae_title: str) -> None:
        """Drop what an AE title was refused: a person has just decided about it."""
        self.step()
        self._table.change({key: lambda _: None for key, _ in self._table.scan(f"{ae_title}\0".encode())})


class Gatekeeper:
    """Satisfies `Access` from the device book; `titles` are the AE titles this node answers to.

    A device that the book ties to no AE title of this node may use those of the default archive, and no other
    archive's: that takes a word of the book for each.
    """

    def __init__(
        self,
        state: State,
        config: Config,
        clock: Clock,
        titles: Titles | None = None,
        senders: Callable[[str], frozenset[str] | None] = lambda called_ae: None,
    ) -> None:
        """`senders` says of a research project's AE title who alone may send there, of any other None."""
        self._book = DeviceBook(state)
        self._senders = senders
        self._titles = titles or (lambda: {config.node.ae_title: DEFAULT})
        self._unknown_senders = config.senders.unknown_senders
        self._hosts = _Hosts(clock)
        self.refusals = Refusals(state, clock)
        self._drain = Drain(state)
        self._closed = Closed(state)
        self.on_admitted: Callable[[str], None] = lambda ae_title: None
        """Called with the AE title of each device that is let in: it has shown that it is there."""
        self.brings_what_was_asked_for: Callable[[Caller], bool] = lambda caller: False
        """Says whether a caller brings what this node asked it for: it may while the node is drained."""

    def admit(self, calling_ae: str, address: str, called_ae: str) -> Caller | Rejection:
        """Let an association in, or say why not; a refusal is remembered for `peerpacs status`."""
        caller = Caller(_shown(calling_ae), _plain_address(address), _shown(called_ae))
        if self._drain.is_on and not self.brings_what_was_asked_for(caller):
            return Rejection(*_CONGESTED, WHAT, REMEDY)
        if why := self._closed.why:
            return Rejection(*_CONGESTED, why, LATER)
        if caller.called_ae not in (called := self._titles()):
            titles = " or ".join(sorted(called))
            why = f"{caller.called_ae!r} is not an AE title of this node."
            return self._reject(
                caller, _CALLED_AE_NOT_RECOGNISED, why, f"set the called AE title to {titles}"
            )
        if not caller.ae_title:
            why = "It gives no calling AE title, which PS3.8 9.3.2 does not allow."
            return self._reject(
                caller, _CALLING_AE_NOT_RECOGNISED, why, "set a calling AE title at the caller"
            )
        rows = self._rows(caller)
        usable = self._usable(caller, rows)
        device = self._as_sender(caller, _together(usable))
        if device is None and self._senders(caller.called_ae) is not None:
            return self._no_sender(caller)
        if device is not None and device.services:
            self.on_admitted(caller.ae_title)
            return caller._replace(device=device)
        own = next((row for row in rows if row.ae_title == caller.ae_title), None)
        return caller if own is None else self._turn_away(caller, own, own in usable)

    def turned_away(self, address: str, why: str, remedy: str) -> None:
        """Remember a connection that ended before it said who calls, for `peerpacs status`."""
        caller = Caller("", _plain_address(address), "")
        self.refusals.note(caller, f"connection: {why}", f"{caller.address}: {why}.", remedy)

    def may(self, caller: Caller, service: Service) -> Verdict:
        """Say whether the caller may use the service as the book is now; a refusal is remembered."""
        device = _together(self._usable(caller, self._rows(caller)))
        if self._senders(caller.called_ae) is not None:
            return self._may_in_research(caller, device, service)
        if caller.called_ae.endswith(REJECTED_SUFFIX) and service in (Service.STORE, Service.COMMIT):
            return Verdict(False, f"{caller.called_ae} only shows what was rejected.")
        if service is Service.ECHO or (device is not None and service in device.services):
            return _ALLOWED
        who = f"{caller.ae_title} at {caller.address}"
        remedy = _to_allow(caller, device, service)
        asked = "ask for commitment" if service is Service.COMMIT else f"C-{service.name}"
        why = f"{who} may not {asked} here: the device book does not allow it."
        if device is None:
            if service is Service.STORE and self._unknown_senders is UnknownSenders.ACCEPT:
                return _ALLOWED
            if service is Service.STORE and self._unknown_senders is UnknownSenders.HOLD:
                held = f"{who} is not in the device book: what it sends waits until a person releases it."
                return Verdict(True, held, remedy, is_held=True)
            why = f"{who} may not {asked} here: it is not in the device book."
        self.refusals.note(caller, asked, why, remedy)
        return Verdict(False, why, remedy)

    def _sender(self, caller: Caller) -> Device | None:
        """Return the device of a listed sender of the research project, from its own address."""
        if caller.ae_title not in (self._senders(caller.called_ae) or ()):
            return None
        own = self._book.get(caller.ae_title)
        if own is None or not self._calls_from(own, caller.address):
            return None
        return replace(own, services=(Service.ECHO, Service.STORE))

    def _as_sender(self, caller: Caller, device: Device | None) -> Device | None:
        """Return a listed sender's own row, with the rights of `device` too."""
        sender = self._sender(caller)
        if sender is None or device is None:
            return sender or device
        return replace(sender, services=tuple(dict.fromkeys((*sender.services, *device.services))))

    def _may_in_research(self, caller: Caller, device: Device | None, service: Service) -> Verdict:
        """Storing is for listed senders, asking for those whom the book lets; nothing is committed to."""
        is_asking = service in (Service.FIND, Service.MOVE, Service.GET)
        is_sender = self._sender(caller) is not None
        if service is Service.ECHO or (service is Service.STORE and is_sender):
            return _ALLOWED
        if is_asking and device is not None and service in device.services:
            return _ALLOWED
        why = f"{caller.ae_title} at {caller.address} may not {service.value} at {caller.called_ae}."
        remedy = "" if service is Service.COMMIT else _to_send(caller)
        if service is not Service.COMMIT:
            self.refusals.note(caller, f"research: {service.value}", why, remedy)
        return Verdict(False, why, remedy)

    def _no_sender(self, caller: Caller) -> Rejection:
        why = f"{caller.ae_title} is no listed sender of the research project behind {caller.called_ae}."
        return self._reject(caller, _CALLING_AE_NOT_RECOGNISED, why, _to_send(caller))

    def destination(self, caller: Caller, ae_title: str) -> Device | None:
        """Return the device that `ae_title` names if the caller may C-MOVE to it, else None (A801)."""
        name = _shown(ae_title)
        device = self._book.get(name)
        if device is None or not device.port:
            verb = "add" if device is None else "edit"
            why = f"{caller.ae_title} asked to C-MOVE to {name}, which is not a device with a port."
            remedy = f"peerpacs devices {verb} {shlex.quote(name)} --address HOST --port PORT"
            self.refusals.note(caller, f"C-MOVE to {name}", why, remedy)
            return None
        row = _together(self._usable(caller, self._rows(caller)))
        granted = row.move_destinations if row is not None else ()
        is_among_all = ANY in granted and self._may_call(device, caller.called_ae)
        if name in (granted or (caller.ae_title,)) or is_among_all:
            return device
        why = f"{caller.ae_title} may not C-MOVE to {name}."
        remedy = _command("edit", caller.ae_title, "--move-to", f"+{name}")
        self.refusals.note(caller, f"C-MOVE to {name}", why, remedy)
        return None

    def _rows(self, caller: Caller) -> list[Device]:
        """Return the rows that name the caller: its own, and the one for every AE title."""
        names = dict.fromkeys((caller.ae_title, ANY))
        return [row for name in names if (row := self._book.get(name)) is not None]

    def _usable(self, caller: Caller, rows: list[Device]) -> list[Device]:
        return [
            row
            for row in rows
            if self._may_call(row, caller.called_ae) and self._calls_from(row, caller.address)
        ]

    def _may_call(self, device: Device, called_ae: str) -> bool:
        if not device.called and called_ae.endswith(REJECTED_SUFFIX):
            return False
        if not device.called:
            return self._titles().get(called_ae) == DEFAULT
        return called_ae in device.called or ANY in device.called

    def _calls_from(self, device: Device, address: str) -> bool:
        if not device.address:
            return True
        found = _matches(device.address, address)
        return found if found is not None else address in self._hosts.addresses(device.address)

    def _turn_away(self, caller: Caller, own: Device, is_usable: bool) -> Rejection:
        name = caller.ae_title
        if not self._calls_from(own, caller.address):
            why = f"{name} is known at {own.address}, but this call came from {caller.address}."
            remedy = _command("edit", name, "--address", caller.address)
            return self._reject(caller, _CALLING_AE_NOT_RECOGNISED, why, remedy)
        if not is_usable:
            only = ", ".join(own.called) or "the default archive"
            why = f"{name} may not call {caller.called_ae}, only {only}."
            remedy = _command("edit", name, "--called", f"+{caller.called_ae}")
            return self._reject(caller, _CALLED_AE_NOT_RECOGNISED, why, remedy)
        why = f"{name} is in the device book with no services: it may do nothing here."
        return self._reject(
            caller, _CALLING_AE_NOT_RECOGNISED, why, _command("edit", name, "--services", "echo")
        )

    def _reject(self, caller: Caller, triple: tuple[int, int, int], why: str, remedy: str) -> Rejection:
        self.refusals.note(caller, "association", why, remedy)
        return Rejection(*triple, why, remedy)


class _Hosts:
    """Addresses of host names, asked again after a minute; the old ones serve while DNS is away."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, frozenset[str]]] = {}

    def addresses(self, host: str) -> frozenset[str]:
        """Return the host's addresses; empty when the name has never resolved."""
        asked, addresses = self._known.get(host, (float("-inf"), frozenset[str]()))
        now = self._clock()
        if now - asked > _RESOLVED_FOR:
            try:
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                addresses = frozenset(str(item[4][0]) for item in found)
            except OSError as error:
                logger.warning("The host name %s of the device book does not resolve: %s", host, error)
            self._known[host] = (now, addresses)
        return addresses


@lru_cache(4096)
def _matches(allowed: str, address: str) -> bool | None:
    """Say whether an address is the allowed one or in its network; None when `allowed` is a host name."""
    try:
        caller = ip_address(address)
        if allowed == LOOPBACK:
            return caller.is_loopback
        return caller in ip_network(allowed, strict=False)
    except ValueError:
        return None


@lru_cache(4096)
def _plain_address(address: str) -> str:
    """Return an address as a person writes it: IPv4 out of its IPv6 wrapping, no scope."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return _shown(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def _shown(text: str) -> str:
    """Return what came over the wire without outer spaces, and harmless on a terminal."""
    return "".join(c if " " <= c <= "~" else "?" for c in text.strip(" \0"))[:64]


def _together(rows: list[Device]) -> Device | None:
    """Return the first row with the rights of all: rows only add."""
    if len(rows) < 2:
        return rows[0] if rows else None
    own, every = rows
    destinations = own.move_destinations or ((own.ae_title,) if every.move_destinations else ())
    return replace(
        own,
        services=tuple(dict.fromkeys((*own.services, *every.services))),
        move_destinations=tuple(dict.fromkeys((*destinations, *every.move_destinations))),
    )


def _merged(old: Refusal | None, new: Refusal) -> Refusal:
    return new if old is None else replace(new, count=old.count + new.count, first=old.first)


def _adding(refusal: Refusal) -> Callable[[Refusal | None], Refusal]:
    return lambda old: _merged(old, refusal)


def _to_allow(caller: Caller, device: Device | None, service: Service) -> str:
    if device is None or device.ae_title == ANY:
        services = ",".join(dict.fromkeys(("echo", service.value)))
        return _command("add", caller.ae_title, "--address", caller.address, "--services", services)
    return _command("edit", caller.ae_title, "--services", f"+{service.value}")


def _to_send(caller: Caller) -> str:
    return f"peerpacs projects edit PROJECT --sender +{shlex.quote(caller.ae_title)}"


def _command(verb: str, *words: str) -> str:
    return f"peerpacs devices {verb} {shlex.join(words)}"
