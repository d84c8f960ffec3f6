"""Users and tokens over REST: only who logged in with a password gives others rights, and never a token."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from catalog import BadRequest, NotPermitted
from node.accounts import LONGEST_TOKEN, Token, User
from node.rights import Right

from .operation import Call, Operation

Grants = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=64)]],
    Meta(
        max_length=100,
        description="viewer, sender, researcher or admin; role@archive, role@* for all.",
    ),
]
Note = Annotated[str, Meta(max_length=1000)]


class UserRow(Struct, frozen=True, kw_only=True):
    """Somebody who may log in."""

    name: str
    grants: list[str]
    is_disabled: bool
    is_one_time: bool
    """The password is still the one that was given out."""
    note: str
    made: float


class NewUser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is to be let in."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    grants: Grants
    note: Note = ""


class UserChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; what is left out stays."""

    grants: Grants | None = None
    note: Note | None = None
    is_disabled: bool | None = None


class Admitted(UserRow, frozen=True, kw_only=True):
    """A user with a one-time password, which is told once and kept nowhere."""

    one_time_password: str


class TokenRow(Struct, frozen=True, kw_only=True):
    """What a program shows in place of a password."""

    id: str
    user: str
    rights: list[Right]
    archives: list[str]
    ends: float
    made: float
    note: str


class NewToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token is to reach."""

    user: Annotated[str, Meta(min_length=1, max_length=64)]
    rights: Annotated[list[Right], Meta(min_length=1)]
    archives: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(min_length=1)] = ("main",)
    days: Annotated[float, Meta(gt=0, le=LONGEST_TOKEN)] = 90.0
    note: Note = ""


class MadeToken(TokenRow, frozen=True, kw_only=True):
    """A token with its text, which is told once and kept nowhere."""

    token: str


def _check(call: Call) -> None:
    """Make sure that it is a person who asks: a token must not make itself more rights.

    Raises:
        NotPermitted: a token is shown.
    """
    if call.visitor.token is not None:
        what = "A token gives nobody rights."
        raise NotPermitted(what, "Log in with a password: POST /api/session")


def _is_own(call: Call, name: str) -> bool:
    user = call.visitor.user
    return user is not None and user.name == name


def _told(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "grants": list(user.grants),
        "is_disabled": user.is_disabled,
        "is_one_time": bool(user.one_time_until),
        "note": user.note,
        "made": user.made,
    }


def _record(call: Call, what: str, **detail: Any) -> None:
    told = {"via": "web", "who": call.who, **detail}
    call.services.audit.record("change", call.visitor.caller, what, told)


def _users(call: Call) -> Any:
    return [_told(user) for user in call.backing.accounts.users()]


def _add_user(call: Call) -> Any:
    _check(call)
    told: NewUser = call.body()
    user, password = call.backing.accounts.add(told.name, tuple(told.grants), told.note)
    _record(call, f"user {user.name} added", user=user.name, grants=list(user.grants))
    call.response.location = f"{call.request.path}/{user.name}"
    return {**_told(user), "one_time_password": password}


def _change_user(call: Call) -> Any:
    _check(call)
    accounts, told = call.backing.accounts, call.body()
    user = accounts.find(call.named["user"])
    changed = {key: value for key, value in msgspec.structs.asdict(told).items() if value is not None}
    if _is_own(call, user.name) and {"grants", "is_disabled"} & changed.keys():
        raise BadRequest("Nobody changes his own rights.", "Another administrator can.")
    if "grants" in changed:
        changed["grants"] = tuple(changed["grants"])
    user = accounts.put(replace(user, **changed))
    _record(call, f"user {user.name} changed", user=user.name, **msgspec.to_builtins(changed))
    return _told(user)


def _one_time(call: Call) -> Any:
    _check(call)
    accounts, name = call.backing.accounts, call.named["user"]
    password = accounts.give_one_time(name)
    _record(call, f"user {name} got a one-time password", user=name)
    return {**_told(accounts.find(name)), "one_time_password": password}


def _remove_user(call: Call) -> None:
    _check(call)
    name = call.named["user"]
    if _is_own(call, name):
        raise BadRequest("Nobody removes himself.", "Another administrator can.")
    call.backing.accounts.remove(name)
    _record(call, f"user {name} removed", user=name)


def _tokens(call: Call) -> Any:
    return [_row(token) for token in call.backing.accounts.tokens()]


def _make_token(call: Call) -> Any:
    _check(call)
    told: NewToken = call.body()
    rights = tuple(str(right) for right in told.rights)
    accounts = call.backing.accounts
    token, text = accounts.make_token(told.user, rights, told.archives, told.days, told.note)
    _record(call, f"token {token.id} made", user=token.user, rights=rights, archives=told.archives)
    return {**_row(token), "token": text}


def _revoke_token(call: Call) -> None:
    _check(call)
    token = call.backing.accounts.revoke(call.named["token"])
    _record(call, f"token {token.id} revoked", user=token.user)


def _row(token: Token) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(token)
    del row["secret"]
    return row


def _op(method: str, path: str, summary: str, handler: Any, answer: Any = None, **more: Any) -> Operation:
    return Operation(method, path, Right.MANAGE, summary, handler, answer, is_node=True, **more)


PEOPLE: Final = (
    _op("GET", "/users", "Who may log in", _users, list[UserRow]),
    _op("POST", "/users", "Let somebody in", _add_user, Admitted, body=NewUser, status=201, is_secret=True),
    _op("PUT", "/users/{user}", "Change roles, note, or whether one may come", _change_user, UserRow,
        body=UserChange),
    _op("POST", "/users/{user}/one-time", "Give a new one-time password", _one_time, Admitted,
        is_secret=True),
    _op("DELETE", "/users/{user}", "Forget a user, its sessions and tokens", _remove_user, status=204),
    _op("GET", "/tokens", "The tokens, without their secrets", _tokens, list[TokenRow]),
    _op("POST", "/tokens", "Make a token for a user", _make_token, MadeToken, body=NewToken, status=201,
        is_secret=True),
    _op("DELETE", "/tokens/{token}", "Take a token back", _revoke_token, status=204),
)  # fmt: skip
