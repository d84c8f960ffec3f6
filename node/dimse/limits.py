"""How much of everything a peer may use, so that none of them can take the node from the others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers that bound associations, sizes (bytes) and times (seconds)."""

    associations: int = 512
    associations_per_ae: int = 256
    """By calling AE title."""
    associations_per_address: int = 256
    associations_per_second: float = 500.0
    """From one address, over time; a burst of `burst` is let through first."""
    burst: int = 1000
    waiting: int = 1024
    """Connections that have not sent a whole A-ASSOCIATE-RQ, or that we wait to see closed."""

    max_pdu: int = 262144
    """Announced as Maximum Length Received, PS3.8 Annex D.1."""
    associate_request: int = 393216
    identifier: int = 1 << 20
    data_set: int = 1 << 36

    artim: float = 10.0
    """PS3.8 9.1.5: until the A-ASSOCIATE-RQ is here, and until the peer closes after the end."""
    idle: float = 600.0
    """Between two messages."""
    message: float = 60.0
    """Silence in the middle of a message, and on a peer that does not take what we send."""
    connect: float = 10.0
    """For a connection to another Application Entity, and for its A-ASSOCIATE-AC."""
    response: float = 120.0
    """For the answer to a C-STORE we sent."""
    progress: float = 1.0
    """Between two Pending responses of a retrieve."""
