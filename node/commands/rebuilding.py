"""`peerpacs rebuild`: a catalog made again from the stored objects alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from node.cli import FAILED, Session, plural, shared

if TYPE_CHECKING:
    from node.recovery import Recovered


@click.command("rebuild")
@click.option("--all", "is_all", is_flag=True, help="Of every archive, one after the other.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
def rebuild_command(session: Session, is_all: bool, yes: bool) -> int:
    """Make the catalog again from the stored objects. Decisions are included; the node must not run.

    Of the default archive, unless --archive names another. The old catalog stays in use until the new one is
    whole; a rebuild that was stopped is begun anew.

    Example: peerpacs rebuild --home /var/lib/peerpacs --yes
    """
    from node.archives import DEFAULT

    if is_all and session.archive:
        raise click.UsageError("Either --all or --archive.")
    if not yes:
        click.confirm("Make the catalog again from all stored objects?", abort=True, err=True)
    first = session.archive or DEFAULT
    told = {first: _rebuild(session, first)}
    # Only now: the first one has found out which there are, should the state have been lost.
    for name in _archives(session) if is_all else ():
        if name not in told:
            told[name] = _rebuild(session, name)
    lines = [line for name, each in told.items() for line in _lines(each, f"{name}: " if is_all else "")]
    session.say(told if is_all else told[first], lines)
    return FAILED if any(each["damaged"] or each["unreadable"] for each in told.values()) else 0


def _archives(session: Session) -> list[str]:
    """Return the names of all archives."""
    from node.archives import ArchiveBook
    from node.config import load_config
    from node.state import State

    with State(session.home / "state") as state:
        return [plan.name for plan in ArchiveBook(state, load_config(session.home))]


def _rebuild(session: Session, name: str) -> dict[str, Any]:
    import msgspec

    from node.app import bytes_to_read, rebuild

    size = bytes_to_read(session.home, name)
    with _counting(size, name, is_shown=not session.is_json and sys.stderr.isatty()) as show:
        told: dict[str, Any] = msgspec.to_builtins(rebuild(session.home, on_progress=show, archive=name))
    return told


def _lines(recovered: dict[str, Any], of: str) -> Iterator[str]:
    objects, instances = plural(recovered["objects"], "object"), plural(recovered["instances"], "instance")
    decisions, held = plural(recovered["decisions"], "decision"), recovered["held"]
    yield f"✓ {of}{objects} read: {instances} catalogued, {held} held, {decisions} applied again."
    yield from (f"✗ {of}{what}" for what in recovered["damaged"])
    if recovered["unreadable"]:
        objects = plural(recovered["unreadable"], "object")
        yield f"✗ {of}{objects} could not be read; the log above says which."


@contextmanager
def _counting(size: int, name: str, *, is_shown: bool) -> Iterator[Callable[[Recovered], None]]:
    """Yield what shows how far a rebuild has come and how long it will take, a few times a second."""
    if not is_shown:
        yield lambda recovered: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[objects]} objects"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        # What a bucket holds is not known before.
        task = bar.add_task(name, total=size or None, objects=0)
        yield lambda recovered: bar.update(task, completed=recovered.bytes, objects=recovered.objects)
