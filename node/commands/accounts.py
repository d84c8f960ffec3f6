"""`peerpacs users` and `peerpacs tokens`: who may come over the web, effective at once, running or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from node.cli import Session, by_default, columns, shared, who

if TYPE_CHECKING:
    from node.accounts import Accounts, Token, User

_ROLES = "viewer, sender, researcher or admin; role@ARCHIVE for one archive, role@* for all"


@click.group("users", invoke_without_command=True)
@shared
def users_command(session: Session) -> None:
    """Show and change who may log in over the web.

    Example: peerpacs users add anna --role viewer
    """
    by_default(list_users)


@users_command.command("list")
@shared
def list_users(session: Session) -> int:
    """Show the users and what they may do.

    Example: peerpacs users list
    """
    with _accounts(session) as accounts:
        users = list(accounts.users())
    rows = [(user.name, ", ".join(user.grants) or "nothing", _state(user), user.note) for user in users]
    empty = ["Nobody can log in. Begin with: peerpacs users add NAME --role admin"]
    titles = ("NAME", "ROLES", "STATE", "NOTE")
    session.say([_told(user) for user in users], columns(rows, titles) if rows else empty)
    return 0


@users_command.command("add")
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, help=f"Once or more: {_ROLES}.")
@click.option("--note", default="", help="A word for the next administrator.")
@shared
def add_user(session: Session, name: str, roles: tuple[str, ...], note: str) -> int:
    """Make a user. Its one-time password is shown once and kept nowhere.

    Example: peerpacs users add anna --role viewer --role viewer@research-7
    """
    with _accounts(session) as accounts:
        user, password = accounts.add(name, roles, note)
    _record(session, f"user {name} added", {"user": name, "grants": list(user.grants)})
    lines = [
        f"✓ {name} was added: {', '.join(user.grants)}.",
        f"  One-time password, valid for 7 days: {password}",
    ]
    session.say({**_told(user), "one_time_password": password}, lines)
    return 0


@users_command.command("edit")
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, help=f"The roles from now on, or +role and -role to change: {_ROLES}."
)
@click.option("--one-time", is_flag=True, help="Give a new one-time password; sessions end.")
@click.option("--disable/--enable", "is_disabled", default=None, help="Let the user in no more, or again.")
@click.option("--note", help="A word for the next administrator.")
@click.option("--os-user", metavar="NAME", help="Who this is at the command line, if under another name.")
@shared
def edit_user(
    session: Session,
    name: str,
    roles: tuple[str, ...],
    one_time: bool,
    is_disabled: bool | None,
    note: str | None,
    os_user: str | None,
) -> int:
    """Change what is said, keep the rest.

    A person who wished something over the web cannot be the second person at the command line (peerpacs
    confirm): that is known by the name, or by --os-user where this machine knows the person by another one.

    Example: peerpacs users edit anna --role +sender
    """
    from msgspec.structs import replace

    with _accounts(session) as accounts:
        user = accounts.find(name)
        said = {"note": note, "os_user": os_user}
        changed: dict[str, Any] = {key: value for key, value in said.items() if value is not None}
        if roles:
            changed["grants"] = _changed(user.grants, roles)
        if is_disabled is not None:
            changed["is_disabled"] = is_disabled
        user = accounts.put(replace(user, **changed))
        password = accounts.give_one_time(name) if one_time else ""
        user = accounts.find(name)
    detail = {"user": name, **changed, "one_time": one_time}
    _record(session, f"user {name} changed", detail)
    lines = [f"✓ {name} was changed: {', '.join(user.grants) or 'nothing'}; {_state(user)}."]
    if password:
        lines.append(f"  One-time password, valid for 7 days: {password}")
    session.say({**_told(user), **({"one_time_password": password} if password else {})}, lines)
    return 0


@users_command.command("remove")
@click.argument("name")
@shared
def remove_user(session: Session, name: str) -> int:
    """Forget a user; its sessions and tokens end.

    Example: peerpacs users remove anna
    """
    with _accounts(session) as accounts:
        user = accounts.remove(name)
    _record(session, f"user {name} removed", {"user": name})
    session.say(_told(user), [f"✓ {name} was removed."])
    return 0


@click.group("tokens", invoke_without_command=True)
@shared
def tokens_command(session: Session) -> None:
    """Show, make and revoke what programs show in place of a password.

    Example: peerpacs tokens make anna --rights search,retrieve --days 90
    """
    by_default(list_tokens)


@tokens_command.command("list")
@shared
def list_tokens(session: Session) -> int:
    """Show the tokens, never their secrets.

    Example: peerpacs tokens list
    """
    with _accounts(session) as accounts:
        tokens = list(accounts.tokens())
    rows = [
        (token.id, token.user, ",".join(token.rights), ",".join(token.archives), _ends(token), token.note)
        for token in tokens
    ]
    titles = ("ID", "USER", "RIGHTS", "ARCHIVES", "ENDS", "NOTE")
    empty = ["There are none. Make one with: peerpacs tokens make USER"]
    session.say([_shown(token) for token in tokens], columns(rows, titles) if rows else empty)
    return 0


@tokens_command.command("make")
@click.argument("user")
@click.option(
    "--rights", default="search,retrieve", show_default=True, help="What it may do of what USER may."
)
@click.option("--in", "archives", default="main", show_default=True, help="Archives; * = all, and the node.")
@click.option("--days", default=90.0, show_default=True, help="For how long.")
@click.option("--note", default="", help="What it is for.")
@shared
def make_token(session: Session, user: str, rights: str, archives: str, days: float, note: str) -> int:
    """Make a token. It is shown once and kept nowhere.

    Example: peerpacs tokens make anna --rights store --days 365 --note "CT gateway"
    """
    with _accounts(session) as accounts:
        token, text = accounts.make_token(user, _words(rights), _words(archives), days, note)
    _record(session, f"token {token.id} made", _shown(token))
    lines = [
        f"✓ Token {token.id} of {user}: {', '.join(token.rights)} in {', '.join(token.archives)}, "
        f"until {_ends(token)}. It is shown only now:",
        text,
    ]
    session.say({**_shown(token), "token": text}, lines)
    return 0


@tokens_command.command("revoke")
@click.argument("id")
@shared
def revoke_token(session: Session, id: str) -> int:
    """End a token at once.

    Example: peerpacs tokens revoke 3f2a9c0d11be
    """
    with _accounts(session) as accounts:
        token = accounts.revoke(id)
    _record(session, f"token {token.id} revoked", _shown(token))
    session.say(_shown(token), [f"✓ Token {token.id} of {token.user} was revoked."])
    return 0


@contextmanager
def _accounts(session: Session) -> Iterator[Accounts]:
    from node.accounts import Accounts
    from node.config import load_config
    from node.roles.plan import demand_catalog
    from node.state import State

    demand_catalog(load_config(session.home), session.home)
    with State(session.home / "state") as state:
        yield Accounts(state, time.time)


def _changed(grants: tuple[str, ...], words: tuple[str, ...]) -> tuple[str, ...]:
    from node.rights import parse_grant

    if not any(word[:1] in "+-" for word in words):
        return words
    kept = dict.fromkeys(grants)
    for word in words:
        grant = parse_grant(word.lstrip("+-"))
        if word.startswith("-"):
            kept.pop(grant, None)
        else:
            kept[grant] = None
    return tuple(kept)


def _record(session: Session, what: str, detail: dict[str, Any]) -> None:
    """Put a change on record, and drop what the user was refused before."""
    from node.access import Refusals
    from node.audit import AuditLog
    from node.state import State

    with State(session.home / "state") as state:
        Refusals(state, time.time).forget(str(detail.get("user", "")))
    audit = AuditLog(session.home / "audit", time.time)
    audit.record("change", None, what, {"who": who(), **detail})
    audit.close()


def _told(user: User) -> dict[str, Any]:
    return {
        "name": user.name, "grants": list(user.grants), "state": _state(user), "note": user.note,
        "made": user.made, "os_user": user.os_user,
    }  # fmt: skip


def _shown(token: Token) -> dict[str, Any]:
    return {
        "id": token.id, "user": token.user, "rights": list(token.rights), "archives": list(token.archives),
        "ends": token.ends, "note": token.note,
    }  # fmt: skip


def _state(user: User) -> str:
    if user.is_disabled:
        return "disabled"
    if user.one_time_until:
        return "has a one-time password" if time.time() < user.one_time_until else "one-time password ended"
    return "ok"


def _ends(token: Token) -> str:
    day = f"{datetime.fromtimestamp(token.ends, UTC):%Y-%m-%d}"
    return f"{day} (ended)" if time.time() > token.ends else day


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
