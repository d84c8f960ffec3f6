"""`peerpacs grants`: what other nodes may do with what this one owns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from node.cli import Session, by_default, columns, plural, shared, who


@click.group("grants", invoke_without_command=True)
@shared
def grants_command(session: Session) -> None:
    """Show and change what other nodes may do with what this one owns. Without a grant they may nothing.

    Example: peerpacs grants
    """
    by_default(list_grants)


@grants_command.command("list")
@shared
def list_grants(session: Session) -> int:
    """Show shares and grants.

    Example: peerpacs grants list
    """
    with session.desk("grants") as ask:
        found = ask("grants")
    session.say(found, _grants(found))
    return 0


@grants_command.command("add")
@click.argument("peer")
@click.argument("share")
@click.argument("ops", nargs=-1, required=True)
@click.option("--rate", type=click.IntRange(min=0), default=0, help="Most bytes a second; 0 = no limit.")
@click.option("--hours", default="*", help="Hours of this node's day, like 18-6.")
@click.option(
    "--purpose",
    "purposes",
    multiple=True,
    help="With find_live and retrieve: only what is asked for this purpose of use, like treatment.",
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ae|user|node",
    help="With find_live and retrieve: only what a device (ae), a web user (user) or the node itself asks.",
)
@click.option("--project", default="", help="With export_deid: for this research project only.")
@click.option(
    "--min-cohort", type=click.IntRange(min=0), default=0, help="With export_deid: no fewer subjects."
)
@shared
def add_grant(session: Session, peer: str, share: str, ops: tuple[str, ...], **limits: Any) -> int:
    """Let a node (its name or id) or site:NAME do something with a share.

    OPS are catalog, find_live, retrieve, host_replicas and export_deid. Name all of them: what it might do
    with the share before is replaced.

    \b
    Example: peerpacs grants add site:HOSP-B everything catalog find_live retrieve
             peerpacs grants add site:HOSP-B everything catalog retrieve --purpose treatment --role ae
             peerpacs grants add uni everything export_deid --project TRIAL-7 --min-cohort 10
    """
    with session.desk("grants") as ask:
        row = ask("put_grant", peer=peer, share=share, ops=list(ops), who=who(), **limits)
    whom = [f"for {' or '.join(row['purposes'])}"] if row["purposes"] else []
    whom += [f"when {' or '.join(row['roles'])} asks"] if row["roles"] else []
    only = f", {' and '.join(whom)} only" if whom else ""
    session.say(row, [f"✓ {row['name']} may {', '.join(row['ops'])} on {row['share']}{only}."])
    return 0


@grants_command.command("remove")
@click.argument("grant")
@shared
def remove_grant(session: Session, grant: str) -> int:
    """Take a grant back, by its id or as NAME/SHARE; it counts at once.

    Example: peerpacs grants remove HOSP-B/everything
    """
    with session.desk("grants") as ask:
        ask("remove_grant", grant=grant, who=who())
    session.say({"removed": grant}, [f"✓ The grant {grant} counts no more."])
    return 0


@grants_command.command("share")
@click.argument("name")
@click.argument("keys", nargs=-1)
@click.option("--view", default="full", show_default=True, help="full, exact, minimal, counts or deid-only.")
@click.option("--remove", is_flag=True, help="Remove it instead.")
@shared
def share_command(session: Session, name: str, keys: tuple[str, ...], view: str, remove: bool) -> int:
    r"""Make or change a share: the studies that match all keys, and how they are shown.

    It is one of the default archive, or of the one that --archive names. What is shown as exact is found by
    who names a patient, an accession number or a study; to any other question this node counts there as one
    that did not answer (peerpacs devices edit AE --on-incomplete says what an AE is told then).

    Example: peerpacs grants share mammo 'Modality=MG' --view full
    """
    archive, session.archive = session.archive, ""
    with session.desk("grants") as ask:
        if remove:
            ask("remove_share", name=name, who=who())
            session.say({"removed": name}, [f"✓ The share {name} is gone."])
            return 0
        row = ask("put_share", name=name, keys=list(keys), view=view, archive=archive, who=who())
    what = f"what matches {plural(len(keys), 'key')}" if keys else "everything"
    session.say(row, [f"✓ The share {name} shows {view} of {what} in the archive {row['archive']}."])
    return 0


def _grants(found: dict[str, Any]) -> Iterator[str]:
    shares = [
        (row["name"], row["view"], "some" if row["match"] else "all", row["archive"])
        for row in found["shares"]
    ]
    yield from columns(shares, ("SHARE", "VIEW", "STUDIES", "ARCHIVE"))
    if not found["grants"]:
        yield "Nothing is granted to anybody: peerpacs grants add --help"
        return
    rows = [
        (
            row["id"],
            row["name"],
            row["share"],
            ", ".join(row["ops"]),
            row["project"] or "-",
            row["min_cohort"] or "-",
            row["rate"] or "-",
            row["hours"],
            ", ".join(row["purposes"]) or "-",
            ", ".join(row["roles"]) or "-",
        )
        for row in found["grants"]
    ]
    yield from columns(
        rows, ("ID", "PEER", "SHARE", "MAY", "PROJECT", "SMALLEST", "BYTES/S", "HOURS", "PURPOSES", "ROLES")
    )
