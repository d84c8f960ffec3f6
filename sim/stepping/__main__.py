"""`python -m sim.stepping [FILE...]`: acts plays with all their nodes in one process, turn by turn."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

_HASHES: Final = "PYTHONHASHSEED"


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--seed", default=1, show_default=True, help="Same seed, same studies.")
@click.option(
    "--turns", default=1, show_default=True, help="Same number, same turns: who goes on is drawn from it."
)
@click.option("--runs", default=1, show_default=True, help="Act with so many numbers, from --turns on.")
@click.option("--invent", is_flag=True, help="Act a play that is drawn from --turns, instead of files.")
@click.option("--log", type=click.Path(path_type=Path), help="A file for what the nodes log.")
def main(files: Sequence[Path], seed: int, turns: int, runs: int, invent: bool, log: Path | None) -> None:
    """Act plays as `python -m sim.plays` does, but with whole nodes in this one process and in virtual time.

    One thread runs at a time, and numbers draw which: the same numbers give the same run, turn by turn, and
    others another order of all that happens. Exit 1 if a play went another way than is written.

    An invented play uses and harms three hospitals as is drawn, mends all, and demands that nothing is
    missing anywhere then; what was not well is shown with the play.

    Example: python -m sim.stepping --runs 20 sim/scenarios/hospitals.txt
    """
    if invent == bool(files):
        raise click.UsageError("Name plays to act, or have some invented: --invent")
    if runs > 1:
        what = ["--invent"] if invent else [str(file) for file in files]
        sys.exit(_act_again([f"--seed={seed}", *what], range(turns, turns + runs)))
    if os.environ.get(_HASHES) != "0":
        # The order of sets is chance otherwise.
        sys.stdout.flush()
        os.execve(
            sys.executable,
            [sys.executable, "-m", "sim.stepping", *sys.argv[1:]],
            {**os.environ, _HASHES: "0"},
        )
    from . import world

    # A folder of its own: names drawn from a seed are the same in every run.
    with tempfile.TemporaryDirectory(prefix="stepped") as folder:
        tempfile.tempdir = folder
        stepper = world.begin(turns)
        from .acting import act_all, act_invented

        code = act_invented(stepper, turns, seed, log) if invent else act_all(stepper, files, seed, log)
    sys.stdout.flush()
    # Threads of machines that were killed wait for ever.
    os._exit(code)


def _act_again(what: Sequence[str], numbers: range) -> int:
    """Act in a new process for each number of turns; return 1 if any went another way."""
    failed = 0
    for number in numbers:
        words = [f"--turns={number}", *what]
        done = subprocess.run([sys.executable, "-m", "sim.stepping", *words])
        if done.returncode:
            failed += 1
            click.echo(f"To see that again: python -m sim.stepping {' '.join(words)}")
    click.echo(f"{len(numbers) - failed} of {len(numbers)} runs went as they should.")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
