"""`peerpacs old-pacs`: what is known of the PACS that are asked and fetched from, and what is in the way."""

from __future__ import annotations

from typing import Any

import click

from node.cli import PARTIAL, Session, by_default, plural, readable, shared, who

_RAISE = "Raise its limit of answers (Orthanc: LimitFindResults); nothing of these days is taken to be gone."


@click.group("old-pacs", invoke_without_command=True)
@shared
def old_pacs_command(session: Session) -> None:
    """Show the old PACS of peerpacs.toml ([[old_pacs]]), whose studies appear in the grid.

    Example: peerpacs old-pacs
    """
    by_default(list_old)


@old_pacs_command.command("list")
@shared
def list_old(session: Session) -> int:
    """List the old PACS: how much is known of each, and what is in the way.

    Example: peerpacs old-pacs list
    """
    with session.desk("old-pacs") as ask:
        found = ask("old_pacs")
    lines = [line for each in found for line in old_sentences(each)]
    session.say(found, lines or ["There is no old PACS: see [[old_pacs]] in peerpacs.toml."])
    return PARTIAL if any(each["why"] or each["held"] or each.get("cut") for each in found) else 0


@old_pacs_command.command("allow")
@click.argument("name")
@shared
def allow_old(session: Session, name: str) -> int:
    """Let vanish what an old PACS has no more, after looking there that it is really gone.

    Example: peerpacs old-pacs allow OLD
    """
    with session.desk("old-pacs") as ask:
        told = ask("old_pacs_allow", name=name, who=who())
    session.say(told, [f"✓ What {name} has no more goes with the next look."])
    return 0


def old_sentences(told: dict[str, Any]) -> list[str]:
    """Return how an old PACS stands, as people read it."""
    known = plural(told["studies"], "study") + " known"
    if not told["is_known_whole"]:
        known += f", looked through back to {told['before'] or 'today'}"
    elif told["age"] is not None:
        known += f", as of {int(told['age'] / 60)} min ago"
    copies = readable(told["copies_bytes"])
    lines = [f"Old PACS {told['name']} ({told['ae_title']}): {known}; {copies} of copies here."]
    if not told["is_within_hours"]:
        lines.append(f"  It is called at {told['hours']} only, so it is neither asked nor fetched from now.")
    if told["held"]:
        lines.append(f"  ✗ {told['held']} If they are really gone: peerpacs old-pacs allow {told['name']}")
    elif told["why"]:
        lines.append(f"  ✗ {told['why']} {told['next']}".rstrip())
    # An older node does not say it.
    if cut := told.get("cut"):
        days = f"{cut[0]['day']} and {plural(len(cut) - 1, 'other day')}" if len(cut) > 1 else cut[0]["day"]
        lines.append(f"  ✗ Of {days} not everything is known: {cut[0]['what']} {_RAISE}")
    return lines
