"""kill -9 in the middle of an export: nothing is at its target, and after the next start it goes on."""

from __future__ import annotations

import time
from pathlib import Path

from node.research.release import complaints
from sim.phantoms import instances, study
from tests.running import RunningNode


def test_killed_in_an_export_nothing_is_released_and_it_goes_on_by_itself(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number in range(30):
        for place, one in enumerate(instances(study(9, number, size=4_000))):
            (source / f"{number}-{place}.dcm").write_bytes(one.part10())
    node = RunningNode(tmp_path / "home")
    node.start()
    out = tmp_path / "cohort"
    try:
        node.cli("import", str(source))
        node.cli("projects", "add", "TRIAL-7")
        asked = ("export", "--project", "TRIAL-7", "--query", "Modality=", "--to", str(out), "--no-wait")
        node.cli(*asked)
        parts = tmp_path / "home" / "research" / "exports"
        deadline = time.monotonic() + 60
        while not list(parts.glob("*/part-*/account.sealed")) and time.monotonic() < deadline:
            time.sleep(0.01)
        node.kill()
        assert not out.exists()
        node.start()
        deadline = time.monotonic() + 60
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert list(complaints(out)) == []
        assert len([path for path in out.rglob("IM*") if path.is_file()]) == len(list(source.iterdir()))
        assert not list(parts.glob("*/part-*/source/*"))
    finally:
        node.stop()
