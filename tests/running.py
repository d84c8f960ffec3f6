"""A real node for tests: `peerpacs init` and `peerpacs run` as processes of their own, on free ports."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom

from node.cli import main
from sim.ports import free_port
from tests.privacy import leaks

PEERPACS = str(Path(sys.executable).with_name("peerpacs"))


class RunningNode:
    """One node in a home folder of its own; `cli` speaks to it as a person would."""

    prefix: tuple[str, ...] = ()
    """What stands before its command, where it runs on another host."""
    program: tuple[str, ...] = (PEERPACS,)

    def __init__(self, home: Path, ae_title: str = "ALPHA", *init: str, dev: bool = True) -> None:
        self.home = home
        self.ae_title = ae_title
        self.port = free_port()
        ports = ["--dicom-port", str(self.port), "--tls-port", "0", "--web-port", "0", "--grid-port", "0"]
        ports += ["--watch-port", "0"]
        more = ["--dev"] if dev else []
        self.cli("init", "--name", ae_title.lower(), "--ae", ae_title, *ports, *more, *init, "--yes")
        self.process: subprocess.Popen[str] | None = None

    def start(self, **environment: str) -> None:
        """Run the node until its `ready` line."""
        command = [*self.prefix, *self.program, "run", "--home", str(self.home)]
        log = (self.home / "log.txt").open("a")
        env = {**os.environ, "PEERPACS__LOG__FORMAT": "json", **environment}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
        log.close()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready"), f"{line!r}; log: {self.log()[-3000:]}"

    def stop(self) -> int:
        """Send SIGTERM; return the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self._forget()
        return code

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._forget()

    def _forget(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        told = leaks(self.log())
        assert not told, f"The log tells of patients: {told[:3]}"

    def log(self) -> str:
        """Return everything the node logged."""
        path = self.home / "log.txt"
        return path.read_text() if path.exists() else ""

    def answer(self, *words: str) -> tuple[int, str, str]:
        """Run a command in this process, which is quicker; return code, output and complaint."""
        said, complaint = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
            try:
                main(["--home", str(self.home), *words])
            except SystemExit as ended:
                return int(ended.code or 0), said.getvalue(), complaint.getvalue()
        raise AssertionError("a command ends with its code")

    def cli(self, *words: str, exit_code: int = 0) -> str:
        """Run a command against this node; return what it printed."""
        code, said, complaint = self.answer(*words)
        assert code == exit_code, f"{words}: {code}\n{said}\n{complaint}"
        return said

    def json(self, *arguments: str, exit_code: int = 0) -> Any:
        """Run a command with --json and return what it says."""
        return json.loads(self.cli(*arguments, "--json", exit_code=exit_code))


def dcmtk(program: str, *arguments: str, exit_code: int | None = 0) -> str:
    """Run a DCMTK program; return all it printed."""
    env = {**os.environ, "TCP_NODELAY": "1"}
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=120, env=env, errors="replace"
    )
    assert exit_code in (None, done.returncode), f"{program} {arguments}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def as_dcmtk_sends(path: str | Path) -> pydicom.Dataset:
    """Return a file as it comes from DCMTK and Orthanc, which leave Data Set Trailing Padding out."""
    dataset = pydicom.dcmread(path)
    dataset.pop(0xFFFCFFFC, None)
    return dataset


def until(claim: Any, seconds: float = 60.0) -> Any:
    """Wait until the claim is true and return what it returned; fail when it never becomes so."""
    deadline = time.monotonic() + seconds
    while True:
        result = claim()
        if result:
            return result
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.02)


@contextlib.contextmanager
def running(home: Path, ae_title: str = "ALPHA", *init: str, **environment: str) -> Iterator[RunningNode]:
    """Yield a started node; stop it in the end, however the test went."""
    node = RunningNode(home, ae_title, *init)
    node.start(**environment)
    try:
        yield node
    finally:
        if node.process is not None:
            node.stop()
