"""Where the headers of a medium lie while its DICOMDIR is made, and that a killed process leaves none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.medium import sweep

_KILLED = """
import os, signal, sys
from io import BytesIO
from pathlib import Path
from pydicom import dcmread
from node.medium import Medium, aside
from tests.homes import phantoms
from tests.node.web.asking import file_of
folder = Path(sys.argv[1])
medium, into = Medium(folder), aside(folder)
medium.add(dcmread(BytesIO(file_of(phantoms(61, instances=1)[0])), stop_before_pixels=True))
medium.write(Path(into.name))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_headers_of_a_medium_lie_where_the_next_start_removes_them(tmp_path: Path) -> None:
    incoming, elsewhere = tmp_path / "incoming", tmp_path / "elsewhere"
    for folder in (incoming, elsewhere):
        folder.mkdir()
    env = {**os.environ, "TMPDIR": str(elsewhere)}
    done = subprocess.run([sys.executable, "-c", _KILLED, str(incoming)], env=env, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == []
    assert any(path.is_file() for path in incoming.rglob("*"))
    sweep(incoming)
    assert list(incoming.iterdir()) == []
