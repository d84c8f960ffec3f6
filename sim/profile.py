"""Where a node spends its time while a case runs: py-spy's samples as a text a person can read."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from .servers import Server, ServerError

_RATE: Final = 200
"""Samples in a second."""


@contextmanager
def profiled(server: Server, file: Path, only_interpreter: bool) -> Iterator[None]:
    """Sample the server while the block runs and add what it did to `file`, the busiest first.

    Counted are threads that run, or with `only_interpreter` the one that holds the interpreter lock.

    Raises:
        ServerError: py-spy is not installed, or may not look into the process.
    """
    program = shutil.which("py-spy", path=sysconfig.get_path("scripts")) or shutil.which("py-spy")
    if not program:
        raise ServerError(f"py-spy is not installed. {sys.executable} -m pip install py-spy brings it.")
    with TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        options = ["-r", str(_RATE), "-f", "raw", "-o", str(samples), "-d", "3600", "-F", "--nonblocking"]
        options += ["--gil"] if only_interpreter else []
        command = [program, "record", "-p", str(server.pid), *options]
        spy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(0.5)
        if spy.poll() is not None:
            raise ServerError(f"py-spy could not look into {server.name} (root may):\n{spy.communicate()[0]}")
        try:
            yield
        finally:
            spy.send_signal(signal.SIGINT)
            said = spy.communicate()[0]
        if not samples.exists():
            raise ServerError(f"py-spy wrote no samples:\n{said}")
        counted = "the thread that holds the interpreter lock" if only_interpreter else "threads that run"
        with file.open("a") as text:
            text.write(f"Samples of {counted}, {_RATE} in a second\n{summary(samples.read_text())}\n")


def summary(raw: str) -> str:
    """Return collapsed stacks (`a;b;c 12` a line) as tables of functions and stacks."""
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    stacks: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        alone[frames[-1]] += int(count)
        stacks[" > ".join(frames[-5:])] += int(count)
        for frame in set(frames):
            within[frame] += int(count)
    total = alone.total() or 1
    tables = (
        ("In the function itself", alone, 30),
        ("In the function and what it calls", within, 40),
        ("Innermost five calls", stacks, 20),
    )
    lines = [f"{alone.total()} samples"]
    for title, counts, limit in tables:
        lines += ["", title]
        lines += [f"{100 * n / total:6.1f} %  {name}" for name, n in counts.most_common(limit)]
    return "\n".join(lines) + "\n"
