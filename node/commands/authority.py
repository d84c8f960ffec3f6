"""`peerpacs authority`: who may take nodes into the grid, renew and expel them; two outlive a loss."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from node.cli import Session, by_default, columns, shared, who

_root = click.option(
    "--root", default="", metavar="FILE", help="The grid's root key; else identity/root.pem of this node."
)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group("authority", invoke_without_command=True)
@shared
def authority_command(session: Session) -> None:
    """Show and change which nodes are authorities of the grid: they take nodes in, renew and expel them.

    Example: peerpacs authority
    """
    by_default(list_authorities)


@authority_command.command("list")
@shared
def list_authorities(session: Session) -> int:
    """Show the authorities whose certificates count.

    Example: peerpacs authority list
    """
    with session.desk("authority") as ask:
        found = ask("authorities")
    session.say(found, map(session.pasteable, _shown(found)))
    return 0


def _shown(found: list[dict[str, Any]]) -> Iterator[str]:
    rows = [(each["id"], each["name"], _day(each["ends"]), each["root"], _role(each)) for each in found]
    yield from columns(rows, ("ID", "NAME", "ENDS", "ROOT", "HERE"))
    if len(found) == 1:
        yield "If its node is lost, nobody joins and certificates end within 30 days. Have a second one:"
        yield "peerpacs authority ask"


def _day(ends: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(ends))


def _role(each: dict[str, Any]) -> str:
    if each["is_own"]:
        return "is this node"
    return "issued this node's certificate" if each["is_issuer"] else "-"


@authority_command.command("ask")
@shared
def ask_authority(session: Session) -> int:
    """Make a key with which this node can become an authority; also when its certificate as one ends.

    Example: peerpacs authority ask
    """
    with session.desk("authority") as ask:
        made = ask("ask_authority", who=who())
    lines = [
        "Where the grid's root key is at hand, at any node:",
        f"  peerpacs authority add {made['key']} --name NAME --root FILE",
        f"Words to compare on the phone:  {' '.join(made['words'])}",
        "This node takes office as soon as it hears of it.",
    ]
    session.say(made, lines)
    return 0


@authority_command.command("add")
@click.argument("key")
@click.option("--name", required=True, help="How the authority is called, like its hospital.")
@_root
@_yes
@shared
def add_authority(session: Session, key: str, name: str, root: str, yes: bool) -> int:
    """Make the node that showed this key an authority, after the words were compared on the phone.

    The root key stays in its file: bring it from its safe, and take it back.

    Example: peerpacs authority add pk1-MFkwEwYHKoZIzj0C... --name Brno --root /media/safe/root.pem
    """
    with session.desk("authority") as ask:
        if not yes and not session.is_json:
            words = " ".join(ask("authority_words", key=key))
            click.confirm(f"Does the other side read out: {words}?", abort=True)
        made = ask("add_authority", key=key, name=name, root=_whole(root), who=who())
    session.say(made, [f"✓ {name} is an authority of the grid as soon as its node hears of it."])
    return 0


@authority_command.command("remove")
@click.argument("id")
@_root
@_yes
@shared
def remove_authority(session: Session, id: str, root: str, yes: bool) -> int:
    """Have an authority count no more, nor any certificate it issued: its nodes must come back to another.

    Example: peerpacs authority remove 3fa85f64 --root /media/safe/root.pem
    """
    if not yes and not session.is_json:
        click.confirm(f"Have {id}, and every certificate that it issued, count no more?", abort=True)
    with session.desk("authority") as ask:
        gone = ask("remove_authority", id=id, root=_whole(root), who=who())
    session.say(gone, [f"✓ {gone['name']} is no authority of the grid any more."])
    return 0


@authority_command.command("renew")
@shared
def renew_certificate(session: Session) -> int:
    """Have this node's certificate renewed now; by itself it is when half of its 30 days are over.

    Example: peerpacs authority renew
    """
    with session.desk("authority") as ask:
        made = ask("renew_certificate", who=who())
    session.say(made, [f"✓ This node's certificate counts for {made['days']:.0f} days."])
    return 0


@authority_command.command("new-root")
@click.option("--into", required=True, metavar="FILE", help="Where the new root's key is kept, mode 0600.")
@_root
@shared
def new_root(session: Session, into: str, root: str) -> int:
    """Make another root key, and have the grid trust both: the first step of a change of the root.

    Example: peerpacs authority new-root --root /media/safe/root.pem --into /media/safe/root-2.pem
    """
    with session.desk("authority") as ask:
        made = ask("new_root", root=_whole(root), into=_whole(into), who=who())
    lines = [
        f"✓ The new root's key is in {made['file']}; the grid trusts both as soon as each node hears of it.",
        "Then, at each authority: peerpacs authority ask, and add its key with --root of the new one,",
        "at every node: peerpacs authority renew, and in the end: peerpacs authority end-root",
    ]
    session.say(made, lines)
    return 0


@authority_command.command("end-root")
@_root
@_yes
@shared
def end_root(session: Session, root: str, yes: bool) -> int:
    """Have the grid trust the root in this file alone: the last step of a change of the root.

    A node that did not renew its certificate since then has to join again.

    Example: peerpacs authority end-root --root /media/safe/root-2.pem
    """
    if not yes and not session.is_json:
        click.confirm("Have every other root, and whatever lies below it, count no more?", abort=True)
    with session.desk("authority") as ask:
        left = ask("end_root", root=_whole(root), who=who())
    names = ", ".join(each["name"] for each in left["authorities"])
    session.say(left, [f"✓ The grid trusts this root alone, with the authorities {names}."])
    return 0


def _whole(root: str) -> str:
    """Return the path as the node finds it, wherever it was started."""
    return str(Path(root).expanduser().resolve()) if root else ""
