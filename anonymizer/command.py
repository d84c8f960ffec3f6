"""De-identify a folder from the command line, or say in English what a profile does."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anonymizer.policy import PolicyRejected, load_policy

if TYPE_CHECKING:
    from anonymizer.batch import Batch, Report

PARTIAL = 3


@click.command("anonymize")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--profile", default="basic", help="basic, research, tcia, teaching, or a JSON file.")
@click.option("--project", type=click.Path(path_type=Path), help="The project's key file.")
@click.option("--make-key", metavar="NAME", help="Make a new key for project NAME in the --project file.")
@click.option("--jobs", type=int, default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--dry-run", is_flag=True, help="Do everything but release: counts and reasons only.")
@click.option("--no-verify", is_flag=True, help="Do not look for leaks in the finished files.")
@click.option("--describe", metavar="PROFILE", help="Say in English what happens to each attribute.")
@click.option("--json", "as_json", is_flag=True, help="The report for programs.")
def main(**given: Any) -> None:
    """De-identify every instance in SOURCE into a new folder TARGET (PS3.15 Annex E)."""
    try:
        if given["describe"]:
            from anonymizer.description import describe

            click.echo("\n".join(describe(load_policy(given["describe"]))))
        elif given["make_key"]:
            _make_key(given["project"], given["make_key"])
        else:
            _run(given)
    except (PolicyRejected, ValueError, FileExistsError) as error:
        raise click.UsageError(str(error)) from error


def _make_key(path: Path | None, name: str) -> None:
    from anonymizer.keys import make_key

    if path is None:
        raise click.UsageError("Say with --project which file to write the key to.")
    key = make_key(path, name)
    click.echo(f"{path} now holds the key of {key.name} (key id {key.key_id}).")
    click.echo("Whoever has this file can find out who the pseudonyms are: keep it, never send it along.")


def _run(given: dict[str, Any]) -> None:
    from anonymizer.batch import Batch, BatchRefused

    if given["source"] is None or given["target"] is None:
        raise click.UsageError("Name a folder to read and a new folder to write.")
    if given["project"] is None or not given["project"].is_file():
        raise click.UsageError(
            "Name the project's key file with --project; --make-key NAME --project FILE makes a new one."
        )
    batch = Batch(
        source=given["source"],
        target=given["target"],
        policy=load_policy(given["profile"]),
        key_file=given["project"],
        jobs=max(1, given["jobs"]),
        verifies=not given["no_verify"],
        is_dry_run=given["dry_run"],
    )
    try:
        report = run_with_progress(batch, is_quiet=given["as_json"])
    except BatchRefused as error:
        raise click.UsageError(str(error)) from error
    click.echo(json.dumps(asdict(report)) if given["as_json"] else "\n".join(told(report, batch)))
    if report.quarantined:
        raise SystemExit(PARTIAL)


def run_with_progress(batch: Batch, *, is_quiet: bool) -> Report:
    """Runs the batch with a bar for each of its two passes on standard error; raises BatchRefused."""
    from rich.console import Console
    from rich.progress import Progress

    from anonymizer.batch import run

    with Progress(console=Console(stderr=True), disable=is_quiet) as bars:
        tasks = {step: bars.add_task(step) for step in ("survey", "de-identify")}

        def progress(step: str, done: int, total: int) -> None:
            bars.update(tasks[step], completed=done, total=total)

        return run(batch, progress)


def told(report: Report, batch: Batch) -> list[str]:
    """What became of the batch, as lines for a person."""
    verb = "would be released" if batch.is_dry_run else f"are in {batch.target}"
    instances, subjects = _counted(report.released, "instance"), _counted(report.subjects, "subject")
    lines = [f"{instances} of {subjects} {verb} ({report.size} bytes)."]
    if report.copies:
        lines.append(f"{report.copies} files were copies of others and were left out.")
    for reason, count in report.quarantined.items():
        lines.append(f"{count} held back, {reason}: {report.sentences[reason]}")
    if report.face_risks:
        lines.append(f"{report.face_risks} are thin slices of heads: look at FACE_RISK before you publish.")
    if report.by_ocr:
        lines.append(f"{report.by_ocr} had only OCR to look for burned-in text: look at them yourself.")
    if report.unknown_words:
        lines.append(f"{report.unknown_words} unknown words were taken out of texts.")
    if not batch.is_dry_run:
        lines.append(f"{batch.confidential} links old and new and stays here.")
    return lines


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
