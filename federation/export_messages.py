"""What sites say to each other about research, before anything of a wire: offers, orders, withdrawals."""

from __future__ import annotations

from typing import Any

import msgspec


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A project that one site offers to another."""

    project: str
    title: str = ""
    profile: str = "research"
    policy: str = ""
    """JSON, of a policy that is not one of the presets."""
    ends: str = ""
    key_id: str = ""
    key: bytes = b""
    """The project's key file, sealed to the receiver's certificate; empty: it only orders and receives."""
    partners: tuple[str, ...] = ()
    """Node ids of who is in the project, the offering node among them."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an offer."""

    is_in_force: bool = False
    """It was accepted before; only who else is in the project was news."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What one site wants of another."""

    order: str = ""
    """The orderer's own id of it."""
    project: str
    key_id: str = ""
    profile: str = ""
    purpose: str = ""
    query: tuple[str, ...] = ()
    """`Keyword=Value` keys."""
    lines: tuple[dict[str, Any], ...] = ()
    """Lines of a cohort list, with what they name."""
    is_standing: bool = False
    archive: str = ""
    """Of the owner's, as the owner calls it; empty: the one that it grants."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What an owner has for a line of a list."""

    line: int
    finding: str
    why: str = ""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """How much an order would bring, as far as that may be told."""

    subjects: int = -1
    """-1: fewer than the smallest number that is told."""
    studies: int = -1
    instances: int = -1
    megabytes: int = -1
    smallest: int = 0
    questions_left: int = 0
    state: str = ""
    lines: tuple[Finding, ...] = ()
    """Lines for which something was found; none when it were too few."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """What an owner let go for an order."""

    export: str
    manifest: str
    """SHA-256 of its manifest, in hexadecimal digits."""
    instances: int = 0
    size: int = 0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How an order stands at its owner."""

    standing: str = ""
    why: str = ""
    releases: tuple[Release, ...] = ()


class Name(msgspec.Struct, frozen=True, kw_only=True):
    """An order, by the orderer's id."""

    order: str


class ReleaseName(msgspec.Struct, frozen=True, kw_only=True):
    """A release of an order, and which of its files are there already."""

    order: str
    export: str
    have: tuple[str, ...] = ()


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """A subject, by its pseudonym, that is not to be in a project any more."""

    project: str
    subject: str
    reason: str = ""


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """Something of a subject that was given away and is out of reach."""

    export: str
    target: str
    when: float = 0.0


class Withdrawn(msgspec.Struct, frozen=True, kw_only=True):
    """What a withdrawal did at one site."""

    removed: int = 0
    """Studies that were taken out of the project's archive."""
    copies: tuple[Copy, ...] = ()
