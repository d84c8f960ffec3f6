"""The scripts that bring Orthanc and DCMTK, as a person calls them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sim.servers import dcmtk_program, orthanc_program

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"


def test_orthanc_is_unpacked_once_and_runs() -> None:
    first, again = orthanc_program(), orthanc_program()
    assert first == again
    done = subprocess.run([first, "--version"], capture_output=True, text=True)
    assert "Orthanc" in done.stdout


def test_dcmtk_is_found_and_is_not_pynetdicom() -> None:
    done = subprocess.run([dcmtk_program("storescu"), "--version"], capture_output=True, text=True)
    assert "dcmtk" in done.stdout


def test_without_apt_a_person_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = ["/bin/sh", str(TOOLS / "unpack.sh"), "orthanc", str(tmp_path / "orthanc")]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(tmp_path / "empty")})
    assert done.returncode == 1
    assert "no apt-get" in done.stderr
    assert "PATH" in done.stderr
