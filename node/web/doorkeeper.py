"""The gate of a node with accounts: tokens, sessions with a cookie, and who guesses waits.

The decision itself is made from `node.rights`; a refusal stands beside those of devices, where `peerpacs
status` tells it with the command that would allow it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

import falcon

from catalog import Clock, NotPermitted, PacsError, Unavailable
from node.access import Refusals
from node.accounts import Accounts, Ended, token_may
from node.archives import DEFAULT
from node.contracts import Audit, Caller, Verdict
from node.oidc import Person, Provider
from node.patience import Patience
from node.rights import EVERY, OF_THE_NODE, Right, rights_in, role_for
from node.viewer_links import ViewerLinks

from .gate import SOURCE, LoopbackGate, Refused, Visitor, address_of, is_from_elsewhere

COOKIE: Final = "__Host-peerpacs"
"""The prefix has browsers refuse it without Secure, with a Domain, or for less than the whole site."""
LINKED: Final = "/t/"
"""Below it are the viewers' links."""
CSRF: Final = "X-CSRF-Token"
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_LONGEST_FOR_ADDRESS: Final = 900.0
_LONGEST_FOR_ACCOUNT: Final = 60.0
"""Seconds: short, because whoever knows a name could keep its owner out with it."""
_LOG_IN: Final = (
    "Log in (POST /api/session), or send Authorization: Bearer with a token: peerpacs tokens make USER"
)


class Doorkeeper:
    """Satisfies `Gate` from the accounts; `is_trusting` says whether the book trusts this machine."""

    def __init__(
        self,
        accounts: Accounts,
        refusals: Refusals,
        audit: Audit,
        clock: Clock,
        is_trusting: Callable[[], bool],
        links: ViewerLinks,
        provider: Provider | None = None,
    ) -> None:
        """`provider` vouches for people whom this node does not know itself."""
        self.accounts = accounts
        self.links = links
        self.provider = provider
        self._refusals = refusals
        self._audit = audit
        self._is_trusting = is_trusting
        self._loopback = LoopbackGate()
        self._addresses = Patience(clock, _LONGEST_FOR_ADDRESS)
        self._names = Patience(clock, _LONGEST_FOR_ACCOUNT)

    @property
    def has_provider(self) -> bool:
        """See `Gate.has_provider`."""
        return self.provider is not None

    def who(self, request: falcon.Request) -> Visitor | Refused:
        """See `Gate.who`."""
        if request.path.startswith(LINKED):
            return self._by_link(address_of(request), request.path.removeprefix(LINKED).partition("/")[0])
        told = request.get_header("Authorization", default="")
        if told:
            return self._by_token(request, told)
        found = self.known(request)
        if found is not None:
            return self._unforged(request, found)
        address = address_of(request)
        self._refusals.note(
            Caller("", address, ""), "web", f"{address} asks over the web and does not log in.",
            "peerpacs users list",
        )  # fmt: skip
        return Refused(401, "Nobody is logged in.", _LOG_IN)

    def known(self, request: falcon.Request) -> Visitor | None:
        """See `Gate.known`."""
        secret = (request.get_cookie_values(COOKIE) or [""])[0]
        user = self.accounts.session(secret) if secret else None
        if user is not None:
            caller = Caller(SOURCE, address_of(request), "", user=user.name)
            return Visitor(caller, user, session=secret)
        return self._loopback.known(request) if self._is_trusting() else None

    def csrf(self, visitor: Visitor) -> str:
        """See `Gate.csrf`."""
        return csrf_of(visitor.session) if visitor.session else ""

    def may(self, visitor: Visitor, right: Right, archive: str) -> Verdict:
        """See `Gate.may`."""
        user, token = visitor.user, visitor.token
        if user is None:
            return Verdict(True)
        if user.one_time_until and token is None and visitor.link is None:
            return Verdict(False, "A password of your own comes first.", "PUT /api/session/password sets it.")
        where = EVERY if right in OF_THE_NODE else archive
        is_his = right in rights_in(user.grants, where)
        if is_his and (token is None or token_may(token, user, right, where)):
            return Verdict(True)
        place = "on this node" if where == EVERY else f"in the archive {where}"
        if is_his and token is not None:
            why = f"The token {token.id} of {user.name} does not reach so far: it may not {right} {place}."
            remedy = f"peerpacs tokens make {user.name} --rights {right} --in '{where}'"
        else:
            why = f"{user.name} may not {right} {place}."
            at = "" if where in (EVERY, DEFAULT) else f"@{where}"
            remedy = f"peerpacs users edit {user.name} --role +{role_for(right)}{at}"
        self._refusals.note(visitor.caller._replace(ae_title=user.name), f"web: {right}", why, remedy)
        return Verdict(False, why, remedy)

    def log_in(self, request: falcon.Request, name: str, password: str) -> Visitor | Refused:
        """Begin a session for who knows name and password; guessing is slowed down and put on record."""
        address = address_of(request)
        if is_from_elsewhere(request):
            return Refused(403, "A page of another site asks.", "Open the node's own pages.")
        # An unknown name is slowed down like a known one, or the difference would tell who has an account.
        if refused := self._must_wait(address, name):
            return refused
        # A name that nobody has is not repeated: people type their password in its place.
        named = name if self.accounts.get(name) else "an unknown name"
        caller = Caller(SOURCE, address, "", user=named)
        user = self.accounts.check_password(name, password)
        if user is None:
            self._names.failed(name)
            self._mistaken(caller, f"{address} tried a wrong password for {named}.")
            self._audit.record("login", caller, "refused", {"via": "web"})
            return Refused(401, "Name and password do not belong together.", "Type them again.")
        self._names.succeeded(name)
        self._addresses.succeeded(_block(address))
        self._audit.record("login", caller, "ok", {"via": "web"})
        return Visitor(caller, user, session=self.accounts.begin_session(user, address))

    def _by_token(self, request: falcon.Request, told: str) -> Visitor | Refused:
        kind, _, text = told.partition(" ")
        if kind.lower() != "bearer":
            return Refused(401, "Only Bearer is understood in the Authorization header.", _LOG_IN)
        address = address_of(request)
        if self.provider is not None and text.count(".") == 2:
            return self._by_provider(self.provider, address, text.strip())
        try:
            token, user = self.accounts.token(text.strip())
        except Ended as error:
            caller = Caller(error.token.user, address, "")
            self._refusals.note(caller, "web: ended token", error.what, error.next)
            return Refused(401, error.what, error.next)
        except NotPermitted as error:
            # Nobody guesses 256 bits: a good token is let in however many bad ones came from its address.
            if refused := self._must_wait(address, ""):
                return refused
            self._mistaken(Caller("", address, ""), f"{address} shows a token that is none.")
            return Refused(401, error.what, error.next)
        caller = Caller(SOURCE, address, "", user=f"{user.name} (token {token.id})")
        return Visitor(caller, user, token)

    def _by_link(self, address: str, secret: str) -> Visitor | Refused:
        """Let in a viewer with the link to one study that a person made."""
        try:
            link = self.links.find(secret)
            user = self.accounts.find(link.user) if link.user else None
        except PacsError as error:
            if refused := self._must_wait(address, ""):
                return refused
            self._mistaken(Caller("", address, ""), f"{address} shows a viewer's link that does not count.")
            return Refused(401, error.what, error.next)
        if user is not None and user.is_disabled:
            return Refused(401, f"{user.name} may not come any more.", "Ask an administrator.")
        who = f"{link.user or 'somebody on this machine'} (viewer)"
        return Visitor(Caller(SOURCE, address, "", user=who), user, link=link)

    def _by_provider(self, provider: Provider, address: str, text: str) -> Visitor | Refused:
        """Let in a program with a token of the identity provider."""
        try:
            person = provider.verify(text)
            user = self.accounts.adopt(person.name, person.grants, person.subject)
        except Unavailable as error:
            return Refused(503, error.what, error.next, retry=5)
        except NotPermitted as error:
            if refused := self._must_wait(address, ""):
                return refused
            self._mistaken(Caller("", address, ""), f"{address} shows a token that does not count.")
            return Refused(401, error.what, error.next)
        return Visitor(Caller(SOURCE, address, "", user=user.name), user)

    def arrive(self, request: falcon.Request, person: Person) -> Visitor:
        """Begin a session for somebody whom the identity provider vouches for.

        Raises:
            NotPermitted: the name is somebody else's here, or the person may not come any more.
        """
        address = address_of(request)
        caller = Caller(SOURCE, address, "", user=person.name)
        try:
            user = self.accounts.adopt(person.name, person.grants, person.subject)
        except NotPermitted:
            self._audit.record("login", caller, "refused", {"via": "oidc"})
            raise
        self._audit.record("login", caller, "ok", {"via": "oidc"})
        return Visitor(caller, user, session=self.accounts.begin_session(user, address))

    def _unforged(self, request: falcon.Request, visitor: Visitor) -> Visitor | Refused:
        """Return the visitor, unless a page of another site may have had the browser show its cookie."""
        if visitor.session and request.method not in _SAFE:
            shown = request.get_header(CSRF, default="").encode()
            if is_from_elsewhere(request) or not hmac.compare_digest(shown, self.csrf(visitor).encode()):
                why = f"This request lacks the {CSRF} of its session."
                return Refused(403, why, "GET /api/session tells it; send it as a header.")
        return visitor

    def _must_wait(self, address: str, name: str) -> Refused | None:
        left = max(self._addresses.wait(_block(address)), self._names.wait(name) if name else 0.0)
        if not left:
            return None
        seconds = int(left) + 1
        return Refused(429, "Too many wrong tries.", f"Try again in {seconds} s.", retry=seconds)

    def _mistaken(self, caller: Caller, why: str) -> None:
        self._addresses.failed(_block(caller.address))
        known = self.accounts.get(caller.user)
        remedy = f"peerpacs users edit {known.name} --one-time" if known else "peerpacs users list"
        self._refusals.note(caller._replace(ae_title=known.name if known else ""), "web: log in", why, remedy)


def csrf_of(secret: str) -> str:
    """Return what a page of ours sends beside the cookie, and a page of another site cannot know."""
    return hashlib.sha256(f"csrf\0{secret}".encode()).hexdigest()


def _block(address: str) -> str:
    """Return what counts as one address: of IPv6, the network that a single subscriber has."""
    try:
        parsed: Any = ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(int(parsed) >> 64)
