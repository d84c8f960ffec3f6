"""Who asks over the web and what they may do: one hook, asked for each request before anything is read."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple, Protocol

import falcon

from node.accounts import Token, User
from node.contracts import Caller, Verdict
from node.rights import Right
from node.viewer_links import ViewerLink

SOURCE: Final = "DICOMWEB"
"""What instances that came over the web have as their source."""
LOCAL_NAMES: Final = frozenset(("localhost", "127.0.0.1", "[::1]"))
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via")


class Refused(NamedTuple):
    """A request that is not let in: its HTTP status (401, 403, 429 or 503) and the two sentences."""

    status: int
    why: str
    remedy: str = ""
    retry: int = 0
    """Seconds after which it may try again; 0 = whenever it likes."""


class Visitor(NamedTuple):
    """Who asks; without a user it is somebody on this machine, which the device book trusts."""

    caller: Caller
    user: User | None = None
    token: Token | None = None
    session: str = ""
    """Secret of the session, if a browser shows one."""
    link: ViewerLink | None = None
    """What a viewer's link opens, if one is shown: that study, and only to read."""


class Gate(Protocol):
    """The single place that answers "may this caller do this to that" for the web."""

    @property
    def has_provider(self) -> bool:
        """Whether people may log in at an identity provider."""

    def who(self, request: falcon.Request) -> Visitor | Refused:
        """Say who asks, or why nobody is let in like that; called before the body is read."""

    def known(self, request: falcon.Request) -> Visitor | None:
        """Say who looks at a page, or nobody yet: pages lead to where one logs in, so that is no refusal."""

    def csrf(self, visitor: Visitor) -> str:
        """Return what a page must show beside the cookie when it changes something; empty without one."""

    def may(self, visitor: Visitor, right: Right, archive: str) -> Verdict:
        """Say whether the visitor may do this in this archive; a refusal is remembered."""


class LoopbackGate:
    """Lets in whoever is on this machine, under a name of this machine; satisfies `Gate`.

    The name is checked so that no page from elsewhere can reach the node through a browser that runs here
    (DNS rebinding), and what a proxy forwards is not taken for the machine itself.
    """

    has_provider = False

    def who(self, request: falcon.Request) -> Visitor | Refused:
        """See `Gate.who`."""
        address = address_of(request)
        if not _is_loopback(address) or any(map(request.get_header, _FORWARDED)):
            return Refused(403, "Only this machine may ask: nobody can log in here.", "Ask from localhost.")
        name = request.get_header("Host", default="").lower()
        host = name if name.endswith("]") else name.rpartition(":")[0] or name
        if host not in LOCAL_NAMES:
            return Refused(403, "The node is asked under a foreign name.", "Use http://localhost.")
        if is_from_elsewhere(request):
            return Refused(403, "A page of another site asks.", "Open the node's own pages.")
        return Visitor(Caller(SOURCE, address, ""))

    def known(self, request: falcon.Request) -> Visitor | None:
        """See `Gate.known`."""
        found = self.who(request)
        return found if isinstance(found, Visitor) else None

    def csrf(self, visitor: Visitor) -> str:
        """See `Gate.csrf`."""
        return ""

    def may(self, visitor: Visitor, right: Right, archive: str) -> Verdict:
        """See `Gate.may`."""
        return Verdict(True)


def address_of(request: falcon.Request) -> str:
    """Return the address that the request came from; what a header claims does not count."""
    return _plain(request.env.get("REMOTE_ADDR", ""))


@lru_cache(maxsize=1024)
def _plain(told: str) -> str:
    try:
        parsed = ip_address(told.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def is_from_elsewhere(request: falcon.Request) -> bool:
    """Say whether a browser tells that a page of another site had it ask."""
    origin = request.get_header("Origin", default="")
    if origin and origin.split("://")[-1].lower() != request.get_header("Host", default="").lower():
        return True
    return request.get_header("Sec-Fetch-Site", default="none") not in ("none", "same-origin")


@lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
