"""`peerpacs import`: files from a folder, a zip file or a medium with a DICOMDIR."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from node.cli import FAILED, PARTIAL, Session, plural, shared, who

_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.5
_NOT_DICOM: Final = "not DICOM"
_NAMED: Final = 10
"""Files beside the images that are named: another PACS's folder may have one for each image."""


@click.command("import")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--issuer", default="", help="Whose Patient IDs are that come without an issuer.")
@click.option("--as-patient", "patient", default="", help="All of it is of the patient with this ID here.")
@shared
def import_command(session: Session, sources: tuple[Path, ...], issuer: str, patient: str) -> int:
    """Take in folders, zip files or DICOMDIRs. Started again, it goes on where it was.

    What --issuer and --as-patient say becomes a correction of each study; the files stay as they are.

    Example: peerpacs import /media/cdrom/DICOMDIR
    """
    reports = []
    with session.desk("import") as ask:
        for source in sources:
            path = source.expanduser().resolve()
            whose = {"issuer": issuer, "patient": patient, "who": who()}
            reports.append({"source": str(path), **_import_one(session, ask, path, whose)})
    session.say(reports if len(reports) > 1 else reports[0], _lines(reports))
    if any(report["failure"] for report in reports):
        return FAILED
    return PARTIAL if any(report["refused"] or report["missing"] for report in reports) else 0


def _import_one(
    session: Session, ask: Callable[..., Any], source: Path, whose: dict[str, str]
) -> dict[str, Any]:
    name = ask("start_import", source=str(source), **whose)
    pause = _PAUSE
    try:
        with _bar(source, is_shown=not session.is_json and sys.stderr.isatty()) as show:
            while True:
                progress: dict[str, Any] = ask("import_progress", name=name)
                show(progress)
                if progress["is_over"]:
                    return progress
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
    except KeyboardInterrupt:
        ask("stop_import", name=name)
        raise


@contextmanager
def _bar(source: Path, *, is_shown: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    if not is_shown:
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from catalog import PacsError
    from node.import_files import source_files

    try:
        total: int | None = sum(1 for _ in source_files(source))
    except (PacsError, OSError):
        # The node may read what this person may not.
        total = None
    columns = (TextColumn(source.name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda progress: bar.update(task, completed=_seen(progress))


def _seen(progress: dict[str, Any]) -> int:
    return sum(progress[key] for key in ("stored", "refused", "not DICOM", "missing", "done earlier"))


def _lines(reports: list[dict[str, Any]]) -> Iterator[str]:
    for report in reports:
        if report["warning"]:
            yield f"! {report['warning']}"
        yield from _troubles(report["not_stored"])
        yield from (f"! {odd['name']}: {odd['why']}" for odd in report["odd"])
        stored = plural(report["stored"], "file")
        parts = [f"{stored} stored"]
        parts += [
            f"{plural(report[key], 'file')} {key}"
            for key in ("refused", "not DICOM", "missing")
            if report[key]
        ]
        if report["done earlier"]:
            parts.append(f"{plural(report['done earlier'], 'file')} done by an earlier run")
        yield f"{report['source']}: {', '.join(parts)}."
        if report["failure"]:
            yield f"✗ It stopped: {report['failure']}"


def _troubles(not_stored: list[dict[str, str]]) -> Iterator[str]:
    """Yield what was not taken, and of what is only beside the images the first names."""
    others = [each["name"] for each in not_stored if each["fate"] == _NOT_DICOM]
    for trouble in not_stored:
        if trouble["fate"] != _NOT_DICOM:
            yield f"✗ {trouble['name']}: {trouble['why'] or trouble['fate']}"
    yield from (f"- {name}: no DICOM image, left out" for name in others[:_NAMED])
    if len(others) > _NAMED:
        yield f"- and {plural(len(others) - _NAMED, 'more file')} like these; all of them, and why: --json"
