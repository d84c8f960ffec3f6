"""`peerpacs anonymize`: a folder of instances in, a de-identified one out, without any node."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli import PARTIAL, Session, shared

if TYPE_CHECKING:
    from anonymizer import Policy, Report

_PATH = click.Path(path_type=Path)


@click.command("anonymize")
@click.argument("source", required=False, type=_PATH)
@click.argument("target", required=False, type=_PATH)
@click.option("--profile", default="basic", show_default=True, help="A profile's name, or a JSON file.")
@click.option("--project", metavar="KEY", help="A key file, or the name of a project of the node.")
@click.option("--make-key", metavar="NAME", help="Make a key for project NAME in the file --project.")
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, help="Processes at once.")
@click.option("--dry-run", is_flag=True, help="Do everything, release nothing: counts and reasons.")
@click.option("--no-verify", is_flag=True, help="Do not search the finished files for what had to go.")
@click.option("--describe", is_flag=True, help="Say in English what the profile does to each attribute.")
@shared
def anonymize_command(session: Session, **given: Any) -> int:
    """De-identify every instance in SOURCE into a new folder TARGET (PS3.15 Annex E).

    Profiles are basic, research, tcia and teaching, and your own in JSON. The same project key gives the same
    pseudonyms, UIDs and date shifts everywhere. What cannot be vouched for is held back with a reason.
    Stopped and started again, it goes on where it was.

    \b
    Example: peerpacs anonymize --make-key TRIAL-7 --project trial-7.key
             peerpacs anonymize ./in ./out --profile research --project trial-7.key --dry-run
             peerpacs anonymize --describe --profile research
    """
    if given["describe"]:
        return _describe(session, policy_of(session, given["profile"]))
    if given["make_key"]:
        return _make_key(session, given["project"], given["make_key"])
    return _run(session, given)


def policy_of(session: Session, profile: str) -> Policy:
    """Return a preset, or the policy in a JSON file.

    Raises:
        BadRequest: there is none, or it would keep more than the profile allows.
    """
    from anonymizer import PolicyRejected, load_policy
    from catalog import BadRequest

    try:
        return load_policy(profile)
    except PolicyRejected as error:
        raise BadRequest(
            str(error), "See what one does: peerpacs anonymize --describe --profile research"
        ) from None


def _describe(session: Session, policy: Policy) -> int:
    from anonymizer import describe

    value = {"name": policy.name, "digest": policy.digest, "policy": policy.document}
    session.say(value, describe(policy))
    return 0


def _make_key(session: Session, file: str | None, name: str) -> int:
    from anonymizer import make_key

    if not file:
        raise click.UsageError("Say with --project which file to write the key to.")
    try:
        key = make_key(Path(file), name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except FileExistsError:
        raise click.UsageError(f"{file} exists already; a key is never overwritten.") from None
    lines = [
        f"✓ {file} holds the new key of {key.name} (key id {key.key_id}).",
        "Whoever has it can find out who the pseudonyms are: keep it, never send it along with images.",
    ]
    session.say({"file": file, "project": key.name, "key": key.key_id}, lines)
    return 0


def _run(session: Session, given: dict[str, Any]) -> int:
    from anonymizer import Batch, BatchRefused
    from anonymizer.command import run_with_progress

    source, target = given["source"], given["target"]
    if source is None or target is None:
        raise click.UsageError("Name a folder to read and a new folder to write.")
    batch = Batch(
        source=source,
        target=target,
        policy=policy_of(session, given["profile"]),
        key_file=_key_file(session, given["project"]),
        jobs=given["jobs"],
        verifies=not given["no_verify"],
        is_dry_run=given["dry_run"],
    )
    try:
        report = run_with_progress(batch, is_quiet=session.is_json or not sys.stderr.isatty())
    except BatchRefused as error:
        raise click.UsageError(str(error)) from None
    except KeyboardInterrupt:
        click.echo("Nothing was released. The same command goes on where it stopped.", err=True)
        raise
    session.say(asdict(report), _lines(report, batch))
    return PARTIAL if report.quarantined else 0


def _lines(report: Report, batch: Any) -> Iterator[str]:
    from anonymizer.command import told

    yield from told(report, batch)
    if batch.policy.name == "basic" and not batch.is_dry_run:
        yield "The basic profile removes dates and texts; --profile research keeps what research needs."


def _key_file(session: Session, project: str | None) -> Path:
    from anonymizer import read_key
    from catalog import BadRequest

    if project is None:
        raise click.UsageError(
            "Name the project's key file with --project. Make one: "
            "peerpacs anonymize --make-key MY-STUDY --project my-study.key"
        )
    file = Path(project)
    if not file.is_file() and session.named_home:
        file = session.home / "secrets" / "projects" / f"{project.upper()}.key"
    if not file.is_file():
        remedy = f"Make one: peerpacs anonymize --make-key MY-STUDY --project {project}"
        raise BadRequest(f"There is no key file {project}.", remedy)
    try:
        read_key(file)
    except ValueError as error:
        raise BadRequest(str(error), "Name the file that --make-key wrote.") from None
    return file
