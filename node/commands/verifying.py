"""`peerpacs verify`: whether what is stored is what was stored."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from node.cli import FAILED, Session, columns, plural, readable, shared, who

_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


class _Share(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return `1%` or `1` as 0.01."""
        try:
            return float(str(value).removesuffix("%")) / 100
        except ValueError:
            self.fail(f"{value!r} is not a percentage, such as 1%", param, ctx)


@click.command("verify")
@click.option(
    "--sample", type=_Share(), default="100", metavar="PERCENT", help="Only so many, by chance: 1%."
)
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]), help="Only what came since then."
)
@click.option("--rate", type=float, default=0.0, metavar="MB/S", help="Read no faster than this.")
@click.option("--list", "is_list", is_flag=True, help="Only list what is known to be damaged.")
@shared
def verify_command(session: Session, sample: float, since: Any, rate: float, is_list: bool) -> int:
    """Read stored objects and compare them with their SHA-256. What is damaged is not sent any more.

    Exit code 1 if anything is damaged, missing or without a row.

    Example: peerpacs verify --sample 1%
    """
    with session.desk("verify") as ask:
        if is_list:
            return _list(session, ask("damaged"))
        began = int(since.timestamp() * 1000) if since else 0
        name = ask("start_verify", who=who(), share=sample, since=began, rate=rate * 1e6)
        found = follow(session, ask, name)
    session.say(found, told_of_reading(found))
    return 0 if found["is_good"] and not found["failure"] else FAILED


def _list(session: Session, damaged: list[dict[str, Any]]) -> int:
    titles = ("SOP INSTANCE UID", "FOUND", "SIZE", "WHAT")
    rows = [
        (
            row["SOPInstanceUID"],
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row["found"] / 1000)),
            readable(row["bytes"]),
            row["what"],
        )
        for row in damaged
    ]
    session.say(damaged, columns(rows, titles) if rows else ["Nothing is known to be damaged."])
    return FAILED if damaged else 0


def follow(session: Session, ask: Callable[..., Any], name: str) -> dict[str, Any]:
    """Wait until objects are read, showing how far it is; return what was found."""
    pause = _PAUSE
    try:
        with _counting(is_shown=not session.is_json and sys.stderr.isatty()) as show:
            while True:
                progress: dict[str, Any] = ask("verify_progress", name=name)
                show(progress)
                if progress["is_over"]:
                    return progress
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
    except KeyboardInterrupt:
        ask("stop_verify", name=name)
        raise


@contextmanager
def _counting(*, is_shown: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    if not is_shown:
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    bar = Progress(SpinnerColumn(), TextColumn("{task.completed} objects"), console=Console(stderr=True))
    with bar:
        task = bar.add_task("", total=None)
        yield lambda progress: bar.update(task, completed=progress["objects"])


def told_of_reading(found: dict[str, Any]) -> Iterator[str]:
    """Yield how much was read, and what was wrong with it."""
    mark = "✓" if found["is_good"] else "✗"
    yield f"{mark} {plural(found['objects'], 'object')} read, {readable(found['bytes'])}."
    counts = {
        "damaged": "damaged; not sent any more, send again: peerpacs verify --list",
        "healed": "healed from another whole copy",
        "unavailable": "could not be read; nothing is concluded from that",
        "unrecorded": "in the segments without a row: peerpacs rebuild",
        "spare": "lie in the segments twice; harmless",
    }
    yield from (f"{plural(found[key], 'object')} {what}." for key, what in counts.items() if found[key])
    yield from (f"✗ {trouble}" for trouble in found["troubles"])
    if found["failure"]:
        yield f"It ended early: {found['failure']}"
