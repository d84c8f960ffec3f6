"""The nodes of a play: real ones, each a process with a home folder and a link in front of its DICOM port."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..links import Link
from ..pdu import Address
from ..servers import Server, ServerError, free_port

_PROGRAM: Final = Path(sys.executable).parent / "peerpacs"


class Actor(Server):
    """One node; what is said to it goes through `link`."""

    name = "a node"
    ends_with = (0,)

    def __init__(self, folder: Path, name: str, settings: Mapping[str, str]) -> None:
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
        self._settings = grid | dict(settings)
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
        """Return the settings of the play, as the node reads them."""
        settings = self._settings.items()
        return {f"PEERPACS__{key.replace('.', '__').upper()}": value for key, value in settings}

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

    def told(self, *words: str, codes: Sequence[int] = (0,)) -> Any:
        """Run a command with --json; return what it says. Raises as `say`."""
        return json.loads(self.say(*words, "--json", codes=codes))

    def close(self) -> None:
        """Stop it, and its link."""
        try:
            self.stop()
        finally:
            self.link.close()


def enrol(founder: Actor, others: Sequence[Actor]) -> None:
    """Have the others join the founder's grid, each as its admins would. Raises as `Actor.say`."""
    for other in others:
        ticket = founder.told("invite", "--site", other.called)["ticket"]
        asked = other.told("join", ticket, "--no-wait", codes=(0, 3))
        founder.say("approve", asked["request"])
        other.say("join")
