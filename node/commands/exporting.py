"""`peerpacs export`: a cohort, de-identified near the source, brought to a folder, a bucket or a system."""

from __future__ import annotations

import base64
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from node.cli import FAILED, PARTIAL, Session, columns, shared, who

from .export_words import bar, details, held_in, is_going, preview_lines, standing_of, withdrawn_lines

_PAUSE: Final = 0.3
_ID: Final = click.argument("id")


@click.group("export", invoke_without_command=True)
@click.option("--project", help="The research project it is for.")
@click.option("--query", help="Who: 'Modality=CT BodyPartExamined=CHEST StudyDate=2024-'.")
@click.option("--list", "file", type=click.Path(path_type=Path), help="Who: a CSV or XLSX list.")
@click.option("--to", "target", help="Folder, FILE.zip, s3://BUCKET/PREFIX, https://..., ae:NAME, archive:")
@click.option("--profile", default="", help="Another profile than the project's.")
@click.option("--purpose", default="", help="Why; an ethics number, for example.")
@click.option("--from", "archive", default="", help="The archive it is taken from.")
@click.option(
    "--site",
    "sites",
    multiple=True,
    help="Only at these sites; here = this one; SITE/ARCHIVE names one of its archives.",
)
@click.option("--standing", is_flag=True, help="Go on: new studies that match are sent when complete.")
@click.option("--dry-run", is_flag=True, help="Say what would be exported, and order nothing.")
@click.option("--no-wait", is_flag=True, help="Order it and leave.")
@shared
def export_command(session: Session, **given: Any) -> int | None:
    """Export a cohort for a project: de-identified, verified, and only then brought to its target.

    A project that is shared with other sites is exported at all of them: each decides for itself, and what it
    releases is gathered here.

    A list has a line for each patient or study, and columns patient_id, issuer, accession, study_uid,
    subject_id, time_point, as far as you have them.

    \b
    Example: peerpacs export --project TRIAL-7 --query 'Modality=CT StudyDate=2024-' --dry-run
             peerpacs export --project TRIAL-7 --query 'Modality=CT StudyDate=2024-' --to ./cohort
             peerpacs export --project TRIAL-7 --list patients.csv --to archive:
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        return None
    if not (given["project"] and (given["query"] or given["file"])):
        raise click.UsageError(
            "An export needs --project NAME and --query or --list. See what there is: peerpacs export list"
        )
    context.exit(_order(session, given))


@export_command.command("list")
@shared
def list_exports(session: Session) -> int:
    """List the exports and how each stands.

    Example: peerpacs export list
    """
    with session.desk("export list") as ask:
        found = ask("exports")
    titles = ("ID", "PROJECT", "BY", "STANDING", "RELEASED", "HELD", "TARGET")
    rows = [
        (e["id"][:8], e["project"], e["who"], standing_of(e), e["released"], held_in(e), e["target"])
        for e in found
    ]
    session.say(found, columns(rows, titles) if found else ["There were no exports."])
    return 0


@export_command.command("show")
@_ID
@shared
def show_export(session: Session, id: str) -> int:
    """Show one export, and why instances were held back.

    Example: peerpacs export show 3f2a
    """
    with session.desk("export show") as ask:
        found = ask("export", id=id)
    session.say(found, map(session.pasteable, details(found)))
    return 0


@export_command.command("approve")
@_ID
@shared
def approve_export(session: Session, id: str) -> int:
    """Let an export run; you must be one whom the project names.

    Example: peerpacs export approve 3f2a
    """
    return _decide(session, "approve_export", id)


@export_command.command("refuse")
@_ID
@click.option("--reason", required=True, help="Why; whoever ordered it reads this.")
@shared
def refuse_export(session: Session, id: str, reason: str) -> int:
    """Refuse an export that waits for approval or for a look.

    Example: peerpacs export refuse 3f2a --reason 'no ethics vote'
    """
    return _decide(session, "refuse_export", id, why=reason)


@export_command.command("release")
@_ID
@shared
def release_export(session: Session, id: str) -> int:
    """Let an export go out after a look at it; you must be one whom the project names.

    Example: peerpacs export release 3f2a
    """
    return _decide(session, "release_export", id)


@export_command.command("stop")
@_ID
@shared
def stop_export(session: Session, id: str) -> int:
    """Stop an export, or end a standing one. Nothing more of it goes out.

    Example: peerpacs export stop 3f2a
    """
    return _decide(session, "stop_export", id)


@export_command.command("finish")
@_ID
@shared
def finish_export(session: Session, id: str) -> int:
    """Have an export of several sites go out with what is there; wait for no other site.

    Example: peerpacs export finish 3f2a
    """
    return _decide(session, "finish_export", id)


@export_command.command("retry")
@_ID
@shared
def retry_export(session: Session, id: str) -> int:
    """Go on with an export that failed or was stopped.

    Example: peerpacs export retry 3f2a
    """
    with session.desk("export retry") as ask:
        export = ask("retry_export", id=id, who=who())
        return _follow(session, ask, export)


@export_command.command("withdraw")
@click.argument("subject")
@click.option("--project", default="", help="From this project; from all if not said.")
@click.option("--issuer", default="", help="Whose Patient ID it is.")
@click.option("--reason", required=True, help="Why; kept with the withdrawal.")
@shared
def withdraw_subject(session: Session, subject: str, project: str, issuer: str, reason: str) -> int:
    """Take a subject (pseudonym or Patient ID) out of the research archives, and bar it from now on.

    Copies that were given away cannot be fetched back; they are listed.

    Example: peerpacs export withdraw TRIAL-7-ABCDEFGH23456789 --reason 'consent withdrawn'
    """
    with session.desk("export withdraw") as ask:
        done = ask(
            "withdraw_subject", subject=subject, project=project, issuer=issuer, reason=reason, who=who()
        )
    session.say(done, withdrawn_lines(done["projects"]))
    return 0


@export_command.command("open-escrow")
@_ID
@click.option("--key", "keys", multiple=True, metavar="NAME=FILE", help="A holder's key; two are needed.")
@click.option("--reason", required=True, help="Why; kept in the audit.")
@shared
def open_escrow(session: Session, id: str, keys: tuple[str, ...], reason: str) -> int:
    """Say who the pseudonyms of an export are: two holders do that together.

    Example: peerpacs export open-escrow 3f2a --key novak=novak.key --key dvorak=dvorak.key --reason 'finding'
    """
    given = {}
    for text in keys:
        name, _, file = text.partition("=")
        passphrase = click.prompt(f"Passphrase of {name}", hide_input=True, err=True)
        given[name] = (base64.b64encode(Path(file).read_bytes()).decode(), passphrase)
    with session.desk("export open-escrow") as ask:
        rows = ask("open_escrow", id=id, keys=given, who=who(), reason=reason)
    titles = ("PSEUDONYM", "SUBJECT ID", "ISSUER", "PATIENT ID")
    shown = [(r["pseudonym"], r["subject_id"], r["issuer"], r["patient"]) for r in rows]
    session.say(rows, columns(shown, titles))
    return 0


@export_command.command("check")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@shared
def check_release(session: Session, folder: Path) -> int:
    """Check that a release is what was signed: chain, signature, every file. Needs no node.

    Example: peerpacs export check ./cohort
    """
    from catalog import BadRequest
    from node.research.release import complaints, signer_of

    try:
        found, signer = list(complaints(folder)), signer_of(folder)
    except (OSError, ValueError, KeyError) as error:
        raise BadRequest(f"{folder} is no release: {error}.", "Name its folder.") from None
    good = "✓ Every file is what was released, and the manifest is what was signed."
    session.say(
        found, found or [good, f"  Signed by {signer}: compare it with the key that the sender tells."]
    )
    return FAILED if found else 0


def _order(session: Session, given: dict[str, Any]) -> int:
    from node.research.lists import read_list

    asked: dict[str, Any] = {"project": given["project"], "archive": given["archive"], "who": who()}
    asked |= {"profile": given["profile"], "sites": list(given["sites"])}
    if given["query"]:
        asked["query"] = shlex.split(given["query"])
    if given["file"]:
        import msgspec

        asked["wanted"] = msgspec.to_builtins(read_list(given["file"]))
    with session.desk("export") as ask:
        if given["dry_run"]:
            told = ask("preview_export", **asked)
            session.say(told, preview_lines(told))
            return 0
        if not given["target"]:
            raise click.UsageError("Say with --to where the export goes.")
        asked |= {"target": _target(given["target"]), "purpose": given["purpose"]}
        asked["is_standing"] = given["standing"]
        export = ask("order_export", **asked)
        if not session.is_json:
            for line in preview_lines(export["preview"]):
                click.echo(line)
        if given["no_wait"] or not is_going(export):
            session.say(export, map(session.pasteable, details(export)))
            return 0
        return _follow(session, ask, export)


def _target(text: str) -> str:
    if "://" in text or text == "archive:" or text.startswith("ae:"):
        return text
    return str(Path(text).expanduser().resolve())


def _follow(session: Session, ask: Callable[..., Any], export: dict[str, Any]) -> int:
    try:
        with bar(is_shown=not session.is_json and sys.stderr.isatty()) as show:
            while is_going(export):
                show(export)
                time.sleep(_PAUSE)
                export = ask("export", id=export["id"])
    except KeyboardInterrupt:
        from node.control import is_running

        goes_on, goes_by = "It goes on without you: ", "Nothing was released. Go on with: "
        words, verb = (goes_on, "show") if is_running(session.home) else (goes_by, "retry")
        click.echo(f"{words}peerpacs export {verb} {export['id'][:8]}", err=True)
        raise
    session.say(export, map(session.pasteable, details(export)))
    if export["standing"] == "failed":
        return FAILED
    return PARTIAL if export["held"] else 0


def _decide(session: Session, verb: str, id: str, **more: str) -> int:
    with session.desk("export") as ask:
        export = ask(verb, id=id, who=who(), **more)
        if verb in ("approve_export", "release_export", "finish_export"):
            return _follow(session, ask, export)
    session.say(export, [f"✓ Export {export['id'][:8]} {standing_of(export)}."])
    return 0
