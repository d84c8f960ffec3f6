"""A whole node on a small machine: a hospital's day in a minute, within 2 GB of memory and on two cores."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from sim.association import Address
from sim.targets import Target
from sim.traffic.replay import Replay
from sim.traffic.scenario import Readers, Scenario
from tests.running import RunningNode

pytestmark = pytest.mark.slow

DEVICES = {"CT": 4, "DX": 8, "CR": 6, "US": 6, "MR": 3, "MG": 2}
READERS = Readers(workstations=8, questions_an_hour=20.0, opened=0.3, commitment=0.5)
LIMIT = 2 << 30


def tree(root: int) -> list[int]:
    """Return a process and all below it."""
    found = [root]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def anonymous(root: int) -> int:
    """Return the bytes that a process and all below it hold besides mapped files."""
    total = 0
    # One that ends meanwhile holds nothing.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for pid in tree(root):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) << 10
    return total


@pytest.mark.timeout(900)
def test_a_hospitals_day_fits_into_two_gigabytes_and_two_cores(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "home")
    node.prefix = ("taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[:2])))
    day = Scenario(
        devices=DEVICES,
        days=1,
        first_day_devices=sum(DEVICES.values()),
        faster=1440,
        share=1e-2,
        readers=READERS,
    )
    node.start()
    most, is_over = [0], threading.Event()
    assert node.process is not None
    root = node.process.pid

    def watch() -> None:
        while not is_over.wait(0.2):
            most[0] = max(most[0], anonymous(root))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        run = Replay(day, {"alpha": Target(name="ALPHA", address=Address("ALPHA", node.port))}, 60.0).play()
    finally:
        is_over.set()
        watching.join()
        assert node.stop() == 0
    print(f"most memory: {most[0] >> 20} MB; {len(run.sent)} series, {len(run.asked)} questions")
    assert (run.stopped, run.missing, len(run.sent)) == ("", [], run.planned)
    assert not [each.error for each in run.asked if each.error]
    assert 0 < most[0] < LIMIT
