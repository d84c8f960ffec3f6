"""`peerpacs book`: devices and settings that the grid publishes, and what this node takes over of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from node.cli import PARTIAL, Session, by_default, columns, plural, shared, who

_MARKS: Final = {"added": "+", "changed": "~", "removed": "-", "kept": "="}


@click.group("book", invoke_without_command=True)
@shared
def book_command(session: Session) -> None:
    """Publish devices and settings to all nodes of the grid, and accept what is published.

    Example: peerpacs book diff
    """
    by_default(show_book)


@book_command.command("show")
@shared
def show_book(session: Session) -> int:
    """Show what the grid publishes, and which version of it this node accepted.

    Example: peerpacs book show
    """
    with session.desk("book") as ask:
        found = ask("book")
    session.say(found, map(session.pasteable, _shown(found)))
    return 0


def _shown(found: dict[str, Any]) -> Iterator[str]:
    if not found["version"]:
        yield "The grid publishes nothing. An authority of it may: peerpacs book publish --help"
        return
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(found["issued"]))
    accepted = f"version {found['accepted']}" if found["accepted"] else "none"
    yield f"Version {found['version']}, published by {found['who']} on {day}; this node accepted {accepted}."
    rows = [
        (kind, name, _word(entry))
        for kind, named in found["entries"].items()
        for name, entry in named.items()
    ]
    yield from columns(rows, ("KIND", "NAME", "SAYS"))
    if found["not_understood"]:
        yield f"This program does not understand, and leaves out: {', '.join(found['not_understood'])}"
    if found["differences"]:
        count = plural(len(found["differences"]), "entry").replace("entrys", "entries")
        yield f"This node differs in {count}. See: peerpacs book diff"


@book_command.command("diff")
@shared
def diff_book(session: Session) -> int:
    """Show what accepting would change: + added, ~ changed, - removed, = this node's own stays.

    Example: peerpacs book diff
    """
    with session.desk("book") as ask:
        found = ask("book")
    session.say(found, map(session.pasteable, _differences(found)))
    return PARTIAL if found["differences"] else 0


def _differences(found: dict[str, Any]) -> Iterator[str]:
    if not found["differences"]:
        yield "This node and what the grid publishes say the same."
        return
    for each in found["differences"]:
        yield from _difference(each)
    if any(each["fate"] != "kept" for each in found["differences"]):
        yield f"To accept it: peerpacs book accept --version {found['version']}"


def _usual() -> dict[str, Any]:
    """Return what any new device has: told with each of them, it would only hide what was said."""
    import msgspec

    from node.contracts import Device

    row: dict[str, Any] = json.loads(msgspec.json.encode(Device(ae_title="")))
    return row


def _difference(each: dict[str, Any]) -> Iterator[str]:
    here, published = each["here"], each["published"]
    said = "; this node decided otherwise, and its own stays" if each["fate"] == "kept" else ""
    yield f"{_MARKS[each['fate']]} {each['kind']} {each['name']} {each['fate']}{said}"
    usual = _usual() if each["kind"] == "devices" else {}
    one, other = here or usual, published or usual
    for key in [key for key in {**one, **other} if one.get(key) != other.get(key)]:
        if here is not None:
            yield f"    here       {key} = {json.dumps(here.get(key), ensure_ascii=False)}"
        if published is not None:
            yield f"    published  {key} = {json.dumps(published.get(key), ensure_ascii=False)}"


@book_command.command("accept")
@click.option("--version", type=int, default=0, help="Only if this is the version that is published now.")
@click.option(
    "--theirs", multiple=True, metavar="NAME", help="Of this device take the published row, not ours."
)
@shared
def accept_book(session: Session, version: int, theirs: tuple[str, ...]) -> int:
    """Take over what the grid publishes. What this node decided itself stays, but for --theirs.

    Example: peerpacs book accept
    """
    with session.desk("book") as ask:
        done = ask("accept_book", version=version, theirs=list(theirs), who=who())
    lines = [f"{_MARKS[each['fate']]} {each['kind']} {each['name']}" for each in done["changed"]]
    lines += [f"= {each['kind']} {each['name']}: this node's own stays" for each in done["kept"]]
    lines.append(f"✓ Version {done['version']} is accepted.")
    if done["is_restart_due"]:
        lines.append("Settings count from the next start on.")
    session.say(done, lines)
    return 0


@book_command.command("publish")
@click.argument("devices", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Every row of this node's device book.")
@click.option("--without", multiple=True, metavar="AE", help="Publish this device no more.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Publish a setting.")
@click.option("--unset", multiple=True, metavar="SECTION.KEY", help="Publish this setting no more.")
@shared
def publish_book(
    session: Session,
    devices: tuple[str, ...],
    is_all: bool,
    without: tuple[str, ...],
    settings: tuple[str, ...],
    unset: tuple[str, ...],
) -> int:
    """Publish rows of this node's device book, and settings, to every node of the grid.

    What was published before stays. Nothing counts at a node before its admin saw and accepted it.

    Example: peerpacs book publish CT3 WS1 --set dicom.idle_timeout=120
    """
    if not (devices or is_all or without or settings or unset):
        raise click.UsageError("What is to be published? Name devices, or see --help.")
    told = {"devices": list(devices), "without": list(without), "unset": list(unset), "who": who()}
    with session.desk("book") as ask:
        found = ask("publish_book", is_all=is_all, settings=dict(map(_setting, settings)), **told)
    count = sum(len(named) for named in found["entries"].values())
    lines = [f"✓ Version {found['version']} with {count} entries goes to every node of the grid."]
    if found["differences"]:
        lines.append(session.pasteable("This node differs from it too. See: peerpacs book diff"))
    session.say(found, lines)
    return 0


def _setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise click.BadParameter(f"{text!r} is not SECTION.KEY=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _word(entry: dict[str, Any]) -> str:
    """Return what an entry says in a few words."""
    if "value" in entry:
        return json.dumps(entry["value"], ensure_ascii=False)
    where = f"{entry['address'] or 'any address'}{':' + str(entry['port']) if entry['port'] else ''}"
    return f"{where}, may {', '.join(entry['services']) or 'nothing'}"
