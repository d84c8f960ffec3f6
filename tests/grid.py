"""Nodes of a grid as processes: what their admins type, and how they find each other on loopback."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from sim.links import CALM, SILENT, Line, Weather
from sim.plays.actors import variables
from sim.ports import free_port
from tests.running import RunningNode, until


class GridNode(RunningNode):
    """A running node that may be in a grid."""

    def __init__(self, home: Path, name: str, ae_title: str = "", *init: str) -> None:
        super().__init__(home, ae_title or name.upper(), "--name", name, *init)
        self.name = name
        self.join_port = free_port()
        self.env = {
            "PEERPACS__GRID__HOST": "127.0.0.1",
            "PEERPACS__GRID__PORT": str(free_port()),
            "PEERPACS__GRID__JOIN_PORT": str(self.join_port),
            "PEERPACS__GRID__JOIN_ADDRESS": f"127.0.0.1:{self.join_port}",
            "PEERPACS__WATCH__PORT": str(free_port()),
        }

    def say(self, *words: str, code: int = 0) -> str:
        """Run a command of the grid against it; return all it printed."""
        status, said, complaint = self.answer(*words)
        assert status == code, f"{words}: {status}\n{said}{complaint}"
        return said + complaint

    def cli(self, *words: str, exit_code: int = 0) -> str:
        """Run any command against it."""
        return self.say(*words, code=exit_code)

    def told(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json; return what it says."""
        return json.loads(self.say(*words, "--json", code=code))

    def peer(self, name: str) -> dict[str, Any]:
        """Return how another node stands here."""
        rows: list[dict[str, Any]] = json.loads(self.answer("peers", "--json")[1])["peers"]
        return next(row for row in rows if row["name"] == name)

    def admit(self, joiner: GridNode, template: str = "peer") -> None:
        """Have a node join, as two admins would, and grant back what it is granted."""
        made = self.told("invite", "--site", joiner.name.upper(), "--template", template)
        asked = joiner.told("join", made["ticket"], "--no-wait", code=3)
        self.say("approve", asked["request"])
        assert joiner.told("join")["is_member"]
        until(lambda: joiner.is_connected(self) and self.is_connected(joiner))

    def is_connected(self, other: GridNode) -> bool:
        """Say whether another node is connected with this one."""
        _, said, complaint = self.answer("peers", "--json")
        rows = json.loads(said or complaint).get("peers", [])
        return any(row["name"] == other.name and row["state"] == "connected" for row in rows)

    def grant(self, other: GridNode, *ops: str) -> None:
        """Let another node do something with everything."""
        self.say("grants", "add", other.name, "everything", *(ops or ("catalog", "find_live", "retrieve")))

    @property
    def node_id(self) -> str:
        """Its id."""
        return str(json.loads(self.answer("peers", "--json")[1])["node_id"])

    def audit(self, event: str) -> list[dict[str, Any]]:
        """Return what its audit tells of one kind of event."""
        texts = (path.read_text() for path in sorted((self.home / "audit").glob("*.jsonl")))
        # The node writes meanwhile: what has no end of line yet is not whole.
        found = [json.loads(line) for text in texts for line in text.rpartition("\n")[0].splitlines()]
        return [line for line in found if line["event"] == event]

    def metric(self, name: str) -> list[float]:
        """Return the values that /metrics shows under a name."""
        url = f"http://127.0.0.1:{self.env['PEERPACS__WATCH__PORT']}/metrics"
        with urllib.request.urlopen(url, timeout=60) as page:
            lines = page.read().decode().splitlines()
        return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"peerpacs_{name}{{")]


class LinkedNode(GridNode):
    """A node of a grid with one line to all others, for what it dials and for who dials it."""

    def __init__(self, home: Path, name: str, ae_title: str = "") -> None:
        super().__init__(home, name, ae_title)
        self._line = Line(int(self.env["PEERPACS__GRID__PORT"]))
        self.env |= variables(self._line.settings)

    def be(self, sent: Weather = CALM, got: Weather = CALM) -> None:
        """Have this weather on the line for what the node sends, and for what it gets."""
        self._line.be(sent, got)

    def fall_silent(self) -> None:
        """Have the line bring nothing any more, while nobody is told."""
        self.be(SILENT, SILENT)

    def cut(self) -> None:
        """End all connections over the line, and refuse new ones."""
        self._line.cut()

    def heal(self) -> None:
        """Have the line as it was."""
        self._line.heal()

    def close(self) -> None:
        """Stop the node, if it runs, and its line."""
        if self.process is not None:
            self.stop()
        self._line.close()
