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
from ..servers import ServerError
from .actors import Actor
from .turns import Stepper

_LINE: Final = "%(asctime)s %(threadName)s %(name)s: %(message)s"


def act_all(stepper: Stepper, files: Sequence[Path], seed: int, log: Path | None) -> int:
    """Act plays, and compare their transcripts; return 1 if one went another way than is written."""
    logging.basicConfig(filename=log or os.devnull, level=logging.INFO, format=_LINE)
    # All nodes have their files and sockets in this one process.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Actor.stepper = stepper
    failed = 0
    for file in files:
        text, began, steps = file.read_text(encoding="utf-8"), stepper.now, stepper.steps
        try:
            now = act(text, str(file), seed, kind=Actor)
        except PacsError as error:
            raise click.UsageError(f"{error.what} {error.next}") from None
        except ServerError as error:
            click.echo(f"{file}, {error}", err=True)
            failed = 1
            continue
        took = f"{stepper.steps - steps} turns, {stepper.now - began:.1f} s of its own time"
        click.echo(f"{file.name}: {took}, checksum of all turns {stepper.trace:08x}")
        if now != text:
            failed = 1
            lines = unified_diff(text.splitlines(), now.splitlines(), "written", "acted", lineterm="")
            click.echo("\n".join(lines))
    return failed
