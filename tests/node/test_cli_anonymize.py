"""`peerpacs anonymize`: a folder in, a de-identified one out, as somebody meets it who has no node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from sim.phantoms import instances, study
from tests.running import PEERPACS

from .commandline import CommandLine


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path / "home", capsys)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        for place, one in enumerate(instances(study(7, number, size=4_000))):
            (folder / f"{number}-{place}.dcm").write_bytes(one.part10())
    return folder


def test_a_folder_is_de_identified_with_a_key_that_was_made_for_it(
    cli: CommandLine, source: Path, tmp_path: Path
) -> None:
    key, out = tmp_path / "trial.key", tmp_path / "out"
    said = cli("anonymize", "--make-key", "TRIAL-7", "--project", str(key))
    assert "TRIAL-7" in said
    assert key.stat().st_mode & 0o077 == 0
    words = (
        "anonymize",
        str(source),
        str(out),
        "--profile",
        "research",
        "--project",
        str(key),
        "--jobs",
        "2",
    )
    dry = cli.json(*words, "--dry-run")
    assert dry["released"] == len(list(source.iterdir()))
    assert not out.exists()
    assert "are in" in cli(*words)
    files = list(out.rglob("*.dcm"))
    assert len(files) == dry["released"]
    assert all(dcmread(file).PatientID.startswith("TRIAL-7-") for file in files)


def test_what_a_profile_does_is_said_in_english(cli: CommandLine, tmp_path: Path) -> None:
    assert "(0010,0030) Patient's Birth Date" in cli("anonymize", "--describe", "--profile", "research")
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"profile": "basic", "options": ["113107"]}))
    assert "113107" in cli("anonymize", "--describe", "--profile", str(own))
    own.write_text(json.dumps({"profile": "basic", "optoins": []}))
    cli("anonymize", "--describe", "--profile", str(own), code=2)
    assert "Did you mean 'options'?" in cli.complaint


def test_each_misuse_says_what_to_do(cli: CommandLine, source: Path, tmp_path: Path) -> None:
    cli("anonymize", str(source), str(tmp_path / "out"), code=2)
    assert "--make-key" in cli.complaint
    cli("anonymize", str(source), str(tmp_path / "out"), "--project", "nowhere.key", code=2)
    assert "There is no key file nowhere.key" in cli.complaint
    assert "--make-key" in cli.complaint
    cli("anonymize", "--describe", "--profile", "reserch", code=2)
    assert "research" in cli.complaint
    key = tmp_path / "k"
    cli("anonymize", "--make-key", "A", "--project", str(key))
    cli("anonymize", "--make-key", "A", "--project", str(key), code=2)
    assert "never overwritten" in cli.complaint
    cli("anonymize", str(tmp_path / "missing"), str(tmp_path / "out"), "--project", str(key), code=2)
    assert "is not a folder" in cli.complaint


def test_killed_in_the_middle_nothing_is_released_and_the_same_command_goes_on(
    cli: CommandLine, source: Path, tmp_path: Path
) -> None:
    key, out = tmp_path / "trial.key", tmp_path / "out"
    cli("anonymize", "--make-key", "TRIAL-7", "--project", str(key))
    words = ["anonymize", str(source), str(out), "--profile", "research", "--project", str(key)]
    process = subprocess.Popen([PEERPACS, *words], start_new_session=True, stderr=subprocess.DEVNULL)
    staging = tmp_path / ".out.staging" / "files"
    deadline = time.monotonic() + 60
    while not list(staging.rglob("*.dcm")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists() or process.returncode == 0
    if process.returncode == 0:
        return
    cli(*words)
    assert len(list(out.rglob("*.dcm"))) == len(list(source.iterdir()))
