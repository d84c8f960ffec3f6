"""`peerpacs copies`: how many copies there are to be of which studies, where, which lack, what stays here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import click

from node.cli import PARTIAL, Session, by_default, columns, plural, readable, shared, who


@click.group("copies", invoke_without_command=True)
@shared
def copies_command(session: Session) -> None:
    """Show whether every study has the copies that its rule asks for; change the rules.

    Who may keep them is said by grants, and a grant names all that NODE may do with a share: peerpacs grants
    add NODE everything catalog find_live retrieve host_replicas

    Example: peerpacs copies
    """
    by_default(status)


@copies_command.command("status")
@shared
def status(session: Session) -> int:
    """Say how many studies have their copies, and what this node keeps for others. Exit code 3: some lack.

    Example: peerpacs copies status
    """
    with session.desk("copies") as ask:
        found = ask("copies")
    session.say(found, _status(found))
    return PARTIAL if any(row["lacking"] for row in found.get("studies", {}).values()) else 0


def _status(found: dict[str, Any]) -> Iterator[str]:
    if not found["rules"]:
        yield "No rule asks for copies: peerpacs copies add --help"
    if not found["is_running"]:
        yield from _rules(found["rules"])
        yield "This node does not run; start it to see how the copies stand."
        return
    for name, row in found["studies"].items():
        mark = "!" if row["lacking"] else "✓"
        lacking = f", {row['lacking']} lack some: peerpacs copies lacking" if row["lacking"] else ""
        yield f"{mark} {name}: {plural(row['met'], 'study')} with all copies{lacking}"
    for why, count in found["reasons"].items():
        yield f"! {plural(count, 'study')}: {why}"
    if found["lost"]:
        yield f"! Lost, so that what they had is copied to others: {', '.join(found['lost'])}"
    kept = found["kept_for_others"]
    owners = f" of {', '.join(kept['owners'])}" if kept["owners"] else ""
    if found["pinned"]:
        yield f"Pinned to this node's disk: {plural(found['pinned'], 'study')}; see: peerpacs copies pins"
    yield f"Kept here for others: {plural(kept['objects'], 'object')}, {readable(kept['bytes'])}{owners}"


@copies_command.command("rules")
@shared
def rules(session: Session) -> int:
    """List the rules in the order in which they are tried.

    Example: peerpacs copies rules
    """
    with session.desk("copies") as ask:
        found = ask("copy_rules")
    session.say(found, _rules(found))
    return 0


def _rules(found: list[dict[str, Any]]) -> Iterator[str]:
    rows = [
        (
            row["number"],
            row["name"],
            ("some" if row["match"] else "all") + (f" of {row['archive']}" if row["archive"] else ""),
            row["copies"],
            row["min_sites"],
            ", ".join([*row["must"], *(f"({site})" for site in row["prefer"])]) or "-",
            ", ".join(row["never"]) or "-",
            row["commit_sites"],
        )
        for row in found
    ]
    yield from columns(rows, ("NO", "NAME", "STUDIES", "COPIES", "SITES", "AT", "NEVER AT", "COMMIT AT"))


@copies_command.command("add")
@click.argument("name")
@click.argument("keys", nargs=-1)
@click.option("--copies", default=2, show_default=True, help="Of each object, this node's own among them.")
@click.option("--min-sites", default=0, help="Distinct sites that hold one; 2, or 1 for one copy.")
@click.option("--prefer", multiple=True, metavar="SITE", help="Sites to be chosen before others.")
@click.option("--must", multiple=True, metavar="SITE", help="Sites that must hold one.")
@click.option("--never", multiple=True, metavar="SITE", help="Sites that must not.")
@click.option("--number", default=100, show_default=True, help="The first rule that matches counts.")
@click.option("--commit-sites", default=1, show_default=True, help="Sites before commitment is given.")
@click.option("--commit-timeout", default=24.0, show_default=True, help="Hours; then it is refused.")
@shared
def add(session: Session, name: str, keys: tuple[str, ...], **said: Any) -> int:
    """Ask for copies of the studies that match all keys, or of all studies; a rule of that name is replaced.

    It is for every archive but those of research projects, or for the one that --archive names.

    Example: peerpacs copies add mammo 'Modality=MG' --copies 3 --must CLOUD
    """
    told = {key: list(value) if isinstance(value, tuple) else value for key, value in said.items()}
    told["min_sites"] = said["min_sites"] or min(2, said["copies"])
    told["commit_timeout"] = said["commit_timeout"] * 3600.0
    told["archive"], session.archive = session.archive, ""
    with session.desk("copies") as ask:
        row = ask("put_copy_rule", name=name, keys=list(keys), who=who(), **told)
    sites = plural(row["min_sites"], "site")
    session.say(row, [f"✓ {name}: {plural(row['copies'], 'copy')} at {sites} or more."])
    return 0


@copies_command.command("remove")
@click.argument("name")
@shared
def remove(session: Session, name: str) -> int:
    """Remove a rule; copies that no rule asks for are dropped, once there is another rule.

    While there is no rule at all, copies stay where they are. To have none: copies add all --copies 1

    Example: peerpacs copies remove mammo
    """
    with session.desk("copies") as ask:
        ask("remove_copy_rule", name=name, who=who())
    session.say({"removed": name}, [f"✓ The rule {name} is gone."])
    return 0


@copies_command.command("lacking")
@shared
def lacking(session: Session) -> int:
    """List the studies that do not have all their copies, and why. Exit code 3: there are some.

    Example: peerpacs copies lacking
    """
    with session.desk("copies") as ask:
        found = ask("copies_lacking")
    session.say(found, _lacking(found))
    return PARTIAL if found else 0


def _lacking(found: list[dict[str, Any]]) -> Iterator[str]:
    if not found:
        yield "✓ Every study has its copies."
        return
    for row in found:
        there = ", ".join(f"{node['name']} has {node['objects']}" for node in row["nodes"]) or "nobody"
        yield f"{row['StudyInstanceUID']}  {row['rule']}  {there}  {row['why']}".rstrip()
    yield "What is under way: peerpacs transfers"


@copies_command.command("pin")
@click.argument("study")
@shared
def pin(session: Session, study: str) -> int:
    """Have a study stay on this node's disk whatever the fill mark says; what is away of it comes home.

    It is no legal hold: deletion and retention go on as before. For that say: peerpacs hold

    Example: peerpacs copies pin 1.2.840.113619.2.1
    """
    with session.desk("copies") as ask:
        row = ask("pin", study=study, who=who())
    later = (
        ""
        if row["where"] == "here"
        else " What is at other sites alone comes home as soon as one of them gives it."
    )
    undo = session.pasteable(f"To let it go again: peerpacs copies unpin {study}")
    session.say(row, [f"✓ It stays on this node's disk.{later}", undo])
    return 0


@copies_command.command("unpin")
@click.argument("study")
@shared
def unpin(session: Session, study: str) -> int:
    """Let a study go from this node's disk like any other, once other sites have proved their copies.

    Example: peerpacs copies unpin 1.2.840.113619.2.1
    """
    with session.desk("copies") as ask:
        ask("unpin", study=study, who=who())
    session.say({"unpinned": study}, ["✓ It may go from the disk as any other."])
    return 0


_WHERE: Final = {
    "here": "here",
    "away": "comes home when a site gives it",
    "nowhere": "gone; to forget the pin: unpin",
}


@copies_command.command("pins")
@shared
def pins(session: Session) -> int:
    """List the studies that stay on this node's disk whatever the fill mark says.

    Example: peerpacs copies pins
    """
    with session.desk("copies") as ask:
        found = ask("pins")
    rows = [
        (
            row["StudyInstanceUID"],
            row["who"],
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row["when"] / 1000)),
            _WHERE[row["where"]],
        )
        for row in found
    ]
    none = "No study is pinned. To pin one: peerpacs copies pin STUDY"
    session.say(found, columns(rows, ("STUDY", "BY", "SINCE", "WHERE")) if rows else [none])
    return 0
