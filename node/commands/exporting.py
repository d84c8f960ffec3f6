"""`peerpacs export`: a cohort, de-identified near the source, brought to a folder, a bucket or a system."""

from __future__ import annotations

import base64
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from node.cli import FAILED, PARTIAL, Session, columns, plural, readable, shared, who

_PAUSE: Final = 0.3
_UNDER_WAY: Final = ("ready", "running")
_SHOWN: Final = 20
_ID: Final = click.argument("id")


@click.group("export", invoke_without_command=True)
@click.option("--project", help="The research project it is for.")
@click.option("--query", help="Who: 'Modality=CT BodyPartExamined=CHEST StudyDate=2024-'.")
@click.option("--list", "file", type=click.Path(path_type=Path), help="Who: a CSV or XLSX list.")
@click.option("--to", "target", help="Folder, FILE.zip, s3://BUCKET/PREFIX, https://..., ae:NAME, archive:")
@click.option("--profile", default="", help="Another profile than the project's.")
@click.option("--purpose", default="", help="Why; an ethics number, for example.")
@click.option("--from", "archive", default="", help="The archive it is taken from.")
@click.option("--standing", is_flag=True, help="Go on: new studies that match are sent when complete.")
@click.option("--dry-run", is_flag=True, help="Say what would be exported, and order nothing.")
@click.option("--no-wait", is_flag=True, help="Order it and leave.")
@shared
def export_command(session: Session, **given: Any) -> int | None:
    """Export a cohort for a project: de-identified, verified, and only then brought to its target.

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
        (e["id"][:8], e["project"], e["who"], _standing(e), e["released"], _held(e), e["target"])
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
    session.say(found, map(session.pasteable, _details(found)))
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
    session.say(done, _withdrawn(done["projects"]))
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
    from node.research.release import complaints

    try:
        found = list(complaints(folder))
    except (OSError, ValueError, KeyError) as error:
        raise BadRequest(f"{folder} is no release: {error}.", "Name its folder.") from None
    session.say(found, found or ["✓ Every file is what was released, and the manifest is what was signed."])
    return FAILED if found else 0


def _order(session: Session, given: dict[str, Any]) -> int:
    from node.research.lists import read_list

    asked: dict[str, Any] = {"project": given["project"], "archive": given["archive"], "who": who()}
    if given["query"]:
        asked["query"] = shlex.split(given["query"])
    if given["file"]:
        import msgspec

        asked["wanted"] = msgspec.to_builtins(read_list(given["file"]))
    with session.desk("export") as ask:
        if given["dry_run"]:
            told = ask("preview_export", **asked)
            session.say(told, _preview(told))
            return 0
        if not given["target"]:
            raise click.UsageError("Say with --to where the export goes.")
        asked |= {"target": _target(given["target"]), "profile": given["profile"]}
        asked |= {"purpose": given["purpose"], "is_standing": given["standing"]}
        export = ask("order_export", **asked)
        if not session.is_json:
            for line in _preview(export["preview"]):
                click.echo(line)
        if given["no_wait"] or export["standing"] not in _UNDER_WAY:
            session.say(export, map(session.pasteable, _details(export)))
            return 0
        return _follow(session, ask, export)


def _target(text: str) -> str:
    if "://" in text or text == "archive:" or text.startswith("ae:"):
        return text
    return str(Path(text).expanduser().resolve())


def _follow(session: Session, ask: Callable[..., Any], export: dict[str, Any]) -> int:
    try:
        with _bar(is_shown=not session.is_json and sys.stderr.isatty()) as show:
            while export["standing"] in _UNDER_WAY:
                show(export)
                time.sleep(_PAUSE)
                export = ask("export", id=export["id"])
    except KeyboardInterrupt:
        from node.control import is_running

        goes_on, goes_by = "It goes on without you: ", "Nothing was released. Go on with: "
        words, verb = (goes_on, "show") if is_running(session.home) else (goes_by, "retry")
        click.echo(f"{words}peerpacs export {verb} {export['id'][:8]}", err=True)
        raise
    session.say(export, map(session.pasteable, _details(export)))
    if export["standing"] == "failed":
        return FAILED
    return PARTIAL if export["held"] else 0


class _bar:  # noqa: N801
    """A bar on standard error: parts of the export, and what is done in the one under way."""

    def __init__(self, *, is_shown: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bars = Progress(console=Console(stderr=True), disable=not is_shown)

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        self._bars.start()
        whole, part = self._bars.add_task("export"), self._bars.add_task("part")

        def show(export: dict[str, Any]) -> None:
            progress = export["progress"]
            self._bars.update(whole, completed=export["done"], total=export["parts"] or None)
            step = progress["step"] or "release"
            self._bars.update(
                part, description=step, completed=progress["done"], total=progress["total"] or None
            )

        return show

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


def _decide(session: Session, verb: str, id: str, **more: str) -> int:
    with session.desk("export") as ask:
        export = ask(verb, id=id, who=who(), **more)
        if verb in ("approve_export", "release_export"):
            return _follow(session, ask, export)
    session.say(export, [f"✓ Export {export['id'][:8]} {_standing(export)}."])
    return 0


def _preview(told: dict[str, Any]) -> Iterator[str]:
    titles = ("site", "subjects", "studies", "instances", "size", "state")
    rows = []
    for site in told["sites"]:
        is_told = site["subjects"] >= 0
        counts = [site[key] for key in ("subjects", "studies", "instances")]
        small = [f"<{site['smallest']}", "-", "-"]
        size = readable(site["megabytes"] * 1e6) if site["megabytes"] > 0 else "<10 MB" if is_told else "-"
        rows.append((site["site"], *(counts if is_told else small), size, site["state"]))
    yield from columns(rows, titles)
    if not told["lines"]:
        return
    yield ""
    yield ", ".join(f"{count} {finding}" for finding, count in told["findings"].items())
    troubles = [line for line in told["lines"] if line["finding"] != "found"]
    yield from (f"  line {t['line']}: {t['finding']}. {t['why']}" for t in troubles[:_SHOWN])
    if len(troubles) > _SHOWN:
        yield f"  and {len(troubles) - _SHOWN} more; --json lists them all"


def _details(export: dict[str, Any]) -> Iterator[str]:
    id = export["id"][:8]
    yield f"Export {id} for {export['project']} to {export['target']}: {_standing(export)}."
    if export["standing"] == "waits for approval":
        yield f"Whom the project names may let it run: peerpacs export approve {id}"
    elif export["standing"] == "waits for a look before release":
        yield f"Look at {export['release']}"
        yield f"Whom the project names may let it go: peerpacs export release {id}"
    elif export["standing"] == "failed":
        yield export["why"]
        yield f"When that is mended: peerpacs export retry {id}"
    if export["standing"] in ("released", "waits for a look before release"):
        subjects = plural(len(export["subjects"]), "subject")
        size = readable(export["size"])
        instances, manifest = plural(export["released"], "instance"), export["manifest"][:12]
        yield f"{instances} of {subjects}, {size}; manifest {manifest}."
    for reason, count in export["held"].items():
        yield f"{count} held back, {reason}."
    if export["held"]:
        yield "Look at them: peerpacs quarantine list"


def _standing(export: dict[str, Any]) -> str:
    standing = str(export["standing"])
    if standing == "running" and export["parts"]:
        return f"running, {export['done']} of {plural(export['parts'], 'part')}"
    return standing


def _withdrawn(projects: list[dict[str, Any]]) -> Iterator[str]:
    for project in projects:
        removed = plural(project["removed"], "study")
        yield f"✓ {project['project']}: {project['subject']} is barred; {removed} removed from its archive."
        for copy in project["copies"]:
            yield f"! Out of reach: export {copy['export'][:8]} brought it to {copy['target']}."


def _held(export: dict[str, Any]) -> int:
    return sum(export["held"].values())
