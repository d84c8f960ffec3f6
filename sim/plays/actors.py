"""The nodes of a play: real ones, each a process with a home folder, a link to devices, a line to peers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from node.cli import FAILED, PARTIAL

from ..clocks import by_clock
from ..links import Line, Link
from ..pdu import Address
from ..ports import free_port
from ..servers import Server, ServerError, wait

_PROGRAM: Final = Path(sys.executable).parent / "peerpacs"
ALL: Final = ("catalog", "find_live", "retrieve")
"""What one site may grant another."""


class Actor(Server):
    """One node; devices reach it through `link`, and its peers over `line`, if it has one."""

    name = "a node"
    ends_with = (0,)

    def __init__(
        self, folder: Path, name: str, settings: Mapping[str, str], *, has_line: bool = False
    ) -> None:
        super().__init__(folder, name.upper())
        self.called = name
        self.home = folder / "home"
        self.link = Link(self.address.port)
        self._join_port = free_port()
        grid = {
            "grid.host": "127.0.0.1",
            "grid.port": str(free_port()),
            "grid.join_port": str(self._join_port),
            "grid.join_address": f"127.0.0.1:{self._join_port}",
        }
        self.line = Line(int(grid["grid.port"])) if has_line else None
        self.settings = grid | (self.line.settings if self.line else {}) | dict(settings)
        self.skew = ""
        """How far its clock is off, like `+2h`."""
        off = [f"--{door}-port=0" for door in ("tls", "web", "grid", "watch")]
        port = f"--dicom-port={self.address.port}"
        self.say("init", "--name", name, "--ae", name.upper(), port, *off, "--dev", "--yes")

    @property
    def door(self) -> Address:
        """Where modalities and workstations call it: at the link."""
        return Address(self.address.ae_title, self.link.port)

    def command(self) -> list[str]:
        """Return the command line that runs it."""
        return [str(_PROGRAM), "run", "--home", str(self.home)]

    def environment(self) -> dict[str, str]:
        """Return the settings of the play, as the node reads them, and its clock."""
        return variables(self.settings) | by_clock(self.skew)

    def is_ready(self) -> bool:
        """Say whether it told that it is."""
        return any(line.startswith("ready") for line in self._log.read_text(errors="replace").splitlines())

    def say(self, *words: str, codes: Sequence[int] = (0,)) -> str:
        """Run a command of `peerpacs` on its home; return what it printed.

        Raises:
            ServerError: it ended with another code than those.
        """
        command = [str(_PROGRAM), *words, "--home", str(self.home)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode not in codes:
            raise ServerError(f"{' '.join(words)} at {self.called}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def backups(self) -> Path:
        """The folder of its backups."""
        return self.folder / "backups"

    def back_up(self) -> None:
        """Make a backup of it, whether it runs or not. Raises as `say`."""
        self.say("backup", str(self.backups))

    def told(self, *words: str, codes: Sequence[int] = (0,)) -> Any:
        """Run a command with --json; return what it says. Raises as `say`."""
        return json.loads(self.say(*words, "--json", codes=codes))

    def peers(self) -> Any:
        """Return what it says of its peers, whichever of them are away. Raises as `say`."""
        return self.told("peers", codes=(0, FAILED, PARTIAL))

    def is_connected(self, others: Sequence[Actor]) -> bool:
        """Say whether it is connected with all of them."""
        rows = self.peers()["peers"]
        up = {row["name"] for row in rows if row["state"] == "connected"}
        return up >= {other.called for other in others}

    @contextmanager
    def as_it_lies(self, *parts: str) -> Iterator[Path]:
        """Yield a folder with these parts of its home as they are on the disk now, to be read."""
        yield self.home

    def close(self) -> None:
        """Stop it, its link and its line."""
        try:
            self.stop()
        finally:
            self.link.close()
            if self.line:
                self.line.close()


def variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Return settings as a node reads them from its environment."""
    return {f"PEERPACS__{key.replace('.', '__').upper()}": value for key, value in settings.items()}


def enrol(founder: Actor, others: Sequence[Actor]) -> None:
    """Have the others join the founder's grid, each as its admins would. Raises as `Actor.say`."""
    for other in others:
        ticket = founder.told("invite", "--site", other.called)["ticket"]
        asked = other.told("join", ticket, "--no-wait", codes=(0, 3))
        founder.say("approve", asked["request"])
        other.say("join")


def befriend(members: Sequence[Actor]) -> None:
    """Wait until the members of a grid are connected, and have each grant the others all.

    The founder, who is first, granted all to whoever joined. Raises as `Actor.say`; ServerError: they are
    not connected in time.
    """
    for member in members:
        wait(lambda member=member: member.is_connected([o for o in members if o is not member]), pause=0.3)  # type: ignore[misc]
    for member in members[1:]:
        for other in members:
            if other is not member:
                member.say("grants", "add", other.called, "everything", *ALL)
