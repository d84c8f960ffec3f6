"""Whether the ports for devices can be had: said at once, not only after a start has waited for its peers."""

from __future__ import annotations

import socket

from catalog import Busy
from node.roles.plan import has
from node.sections import Config, Role


def check_ports(config: Config) -> None:
    """Make sure that the ports for devices that this node is to open are free.

    Raises:
        Busy: somebody listens on one of them, or the address is not ours.
    """
    dicom, tls = config.dicom, config.tls
    asked = (("dicom", dicom.host, dicom.port), ("tls", tls.host or dicom.host, tls.port))
    for section, host, port in asked if has(config, Role.GATEWAY) else ():
        if port > 0:
            try:
                must_be_free(host, port)
            except OSError as error:
                raise taken(section, host, port, error) from error


def must_be_free(host: str, port: int) -> None:
    """Bind a port for a moment, without listening there.

    Raises:
        OSError: somebody listens on it, also if he shares it (SO_REUSEPORT), or the address is not ours.
    """
    with socket.socket(family_of(host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def family_of(host: str) -> socket.AddressFamily:
    """Return the family of an address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def taken(section: str, host: str, port: int, error: OSError) -> Busy:
    """Return the sentences about a port of a section of the configuration that cannot be had."""
    what = f"Port {port} on {host} cannot be opened: {error.strerror}."
    return Busy(what, f"Stop what listens there (peerpacs check names it), or set {section}.port.")
