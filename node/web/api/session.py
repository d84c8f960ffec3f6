"""Logging in and out, and a password of one's own."""

from __future__ import annotations

from typing import Annotated, Final

import falcon
from msgspec import Meta, Struct

from catalog import NotFound, NotPermitted
from node.contracts import Caller
from node.oidc import Attempt, Provider

from ..application import turn_away
from ..doorkeeper import COOKIE, csrf_of
from ..gate import Refused, Visitor
from ..problems import Malformed
from .answers import Login, NewPassword, SessionNow
from .operation import Call

_ATTEMPT: Final = "__Host-peerpacs-oidc"
_GO_ON: Final = (
    b'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    b'<meta http-equiv="refresh" content="0;url=/">'
    b'<title>PeerPACS</title></head><body><a href="/">PeerPACS</a></body></html>'
)


class ComingBack(Struct, frozen=True):
    """What the identity provider says when it sends a browser back."""

    state: Annotated[str, Meta(max_length=200)] = ""
    code: Annotated[str, Meta(max_length=4000)] = ""
    error: Annotated[str, Meta(max_length=200)] = ""


def log_in(call: Call) -> SessionNow | None:
    """Answer with a session in a cookie."""
    told: Login = call.body()
    found = call.backing.doorkeeper.log_in(call.request, told.name, told.password)
    if isinstance(found, Refused):
        turn_away(call.response, found)
        return None
    _set_cookie(call.response, found.session)
    return _now(found)


def begin_oidc(call: Call) -> None:
    """Send the browser to the hospital's identity provider."""
    url, attempt = _provider(call).begin()
    call.response.set_cookie(
        _ATTEMPT, ".".join(attempt), max_age=600, path="/", secure=True, http_only=True, same_site="Lax"
    )
    call.response.status, call.response.location = 302, url


def end_oidc(call: Call) -> None:
    """Begin a session for who comes back from the identity provider.

    It is answered by a page that goes on by itself: a cookie for this site only is not shown on the way that
    the provider began.
    """
    provider, query = _provider(call), call.query()
    kept = (call.request.get_cookie_values(_ATTEMPT) or [""])[0].split(".")
    if len(kept) != len(Attempt._fields):
        raise NotPermitted("This browser began no login, or it took too long.", "GET /api/session/oidc")
    if query.error:
        raise NotPermitted("The identity provider did not let you in.", "GET /api/session/oidc")
    visitor = call.backing.doorkeeper.arrive(
        call.request, provider.end(Attempt(*kept), query.state, query.code)
    )
    call.response.set_cookie(_ATTEMPT, "", max_age=0, path="/", secure=True, http_only=True, same_site="Lax")
    _set_cookie(call.response, visitor.session)
    call.response.data, call.response.content_type = _GO_ON, "text/html; charset=utf-8"


def _provider(call: Call) -> Provider:
    provider = call.backing.doorkeeper.provider
    if provider is None:
        raise NotFound(
            "This node knows no identity provider.", "Log in with POST /api/session; or set [oidc]."
        )
    return provider


def session_now(call: Call) -> SessionNow:
    """Tell who is logged in, and what changing requests must show."""
    return _now(call.visitor)


def log_out(call: Call) -> None:
    """End the session of the cookie."""
    call.backing.accounts.end_session(call.visitor.session)
    _set_cookie(call.response, "", lasts=0)


def change_password(call: Call) -> SessionNow:
    """Set a password of one's own; every other session of the user ends, this one goes on anew."""
    visitor, accounts = call.visitor, call.backing.accounts
    if visitor.user is None or not visitor.session:
        raise NotPermitted("Only who logged in with a password can change it.", "POST /api/session")
    told: NewPassword = call.body()
    found = call.backing.doorkeeper.log_in(call.request, visitor.user.name, told.old)
    if isinstance(found, Refused):
        raise Malformed("That is not the password there was.", found.remedy)
    accounts.end_session(found.session)
    user = accounts.set_password(visitor.user.name, told.new)
    secret = accounts.begin_session(user, visitor.caller.address)
    _set_cookie(call.response, secret)
    caller: Caller = visitor.caller
    call.services.audit.record("change", caller, "password changed", {"via": "web"})
    return _now(visitor._replace(user=user, session=secret))


def _now(visitor: Visitor) -> SessionNow:
    user = visitor.user
    return SessionNow(
        user=user.name if user else "",
        grants=list(user.grants) if user else ["admin@*"],
        is_one_time=bool(user and user.one_time_until),
        csrf=csrf_of(visitor.session) if visitor.session else "",
    )


def _set_cookie(response: falcon.Response, secret: str, lasts: int | None = None) -> None:
    response.set_cookie(
        COOKIE, secret, max_age=lasts, path="/", secure=True, http_only=True, same_site="Strict"
    )
