"""`peerpacs conflicts`, `held` and `rejected`: what waits for a person."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import Any

import click

from node.cli import Session, by_default, columns, plural, readable, shared, who

_REASON = click.option("--reason", required=True, help="Why; kept with the decision.")


def _when(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))


@click.group("conflicts", invoke_without_command=True)
@shared
def conflicts_command(session: Session) -> None:
    """Show UIDs that came with other content, and decide.

    Example: peerpacs conflicts show 1.2.3.4
    """
    by_default(list_conflicts)


@conflicts_command.command("list")
@click.option("--resolved", is_flag=True, help="Show those that were decided.")
@shared
def list_conflicts(session: Session, resolved: bool = False) -> int:
    """List the conflicts and in what the versions differ.

    Example: peerpacs conflicts list
    """
    with session.desk("conflicts") as ask:
        conflicts = ask("conflicts", resolved=resolved)
    titles = ("SOP INSTANCE UID", "VERSIONS", "SINCE", "DIFFER IN")
    rows = [
        (one["SOPInstanceUID"], len(one["versions"]), _when(one["since"]), ", ".join(one["differences"]))
        for one in conflicts
    ]
    session.say(conflicts, columns(rows, titles) if rows else ["No conflicts."])
    return 0


@conflicts_command.command("show")
@click.argument("sop")
@shared
def show_conflict(session: Session, sop: str) -> int:
    """Show the versions of one instance side by side, the preferred one first.

    Example: peerpacs conflicts show 1.2.3.4
    """
    with session.desk("conflicts") as ask:
        conflict = ask("conflict", sop=sop)
    session.say(conflict, _side_by_side(conflict))
    return 0


def _side_by_side(conflict: dict[str, Any]) -> Iterator[str]:
    versions = conflict["versions"]
    rows: list[tuple[object, ...]] = [
        ("sha256", *(version["sha256"][:16] for version in versions)),
        ("came from", *(version["source"] for version in versions)),
        ("came at", *(_when(version["received"]) for version in versions)),
        ("size", *(readable(version["size"]) for version in versions)),
    ]
    rows += [(keyword, *values) for keyword, values in conflict["values"].items()]
    yield from columns(rows, ("", "PREFERRED", *("OTHER" for _ in versions[1:])))
    if "PixelData" in conflict["differences"]:
        yield "The pixels differ too."
    other = versions[-1]["sha256"][:16]
    yield f"To prefer another: peerpacs conflicts prefer {conflict['SOPInstanceUID']} {other} --reason WHY"


@conflicts_command.command("prefer")
@click.argument("sop")
@click.argument("sha256")
@_REASON
@shared
def prefer_version(session: Session, sop: str, sha256: str, reason: str) -> int:
    """Let one version count from now on; the others are kept.

    Example: peerpacs conflicts prefer 1.2.3.4 9f86d081 --reason "the first had the wrong patient"
    """
    with session.desk("conflicts") as ask:
        made = ask("prefer", sop=sop, sha256=sha256, reason=reason, who=who())
    undoing = f"peerpacs undo {made['decision'][:8]} --reason WHY"
    session.say(made, [session.pasteable(f"✓ It counts from now on. To take it back: {undoing}")])
    return 0


@click.group("held", invoke_without_command=True)
@shared
def held_command(session: Session) -> None:
    """Show what unknown senders stored. Release it or throw it away.

    Example: peerpacs held release --from CT3 --reason "new scanner"
    """
    by_default(list_held)


@held_command.command("list")
@shared
def list_held(session: Session) -> int:
    """List what waits, a line for each sender and study.

    Example: peerpacs held list
    """
    with session.desk("held") as ask:
        held = ask("held")
    rows = [
        (
            row["source"],
            row["StudyInstanceUID"],
            row["instances"],
            readable(row["bytes"]),
            _when(row["since"]),
        )
        for row in held
    ]
    titles = ("FROM", "STUDY INSTANCE UID", "INSTANCES", "SIZE", "SINCE")
    session.say(held, columns(rows, titles) if rows else ["Nothing waits."])
    return 0


_FROM = click.option("--from", "source", default="", help="Calling AE title it came from.")
_STUDY = click.option("--study", default="", help="StudyInstanceUID.")


@held_command.command("release")
@_FROM
@_STUDY
@_REASON
@shared
def release_held(session: Session, source: str, study: str, reason: str) -> int:
    """Let what waits of a sender or study into the archive.

    Example: peerpacs held release --from CT3 --reason "new scanner"
    """
    with session.desk("held") as ask:
        done = ask("release", source=source, study=study, reason=reason, who=who())
    said = (
        f"✓ {plural(done['instances'], 'instance')} of {plural(done['studies'], 'study')} can be found now."
    )
    command = f"peerpacs devices add {shlex.quote(source)} --services echo,store"
    later = f"To let in at once what {source} sends: {command}"
    is_stranger = source and not _is_known(session, source)
    session.say(done, [said, session.pasteable(later)] if is_stranger else [said])
    return 0


def _is_known(session: Session, ae_title: str) -> bool:
    from node.devices import DeviceBook
    from node.state import State

    with State(session.home / "state") as state:
        return DeviceBook(state).get(ae_title) is not None


@held_command.command("discard")
@_FROM
@_STUDY
@_REASON
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
def discard_held(session: Session, source: str, study: str, reason: str, yes: bool) -> int:
    """Throw away what waits of a sender or study, for good.

    Example: peerpacs held discard --study 1.2.3.4 --reason "a test" --yes
    """
    if not yes:
        click.confirm("Throw it away for good?", abort=True, err=True)
    with session.desk("held") as ask:
        done = ask("discard", source=source, study=study, reason=reason, who=who())
    count = plural(done["instances"], "instance")
    session.say(done, [f"✓ {count} of {plural(done['studies'], 'study')} were thrown away."])
    return 0


@click.group("rejected", invoke_without_command=True)
@shared
def rejected_command(session: Session) -> None:
    """Show data sets that could not be taken. Release or discard them.

    Example: peerpacs rejected list
    """
    by_default(list_rejected)


@rejected_command.command("list")
@shared
def list_rejected(session: Session) -> int:
    """List the data sets and why each was refused.

    Example: peerpacs rejected list
    """
    with session.desk("rejected") as ask:
        items = ask("rejected")
    rows = [
        (
            one["name"],
            one["source"],
            _when(one["when"]),
            readable(one["size"]),
            f"{one['status']:04X} {one['why']}",
        )
        for one in items
    ]
    titles = ("NAME", "FROM", "WHEN", "SIZE", "WHY")
    session.say(items, columns(rows, titles) if rows else ["Nothing was rejected."])
    return 0


@rejected_command.command("release")
@click.argument("name")
@shared
def release_rejected(session: Session, name: str) -> int:
    """Take a data set in as what its own header says it is.

    Example: peerpacs rejected release 1795300000000-9f86d081884c7d65
    """
    with session.desk("rejected") as ask:
        done = ask("retake", name=name, who=who())
    session.say(done, [f"✓ {done['name']} was stored."])
    return 0


@rejected_command.command("discard")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
def discard_rejected(session: Session, name: str, yes: bool) -> int:
    """Delete a rejected data set for good.

    Example: peerpacs rejected discard 1795300000000-9f86d081884c7d65 --yes
    """
    if not yes:
        click.confirm(f"Delete {name} for good?", abort=True, err=True)
    with session.desk("rejected") as ask:
        done = ask("throw_away", name=name, who=who())
    session.say(done, [f"✓ {done['name']} was deleted."])
    return 0
