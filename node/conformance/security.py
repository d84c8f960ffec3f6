"""What the statement says of DICOM over TLS: PS3.2 Annex N, chapter 8, from the tables of `dimse.tls`."""

from __future__ import annotations

import ssl
from typing import Final

from node.dimse.tls import SUITES

from .markdown import table

_VERSIONS: Final = {ssl.TLSVersion.TLSv1_2: "1.2", ssl.TLSVersion.TLSv1_3: "1.3"}


def suites() -> str:
    """Return the table of cipher suites."""
    rows = [(_VERSIONS[suite.version], suite.name) for suite in SUITES]
    return table("8-1", "Cipher suites, as acceptor and initiator", ("TLS", "Cipher suite"), rows)
