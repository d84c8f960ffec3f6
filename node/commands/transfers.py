"""`peerpacs forward` and `peerpacs transfers`: what this node sends, how far it is, what is in its way."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import click

from node.cli import FAILED, PARTIAL, Session, by_default, columns, plural, readable, shared, who

_LANE: Final = click.Choice(["now", "normal", "bulk"])
_PAUSE: Final = 1.0
_OVER: Final = ("done", "failed", "cancelled")
_IDS: Final = click.argument("ids", nargs=-1, required=True, metavar="ID...")


@click.command("forward")
@click.argument("target", metavar="STUDY|SERIES|INSTANCE")
@click.argument("ae_title", metavar="AE")
@click.option("--lane", type=_LANE, default="normal", help="How urgent: HIGH, MEDIUM or LOW priority.")
@click.option("--reason", default="", help="Why; kept with the transfer.")
@click.option("--wait", is_flag=True, help="Stay until it is over.")
@shared
def forward_command(session: Session, target: str, ae_title: str, lane: str, reason: str, wait: bool) -> int:
    """Send a study, series or instance to a device of the book. It goes on until all of it is there.

    Example: peerpacs forward 1.2.3.4 READER1 --lane now
    """
    with session.desk("forward") as ask:
        transfer = ask(
            "forward",
            target=target,
            destination=ae_title,
            lane=lane,
            reason=reason,
            who=who(),
        )
        if wait:
            [transfer] = _follow(lambda: [ask("transfer", id=transfer["id"])], _shower(session))
    if not wait:
        session.say(transfer, [_line(transfer), f"Follow it: peerpacs transfers show {transfer['id']}"])
        return 0
    return _code([transfer])


@click.group("transfers", invoke_without_command=True)
@click.option("--watch", is_flag=True, help="As peerpacs transfers watch.")
@shared
def transfers_command(session: Session, watch: bool) -> None:
    """Show what is sent, how far it is and what is in its way. Pause, cancel or retry it.

    Example: peerpacs transfers list
    """
    by_default(watch_transfers if watch else list_transfers)


@transfers_command.command("list")
@click.option("--all", "is_all", is_flag=True, help="Also what is done or cancelled.")
@shared
def list_transfers(session: Session, is_all: bool = False) -> int:
    """List the transfers that are not done, and why each waits.

    Example: peerpacs transfers list --all
    """
    with session.desk("transfers") as ask:
        transfers = ask("transfers", is_over_too=is_all)
    session.say(transfers, _table(transfers))
    return 0


@transfers_command.command("watch")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@shared
def watch_transfers(session: Session, ids: tuple[str, ...] = ()) -> int:
    """Show transfers as they move, until all of them are over. With --json a line for each change.

    Example: peerpacs transfers watch
    """
    with session.desk("transfers") as ask:
        named = ids or tuple(each["id"] for each in ask("transfers", is_over_too=False))

        def look() -> list[dict[str, Any]]:
            return [ask("transfer", id=id) for id in named]

        return _code(_follow(look, _shower(session)))


@transfers_command.command("show")
@click.argument("id")
@shared
def show_transfer(session: Session, id: str) -> int:
    """Show one transfer: its series, and the instances that failed and why.

    Example: peerpacs transfers show 3f2a
    """
    with session.desk("transfers") as ask:
        transfer = ask("transfer", id=id)
    session.say(transfer, map(session.pasteable, _details(transfer)))
    return 0


@transfers_command.command("pause")
@_IDS
@shared
def pause_transfers(session: Session, ids: tuple[str, ...]) -> int:
    """Let transfers rest, each after the instance under way.

    Example: peerpacs transfers pause 3f2a
    """
    return _each(session, "pause_transfer", ids)


@transfers_command.command("resume")
@_IDS
@shared
def resume_transfers(session: Session, ids: tuple[str, ...]) -> int:
    """Go on with transfers that were paused.

    Example: peerpacs transfers resume 3f2a
    """
    return _each(session, "resume_transfer", ids)


@transfers_command.command("cancel")
@_IDS
@shared
def cancel_transfers(session: Session, ids: tuple[str, ...]) -> int:
    """Give transfers up; what has arrived stays there.

    Example: peerpacs transfers cancel 3f2a
    """
    return _each(session, "cancel_transfer", ids)


@transfers_command.command("retry")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--failed", is_flag=True, help="All that failed.")
@shared
def retry_transfers(session: Session, ids: tuple[str, ...], failed: bool) -> int:
    """Send what failed once more, and only that; what waits is tried at once.

    Example: peerpacs transfers retry 3f2a
    """
    if bool(ids) == failed:
        raise click.UsageError("Name the transfers, or say --failed for all that failed.")
    if failed:
        with session.desk("transfers") as ask:
            found = ask("transfers", is_over_too=False)
        ids = tuple(each["id"] for each in found if each["standing"] == "failed")
    return _each(session, "retry_transfer", ids)


@transfers_command.command("raise")
@_IDS
@click.option("--lane", type=_LANE, default="now", help="The lane to move them to.")
@shared
def raise_transfers(session: Session, ids: tuple[str, ...], lane: str) -> int:
    """Let transfers go before all others.

    Example: peerpacs transfers raise 3f2a
    """
    return _each(session, "raise_transfer", ids, lane=lane)


def _each(session: Session, verb: str, ids: Iterable[str], **told: str) -> int:
    with session.desk("transfers") as ask:
        done = [ask(verb, id=id, who=who(), **told) for id in ids]
    session.say(done, [_line(each) for each in done] or ["There is nothing to do."])
    return 0


def _follow(
    look: Callable[[], list[dict[str, Any]]], show: Callable[[list[dict[str, Any]]], None]
) -> list[dict[str, Any]]:
    while True:
        transfers = look()
        show(transfers)
        if all(each["standing"] in _OVER for each in transfers):
            return transfers
        time.sleep(_PAUSE)


def _shower(session: Session) -> Callable[[list[dict[str, Any]]], None]:
    """Return what shows transfers again and again: anew on a terminal, what changed elsewhere."""
    said: dict[str, str] = {}
    is_terminal = sys.stdout.isatty() and not session.is_json

    def show(transfers: list[dict[str, Any]]) -> None:
        if is_terminal:
            click.clear()
            click.echo("\n".join(_table(transfers)))
            return
        for each in transfers:
            if said.get(each["id"]) != each["says"]:
                said[each["id"]] = each["says"]
                click.echo(json.dumps(each, ensure_ascii=False) if session.is_json else _line(each))

    return show


def _code(transfers: list[dict[str, Any]]) -> int:
    if all(each["standing"] == "done" for each in transfers):
        return 0
    return PARTIAL if any(each["done"] for each in transfers) else FAILED


def _line(transfer: dict[str, Any]) -> str:
    return f"{transfer['id']} to {transfer['destination']}: {transfer['says']}"


def _table(transfers: list[dict[str, Any]]) -> list[str]:
    if not transfers:
        return ["Nothing is being sent, and nothing failed."]
    rows = [
        (each["id"], each["lane"], each["destination"], each["StudyInstanceUID"] or "-", each["says"])
        for each in transfers
    ]
    return list(columns(rows, ("ID", "LANE", "TO", "STUDY", "HOW IT STANDS")))


def _details(transfer: dict[str, Any]) -> Iterator[str]:
    yield f"Transfer {transfer['id']} of study {transfer['StudyInstanceUID']} to {transfer['destination']}"
    asked = time.strftime("%Y-%m-%d %H:%M", time.localtime(transfer["created"]))
    reason = f": {transfer['reason']}" if transfer["reason"] else ""
    yield f"Asked for by {transfer['who'] or 'a rule'} at {asked}, lane {transfer['lane']}{reason}"
    yield f"It is {transfer['says']}" if transfer["standing"] != "done" else f"Done: {transfer['says']}"
    if transfer["next"]:
        yield transfer["next"]
    if transfer["bytes"]:
        yield f"{readable(transfer['bytes'])} arrived."
    for each in transfer["series"]:
        failed = f", {each['failed']} failed" if each["failed"] else ""
        yield f"  series {each['SeriesInstanceUID']}: {each['done']} of {each['planned']}{failed}"
    for each in transfer["failures"]:
        yield f"  ✗ {each['SOPInstanceUID']}: {each['why']}"
    left = transfer["failed"] - len(transfer["failures"])
    if left > 0 and transfer["failures"]:
        yield f"  and {plural(left, 'more instance')}"
