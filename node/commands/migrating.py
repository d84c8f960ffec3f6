"""`peerpacs migrate`: everything of another PACS comes here, and is compared in the end."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from node.cli import FAILED, PARTIAL, Session, columns, plural, shared, who

_PAUSE: Final = 1.0
_ORDER: Final = ("hours", "rate", "lanes", "undated", "no_wait")
_FIELDS: Final = ("kind", "day", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "detail")


@click.command("migrate")
@click.option("--from", "source", default="", metavar="AE", help="The PACS, as the device book names it.")
@click.option("--dates", default="", help="Study Dates, as 2009-, 2009-2015 or 20090131-20101231.")
@click.option("--hours", default="", help="Only at these hours, as 19-06.")
@click.option("--rate", default="", help="Instances at most, as 200/min. Without it, as fast as it goes.")
@click.option("--lanes", type=click.IntRange(1, 16), default=2, show_default=True, help="Series at once.")
@click.option("--undated", is_flag=True, help="Also studies without a Study Date.")
@click.option(
    "--csv", "table", type=click.Path(dir_okay=False, path_type=Path), help="Write what differs here."
)
@click.option("--no-wait", is_flag=True, help="Do not stay until it is over; the node goes on.")
@click.option("--pause", "verb", flag_value="pause_migration", help="Let it rest.")
@click.option("--resume", "verb", flag_value="resume_migration", help="Go on.")
@click.option("--cancel", "verb", flag_value="cancel_migration", help="Give it up; what came stays.")
@shared
def migrate_command(session: Session, source: str, table: Path | None, no_wait: bool, **told: Any) -> int:
    """Move in what another PACS has, day by day from the newest. Started again, it goes on where it was.

    Without --dates it shows how one stands, without --from all of them.

    Example: peerpacs migrate --from OLD --dates 2009- --hours 19-06 --rate 200/min --lanes 2
    """
    verb, dates = told.pop("verb"), told.pop("dates")
    _refuse_what_means_nothing(source, verb, dates)
    # The verbs are about the whole node; which archive is filled is said with the order.
    archive, session.archive = session.archive, ""
    with session.desk("migrate") as ask:
        if not source:
            found = ask("migrations")
            lines = [line for each in found for line in summary(each)]
            session.say(
                found, lines or ["Nothing is moved in. Begin: peerpacs migrate --from AE --dates 2009-"]
            )
            return 0
        if verb:
            done = ask(verb, source=source, who=who())
        elif dates:
            order = {key: told[key] for key in ("hours", "rate", "lanes")}
            undated = told["undated"]
            done = ask(
                "start_migration",
                source=source,
                dates=dates,
                archive=archive,
                is_undated=undated,
                who=who(),
                **order,
            )
            if not no_wait:
                done = _follow(session, lambda: ask("migration", source=source))
        done = ask("migration", source=source)
        if table:
            _write(table, ask("migration_differences", source=source))
    session.say(done, map(session.pasteable, _report(done, table)))
    return _code(done)


def _refuse_what_means_nothing(source: str, verb: str | None, dates: str) -> None:
    """Raise UsageError where an option would be passed over in silence."""
    context = click.get_current_context()
    given = {
        name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if not source and given & {"dates", "verb", "table", *_ORDER}:
        raise click.UsageError("Say which PACS with --from AE.")
    if verb and given & {"dates", *_ORDER}:
        raise click.UsageError("--pause, --resume and --cancel are about what was ordered; give no order.")
    if not dates and given & set(_ORDER):
        raise click.UsageError("Without --dates nothing is ordered. Say which days, as --dates 2009-.")


def _follow(session: Session, look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    said = ""
    while True:
        told = look()
        line = summary(told)[0]
        if line != said and not session.is_json:
            said = line
            if sys.stderr.isatty():
                click.echo(f"\r\x1b[K{line}", err=True, nl=False)
            else:
                click.echo(line, err=True)
        if told["phase"] in ("done", "cancelled", "paused", "stopped"):
            if sys.stderr.isatty() and not session.is_json:
                click.echo("", err=True)
            return told
        time.sleep(_PAUSE)


def summary(told: dict[str, Any]) -> list[str]:
    """Return how a migration stands, as people read it."""
    came = plural(told["arrived"], "instance") + " came"
    if told["here_before"]:
        came += f", {told['here_before']} were here"
    where = f"{told['days_done']} of {plural(told['days'], 'day')}"
    if told["phase"] == "comparing":
        where = f"comparing, {told['days_compared']} of {plural(told['days'], 'day')}"
    elif told["phase"] != "moving":
        where = told["phase"]
    lines = [f"{told['source']}: {where}; {came} of {told['expected']} in {plural(told['studies'], 'study')}"]
    if told["why"]:
        lines.append(f"  {told['why']} {told['remedy']}".rstrip())
    return lines


def _report(told: dict[str, Any], table: Path | None) -> Iterator[str]:
    yield from summary(told)
    for failed in told["series_failed"][:20]:
        yield f"  ✗ {failed['missing']} of series {failed['SeriesInstanceUID']} did not come: {failed['why']}"
    if not told["days_compared"]:
        return
    heads = ("there", "here", "missing", "different", "extra")
    rows = [(year, *(counts[key] for key in heads)) for year, counts in sorted(told["years"].items())]
    rows.append(("all", *(told["compared"][key] for key in heads)))
    yield from columns(rows, ("YEAR", *(head.upper() for head in heads)))
    if table:
        yield f"What differs, by UIDs: {table}"
    elif any(told["compared"][key] for key in ("missing", "different", "extra")):
        yield f"Which ones: peerpacs migrate --from {told['source']} --csv FILE"


def _write(path: Path, differences: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _FIELDS)
        writer.writeheader()
        writer.writerows(differences)


def _code(told: dict[str, Any]) -> int:
    if told["phase"] == "stopped":
        return FAILED
    return PARTIAL if told["compared"]["missing"] or told["compared"]["different"] else 0
