"""`peerpacs` inside the test's own process: quicker than a new one, and the same code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.cli import main


class CommandLine:
    """Runs commands against one home folder; keeps what the last one said on standard error."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.complaint = ""
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run a command, check its exit code, return what it printed."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--home", str(self.home), *words])
        said = self._capsys.readouterr()
        self.complaint = said.err
        assert ended.value.code == code, f"{words}: {ended.value.code}\n{said.out}\n{said.err}"
        return said.out

    def json(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json and return what it says."""
        return json.loads(self(*words, "--json", code=code))

    def init(self, *words: str, code: int = 0) -> str:
        """Make a node that listens nowhere unless told."""
        ports = [
            f"--{name}-port=0"
            for name in ("dicom", "tls", "web", "grid", "watch")
            if f"--{name}-port" not in words
        ]
        return self("init", "--name", "alpha", "--ae", "ALPHA", *ports, *words, "--yes", code=code)
