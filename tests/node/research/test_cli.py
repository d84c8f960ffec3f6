"""Projects, exports and the review queue at the command line, on a node that is not running."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.phantoms import instances, study
from tests.node.commandline import CommandLine


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    line = CommandLine(tmp_path / "home", capsys)
    line.init()
    source = tmp_path / "in"
    source.mkdir()
    for one in instances(study(7, 0, size=4_000)):
        (source / f"{one.SOPInstanceUID}.dcm").write_bytes(one.part10())
    line("import", str(source))
    return line


def test_a_first_export_is_said_in_advance_done_and_checked(cli: CommandLine, tmp_path: Path) -> None:
    assert "peerpacs projects add" in cli("projects")
    made = cli("projects", "add", "trial-7")
    assert "The project TRIAL-7 was made" in made
    asked = ("export", "--project", "TRIAL-7", "--query", "Modality=CT")
    assert "<10" in cli(*asked, "--dry-run")
    out = tmp_path / "cohort"
    said = cli(*asked, "--to", str(out))
    assert "released" in said
    assert "Every file is what was released" in cli("export", "check", str(out))
    next(out.rglob("IM*")).write_bytes(b"changed")
    cli("export", "check", str(out), code=1)
    [export] = cli.json("export", "list")
    assert export["released"] == 1
    assert export["id"][:8] in cli("export", "list")
    assert "manifest" in cli("export", "show", export["id"][:6])
    assert "Nothing is held back." in cli("quarantine")
    subject = export["subjects"][0]
    by_folder = ("anonymize", str(tmp_path / "in"), str(tmp_path / "out"), "--profile", "research")
    cli(*by_folder, "--project", "trial-7")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == [subject]
    assert f"brought it to {out}" in cli("export", "withdraw", subject, "--reason", "consent")
    cli(*asked, "--to", str(tmp_path / "again"), code=2)


def test_each_misuse_says_what_to_do(cli: CommandLine, tmp_path: Path) -> None:
    cli("export", "--query", "Modality=CT", code=2)
    assert "--project NAME" in cli.complaint
    cli("export", "--project", "NONE", "--query", "Modality=CT", "--dry-run", code=1)
    assert "peerpacs projects add NONE" in cli.complaint
    cli("projects", "add", "T")
    cli("export", "--project", "T", "--query", "Modalty=CT", "--dry-run", code=2)
    assert "Modalty" in cli.complaint
    cli("export", "--project", "T", "--query", "Modality=CT", code=2)
    assert "--to" in cli.complaint
    cli("export", "--project", "T", "--query", "Modality=CT", "--to", "archive:", code=2)
    assert "--ae TITLE" in cli.complaint
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    cli("export", "--project", "T", "--query", "Modality=CT", "--to", str(tmp_path / "full"), code=2)
    assert "exists already" in cli.complaint
    cli("projects", "add", "T", code=2)
    cli("projects", "edit", "T", "--profile", "reserch", code=1)
    assert "there are basic, research" in cli.complaint
    cli("quarantine", "show", "abc", code=1)
    assert "peerpacs quarantine list" in cli.complaint


def test_a_policy_of_ones_own_is_put_in_described_and_used(cli: CommandLine, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"profile": "basic", "options": ["113100", "113107", "113108"]}')
    cli("projects", "policy", "our-ct", str(own))
    cli("projects", "add", "T", "--profile", "our-ct")
    assert "113107" in cli("projects", "describe", "T")
    own.write_text('{"profile": "basic", "overrides": [{"tag": "00100010", "action": "K"}]}')
    cli("projects", "policy", "our-ct", str(own), code=2)
    assert "weaker" in cli.complaint
    cli("projects", "policy", "research", str(own), code=2)
