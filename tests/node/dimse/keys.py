"""Certificates for tests: made in a folder, as a hospital's people would."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

from node.certificates import make_certificate
from node.dimse.tls import client_context, server_context


class Pair:
    """A self-signed certificate and its key."""

    def __init__(self, folder: Path, name: str) -> None:
        self.certificate = folder / f"{name}.crt"
        self.key = folder / f"{name}.key"
        make_certificate(self.certificate, self.key, name, ("localhost", "127.0.0.1"), time.time())

    def server(
        self, demand: ssl.VerifyMode = ssl.CERT_NONE, authorities: Path | None = None
    ) -> ssl.SSLContext:
        """Return what a listener with this certificate shakes hands with."""
        return server_context(self.certificate, self.key, demand, authorities)

    def client(self, own: Pair | None = None) -> ssl.SSLContext:
        """Return what trusts this certificate, and shows the one of `own`."""
        return client_context(authorities=self.certificate, own=(own.certificate, own.key) if own else None)
