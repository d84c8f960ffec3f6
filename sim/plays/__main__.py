"""`python -m sim.plays [FILE...]`: acts plays and compares their transcripts, or records them again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import Final

import click

from catalog import PacsError

from ..servers import ServerError
from ..targets import REFUSALS
from .actors import Actor
from .report import write
from .script import SCENARIOS, Scene, parse, written
from .stage import Stage

_FAILURES: Final = (ServerError, subprocess.SubprocessError, ValueError, *REFUSALS)
"""What comes of a node that fails, or of the commands that ask it."""


def act(
    text: str,
    source: str,
    seed: int = 1,
    *,
    report: Path | None = None,
    say: Callable[[str], object] = lambda line: None,
    kind: type[Actor] = Actor,
) -> str:
    """Act a play; return its text with the transcripts as they were this time.

    A folder for the report of its traffic may be given, which is written also when the play does not come to
    its end; `say` gets each line as it is told.

    Raises:
        BadRequest: it cannot be understood.
        ServerError: a node did not start, stop, obey or answer; the line of the play is named.
    """
    scenes = parse(text, source)
    transcript: list[str] = []

    def tell(line: str) -> None:
        transcript.append(line)
        say(line)

    with Stage(seed, kind) as stage:
        why = ""
        try:
            return written(list(_acted(scenes, stage, tell)))
        except (ServerError, KeyboardInterrupt) as error:
            why = str(error)
            raise
        finally:
            if report and stage.traffic:
                stage.traffic.close()
                write(report, stage.traffic, transcript, why)


def _acted(scenes: Sequence[Scene], stage: Stage, say: Callable[[str], object]) -> Iterator[Scene]:
    for scene in scenes:
        told: list[str] = []
        for command in scene.commands:
            where = f"line {command.line}, {command.verb}"
            try:
                heard = stage.act(command)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"{where}: you ended it.") from None
            except PacsError as error:
                raise ServerError(f"{where}: {error.what} {error.next}") from error
            except _FAILURES as error:
                raise ServerError(f"{where}: {error}") from error
            for line in heard:
                say(line)
            told += heard
        is_told = bool(told) or scene.expected is not None
        yield Scene(scene.lines, scene.commands, told if is_told else None)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--rewrite", is_flag=True, help="Record the transcripts again; read the difference afterwards.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="A folder for Figures 6 and 7 of the traffic."
)
@click.option("--seed", default=1, show_default=True, help="Same seed, same studies.")
def main(files: tuple[Path, ...], rewrite: bool, report: Path | None, seed: int) -> None:
    """Act plays; exit 1 if one went another way than is written. Without FILE, all that come with this.

    Example: python -m sim.plays sim/scenarios/one-node.txt
    """
    failed = 0
    for file in files or sorted(SCENARIOS.glob("*.txt")):
        text, began = file.read_text(encoding="utf-8"), time.monotonic()
        try:
            now = act(text, str(file), seed, report=report, say=partial(click.echo, err=True))
        except PacsError as error:
            raise click.UsageError(f"{error.what} {error.next}") from None
        except ServerError as error:
            click.echo(f"{file}, {error}", err=True)
            failed += 1
            continue
        click.echo(f"{file.name}: {time.monotonic() - began:.1f} s")
        if rewrite:
            file.write_text(now, encoding="utf-8")
        elif now != text:
            failed += 1
            lines = unified_diff(text.splitlines(), now.splitlines(), "written", "acted", lineterm="")
            click.echo("\n".join(lines))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
