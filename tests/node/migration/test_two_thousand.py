"""Two thousand studies are moved in while source and node are killed: none is missing."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.homes import phantoms
from tests.node.oldpacs.servers import KINDS, Known, Old
from tests.running import RunningNode, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
STUDIES = 2000
DAYS = 40


def fill(old: Old) -> None:
    """Have the PACS keep small studies of forty days."""
    for begin in range(0, STUDIES, 200):
        made = []
        for seed in range(begin, begin + 200):
            day = date(2024, 1, 1) + timedelta(days=seed % DAYS)
            made += phantoms(seed, size=4_000, instances=1, StudyDate=f"{day:%Y%m%d}")
        old.store(*made)


def arrived(node: RunningNode) -> int:
    """Return how many instances came so far."""
    told: dict[str, Any] = node.json("migrate", "--from", "OLD")
    return int(told["arrived"])


@pytest.mark.parametrize("kind", ["orthanc", "dcmqrscp"])
def test_nothing_is_missing_although_the_source_is_killed_twice_and_the_node_once(
    kind: str, tmp_path: Path
) -> None:
    node = RunningNode(tmp_path / "home")
    with KINDS[kind](tmp_path / "old", Known("ALPHA", node.port)) as old:
        fill(old)
        node.start()
        try:
            where = ("--address", "127.0.0.1", "--port", str(old.port), "--services", "echo,store")
            node.cli("devices", "add", "OLD", *where)
            node.cli("migrate", "--from", "OLD", "--dates", "20240101-20240209", "--no-wait")
            until(lambda: arrived(node) > 300, 600)
            old.kill()
            old.start()
            until(lambda: arrived(node) > 800, 600)
            node.kill()
            node.start()
            until(lambda: arrived(node) > 1300, 600)
            old.kill()
            old.start()
            told = until(lambda: _over(node), 1500)
        finally:
            node.stop()
    same = {"there": STUDIES, "here": STUDIES, "missing": 0, "different": 0, "extra": 0}
    assert told["compared"] == same
    assert (told["phase"], told["studies"], told["series_failed"]) == ("done", STUDIES, [])
    assert told["arrived"] + told["here_before"] == STUDIES


def _over(node: RunningNode) -> dict[str, Any] | None:
    told: dict[str, Any] = node.json("migrate", "--from", "OLD")
    return told if told["phase"] in ("done", "stopped") else None
