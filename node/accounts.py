"""The books of who may come over the web: users, API tokens and sessions, rows that count at once."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from catalog import BadRequest, Clock, NotFound, NotPermitted
from node.passwords import check_new, fingerprint, hashed, is_right, one_time
from node.rights import EVERY, Right, parse_grant, rights_in
from node.state import State

FIRST: Final = "admin"
"""The account that `init` makes."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_ONE_TIME_LASTS: Final = 7 * 86400.0
LONGEST_TOKEN: Final = 731
"""Days that a token may last."""
_SESSION_LASTS: Final = 12 * 3600.0
_SESSION_IDLE: Final = 3600.0
_NOTED: Final = 60.0
"""Seconds between two notes of a session being used."""
_WAY: Final = re.compile(r" \((?:token [0-9a-f]+|viewer)\)$")
"""What a name in decisions and the audit tells of the way on which somebody came."""
_TOKEN: Final = re.compile(r"pp_([0-9a-f]{12})_[0-9A-Za-z_-]{43}")


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person or program with a password."""

    name: str
    grants: tuple[str, ...] = ()
    """`role@archive` each; `*` is every archive."""
    password: str = ""
    """What `hashed` made of it; empty = nobody can log in with one."""
    one_time_until: float = 0.0
    """Unix seconds until which the password may be used to set another; 0 = it is the person's own."""
    is_disabled: bool = False
    note: str = ""
    made: float = 0.0
    provider: str = ""
    """By whom an identity provider means this user; empty = a user of this node alone."""
    os_user: str = ""
    """Who that is at the command line, by the operating system's name; empty = under the account's own."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What a program shows in place of a password; never more than its user may."""

    id: str
    user: str
    rights: tuple[Right, ...]
    archives: tuple[str, ...]
    ends: float
    """Unix seconds."""
    secret: str
    """The fingerprint of the whole token."""
    made: float
    note: str = ""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One browser that logged in."""

    user: str
    address: str
    made: float
    seen: float
    password: str
    """Fingerprint of the user's hash at that time: a changed password ends the session."""


class Accounts:
    """The three books; several processes may use them at once."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._users = state.table("users", User)
        self._tokens = state.table("tokens", Token)
        self._sessions = state.table("sessions", Session)
        self._clock = clock

    def users(self) -> Iterator[User]:
        """Yield the users by name."""
        return (user for _, user in self._users.scan())

    def get(self, name: str) -> User | None:
        """Return a user, or None."""
        return self._users.get(name.encode()) if _NAME.fullmatch(name) else None

    def find(self, name: str) -> User:
        """Return a user.

        Raises:
            NotFound: there is none of that name.
        """
        user = self.get(name)
        if user is None:
            raise NotFound(f"There is no user {name!r}.", "List them with: peerpacs users list")
        return user

    def add(self, name: str, grants: tuple[str, ...], note: str = "") -> tuple[User, str]:
        """Make a user; return it and its one-time password, which is kept nowhere.

        Raises:
            BadRequest: the name or a role cannot be, or there is such a user.
        """
        if not _NAME.fullmatch(name):
            what = f"{name!r} cannot be the name of a user."
            raise BadRequest(what, "Use small letters, digits and . _ @ - (at most 64).")
        password = one_time()
        user = User(
            name=name,
            grants=_checked(grants),
            password=hashed(password),
            one_time_until=self._clock() + _ONE_TIME_LASTS,
            note=note,
            made=self._clock(),
        )

        def put(old: User | None) -> User:
            if old is not None:
                raise BadRequest(f"There is a user {name} already.", f"Change it: peerpacs users edit {name}")
            return user

        self._users.change({name.encode(): put})
        return user, password

    def adopt(self, name: str, grants: tuple[str, ...], provider: str) -> User:
        """Return the user that an identity provider vouches for, with the rights it has now.

        Raises:
            NotPermitted: the name cannot be, or is that of somebody else here.
        """
        if not _NAME.fullmatch(name):
            raise NotPermitted(f"{name!r} cannot be the name of a user here.", "Set oidc.name_claim.")
        known = self.get(name)
        if known is not None and known.provider != provider:
            what = f"There is another user {name} here."
            raise NotPermitted(what, f"If it is the same person: peerpacs users remove {name}")
        made = known or User(name=name, made=self._clock(), provider=provider)
        user = replace(made, grants=_checked(grants))
        if user.is_disabled:
            raise NotPermitted(f"{name} may not come any more.", f"peerpacs users edit {name} --enable")
        if user != known:
            self._users.put(name.encode(), user)
        return user

    def put(self, user: User) -> User:
        """Write a user over what was there.

        Raises:
            BadRequest: a role cannot be, or the user of the machine is somebody else here.
        """
        written = replace(user, grants=_checked(user.grants))
        for other in self.users():
            if written.os_user and _is_same(other.os_user, written.os_user) and other.name != written.name:
                what = f"At the command line, {written.os_user} is {other.name} already."
                raise BadRequest(what, f"If that is wrong: peerpacs users edit {other.name} --os-user ''")
        self._users.put(user.name.encode(), written)
        return written

    def person(self, who: str) -> str:
        """Return the account that a name in a decision means, or else that name, for comparing with others.

        It is the account itself with whatever token, or the user of this machine that an account names.
        """
        name = _WAY.sub("", who)
        return next((user.name for user in self.users() if _is_same(user.os_user, name)), name.casefold())

    def give_one_time(self, name: str) -> str:
        """Give a user a new one-time password and return it; sessions with the old one end."""
        password = one_time()
        until = self._clock() + _ONE_TIME_LASTS
        self.put(replace(self.find(name), password=hashed(password), one_time_until=until))
        return password

    def set_password(self, name: str, password: str) -> User:
        """Set the password that a person chose; sessions with the old one end.

        Raises:
            BadRequest: it is easily guessed, or the one there is.
        """
        user = self.find(name)
        check_new(password, name)
        if is_right(password, user.password):
            raise BadRequest("That is the password you have.", "Take another one.")
        return self.put(replace(user, password=hashed(password), one_time_until=0.0))

    def remove(self, name: str) -> User:
        """Forget a user, its tokens and sessions.

        Raises:
            NotFound: there is none of that name.
        """
        user = self.find(name)
        self._users.delete(name.encode())
        for table in (self._tokens, self._sessions):
            mine = [key for key, row in table.scan() if row.user == name]
            table.change({key: lambda _: None for key in mine})
        return user

    def check_password(self, name: str, password: str) -> User | None:
        """Return the user whose name and password these are; None if they are not, or not any more."""
        user = self.get(name)
        if not is_right(password, user.password if user else "") or user is None or user.is_disabled:
            return None
        is_late = user.one_time_until and self._clock() > user.one_time_until
        return None if is_late else user

    def begin_session(self, user: User, address: str) -> str:
        """Return the secret of a new session; ended ones go."""
        now, secret = self._clock(), secrets.token_urlsafe(32)
        old = [key for key, session in self._sessions.scan() if self._is_over(session)]
        self._sessions.change({key: lambda _: None for key in old})
        row = Session(
            user=user.name, address=address, made=now, seen=now, password=fingerprint(user.password)
        )
        self._sessions.put(fingerprint(secret).encode(), row)
        return secret

    def session(self, secret: str) -> User | None:
        """Return whose session this is, while it lasts."""
        key = fingerprint(secret).encode()
        row = self._sessions.get(key)
        if row is None or self._is_over(row):
            return None
        user = self.get(row.user)
        if user is None or user.is_disabled or fingerprint(user.password) != row.password:
            return None
        now = self._clock()
        if now - row.seen > _NOTED:
            self._sessions.change({key: lambda old: old and replace(old, seen=now)})
        return user

    def end_session(self, secret: str) -> None:
        """End a session; ending it twice is harmless."""
        self._sessions.delete(fingerprint(secret).encode())

    def _is_over(self, session: Session) -> bool:
        now = self._clock()
        return now > session.made + _SESSION_LASTS or now > session.seen + _SESSION_IDLE

    def make_token(
        self, name: str, rights: tuple[str, ...], archives: tuple[str, ...], days: float, note: str = ""
    ) -> tuple[Token, str]:
        """Make a token for a user; return it and the text to show, which is kept nowhere.

        Raises:
            NotFound: there is no such user.
            BadRequest: a right is none, the days are too many, or the user may not do this himself.
        """
        user, now = self.find(name), self._clock()
        if not 0 < days <= LONGEST_TOKEN:
            raise BadRequest(f"A token cannot last {days:g} days.", f"Say 1 to {LONGEST_TOKEN}.")
        try:
            wanted = tuple(Right(right) for right in rights)
        except ValueError:
            raise BadRequest("One of the rights is none.", f"There are: {', '.join(Right)}.") from None
        for archive in archives:
            lacking = set(wanted) - rights_in(user.grants, archive)
            if lacking:
                what = f"{name} may not {', '.join(sorted(lacking))} in {archive}, so no token of it may."
                raise BadRequest(what, f"See: peerpacs users list; or peerpacs users edit {name} --role ...")
        id = secrets.token_hex(6)
        text = f"pp_{id}_{secrets.token_urlsafe(32)}"
        ends = now + days * 86400
        token = Token(
            id=id, user=name, rights=wanted, archives=archives, ends=ends, made=now, note=note,
            secret=fingerprint(text),
        )  # fmt: skip
        self._tokens.put(id.encode(), token)
        return token, text

    def tokens(self) -> Iterator[Token]:
        """Yield the tokens, ended ones too."""
        return (token for _, token in self._tokens.scan())

    def revoke(self, id: str) -> Token:
        """Forget a token.

        Raises:
            NotFound: there is none with that id.
        """
        token = self._tokens.get(id.encode()) if id else None
        if token is None:
            raise NotFound(f"There is no token {id!r}.", "List them with: peerpacs tokens list")
        self._tokens.delete(id.encode())
        return token

    def token(self, text: str) -> tuple[Token, User]:
        """Return the token that a program shows, and its user.

        Raises:
            NotPermitted: it is none, it has ended, or its user may not come any more.
        """
        match = _TOKEN.fullmatch(text)
        token = self._tokens.get(match[1].encode()) if match else None
        if token is None or not secrets.compare_digest(token.secret, fingerprint(text)):
            raise NotPermitted("That is no token of this node.", "Make one: peerpacs tokens make USER")
        if self._clock() > token.ends:
            raise Ended(token, f"The token {token.id} has ended.", f"peerpacs tokens make {token.user}")
        user = self.get(token.user)
        if user is None or user.is_disabled:
            what = f"The token {token.id} is of {token.user}, who may not come any more."
            raise Ended(token, what, f"peerpacs users edit {token.user} --enable")
        return token, user


class Ended(NotPermitted):
    """A token that was good once: its secret is right, so it is no guess."""

    def __init__(self, token: Token, what: str, next: str) -> None:
        super().__init__(what, next)
        self.token = token


def token_may(token: Token, user: User, right: Right, archive: str) -> bool:
    """Say whether a token reaches so far: never farther than its user does now."""
    is_there = archive in token.archives or EVERY in token.archives
    return is_there and right in token.rights and right in rights_in(user.grants, archive)


def _is_same(os_user: str, name: str) -> bool:
    return os_user != "" and os_user.casefold() == name.casefold()


def _checked(grants: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(parse_grant, grants)))
