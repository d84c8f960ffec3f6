"""`peerpacs link` and `peerpacs unlink`: which Patient IDs of different hospitals are one person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from node.cli import Session, columns, plural, shared, who


@click.command("link")
@click.argument("identities", nargs=-1, metavar="[ISSUER ID ISSUER ID]")
@click.option(
    "--csv",
    "feed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of links: issuer, id, issuer, id in each line.",
)
@shared
def link_command(session: Session, identities: tuple[str, ...], feed: Path | None) -> int:
    """Say that two Patient IDs are one person; without any, list the links. Nothing is merged by it.

    Example: peerpacs link HOSP-A 4711 HOSP-B 0815
    """
    if len(identities) not in (0, 4):
        raise click.UsageError("Name two identities: ISSUER ID ISSUER ID.")
    with session.desk("link") as ask:
        if not identities and feed is None:
            found = ask("patient_links")
            session.say(found, _links(found))
            return 0
        text = feed.read_text(encoding="utf-8-sig") if feed else ""
        pairs = [list(identities)] if identities else []
        done = ask("link_patients", who=who(), pairs=pairs, feed=text)
    known = done["told"] - done["new"]
    session.say(done, [f"✓ {plural(done['new'], 'link')} made; {known} were known."])
    return 0


@click.command("unlink")
@click.argument("identities", nargs=4, metavar="ISSUER ID ISSUER ID")
@shared
def unlink_command(session: Session, identities: tuple[str, ...]) -> int:
    """Take a link between two Patient IDs back; it counts at once.

    Example: peerpacs unlink HOSP-A 4711 HOSP-B 0815
    """
    one, other = list(identities[:2]), list(identities[2:])
    with session.desk("unlink") as ask:
        ask("unlink_patients", who=who(), one=one, other=other)
    session.say({"unlinked": [one, other]}, ["✓ They are two patients again."])
    return 0


def _links(found: list[dict[str, Any]]) -> list[str]:
    if not found:
        return ["No patients are linked. Link two: peerpacs link ISSUER ID ISSUER ID"]
    rows = [(*link["one"], *link["other"], link["who"]) for link in found]
    return list(columns(rows, ("ISSUER", "ID", "ISSUER", "ID", "BY")))
