"""The device book: which AE titles a person allowed to do what, effective at once.

A row with the AE title `*` speaks for every AE title that calls from its address; `peerpacs init --dev`
writes one that trusts loopback. Rows only add rights, none takes away what another gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Final

from msgspec.structs import replace

from catalog import BadRequest, NotFound
from node.config import check_ae_title
from node.contracts import Device, Service
from node.state import State

ANY: Final = "*"
"""As an AE title or a called one: every one. As a move destination: every device of the book with a port."""
LOOPBACK: Final = "loopback"
"""As an address: this machine itself, 127.0.0.0/8 and ::1."""
DEV_RULE: Final = Device(
    ae_title=ANY,
    address=LOOPBACK,
    services=tuple(Service),
    called=(ANY,),
    move_destinations=(ANY,),
    note="written by init --dev: everybody on this machine may do everything",
)
COMPLETE_AFTER: Final = Device(ae_title=ANY).complete_after
"""For senders that are not in the book, and for imports."""
VERIFY: Final = "verify"
UNVERIFIED: Final = "unverified"
PINNED: Final = "sha256:"
"""How a device's TLS port is trusted, see `Device.tls`."""
_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}")
_UID: Final = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_PURPOSE: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_CHARACTER_SET: Final = re.compile(r"(ISO_IR \d+|ISO 2022 IR \d+|GB18030|GBK)?(\\(ISO 2022 IR \d+))*")
"""Defined terms of Specific Character Set (0008,0005), PS3.3 C.12.1.1.2."""
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class DeviceBook:
    """Rows of `Device` by AE title."""

    def __init__(self, state: State) -> None:
        self._table = state.table("devices", Device)

    def get(self, ae_title: str) -> Device | None:
        """Return the row of exactly this AE title, as it is at this moment."""
        return self._table.get(ae_title.encode())

    def find(self, ae_title: str) -> Device:
        """Return the row of this AE title.

        Raises:
            NotFound: the book has none.
        """
        device = self.get(ae_title.strip(" "))
        if device is None:
            raise NotFound(f"No device is called {ae_title!r}.", "List them with: peerpacs devices list")
        return device

    def put(self, device: Device) -> Device:
        """Write a row, new or changed; return it as it was written.

        Raises:
            BadRequest: it contradicts itself or the standard.
        """
        checked = check_device(device)
        self._table.put(checked.ae_title.encode(), checked)
        return checked

    def remove(self, ae_title: str) -> Device:
        """Remove a row; return what it was.

        Raises:
            NotFound: the book has none of this AE title.
        """
        device = self.find(ae_title)
        self._table.delete(device.ae_title.encode())
        return device

    def issuer_of(self, ae_title: str) -> str:
        """Return the assigning authority of the Patient IDs that an AE sends without one, or empty."""
        device = self.get(ae_title)
        return device.issuer if device else ""

    def complete_after(self, ae_title: str) -> float:
        """Return the seconds of silence after which a study that an AE sends counts as complete."""
        device = self.get(ae_title)
        return device.complete_after if device else COMPLETE_AFTER

    def __iter__(self) -> Iterator[Device]:
        for _, device in self._table.scan():
            yield device


def check_device(device: Device) -> Device:
    """Return the row with its AE title trimmed.

    Raises:
        BadRequest: a value is not one of its kind, or a port has no host to go with it.
    """
    if not 0 <= device.port <= 65535:
        raise BadRequest(
            f"{device.port} is not a port.", "Name one from 1 to 65535, or 0 if it does not listen."
        )
    for title in (*device.called, *device.move_destinations):
        if title != ANY:
            check_ae_title(title)
    for uid in device.transfer_syntaxes:
        if len(uid) > 64 or not _UID.fullmatch(uid):
            raise BadRequest(f"{uid!r} is not a Transfer Syntax UID.", "Name UIDs like 1.2.840.10008.1.2.1")
    if not _CHARACTER_SET.fullmatch(device.character_set):
        remedy = "Name defined terms of PS3.3 C.12.1.1.2, like ISO_IR 100 or ISO_IR 192."
        raise BadRequest(f"{device.character_set!r} is not a Specific Character Set.", remedy)
    if device.complete_after <= 0:
        raise BadRequest("A study cannot be complete before its last image.", "Name seconds above 0.")
    if device.stale_after <= 0:
        raise BadRequest("A copy cannot be too old at once.", "Name seconds above 0.")
    if not _PURPOSE.fullmatch(device.purpose):
        remedy = "Name one like treatment, payment, research or operation."
        raise BadRequest(f"{device.purpose!r} is no purpose of use.", remedy)
    if device.tls not in ("", VERIFY, UNVERIFIED) and not _FINGERPRINT.fullmatch(device.tls):
        remedy = "There are off, verify, pin, unverified, and sha256: with the fingerprint of a certificate."
        raise BadRequest(f"{device.tls!r} is no way to trust a TLS port.", remedy)
    _check_address(device)
    if device.ae_title.strip(" ") == ANY:
        if not device.address:
            raise BadRequest("A row for every AE title needs an address.", "Name one with --address.")
        return device
    return replace(device, ae_title=check_ae_title(device.ae_title))


def _check_address(device: Device) -> None:
    is_host = is_one_host(device.address)
    if device.address and not is_host and device.address != LOOPBACK and not _is_network(device.address):
        remedy = "Name a host, an address like 10.1.7.20, or a network like 10.1.7.0/24."
        raise BadRequest(f"{device.address!r} is not an address.", remedy)
    if device.port and not is_host:
        what = f"Port {device.port} of {device.ae_title} needs one host to connect to."
        raise BadRequest(what, "Name it with --address; a network or no address is not enough.")


def is_one_host(address: str) -> bool:
    """Say whether something can connect to this address: a host name or a single IP address."""
    try:
        ip_address(address)
    except ValueError:
        return address != LOOPBACK and not _looks_numeric(address) and bool(_HOST.fullmatch(address))
    return True


def _looks_numeric(address: str) -> bool:
    return re.fullmatch(r"[\d./]+", address) is not None


def _is_network(address: str) -> bool:
    try:
        ip_network(address, strict=False)
    except ValueError:
        return False
    return True
