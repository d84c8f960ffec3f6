"""The spool's disk is full: what the bucket confirmed makes room, and without the bucket senders wait."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_full_spool_drops_what_is_confirmed_else_refuses_and_recovers_by_itself(tmp_path: Path) -> None:
    script = [sys.executable, "-m", "tests.node.bucket.full_spool", str(tmp_path)]
    command = ["unshare", "--mount", "--map-root-user", *script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.stdout == "lost nothing\n", done.stderr[-4000:]
    assert "free" in done.stderr
