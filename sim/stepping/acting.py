"""Acting plays on a stepper; imported when everything takes turns."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Final

import click

from catalog import PacsError

from ..plays.__main__ import act
from ..plays.script import parse
from ..servers import ServerError
from . import threads
from .actors import Actor
from .inventing import complaints, invented
from .turns import Stepper

_LINE: Final = "%(asctime)s %(threadName)s %(name)s: %(message)s"


def act_all(stepper: Stepper, files: Sequence[Path], seed: int, log: Path | None) -> int:
    """Act plays, and compare their transcripts; return 1 if one went another way than is written."""
    _prepare(stepper, log)
    failed = 0
    for file in files:
        text = file.read_text(encoding="utf-8")
        now = _acted(stepper, file.name, text, seed)
        if now != text:
            failed = 1
        if now and now != text:
            lines = unified_diff(text.splitlines(), now.splitlines(), "written", "acted", lineterm="")
            click.echo("\n".join(lines))
    return failed


def _prepare(stepper: Stepper, log: Path | None) -> None:
    logging.basicConfig(filename=log or os.devnull, level=logging.INFO, format=_LINE)
    # All nodes have their files and sockets in this one process.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Actor.stepper = stepper


def act_invented(stepper: Stepper, number: int, seed: int, log: Path | None) -> int:
    """Act the play that is invented from a number; return 1 if not all was well in its end."""
    _prepare(stepper, log)
    text = invented(number)
    now = _acted(stepper, f"invented play {number}", text, seed)
    bad = complaints(parse(now, "it")[-1].expected or ()) if now else ["It did not come to its end."]
    if bad:
        click.echo("\n".join((now or text, *(f"Not well: {line}" for line in bad))))
    return 1 if bad else 0


def _acted(stepper: Stepper, name: str, text: str, seed: int) -> str:
    """Return the text of a play as it went, or nothing if it did not come to its end or a thread failed."""
    began, steps = stepper.now, stepper.steps
    try:
        now = act(text, name, seed, kind=Actor)
    except PacsError as error:
        raise click.UsageError(f"{error.what} {error.next}") from None
    except ServerError as error:
        click.echo(f"{name}, {error}", err=True)
        return ""
    took = f"{stepper.steps - steps} turns, {stepper.now - began:.1f} s of its own time"
    click.echo(f"{name}: {took}, checksum of all turns {stepper.trace:08x}")
    if threads.failures:
        click.echo("\n".join(threads.failures), err=True)
        threads.failures.clear()
        return ""
    return now
