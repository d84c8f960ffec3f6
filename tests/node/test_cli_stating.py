"""What a node is and does can be had as a document, of any node or of this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from .commandline import CommandLine


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path / "home", capsys)


def test_the_statement_of_a_node_is_printed_or_written(cli: CommandLine, tmp_path: Path) -> None:
    cli.init("--dicom-port=104")
    printed = cli("conformance")
    assert "| `ALPHA` |" in printed
    assert "| TCP port for DICOM | `dicom.port` | 104 |" in printed
    file = tmp_path / "statement.md"
    assert cli("conformance", "--write", str(file)) == f"✓ {file}\n"
    assert file.read_text() == printed
    assert cli.json("conformance")["statement"] == printed
