"""What this node shows and trusts over TLS: contexts made from its files, and made anew when those change.

The files are looked at whenever a handshake begins, so a renewed certificate counts from the next one on. New
files that do not work are told once, and the old ones stay in use.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final, Generic, TypeVar

from catalog import BadRequest, Unavailable
from node.certificates import Files
from node.contracts import Device
from node.devices import PINNED, UNVERIFIED, VERIFY
from node.dimse.tls import Security, client_context, server_context
from node.sections import ClientCertificates, Config

logger = logging.getLogger(__name__)
T = TypeVar("T")
_DEMANDS: Final = {
    ClientCertificates.NONE: ssl.CERT_NONE,
    ClientCertificates.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientCertificates.REQUIRED: ssl.CERT_REQUIRED,
}


class Credentials:
    """The TLS side of a node, for its listener and for its calls; any thread may use it."""

    def __init__(self, files: Files, demand: ClientCertificates) -> None:
        self._files = files
        own, authorities = (files.certificate, files.key), files.authorities
        demanded = None if demand is ClientCertificates.NONE else authorities
        watched = own if demanded is None else (*own, authorities)
        self._listener = _Renewed(watched, lambda: server_context(*own, _DEMANDS[demand], demanded))
        self._web = _Renewed(own, lambda: _for_web(server_context(*own, ssl.CERT_NONE, None)))
        self._unverified = _Renewed(own, lambda: client_context(own=self._own()))
        self._verified = _Renewed(
            (*own, authorities), lambda: client_context(authorities=authorities, own=self._own())
        )

    def listener(self) -> ssl.SSLContext:
        """Return the context of a handshake that begins now.

        Raises:
            BadRequest: the files do not work, and never did.
        """
        return self._listener.now()

    def web(self) -> ssl.SSLContext:
        """Return the context of a browser's handshake that begins now; nobody is asked for a certificate.

        Raises:
            BadRequest: the files do not work, and never did.
        """
        return self._web.now()

    def towards(self, device: Device) -> Security | None:
        """Return how the device book wants a device to be called; None means without TLS.

        Raises:
            Unavailable: the files that it takes do not work.
        """
        if not device.tls:
            return None
        try:
            if device.tls == VERIFY:
                return Security(self._verified.now())
            pinned = "" if device.tls == UNVERIFIED else device.tls.removeprefix(PINNED)
            return Security(self._unverified.now(), pinned)
        except BadRequest as error:
            raise Unavailable(f"{device.ae_title} cannot be called: {error.what}", error.next) from None

    def problem(self) -> str:
        """Return why the files that lie there now are not in use; empty when they are."""
        return self._listener.problem

    def _own(self) -> tuple[Path, Path] | None:
        files = self._files
        return (files.certificate, files.key) if files.certificate.exists() and files.key.exists() else None


def _for_web(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols(["http/1.1"])
    return context


def own_credentials(home: Path, config: Config) -> Credentials:
    """Return the credentials of the node in a home folder."""
    return Credentials(Files(home, config.tls), config.tls.client_certificates)


class _Renewed(Generic[T]):
    """Something made from files, and made anew when one of them is another than before."""

    def __init__(self, files: tuple[Path, ...], make: Callable[[], T]) -> None:
        self._files = files
        self._make = make
        self._lock = Lock()
        self._seen: tuple[object, ...] = ()
        self._made: T | None = None
        self.problem = ""

    def now(self) -> T:
        """Return it as the files are, or as they were when they last worked.

        Raises:
            BadRequest: they never did.
        """
        with self._lock:
            seen = tuple(_stamp(file) for file in self._files)
            if seen != self._seen or self._made is None:
                self._seen = seen
                self._renew()
            assert self._made is not None
            return self._made

    def _renew(self) -> None:
        is_first = self._made is None
        try:
            self._made = self._make()
        except (OSError, ValueError) as error:
            missing = [str(file) for file in self._files if not file.exists()]
            self.problem = (
                f"{' and '.join(missing)} is missing."
                if missing
                else f"{' and '.join(map(str, self._files))} cannot be used: {_why(error)}."
            )
            remedy = "Put certificate, key and authorities there as PEM files that belong together."
            if is_first:
                raise BadRequest(self.problem, remedy) from None
            logger.error("%s TLS goes on with the ones from before. %s", self.problem, remedy)
        else:
            self.problem = ""
            if not is_first:
                logger.info("The TLS files changed: the next handshake uses them.")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").lower().replace("_", " ")
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
