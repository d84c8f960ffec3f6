"""Nodes of the grid on the local network, by mDNS (`_peerpacs._tcp`): addresses, never a reason to trust.

The only room of zeroconf, which brings threads of its own.
"""

from __future__ import annotations

import socket
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import ifaddr
from zeroconf import Error as ZeroconfError
from zeroconf import ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from catalog import BadRequest, Unavailable
from federation.trust.names import check_node_id

SERVICE: Final = "_peerpacs._tcp.local."
_SLICE_MS: Final = 250
_SLICES: Final = 8
_MOST: Final = 1000
"""Nodes that are remembered: whoever is on the network may announce."""


class Discovery(ServiceListener):
    """Announces this node, and knows where nodes of the same grid were seen."""

    def __init__(
        self, grid_id: bytes, node_id: str, instance: int, interfaces: list[str] | None = None
    ) -> None:
        """Without `interfaces` (addresses of this machine), all of them.

        Raises:
            Unavailable: this machine cannot send or receive multicast.
        """
        self._grid_id, self._node_id, self._instance = grid_id, node_id, instance
        self._found: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._lock = threading.Lock()
        self._browser: ServiceBrowser | None = None
        self._is_closing = False
        try:
            self._zeroconf = Zeroconf(interfaces=interfaces) if interfaces else Zeroconf()
        except OSError as error:
            what = f"Nodes on the local network cannot be looked for: {error.strerror or error}."
            raise Unavailable(what, "Name their addresses: peerpacs peers address") from error

    def begin(self, addresses: list[bytes], port: int) -> None:
        """Announce these addresses (packed) and port, and look for others."""
        info = ServiceInfo(
            SERVICE,
            f"{self._node_id}.{SERVICE}",
            port=port,
            addresses=addresses,
            server=f"{self._node_id}.local.",
            properties={
                "grid_id": self._grid_id.hex(),
                "node_id": self._node_id,
                "port": str(port),
                "instance": f"{self._instance:x}",
            },
        )
        try:
            self._zeroconf.register_service(info, allow_name_change=True)
            self._browser = ServiceBrowser(self._zeroconf, SERVICE, self)
        except (ZeroconfError, OSError) as error:
            what = f"This node cannot be announced on the local network: {error}."
            raise Unavailable(what, "Name addresses by hand: peerpacs peers address") from error

    def addresses(self, node_id: str) -> tuple[str, ...]:
        """Return host:port of a node as it was seen last, or nothing."""
        with self._lock:
            return next((where for found, where in self._found.values() if found == node_id), ())

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Remember a node that was announced; the name is zeroconf's."""
        try:
            info = ServiceInfo(type_, name)
            # In slices: whoever announces what cannot be looked up must not hold up the end of this node.
            if not any(not self._is_closing and info.request(zc, _SLICE_MS) for _ in range(_SLICES)):
                return
        except ZeroconfError:
            return  # a name that is none, or this node ends just now
        said = {key: value for key, value in info.properties.items() if value is not None}
        try:
            node_id = check_node_id(said.get(b"node_id", b"").decode("ascii", errors="replace"))
        except BadRequest:
            return
        if said.get(b"grid_id") != self._grid_id.hex().encode() or node_id == self._node_id:
            return
        where = tuple(
            f"[{address}]:{info.port}" if ":" in address else f"{address}:{info.port}"
            for address in info.parsed_addresses()[:8]
        )
        with self._lock:
            if len(self._found) < _MOST:
                self._found[name] = (node_id, where)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Take in what a node says now."""
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Forget a node that said goodbye, or was silent for long."""
        with self._lock:
            self._found.pop(name, None)

    def close(self) -> None:
        """Say goodbye."""
        self._is_closing = True
        if self._browser is not None:
            self._browser.cancel()
        self._zeroconf.close()


def own_addresses(host: str) -> list[IPv4Address | IPv6Address]:
    """Return where a listener on `host` is reached; of 0.0.0.0, the addresses this machine has."""
    if host not in ("0.0.0.0", "::"):
        return [ip_address(socket.gethostbyname(host))]
    texts = (ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if isinstance(ip.ip, str))
    found = [ip_address(each) for each in texts]
    return [each for each in found if not each.is_loopback] or found
