"""kill -9 at any moment: what was acknowledged is there, what is there is whole, and work goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from catalog import Level, LmdbCatalog, Recorded, Selection
from tests.catalog.samples import Ticking, arrival, index_all, open_catalog, query
from tests.catalog.test_log import digests_from_scratch, settle

WRITER = """
import sys, threading, time
from pathlib import Path
from tests.catalog.samples import arrival, open_catalog

home, start = Path(sys.argv[1]), int(sys.argv[2])
catalog = open_catalog(home, clock=time.time)
said = threading.Lock()

def send(sender):
    number = start
    while True:
        uid = f"{sender}.{number // 7}"
        catalog.record([arrival(uid, uid + ".1", f"{uid}.1.{number}", StudyDescription=f"D{number % 5}")])
        with said:
            sys.stdout.write(f"{uid}.1.{number}\\n")
            sys.stdout.flush()
        number += 1

for sender in (1, 2, 3):
    threading.Thread(target=send, args=(sender,), daemon=True).start()
while True:
    catalog.index(time.monotonic())
    catalog.publish(time.time())
    time.sleep(0.05)
"""


def run_and_kill(home: Path, start: int, seconds: float) -> list[str]:
    """Return the SOP Instance UIDs that were acknowledged before the end."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(home), str(start)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        lines = [first, *process.stdout]
    return [line.strip() for line in lines if line.endswith("\n")]


def check(catalog: LmdbCatalog, clock: Ticking, acknowledged: list[str]) -> None:
    entries = catalog.select(Selection(instances=tuple(acknowledged)))
    assert {entry.SOPInstanceUID for entry in entries} == set(acknowledged)
    counts = {"00201208": {"vr": "IS"}}
    total = sum(m["00201208"]["Value"][0] for m in catalog.find(query(Level.STUDY, **counts)))
    assert total == catalog.totals().instances
    questions = [query(Level.STUDY, StudyDescription=f"*D{n}") for n in range(5)]
    found = [len(list(catalog.find(question))) for question in questions]
    index_all(catalog, clock)
    assert [len(list(catalog.find(question))) for question in questions] == found
    settle(catalog, clock)
    assert catalog.digests() == digests_from_scratch(catalog)
    live = [change for change in catalog.changes(0, 1 << 30) if change.row]
    assert len(live) == catalog.totals().studies + catalog.totals().series


@pytest.mark.parametrize("rounds", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path, rounds: int) -> None:
    acknowledged: list[str] = []
    for number in range(rounds):
        acknowledged += run_and_kill(tmp_path, number * 1_000_000, random.uniform(0.05, 0.8))
        clock = Ticking()
        clock.now = time.time() + 10
        catalog = open_catalog(tmp_path, clock=clock)
        check(catalog, clock, acknowledged)
        again = arrival("99", "99.1", f"99.1.{number}")
        assert catalog.record([again]) == [Recorded.NEW]
        catalog.close()
    assert len(acknowledged) > rounds
