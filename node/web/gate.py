"""Who asks over the web and what they may do: one hook, asked for each request before anything is read.

Until users and tokens exist, the only gate there is lets the machine itself in and nobody else.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address
from typing import Final, NamedTuple, Protocol

import falcon

from node.contracts import Caller, Scope, Verdict

SOURCE: Final = "DICOMWEB"
"""What instances that came over the web have as their source while nobody logs in."""
LOCAL_NAMES: Final = frozenset(("localhost", "127.0.0.1", "[::1]"))


class Right(StrEnum):
    """What a route needs; one word each in refusals and in the audit."""

    SEARCH = "search"
    RETRIEVE = "retrieve"
    STORE = "store"


class Refused(NamedTuple):
    """A request that is not let in: its HTTP status (401 or 403) and the two sentences."""

    status: int
    why: str
    remedy: str = ""


class Gate(Protocol):
    """The single place that answers "may this caller do this to that" for the web."""

    def who(self, request: falcon.Request) -> Caller | Refused:
        """Say who asks, or why nobody is let in like that; called before the body is read."""

    def may(self, caller: Caller, right: Right, scope: Scope) -> Verdict:
        """Say whether the caller may do this in this scope; a refusal is remembered."""


class LoopbackGate:
    """Lets in whoever is on this machine, under a name of this machine; satisfies `Gate`.

    The name is checked so that no page from elsewhere can reach the node through a browser that runs here
    (DNS rebinding).
    """

    def who(self, request: falcon.Request) -> Caller | Refused:
        """See `Gate.who`."""
        address = request.remote_addr or ""
        if not _is_loopback(address):
            return Refused(403, "Only this machine may ask: nobody can log in yet.", "Ask from localhost.")
        name = request.get_header("Host", default="").lower()
        host = name if name.endswith("]") else name.rpartition(":")[0] or name
        origin = request.get_header("Origin", default="")
        if host not in LOCAL_NAMES:
            return Refused(403, "The node is asked under a foreign name.", "Use http://localhost.")
        if origin and origin.split("://")[-1].lower() != name:
            return Refused(403, "A page of another site asks.", "Open the node's own pages.")
        return Caller(SOURCE, address, "")

    def may(self, caller: Caller, right: Right, scope: Scope) -> Verdict:
        """See `Gate.may`."""
        return Verdict(True)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
