"""`peerpacs routes` and `peerpacs prefetch`: where studies go by themselves, and what is fetched ahead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import click

from node.cli import PARTIAL, Session, by_default, columns, plural, shared, who

_SHOWN: Final = 20


@click.group("routes", invoke_without_command=True)
@shared
def routes_command(session: Session) -> None:
    """Show the standing routes of peerpacs.toml ([[route]]), and what their targets lack.

    Example: peerpacs routes
    """
    by_default(list_routes)


@routes_command.command("list")
@shared
def list_routes(session: Session) -> int:
    """List the routes, what each sent last, and the studies of which its target lacks something.

    Example: peerpacs routes list
    """
    with session.desk("routes") as ask:
        found = ask("routes")
    session.say(found, _routes(found))
    return PARTIAL if any(each["lacking"] for each in found) else 0


@routes_command.command("check")
@click.argument("rule", metavar="ROUTE")
@click.argument("study", metavar="STUDY")
@shared
def check_route(session: Session, rule: str, study: str) -> int:
    """Say whether a route is about a study, and ask its target what it lacks of it.

    Example: peerpacs routes check to-research 1.2.3.4
    """
    with session.desk("routes") as ask:
        told = ask("check_route", rule=rule, study=study)
    session.say(told, map(session.pasteable, _checked(told)))
    return PARTIAL if told["lacking"] or told["waiting"] else 0


@routes_command.command("send")
@click.argument("rule", metavar="ROUTE")
@click.argument("study", metavar="STUDY")
@shared
def send_route(session: Session, rule: str, study: str) -> int:
    """Send a study as a route says, all of it, whether or not the route is about it.

    Example: peerpacs routes send to-research 1.2.3.4
    """
    with session.desk("routes") as ask:
        told = ask("send_route", rule=rule, study=study, who=who())
    line = f"✓ Ordered. Follow it: peerpacs transfers show {told['transfer']}"
    session.say(told, [session.pasteable(line)])
    return 0


@click.command("prefetch")
@click.argument("patient", metavar="PATIENT_ID")
@click.option("--issuer", default="", help="Whose Patient ID it is; empty = this node's own.")
@shared
def prefetch_command(session: Session, patient: str, issuer: str) -> int:
    """Fetch earlier studies of a patient who is expected, from wherever they lie in the grid.

    Example: peerpacs prefetch 4711 --issuer HOSP-B
    """
    with session.desk("prefetch") as ask:
        found = ask("prefetch", patient=patient, issuer=issuer, who=who())
    lines = [f"{each['StudyInstanceUID']}  transfer {each['transfer']}" for each in found]
    session.say(found, lines or ["Nothing of this patient lies elsewhere."])
    return 0


def _routes(found: list[dict[str, Any]]) -> Iterator[str]:
    if not found:
        yield "There is no route. Write one into peerpacs.toml: [[route]] with name, match and to."
        return
    rows = [
        (
            each["name"],
            " ".join(each["match"]) or "everything",
            each["to"],
            each["profile"] or "as it is",
            _moment(each["last"]["when"]) if each["last"] else "never",
            len(each["lacking"]),
        )
        for each in found
    ]
    yield from columns(rows, ("ROUTE", "MATCH", "TO", "PROFILE", "LAST", "LACKING"))
    for each in found:
        for lacking in each["lacking"][:_SHOWN]:
            yield f"  {each['name']} lacks {_lacking(lacking)}"
        if len(each["lacking"]) > _SHOWN:
            yield f"  {each['name']} lacks something of {len(each['lacking']) - _SHOWN} more"


def _lacking(lacking: dict[str, Any]) -> str:
    count = "" if lacking["instances"] is None else f"{plural(lacking['instances'], 'instance')} of "
    why = f": {lacking['why']}" if lacking["why"] else ""
    return f"{count}{lacking['StudyInstanceUID']} (transfer {lacking['transfer']} {lacking['standing']}{why})"


def _checked(told: dict[str, Any]) -> Iterator[str]:
    what = plural(told["instances"], "instance")
    is_meant = told["is_from"] and told["matches"]
    because = "" if is_meant else ": its sender is another" if told["matches"] else ": it does not match"
    yield f"{'✓' if is_meant else '!'} The route is {'' if is_meant else 'not '}about this study{because}."
    ordered = told["ordered"]
    if ordered:
        yield f"✓ It was ordered {_moment(ordered['when'])}: peerpacs transfers show {ordered['transfer']}"
    else:
        yield f"! It was not ordered. Have it sent: peerpacs routes send {told['name']} {_study(told)}"
    if told["waiting"]:
        yield f"✗ {told['to']} lacks {_lacking(told['waiting'])}"
    if not told["asked"]:
        yield f"! {told['to']} was not asked: {told['why_not_asked']}"
    elif told["lacking"]:
        yield f"✗ {told['to']} says it lacks {told['lacking']} of {what}:"
        yield from (f"  {uid}" for uid in told["lacks"][:_SHOWN])
    else:
        yield f"✓ {told['to']} says it has all {what}."


def _study(told: dict[str, Any]) -> str:
    return str(told["StudyInstanceUID"])


def _moment(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
