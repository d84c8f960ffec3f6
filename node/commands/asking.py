"""`peerpacs echo` and `peerpacs find`: is it there, and what does it have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click

from node.cli import PARTIAL, Session, columns, plural, shared
from node.commands.peers import TlsOptions, called, keys, titles

_MOST: Final = 1000
"""Answers from the node's own desk unless more are asked for."""


@click.command("echo")
@click.argument("words", nargs=-1, required=True, metavar="HOST PORT | NAME")
@titles
@shared
def echo_command(
    session: Session,
    words: tuple[str, ...],
    calling_ae: str | None,
    called_ae: str | None,
    tls: TlsOptions,
) -> int:
    """Call an Application Entity with C-ECHO.

    Example: peerpacs echo -aec ALPHA 127.0.0.1 11112
    """
    there = called(session, words, calling_ae, called_ae, tls)
    seconds = there.requestor().echo()
    line = f"✓ {there.called_ae} at {there.host}:{there.port} answered in {seconds * 1000:.0f} ms."
    session.say({"ae_title": there.called_ae, "seconds": seconds}, [line])
    return 0


@click.command("find")
@click.argument("words", nargs=-1, metavar="[HOST PORT | NAME]")
@titles
@keys
@click.option("--level", default="", help="PATIENT, STUDY, SERIES or IMAGE; STUDY unless said.")
@click.option("--limit", default=0, help="Stop after so many answers.")
@shared
def find_command(
    session: Session,
    words: tuple[str, ...],
    calling_ae: str | None,
    called_ae: str | None,
    tls: TlsOptions,
    pairs: tuple[str, ...],
    is_patient_root: bool,
    is_study_root: bool,
    level: str,
    limit: int,
) -> int:
    """Ask what there is, here or at another system (C-FIND).

    Without HOST PORT or NAME this node's own catalog is asked, whether it runs or not.

    Example: peerpacs find -k PatientName=NOVAK* -k StudyDate=20260101-
    """
    from node.keys import LEVEL, question, row_of

    identifier, cut = question(pairs, level), 0
    asked = identifier[LEVEL]["Value"][0]
    if words:
        there = called(session, words, calling_ae, called_ae, tls)
        is_patient_root = is_patient_root or asked == "PATIENT"
        answers, cut = _at_most(there.requestor().find(identifier, patient_root=is_patient_root), limit)
    else:
        with session.desk("find") as ask:
            answers = ask("find", keys=list(pairs), level=level, limit=limit or _MOST)
    rows = [row_of(answer, asked) for answer in answers]
    session.say(answers, _lines(rows, asked))
    if not words and not limit and len(answers) == _MOST:
        click.echo(f"Only the first {_MOST} are shown; ask for more with --limit.", err=True)
    if cut:
        click.echo(f"{there.called_ae} ended its list with status {cut:04X}: there may be more.", err=True)
        return PARTIAL
    return 0


def _at_most(found: Any, limit: int) -> tuple[list[Any], int]:
    """Return the answers, and the status with which the other side said that these are not all; else 0."""
    answers = []
    for answer in found:
        answers.append(answer)
        if limit and len(answers) == limit:
            found.cancel()
            return answers, 0
    return answers, found.status


def _lines(rows: list[dict[str, str]], level: str) -> Iterator[str]:
    noun = {"IMAGE": "instance"}.get(level, level.lower())
    if rows:
        yield from columns([list(row.values()) for row in rows], [*rows[0]])
    yield f"{plural(len(rows), noun)}."
