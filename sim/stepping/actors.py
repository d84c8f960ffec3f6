"""The nodes of a play in this process: each on a machine of its own that the stepper knows by its name."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from node.app import open_node
from node.app.node import Node
from node.cli import main

from ..plays import actors
from ..servers import ServerError
from . import sockets, threads
from .turns import Stepper

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Actor(actors.Actor):
    """One node, stepped; commands for it run on its machine."""

    stepper: Stepper
    """Of all nodes; set before the first one is made."""

    def __init__(
        self, folder: Path, name: str, settings: Mapping[str, str], *, has_line: bool = False
    ) -> None:
        self._node: Node | None = None
        self._graves = count(1)
        super().__init__(folder, name, settings, has_line=has_line)

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped or killed since."""
        return self._node is not None

    def start(self) -> float:
        """Open the node and have it serve; return the seconds that took.

        Raises:
            ServerError: it did not start; the text says why.
        """
        began = self.stepper.now
        threads.skews[self.called] = _seconds(self.skew)
        with self.stepper.on(self.called), _environment(self.environment()):
            node = open_node(self.home)
            try:
                node.start()
            except BaseException:
                node.close()
                raise
        self._node = node
        return self.stepper.now - began

    def environment(self) -> dict[str, str]:
        """Return the settings of the play, as the node reads them."""
        return actors.variables(self.settings)

    def stop(self) -> None:
        """Close the node, as a service manager has it end."""
        node, self._node = self._node, None
        if node is not None:
            with self.stepper.on(self.called):
                node.close()

    def kill(self) -> None:
        """End it as kill -9 does: no thread goes on, its connections break, its files are as they are."""
        if self._node is None:
            return
        self._node = None
        self.stepper.kill(self.called)
        sockets.crash(self.called)
        # Its databases stay open in this process: the next life has copies.
        grave = self.folder / f"killed-{next(self._graves)}"
        self.home.rename(grave)
        _copy(grave, self.home)

    def say(self, *words: str, codes: Sequence[int] = (0,)) -> str:
        """Do a command of `peerpacs` on its home; return what it printed.

        Raises:
            ServerError: it ended with another code than those.
        """
        said, complained = io.StringIO(), io.StringIO()
        code: object = 0
        with (
            self.stepper.on(self.called),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(complained),
        ):
            try:
                main([*words, "--home", str(self.home)])
            except SystemExit as end:
                code = end.code or 0
        if code not in codes:
            raise ServerError(f"{' '.join(words)} at {self.called}: {said.getvalue()}{complained.getvalue()}")
        return said.getvalue()

    def back_up(self) -> None:
        """Make a backup of it as it lies on the disk: another process would read it while it runs."""
        running = self.home
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            _copy(running, Path(folder) / "home")
            self.home = Path(folder) / "home"
            try:
                super().back_up()
            finally:
                self.home = running

    @contextlib.contextmanager
    def as_it_lies(self, *parts: str) -> Iterator[Path]:
        """Yield copies: this process has the databases open, and no process may have one open twice."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for part in parts:
                (Path(folder) / part).parent.mkdir(parents=True, exist_ok=True)
                _copy(self.home / part, Path(folder) / part)
            yield Path(folder)

    def cpu_seconds(self) -> float:
        """Return 0: time passes only when nobody works."""
        return 0.0


def _copy(source: Path, target: Path) -> None:
    """Copy a folder at this moment of the play, holes and all."""
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)


@contextlib.contextmanager
def _environment(words: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(words)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _seconds(skew: str) -> float:
    """Return the seconds of a skew like +2h."""
    found = re.fullmatch(r"([+-]\d+)([smhd])", skew)
    return int(found[1]) * _UNITS[found[2]] if found else 0.0
