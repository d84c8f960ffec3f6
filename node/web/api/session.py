"""Logging in and out, and a password of one's own."""

from __future__ import annotations

import falcon

from catalog import NotPermitted
from node.contracts import Caller

from ..application import turn_away
from ..doorkeeper import COOKIE, csrf_of
from ..gate import Refused, Visitor
from ..problems import Malformed
from .answers import Login, NewPassword, SessionNow
from .operation import Call


def log_in(call: Call) -> SessionNow | None:
    """Answer with a session in a cookie."""
    told: Login = call.body()
    found = call.backing.doorkeeper.log_in(call.request, told.name, told.password)
    if isinstance(found, Refused):
        turn_away(call.response, found)
        return None
    _set_cookie(call.response, found.session)
    return _now(found)


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
