"""`peerpacs correct`, `reject`, `delete`, `erase`, `hold`, `undo`, `trace`: decisions, and a study's life."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click

from node.cli import Session, columns, shared, who

_REASON = click.option("--reason", required=True, help="Why; kept with the decision.")


@click.command("correct")
@click.argument("target")
@click.argument("attributes", nargs=-1, required=True, metavar="KEYWORD=VALUE...")
@_REASON
@shared
def correct_command(session: Session, target: str, attributes: tuple[str, ...], reason: str) -> int:
    """Correct attributes in everything that leaves. TARGET is a study, series or instance UID.

    Example: peerpacs correct 1.2.3.4 PatientName=NOVAK^JAN PatientID=4711 --reason "wrong worklist entry"
    """
    return _decide(
        session,
        "correct",
        "It leaves corrected from now on",
        target=target,
        attributes=list(attributes),
        reason=reason,
    )


@click.command("reject")
@click.argument("target")
@click.option(
    "--why",
    type=click.Choice(["quality", "safety", "worklist", "expired"]),
    default="quality",
    show_default=True,
    help="Its kind: bad images, a danger for the patient, a wrong worklist entry, or its time is over.",
)
@_REASON
@shared
def reject_command(session: Session, target: str, why: str, reason: str) -> int:
    """Hide a study, series or instance. The stored bytes stay.

    Who may call the AE title with _REJ behind it still sees it. Sent again it stays rejected, with an alarm;
    only what has expired comes back as new.

    Example: peerpacs reject 1.2.3.4 --why safety --reason "wrong side marked"
    """
    outcome = "Nobody finds or fetches it any more"
    return _decide(session, "reject", outcome, target=target, why=why, reason=reason)


@click.command("delete")
@click.argument("target")
@_REASON
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
def delete_command(session: Session, target: str, reason: str, yes: bool) -> int:
    """Delete a study, series or instance. Nobody sees it from now on; its bytes go after life.undo_days.

    More than a hundred studies, or one percent of them, within a day need a second person (peerpacs confirm).

    Example: peerpacs delete 1.2.3.4 --reason "test images" --yes
    """
    if not yes:
        click.confirm(f"Delete {target}?", abort=True, err=True)
    return _decide(session, "delete", "It is deleted", target=target, reason=reason)


@click.command("erase")
@click.argument("target")
@_REASON
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
def erase_command(session: Session, target: str, reason: str, yes: bool) -> int:
    """Erase a study, series or instance for good, with every trace that names the patient.

    It cannot be taken back, and what was erased is refused when it is sent again. The reason stays on record:
    name no patient in it. peerpacs deletions shows how far it is.

    Example: peerpacs erase 1.2.3.4 --reason "order of the court, file 12/26" --yes
    """
    if not yes:
        click.confirm(f"Erase {target}, for good?", abort=True, err=True)
    with session.desk("erase") as ask:
        made = ask("erase", who=who(), target=target, reason=reason)
    lines = ["✓ Nobody sees it from now on, and its bytes are being overwritten."]
    session.say(made, [*lines, session.pasteable("How far it is: peerpacs deletions")])
    return 0


@click.command("hold")
@click.argument("target")
@_REASON
@shared
def hold_command(session: Session, target: str, reason: str) -> int:
    """Put a legal hold on a study, series or instance. Nothing deletes or erases it until that is undone.

    Example: peerpacs hold 1.2.3.4 --reason "claim 7/2026"
    """
    return _decide(session, "hold", "It stays, whatever rules say", target=target, reason=reason)


@click.command("confirm")
@click.argument("wish")
@shared
def confirm_command(session: Session, wish: str) -> int:
    """Have done, as the second person, what somebody else wished to delete or erase.

    You are who this machine says (with sudo: who called it). If your account is named otherwise: peerpacs
    users edit NAME --os-user. Whoever may act as the node's own user here is believed.

    Example: peerpacs confirm 3f2a91c0
    """
    with session.desk("confirm") as ask:
        made = ask("confirm", who=who(), wish=wish)
    session.say(made, [f"✓ Confirmed: {made['verb']}, as decision {made['decision'][:8]}."])
    return 0


@click.command("deletions")
@shared
def deletions_command(session: Session) -> int:
    """Show what was ordered to go for good and how far it is, and what waits for a second person.

    Example: peerpacs deletions
    """
    with session.desk("deletions") as ask:
        told = ask("deletions")
    rows = [_order_row(order) for order in told["orders"]]
    titles = ("DECISION", "VERB", "WHAT", "BY", "STATE")
    lines = [*columns(rows, titles)] if rows else ["Nothing is to go."]
    for order in told["orders"]:
        lines += _left_of(order)
    for wish in told["wishes"]:
        line = f"! {wish['who']} wishes to {wish['verb']} {_what(wish)}; a second person can: "
        lines.append(session.pasteable(line + f"peerpacs confirm {wish['wish'][:8]}"))
    session.say(told, lines)
    return 0


def _left_of(order: dict[str, Any]) -> Iterator[str]:
    """Yield what is still to be done about an order, and by whom."""
    name = order["decision"][:8]
    if order.get("owing"):
        yield f"! {name}: no receipt yet from {', '.join(order['owing'])}; they are asked when they are back."
    if order.get("unheard"):
        away = ", ".join(order["unheard"])
        yield f"! {name}: {away} not connected since: hidden there once they are back and hear of it."
    for row in order.get("receipts", ()):
        if row["what"]:
            yield f"! {name}: {row['node']}: {row['what']}."
    if order.get("backups"):
        yield f"! {name}: these backups may hold it: {', '.join(order['backups'])}"
    if order.get("exports"):
        yield f"! {name}: these research exports may hold it, de-identified: {', '.join(order['exports'])}"


def _order_row(order: dict[str, Any]) -> tuple[str, ...]:
    state = order["outcome"] or order["problem"] or f"goes on {_day(order['due'])}"
    return order["decision"][:8], order["verb"], _what(order), order["who"], state


def _what(order: dict[str, Any]) -> str:
    """Return what goes, so that a part of a study is not taken for all of it."""
    for keyword, word in (("SOPInstanceUID", "instance"), ("SeriesInstanceUID", "series")):
        if uid := order.get(keyword):
            return f"{word} {uid}"
    return f"study {order['StudyInstanceUID']}"


def _day(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))


@click.command("move-series")
@click.argument("series", nargs=-1, required=True)
@click.option("--to", help="StudyInstanceUID of a study that is here.")
@click.option("--new", is_flag=True, help="To a new study instead: the series is split off.")
@click.option("--set", "attributes", multiple=True, metavar="KEYWORD=VALUE", help="Of the new study.")
@_REASON
@shared
def move_series_command(
    session: Session,
    series: tuple[str, ...],
    to: str | None,
    new: bool,
    attributes: tuple[str, ...],
    reason: str,
) -> int:
    """Move series to another study, of whichever patient, or split them off into a new one.

    The SOP Instance UIDs stay. Each can be taken back.

    Example: peerpacs move-series 1.2.3.4.5 --to 1.2.9.9 --reason "scanned under the wrong order"
    """
    if bool(to) == new:
        raise click.UsageError("Say either --to STUDY or --new.")
    told = {"series": list(series), "to": to or "", "attributes": list(attributes), "reason": reason}
    with session.desk("move-series") as ask:
        made = ask("move_series", who=who(), **told)
    return _moved(session, made)


@click.command("join-studies")
@click.argument("study")
@click.option("--into", required=True, help="StudyInstanceUID of the study that it belongs to.")
@_REASON
@shared
def join_studies_command(session: Session, study: str, into: str, reason: str) -> int:
    """Make two studies one: every series of STUDY moves into the other.

    Example: peerpacs join-studies 1.2.3.4 --into 1.2.9.9 --reason "one examination, sent as two"
    """
    with session.desk("join-studies") as ask:
        made = ask("join_studies", who=who(), study=study, into=into, reason=reason)
    return _moved(session, made)


def _moved(session: Session, made: list[dict[str, Any]]) -> int:
    lines = []
    for one in made:
        line = f"✓ {one['SeriesInstanceUID']} moved. To take it back: peerpacs undo {one['decision'][:8]}"
        lines.append(session.pasteable(f"{line} --reason WHY"))
    session.say(made, lines)
    return 0


@click.command("undo")
@click.argument("decision")
@_REASON
@shared
def undo_command(session: Session, decision: str, reason: str) -> int:
    """Take a decision back. The beginning of its id is enough.

    Example: peerpacs undo 3f2a91c0 --reason "it was the right patient"
    """
    return _decide(session, "undo", "The decision is taken back", decision=decision, reason=reason)


def _decide(session: Session, verb: str, outcome: str, **told: Any) -> int:
    with session.desk(verb) as ask:
        made = ask(verb, who=who(), **told)
    line = f"✓ {outcome}."
    if verb != "undo":
        line += f" To take it back: peerpacs undo {made['decision'][:8]} --reason WHY"
    warnings = [f"! {warning}" for warning in made.get("warnings", ())]
    session.say(made, [session.pasteable(line), *warnings])
    return 0


@click.command("trace")
@click.argument("study")
@shared
def trace_command(session: Session, study: str) -> int:
    """Tell the life of a study. Who sent it, who took it, what was decided, what is here.

    Example: peerpacs trace 1.2.840.113619.2.1
    """
    with session.desk("trace") as ask:
        life = ask("trace", study=study)
    lines = [f"{event['time'][:19].replace('T', ' ')}  {event['sentence']}" for event in life["events"]]
    session.say(life, [*lines, f"Now: {life['now']}"])
    return 0
