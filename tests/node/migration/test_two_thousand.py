"""Two thousand studies are moved in while source and node are killed: none is missing."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.homes import phantoms
from tests.node.oldpacs.servers import AREAS, KINDS, Known, Old
from tests.running import RunningNode, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
STUDIES = 2000
DAYS = 40


def fill(old: Old, sources: tuple[str, ...]) -> None:
    """Have the PACS keep small studies of forty days, as many under each of its AE titles."""
    for number, source in enumerate(sources):
        seeds = range(number, STUDIES, len(sources))
        for begin in range(0, len(seeds), 100):
            made = []
            for seed in seeds[begin : begin + 100]:
                day = date(2024, 1, 1) + timedelta(days=seed % DAYS)
                made += phantoms(seed, size=4_000, instances=1, StudyDate=f"{day:%Y%m%d}")
            old.store(*made, area=source)


def stand(node: RunningNode) -> list[dict[str, Any]]:
    """Return how the migrations stand."""
    told: list[dict[str, Any]] = node.json("migrate")
    return told


def arrived(node: RunningNode) -> int:
    """Return how many instances came so far."""
    return sum(each["arrived"] for each in stand(node))


def over(node: RunningNode) -> list[dict[str, Any]] | None:
    """Return the migrations once nothing goes on any more."""
    told = stand(node)
    return told if all(each["phase"] in ("done", "stopped") for each in told) else None


@pytest.mark.parametrize(("kind", "sources"), [("orthanc", ("OLD",)), ("dcmqrscp", AREAS)])
def test_nothing_is_missing_although_the_source_is_killed_twice_and_the_node_once(
    kind: str, sources: tuple[str, ...], tmp_path: Path
) -> None:
    node = RunningNode(tmp_path / "home")
    with KINDS[kind](tmp_path / "old", Known("ALPHA", node.port)) as old:
        fill(old, sources)
        node.start()
        try:
            where = ("--address", "127.0.0.1", "--port", str(old.port), "--services", "echo,store")
            for source in sources:
                node.cli("devices", "add", source, *where)
                node.cli("migrate", "--from", source, "--dates", "20240101-20240209", "--no-wait")
            until(lambda: arrived(node) > 300, 600)
            old.kill()
            old.start()
            until(lambda: arrived(node) > 800, 600)
            node.kill()
            node.start()
            until(lambda: arrived(node) > 1300, 600)
            old.kill()
            old.start()
            told = until(lambda: over(node), 1500)
            found = [node.json("migrate", "--from", source) for source in sources]
        finally:
            node.stop()
    keys = ("there", "here", "missing", "different", "extra")
    assert [sum(each["compared"][key] for each in told) for key in keys] == [STUDIES, STUDIES, 0, 0, 0]
    assert {each["phase"] for each in told} == {"done"}
    assert [each["series_failed"] for each in found] == [[] for _ in sources]
    assert sum(each["arrived"] + each["here_before"] for each in told) == STUDIES
