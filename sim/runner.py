"""Interleaved runs: ours, theirs, ours, ..., so that what changes on the machine changes for both.

Whatever happens, every process that was started is stopped and every folder that was made is removed.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

from rich.console import Console

from .cases import Case
from .clients import ClientError
from .pdu import Address, ProtocolError
from .ports import free_port
from .profile import profiled
from .report import Measured
from .servers import Server, ServerError, settle

FAILURES = (ServerError, ClientError, ProtocolError, OSError)
"""What a case raises when it cannot be measured."""


class Runner:
    """Runs cases and collects what they measure.

    `storage` is where servers keep what they are sent, on a real disk; `scratch` is where the files to
    send lie, in memory if there is room; `profile` is where the profiles of the runs go.
    """

    def __init__(
        self,
        storage: Path,
        scratch: Path,
        runs: int,
        console: Console,
        only: Sequence[str] = (),
        profile: Path | None = None,
    ) -> None:
        self._storage = storage
        self._profile = profile
        self._only = only
        self._scratch = scratch
        self._runs = runs
        self._console = console
        self._began = time.monotonic()
        self.configurations: dict[str, str] = {}
        """What each contestant was told, for the report."""

    def measure(self, case: Case) -> list[Measured]:
        """Run the case for every contestant, run by run.

        Raises:
            ServerError, ClientError, ProtocolError, OSError: it could not be measured; all is stopped.
        """
        figures: dict[str, dict[str, list[float]]] = {
            row.name: {name: [] for name in case.contestants} for row in case.rows
        }
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._scratch)))
            destination = Address("STORESCP", free_port())
            stack.callback(case.finish)
            self._say(f"{case.name}: preparing")
            case.prepare(scratch, destination)
            standing = {} if case.is_fresh_each_run else self._standing(case, destination, stack)
            for run in range(self._runs):
                for name in self._names(case):
                    with self._fresh(case, name, destination, standing) as server:
                        settle([server, *standing.values()])
                        with self._watched(server, run):
                            measured = case.measure(server, run)
                    for row, figure in measured.items():
                        figures[row][name].append(figure)
                    self._say_run(case, run, name, measured)
        return case.conclude([Measured(case.title, row, figures[row.name]) for row in case.rows])

    def _standing(self, case: Case, destination: Address, stack: ExitStack) -> dict[str, Server]:
        """Start and load one server for each contestant, for all runs."""
        standing = {}
        for name in self._names(case):
            self._say(f"{case.name}: loading {name}")
            standing[name] = stack.enter_context(self._server(case, name, destination))
            case.load(standing[name])
        return standing

    @contextmanager
    def _fresh(
        self, case: Case, name: str, destination: Address, standing: dict[str, Server]
    ) -> Iterator[Server]:
        if name in standing:
            yield standing[name]
            return
        with self._server(case, name, destination) as server:
            case.load(server)
            yield server

    @contextmanager
    def _server(self, case: Case, name: str, destination: Address) -> Iterator[Server]:
        folder = Path(tempfile.mkdtemp(dir=self._storage)) / "server"
        try:
            server = case.contestants[name](folder, destination)
            try:
                server.start()
                if server.configuration:
                    self.configurations[server.name] = server.configuration
                yield server
            finally:
                server.stop()
        finally:
            shutil.rmtree(folder.parent)

    def _watched(self, server: Server, run: int) -> AbstractContextManager[None]:
        return profiled(server, self._profile, run > 0) if self._profile else nullcontext()

    def _names(self, case: Case) -> list[str]:
        return [name for name in case.contestants if not self._only or name in self._only]

    def _say_run(self, case: Case, run: int, name: str, measured: dict[str, float]) -> None:
        rows = [row for row in case.rows if row.name in measured]
        row = next((row for row in rows if row.goal), rows[0])
        figure = f"{row.name} {measured[row.name]:.2f} {row.unit}"
        self._say(f"{case.name}: run {run + 1} of {self._runs}, {name}: {figure}")

    def _say(self, line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self._console.print(f"[dim]{minutes:2d}:{seconds:02d}[/] {line}", highlight=False)
