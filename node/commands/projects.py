"""`peerpacs projects`: research projects of this node, their policies, people, senders and escrow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from node.cli import Session, by_default, columns, shared, who

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_LISTS = ("members", "approvers", "reviewers", "senders", "trusted")


@click.group("projects", invoke_without_command=True)
@shared
def projects_command(session: Session) -> None:
    """Show and change research projects: profile, people, the senders of its AE title, escrow.

    Example: peerpacs projects add TRIAL-7 --profile research --ae TRIAL7 --sender CT1
    """
    by_default(list_projects)


def _settings(function: F) -> F:
    options = (
        click.option("--title", help="What the project is, for people."),
        click.option("--profile", help="basic, research, tcia, teaching, or a policy of the node."),
        click.option(
            "--ae", "ae_title", help="AE title of its archive: what is sent there is de-identified."
        ),
        click.option("--sender", "senders", multiple=True, help="AE title that may send there; +CT1, -CT1."),
        click.option("--member", "members", multiple=True, help="Who may order exports; +NAME, -NAME."),
        click.option("--approver", "approvers", multiple=True, help="Who must approve each export."),
        click.option("--reviewer", "reviewers", multiple=True, help="Who must look before a release."),
        click.option("--holder", "holders", multiple=True, metavar="NAME=KEY", help="Holds the escrow."),
        click.option(
            "--trusts", "trusted", multiple=True, help="Peer whose orders nobody must approve; +UNI."
        ),
        click.option("--ends", help="Last day of the project, as 2027-12-31."),
        click.option("--quarantine-days", type=click.IntRange(min=1), help="How long what is held stays."),
        click.option("--smallest", type=click.IntRange(min=1), help="Counts below this are not told."),
        click.option("--questions", type=click.IntRange(min=0), help="How many counts are answered in all."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@projects_command.command("list")
@shared
def list_projects(session: Session) -> int:
    """Show the projects and what waits in them.

    Example: peerpacs projects list
    """
    with session.desk("projects list") as ask:
        found: list[dict[str, Any]] = ask("projects")
    titles = ("NAME", "PROFILE", "KEY", "ARCHIVE", "SENDERS", "EXPORTS", "HELD", "WITHDRAWN", "ENDS")
    rows = [
        (
            p["name"],
            p["profile"],
            p["key"],
            p["archive"] or "-",
            ",".join(p["senders"]) or "-",
            p["exports"],
            p["held"],
            p["withdrawn"],
            p["ends"] or "-",
        )
        for p in found
    ]
    lines = list(columns(rows, titles)) if found else ["No projects. Make one: peerpacs projects add NAME"]
    session.say(found, lines)
    return 0


@projects_command.command("add")
@click.argument("name")
@click.option("--key", "key_file", type=_FILE, help="Key file of the same project at another site.")
@_settings
@shared
def add_project(session: Session, name: str, key_file: Path | None, **settings: Any) -> int:
    """Make a project, with a new key unless another site's is given.

    Sites with the same key give the same patient the same pseudonym, UIDs and date shift.

    Example: peerpacs projects add TRIAL-7 --profile research --approver novak
    """
    return _put(session, name, settings, is_new=True, key_file=str(key_file.resolve()) if key_file else "")


@projects_command.command("edit")
@click.argument("name")
@_settings
@shared
def edit_project(session: Session, name: str, **settings: Any) -> int:
    """Change what is said, keep the rest.

    Example: peerpacs projects edit TRIAL-7 --ae TRIAL7 --sender +CT1
    """
    return _put(session, name, settings, is_new=False, key_file="")


@projects_command.command("policy")
@click.argument("name")
@click.argument("file", type=_FILE)
@shared
def put_policy(session: Session, name: str, file: Path) -> int:
    """Put in a policy of your own, which projects can then name as their profile.

    Its "private": {"csv": "FILE.csv"} takes in TCIA's list of private attributes, which lies beside it.

    Example: peerpacs projects policy our-ct ./our-ct.json
    """
    from anonymizer import PolicyRejected, document_in
    from catalog import BadRequest

    try:
        document = document_in(file)
    except PolicyRejected as error:
        raise BadRequest(str(error), "Mend it and put it in again.") from None
    with session.desk("projects policy") as ask:
        made = ask("put_policy", name=name, document=document, who=who())
    session.say(made, [f"✓ The policy {name} is in (digest {made['digest'][:12]})."])
    return 0


@projects_command.command("describe")
@click.argument("name")
@shared
def describe_project(session: Session, name: str) -> int:
    """Say in English what happens to each attribute of a project's images.

    Example: peerpacs projects describe TRIAL-7
    """
    with session.desk("projects describe") as ask:
        lines = ask("describe_policy", project=name)
    session.say(lines, lines)
    return 0


@projects_command.command("make-holder")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--passphrase",
    prompt=True,
    hide_input=True,
    confirmation_prompt=True,
    help="What the key is opened with; asked for, unless it is said here, where others may see it.",
)
@shared
def make_holder(session: Session, file: Path, passphrase: str) -> int:
    """Make a key for a person who, with a second one, may open a project's escrow. Needs no node.

    Example: peerpacs projects make-holder ./novak.key
    """
    from node.research.sealing import make_holder as make

    try:
        public = make(file, passphrase)
    except FileExistsError:
        raise click.UsageError(f"{file} exists already; a key is never overwritten.") from None
    lines = [f"✓ {file} holds the private key; keep it and the passphrase apart from the node.", public]
    session.say({"file": str(file), "public": public}, lines)
    return 0


@projects_command.command("share")
@click.argument("name")
@click.argument("peer")
@click.option("--without-key", is_flag=True, help="It only orders and receives; it exports nothing itself.")
@shared
def share_project(session: Session, name: str, peer: str, without_key: bool) -> int:
    """Offer a project to a node at another site; it counts when a person there accepts it.

    The key travels sealed to that node. Sites with the same key give the same patient the same pseudonym,
    UIDs and date shift. Compare the key id that both sides are shown.

    Example: peerpacs projects share TRIAL-7 beta
    """
    with session.desk("projects share") as ask:
        done = ask("share_project", name=name, peer=peer, who=who(), with_key=not without_key)
    what = "with its key" if done["with_key"] else "to order and receive"
    lines = [f"✓ {done['project']} was offered to {done['name']} {what}; key id {done['key']}."]
    if done["is_in_force"]:
        lines.append(f"It is in force at {done['name']} already.")
    else:
        lines.append(f"At {done['name']}, a person says yes: peerpacs projects accept {done['project']}")
    if done["with_key"]:
        granted = f"peerpacs grants add {done['name']} everything export_deid --project {done['project']}"
        lines.append(f"Let it order here: {granted}")
    session.say(done, lines)
    return 0


@projects_command.command("offers")
@shared
def list_offers(session: Session) -> int:
    """Show the projects that other sites offer and nobody here has decided about.

    Example: peerpacs projects offers
    """
    with session.desk("projects offers") as ask:
        found = ask("project_offers")
    titles = ("NAME", "FROM", "PROFILE", "KEY", "WITH KEY", "ENDS", "TITLE")
    rows = [
        (
            o["project"],
            o["sender"],
            o["profile"],
            o["key"],
            "yes" if o["with_key"] else "no",
            o["ends"] or "-",
            o["title"],
        )
        for o in found
    ]
    session.say(found, columns(rows, titles) if found else ["No site offers a project."])
    return 0


@projects_command.command("accept")
@click.argument("name")
@click.option("--approver", "approvers", multiple=True, help="Who must approve each export here.")
@click.option("--reviewer", "reviewers", multiple=True, help="Who must look before a release.")
@shared
def accept_project(session: Session, name: str, **settings: Any) -> int:
    """Take an offered project in; nothing leaves before you grant it and somebody approves each order.

    Example: peerpacs projects accept TRIAL-7 --approver novak
    """
    said = {key: list(value) for key, value in settings.items() if value}
    with session.desk("projects accept") as ask:
        made = ask("accept_project", name=name, who=who(), **said)
    lines = [f"✓ The project {made['name']} is in force here; key id {made['key']}."]
    if not made["foreign_key"]:
        partner = made["partners"][0]["name"]
        granted = f"peerpacs grants add {partner} everything export_deid --project {made['name']}"
        lines.append(f"Let {partner} order here: {granted}")
        lines.append("Each order then waits for a person: peerpacs export list")
    session.say(made, lines)
    return 0


@projects_command.command("decline")
@click.argument("name")
@shared
def decline_project(session: Session, name: str) -> int:
    """Refuse an offered project; its key is destroyed here.

    Example: peerpacs projects decline TRIAL-7
    """
    with session.desk("projects decline") as ask:
        done = ask("decline_project", name=name, who=who())
    session.say(done, [f"✓ The project {done['project']} of {done['sender']} was declined."])
    return 0


def _put(session: Session, name: str, settings: dict[str, Any], *, is_new: bool, key_file: str) -> int:
    holders = {}
    for text in settings.pop("holders"):
        holder, _, public = text.partition("=")
        holders[holder] = public
    said = {key: list(value) if key in _LISTS else value for key, value in settings.items() if value}
    if holders:
        said["holders"] = holders
    with session.desk("projects") as ask:
        made = ask("put_project", name=name, who=who(), is_new=is_new, key_file=key_file, **said)
    project, key = made["name"], made["key"]
    lines = [f"✓ The project {project} was {made['outcome']}; profile {made['profile']}, key id {key}."]
    if is_new:
        asked = f"peerpacs export --project {project} --query 'Modality=CT' --dry-run"
        text = f"See what it would export: {asked}"
        lines.append(session.pasteable(text))
    if said.get("senders") and made["archive"]:
        lines.append(f"Its senders need a row of the device book: peerpacs devices add {made['senders'][0]}")
    session.say(made, lines)
    return 0
