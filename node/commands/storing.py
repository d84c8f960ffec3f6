"""`peerpacs storage`: the disks of an archive. More of them, fewer, and how full they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click

from node.cli import FAILED, Session, by_default, columns, plural, readable, shared, who

_SHOWN: Final = 5
_SOON: Final = 60
"""Days left below which a status says what to do."""
_TITLES: Final = ("NUMBER", "STATE", "FREE", "SIZE", "PATH")


@click.group("storage", invoke_without_command=True)
@shared
def storage_command(session: Session) -> None:
    """Add disks to an archive, empty them, and see how full they are.

    Example: peerpacs storage add /mnt/disk2/peerpacs
    """
    by_default(list_volumes)


@storage_command.command("list")
@shared
def list_volumes(session: Session) -> int:
    """List the volumes. Exit code 1 if one is missing or fails.

    Example: peerpacs storage list
    """
    with session.desk("storage") as ask:
        volumes = ask("volumes")
    lines = [*columns([_row(volume) for volume in volumes], _TITLES)]
    for volume in volumes:
        if volume["stays"]:
            count = plural(len(volume["stays"]), "object")
            lines.append(
                f"{count} cannot leave volume {volume['number']}: damaged. Send again, or see verify."
            )
        if volume["problem"]:
            lines.append(f"Draining volume {volume['number']} pauses: {volume['problem']}")
    session.say(volumes, lines)
    return FAILED if any(volume["state"] in ("missing", "failing") for volume in volumes) else 0


@storage_command.command("add")
@click.argument("path", type=click.Path(resolve_path=True))
@shared
def add_volume(session: Session, path: str) -> int:
    """Take an empty folder on another disk in as a volume, at once. A known volume that moved is found.

    Example: peerpacs storage add /mnt/disk2/peerpacs
    """
    with session.desk("storage") as ask:
        volume = ask("add_volume", path=path, who=who())
    session.say(volume, [f"✓ Volume {volume['number']} ({path}): {readable(volume['free'])} free."])
    return 0


@storage_command.command("drain")
@click.argument("path")
@click.option("--stop", is_flag=True, help="Leave the rest where it is, and write to the volume again.")
@shared
def drain_volume(session: Session, path: str, stop: bool) -> int:
    """Move everything from a volume to the others, quietly, while the node runs. Then remove it.

    Example: peerpacs storage drain /mnt/disk2/peerpacs
    """
    with session.desk("storage") as ask:
        volume = ask("drain_volume", path=_full(path), who=who(), is_wanted=not stop)
    line = "is drained while the node runs; storage list tells how it is." if not stop else "is used again."
    session.say(volume, [f"✓ Volume {volume['number']} ({volume['path']}) {line}"])
    return 0


@storage_command.command("readonly")
@click.argument("path")
@click.argument("how", type=click.Choice(["on", "off"]))
@shared
def set_read_only(session: Session, path: str, how: str) -> int:
    """Write nothing more to a volume, or allow it again. It is read all the same.

    Example: peerpacs storage readonly /mnt/disk2/peerpacs on
    """
    with session.desk("storage") as ask:
        volume = ask("set_read_only", path=_full(path), who=who(), is_wanted=how == "on")
    session.say(volume, [f"✓ Volume {volume['number']} ({volume['path']}) is {volume['state']}."])
    return 0


@storage_command.command("remove")
@click.argument("path")
@click.option("--even-with-objects", is_flag=True, help="Give up what lies there: the disk is lost for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
def remove_volume(session: Session, path: str, even_with_objects: bool, yes: bool) -> int:
    """Forget a volume that was drained.

    Example: peerpacs storage remove /mnt/disk2/peerpacs
    """
    if even_with_objects and not yes:
        click.confirm(f"Give up every object that lies only on {path}?", abort=True, err=True)
    with session.desk("storage") as ask:
        volume = ask("remove_volume", path=_full(path), who=who(), even_with_objects=even_with_objects)
    session.say(volume, [f"✓ Volume {volume['number']} ({volume['path']}) is not used any more."])
    return 0


def storage_sentences(storage: dict[str, Any]) -> Iterator[str]:
    """Yield what a status says about the disks: what a person must know, and for how long there is room."""
    for volume in storage["volumes"]:
        name = f"Volume {volume['number']} ({volume['path']})"
        if volume["state"] in ("missing", "failing"):
            yield f"{name} is {volume['state']}; all else is served. See: peerpacs storage list"
        if volume["state"] == "drained" and volume["number"]:
            yield f"{name} is drained. Take it out: peerpacs storage remove {volume['path']}"
    if storage["damaged"]:
        count = plural(storage["damaged"], "object")
        yield f"{count} damaged and not sent any more. Which: peerpacs verify --list"
    yield from (f"The last scrub: {trouble}" for trouble in storage["scrub"]["troubles"][:_SHOWN])
    yield from _days(storage)


def _days(storage: dict[str, Any]) -> Iterator[str]:
    days = storage["days_left"]
    if days is not None:
        more = " Add a disk: peerpacs storage add PATH" if days < _SOON else ""
        yield f"At the pace of the last two weeks there is room for {plural(int(days), 'day')}.{more}"
    elif storage["volumes"] and storage["bytes_per_day"] is None:
        yield "For how many days there is room is not yet known: that takes two whole days of intake."


def _full(path: str) -> str:
    """Return the path as the node knows it; a number stays one."""
    import os

    return path if path.isdigit() else os.path.realpath(path)


def _row(volume: dict[str, Any]) -> tuple[object, ...]:
    sizes = [readable(volume[key]) if volume["size"] else "-" for key in ("free", "size")]
    return (volume["number"], volume["state"], *sizes, volume["path"])
