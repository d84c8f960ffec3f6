"""`peerpacs archives`: the tenants of this node, each with its own objects, AE titles and quota."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from node.cli import Session, by_default, columns, plural, readable, shared, who

F = TypeVar("F", bound=Callable[..., Any])


@click.group("archives", invoke_without_command=True)
@shared
def archives_command(session: Session) -> None:
    """Show and change the archives of this node. Nothing crosses from one to another.

    Example: peerpacs archives add lab --ae LAB --quota-mb 500000
    """
    by_default(list_archives)


def _settings(function: F) -> F:
    options = (
        click.option("--ae", "ae_titles", multiple=True, help="AE title that opens it; repeat for more."),
        click.option("--storage", help="disk, or s3://bucket or s3://bucket/prefix."),
        click.option(
            "--s3",
            multiple=True,
            metavar="KEY=VALUE",
            help="What differs from [s3] for its bucket.",
        ),
        click.option("--quota-mb", type=click.IntRange(min=0), help="Most MB it may fill; 0 = no limit."),
        click.option("--issuer", help="Assigning authority of Patient IDs that come without one."),
        click.option("--note", help="A word for the next administrator."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@archives_command.command("list")
@shared
def list_archives(session: Session) -> int:
    """Show the archives and what they hold.

    Example: peerpacs archives list
    """
    with session.desk("archives list") as ask:
        found: list[dict[str, Any]] = ask("archives")
    titles = ("NAME", "AE TITLES", "STORAGE", "STUDIES", "INSTANCES", "STORED", "QUOTA", "NOTE")
    session.say(found, [*columns(map(_row, found), titles), *_troubles(found)])
    return 0


@archives_command.command("add")
@click.argument("name")
@_settings
@shared
def add_archive(session: Session, name: str, **settings: Any) -> int:
    """Make an archive; it answers to its AE titles at once.

    Devices may use it only when the device book says so: peerpacs devices edit CT1 --called +LAB

    Example: peerpacs archives add lab --ae LAB --storage s3://lab --s3 endpoint=https://s3.example
    """
    return _put(session, name, settings, is_new=True)


@archives_command.command("edit")
@click.argument("name")
@_settings
@shared
def edit_archive(session: Session, name: str, **settings: Any) -> int:
    """Change what is said, keep the rest. Storage and issuer count from the next start of the node on.

    Example: peerpacs archives edit lab --quota-mb 800000
    """
    return _put(session, name, settings, is_new=False)


def _put(session: Session, name: str, settings: dict[str, Any], *, is_new: bool) -> int:
    s3 = list(settings.pop("s3"))
    settings["ae_titles"] = list(settings["ae_titles"]) or None
    said = {key: value for key, value in settings.items() if value is not None}
    with session.desk("archives") as ask:
        made = ask("put_archive", name=name, who=who(), is_new=is_new, s3=s3, **said)
    titles = ", ".join(made["ae_titles"])
    lines = [f"✓ The archive {name} was {made['outcome']}; it answers to {titles}."]
    if is_new:
        title = made["ae_titles"][0]
        lines.append(session.pasteable(f"Let a device use it: peerpacs devices edit CT1 --called +{title}"))
    session.say(made, lines)
    return 0


def _row(archive: dict[str, Any]) -> tuple[object, ...]:
    quota = readable(archive["quota_mb"] * 1_000_000) if archive["quota_mb"] else "-"
    return (
        archive["name"],
        ",".join(archive["ae_titles"]),
        archive["storage"],
        archive["studies"],
        archive["instances"],
        readable(archive["stored_bytes"]),
        quota,
        archive["note"],
    )


def _troubles(archives: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what is not well with an archive, in sentences."""
    from node.archives import DEFAULT

    for archive in archives:
        name, bucket = archive["name"], archive["bucket"]
        if archive["is_nearly_full"]:
            used, quota = readable(archive["stored_bytes"]), readable(archive["quota_mb"] * 1_000_000)
            yield f"! {name} has used {used} of its quota of {quota}; beyond it C-STORE is answered A700."
        if archive["clock"]:
            command = f"peerpacs retention clock{'' if name == DEFAULT else f' --archive {name}'}"
            yield f"! Nothing is deleted from {name}: {archive['clock']} If the clock is right: {command}"
        if bucket and not bucket["is_online"]:
            why = bucket["trouble"] or "nothing was asked of it"
            yield f"✗ The bucket of {name} has not answered for a minute: {why}"
        elif bucket and bucket["trouble"]:
            yield f"✗ {name}: {bucket['trouble']}"
        if bucket and bucket["waiting"]:
            yield f"{plural(bucket['waiting'], 'object')} of {name} wait for the bucket."


def troubles(archives: list[dict[str, Any]]) -> list[str]:
    """Return what `peerpacs status` says of the archives beside their counts."""
    return [line.removeprefix("✗ ").removeprefix("! ") for line in _troubles(archives)]
