"""`peerpacs leave`: this node goes out of the grid, and the others drop what they have of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from node.cli import PARTIAL, Session, plural, readable, shared, who

_LOOK: Final = 1.0
_PATIENCE: Final = 120.0
"""Seconds in which something has to come home, before one is told that it does not."""


@click.command("leave")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--force",
    is_flag=True,
    help="Although objects are damaged, what lies at one site alone cannot come home, or no authority hears.",
)
@shared
def leave_command(session: Session, yes: bool, force: bool) -> int:
    """Leave the grid: every other node drops what it has of this one and signs a receipt for it.

    All that this node holds stays here, and what lies at other sites alone comes home first. What it
    keeps for others is dropped, once its owners have it themselves or at another site.

    Example: peerpacs leave
    """
    if not yes and not session.is_json:
        click.confirm("Leave the grid? The others drop their copies of what this node holds.", abort=True)
    with session.desk("leave") as ask:
        done = wait_until_home(session, lambda: ask("leave_grid", who=who(), is_forced=force))
    if waits := what_waits(done):
        session.say(done, [f"! {waits} Nothing more comes, so this node stays.", f"  {what_hinders(done)}"])
        return PARTIAL
    session.say(done, told_of_leaving(done))
    return PARTIAL if done["owing"] else 0


def wait_until_home(session: Session, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Ask again as long as something comes home; return the last answer."""
    told, since = "", time.monotonic()
    while waits := what_waits(done := ask()):
        if waits != told:
            told, since = waits, time.monotonic()
            if not session.is_json:
                click.echo(waits, err=True)
        elif time.monotonic() - since > _PATIENCE:
            break
        time.sleep(_LOOK)
    return done


def what_waits(done: dict[str, Any]) -> str:
    """Return a sentence about what has to go or come home first; nothing where this node has left."""
    if "going_home" in done:
        parts = [f"{readable(size)} of {name}" for name, size in done["going_home"].items()]
        return f"{' and '.join(parts)} lie here alone and go home first."
    if "coming_home" in done:
        return f"{readable(done['coming_home'])} lie at other sites alone and come home first."
    return ""


def what_hinders(done: dict[str, Any]) -> str:
    """Return why nothing more comes or goes home, as far as this node knows, and what to do."""
    return str(done.get("why") or "See: peerpacs peers")


def told_of_leaving(done: dict[str, Any]) -> Iterator[str]:
    """Yield who dropped what, who owes it, and where the receipts are."""
    for each in done["receipts"]:
        yield f"✓ {each['name']} of {each['site']} dropped {_what(each)}."
    for each in done["owing"]:
        when = ", and drops all when it is back" if done["is_known"] else ""
        yield f"! {each['name']} of {each['site']} owes its receipt{when}: {each['why']}"
    own = _what(done["dropped_here"])
    yield f"✓ This node left the grid {done['grid']!r}, and dropped {own} of the others."
    yield f"  The receipts are in {done['file']}"
    if not done["is_known"]:
        yield "! No authority of the grid heard of it. There, unless it was expelled: peerpacs revoke NAME"
    if done["authority"]:
        yield "! It was an authority, and destroyed that key. What it issued counts until it is dismissed:"
        yield "  first at every node of the grid: peerpacs authority renew"
        yield f"  then at another authority: peerpacs authority remove {done['authority']} --root FILE"
    if done["root"]:
        yield f"! The root key of the grid is still here: bring {done['root']} to its safe."


def _what(each: dict[str, Any]) -> str:
    copies = f"{plural(each['copies'], 'copy').replace('copys', 'copies')} ({readable(each['copy_bytes'])})"
    fetched = plural(each["cached"], "fetched object")
    return f"the catalog of {plural(each['studies'], 'study')}, {copies}, {fetched}"
