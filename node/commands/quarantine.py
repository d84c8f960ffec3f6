"""`peerpacs quarantine`: what the anonymizer could not vouch for, and what a curator does about it."""

from __future__ import annotations

import time
from typing import Any

import click

from node.cli import PARTIAL, Session, by_default, columns, readable, shared, who

_ID = click.argument("id")


@click.group("quarantine", invoke_without_command=True)
@shared
def quarantine_command(session: Session) -> None:
    """Show what was held back for a person to look at; run it again with a rule, or reject it.

    Example: peerpacs quarantine list
    """
    by_default(list_quarantine)


@quarantine_command.command("list")
@click.option("--project", default="", help="Only that of one project.")
@shared
def list_quarantine(session: Session, project: str = "") -> int:
    """List what is held, the oldest first, with reason and end date.

    Example: peerpacs quarantine list --project TRIAL-7
    """
    with session.desk("quarantine list") as ask:
        found: list[dict[str, Any]] = ask("quarantine", project=project)
    titles = ("ID", "PROJECT", "REASON", "FROM", "SIZE", "UNTIL", "WHY")
    rows = [
        (
            held["id"][:8],
            held["project"],
            held["reason"],
            held["source"] or f"export {held['export'][:8]}",
            readable(held["size"]) if held["size"] else "-",
            time.strftime("%Y-%m-%d", time.localtime(held["until"])),
            held["sentence"],
        )
        for held in found
    ]
    session.say(found, columns(rows, titles) if found else ["Nothing is held back."])
    return 0


@quarantine_command.command("show")
@_ID
@shared
def show_quarantined(session: Session, id: str) -> int:
    """Show one instance's attributes as they came. It is identified: that you looked is in the audit.

    Example: peerpacs quarantine show 3f2a
    """
    with session.desk("quarantine show") as ask:
        held = ask("quarantined", id=id, who=who())
    rows = [(a["tag"], a["vr"], a["keyword"], a["value"]) for a in held["attributes"]]
    lines = [f"{held['reason']}: {held['sentence']}", "", *columns(rows, ("TAG", "VR", "NAME", "VALUE"))]
    session.say(held, lines)
    return 0


@quarantine_command.command("rerun")
@_ID
@click.option("--box", "boxes", multiple=True, metavar="L,T,W,H", help="Blank this area in all such images.")
@click.option("--clean", "is_clean", is_flag=True, help="Such images have no text in them.")
@click.option("--word", "words", multiple=True, help="This word may stay in texts.")
@click.option("--reason", default="", help="Why the rule is right; kept with it.")
@shared
def rerun_quarantined(
    session: Session, id: str, boxes: tuple[str, ...], is_clean: bool, words: tuple[str, ...], reason: str
) -> int:
    """Run an instance again. A rule counts for all images of that equipment and size from now on.

    Example: peerpacs quarantine rerun 3f2a --box 0,0,640,48 --reason 'name bar of US3'
    """
    try:
        areas = [[int(number) for number in box.split(",")] for box in boxes]
    except ValueError:
        areas = [[]]
    if any(len(area) != 4 for area in areas):
        raise click.UsageError("--box is left,top,width,height in pixels, as 0,0,640,48.")
    with session.desk("quarantine rerun") as ask:
        done = ask(
            "rerun_quarantined",
            id=id,
            who=who(),
            boxes=areas,
            is_clean=is_clean,
            words=list(words),
            reason=reason,
        )
    lines = {
        "released": f"✓ It was released into the archive {done.get('archive')}.",
        "passes": f"✓ It passes now. {done.get('next')}",
    }
    session.say(done, [lines.get(done["outcome"], f"It stays, {done.get('reason')}: {done.get('sentence')}")])
    return PARTIAL if done["outcome"] == "held" else 0


@quarantine_command.command("reject")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--reason", required=True, help="Why; kept in the audit.")
@shared
def reject_quarantined(session: Session, ids: tuple[str, ...], reason: str) -> int:
    """Destroy what is held of instances; what lies in an archive stays there.

    Example: peerpacs quarantine reject 3f2a --reason 'a screenshot'
    """
    with session.desk("quarantine reject") as ask:
        done = [ask("reject_quarantined", id=id, who=who(), reason=reason) for id in ids]
    session.say(done, [f"✓ {len(done)} rejected."])
    return 0
