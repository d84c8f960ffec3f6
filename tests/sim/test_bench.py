"""The benchmark measures what it says, in turns, and leaves nothing behind."""

from __future__ import annotations

import io
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner
from rich.console import Console

from sim import bench, clients
from sim.cases import Case, Contestant, Figures, storing
from sim.finding import Population
from sim.pdu import Address
from sim.phantoms import study
from sim.ports import free_port
from sim.report import Row
from sim.runner import Runner
from sim.servers import Server, ServerError, StoreSCP


def sink(folder: Path, destination: Address) -> StoreSCP:
    return StoreSCP(folder, Address("STORESCP", free_port()))


class Counting(Case):
    """Sends one file to storescp and notes whose turn it was."""

    name = "counting"
    title = "Counting"
    rows = (Row("sent", "/s", more_is_better=True),)

    def __init__(self, is_fresh_each_run: bool) -> None:
        self.is_fresh_each_run = is_fresh_each_run
        self.makers: dict[str, Contestant] = {"one": sink, "other": sink}
        self.turns: list[tuple[int, int]] = []
        self.folders: list[Path] = []

    @property
    def contestants(self) -> dict[str, Contestant]:
        return self.makers

    def prepare(self, scratch: Path, destination: Address) -> None:
        self.folders = clients.write([study(1, 1)], scratch, 1)

    def measure(self, server: Server, run: int) -> Figures:
        assert isinstance(server, StoreSCP)
        clients.store(server.address, self.folders)
        self.turns.append((run, server.received()))
        return {"sent": 1.0}


def runner(tmp_path: Path) -> Runner:
    (tmp_path / "storage").mkdir()
    (tmp_path / "scratch").mkdir()
    return Runner(tmp_path / "storage", tmp_path / "scratch", 2, Console(file=io.StringIO()))


@pytest.mark.parametrize(("is_fresh", "received"), [(True, [1, 1, 1, 1]), (False, [1, 1, 2, 2])])
def test_contestants_take_turns(is_fresh: bool, received: list[int], tmp_path: Path) -> None:
    case = Counting(is_fresh)
    [measured] = runner(tmp_path).measure(case)
    assert case.turns == list(zip([0, 0, 1, 1], received, strict=True))
    assert measured.figures == {"one": [1.0, 1.0], "other": [1.0, 1.0]}
    assert not [*(tmp_path / "storage").iterdir(), *(tmp_path / "scratch").iterdir()]


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    class Broken(StoreSCP):
        def command(self) -> list[str]:
            return ["sh", "-c", "echo the disk is missing >&2; exit 1"]

    case = Counting(is_fresh_each_run=True)
    case.makers = {"one": lambda folder, destination: Broken(folder, destination)}
    with pytest.raises(ServerError, match="the disk is missing"):
        runner(tmp_path).measure(case)
    assert not list((tmp_path / "storage").iterdir())


def test_a_store_that_loses_instances_is_not_a_figure(tmp_path: Path) -> None:
    class Losing(StoreSCP):
        def received(self) -> int:
            return super().received() - 1

    case = storing(0.01)[0]
    case.prepare(tmp_path / "files", Address("STORESCP", free_port()))
    server = Losing(tmp_path / "server", Address("STORESCP", free_port()))
    server.start()
    with pytest.raises(clients.ClientError, match="has 3 instances; 4 were sent"):
        case.measure(server, 0)
    server.remove()


def test_a_question_to_the_population_has_exactly_its_matches() -> None:
    population = Population(2000)
    studies = [population.study(n) for n in range(population.count)]
    for seed in range(5):
        for question, (matches, keys) in population.questions(Random(seed)).items():
            [(keyword, asked)] = keys.items()
            held = [getattr(s, keyword, None) or getattr(s.patient, keyword) for s in studies]
            first, _, last = asked.partition("-")
            if last:
                found = sum(first <= value <= last for value in held)
            else:
                found = sum(fnmatchcase(value, asked) for value in held)
            assert found == matches, question


def test_study_uids_of_a_population_are_all_different() -> None:
    uids = Counter(Population(2000).study(n).StudyInstanceUID for n in range(2000))
    assert max(uids.values()) == 1


def test_a_population_shares_no_study_with_a_weeks_traffic() -> None:
    asked = {Population(2000).study(n).StudyInstanceUID for n in range(2000)}
    assert not asked & {study(1, n).StudyInstanceUID for n in range(2000)}


def test_an_unknown_case_is_refused_with_the_names_there_are() -> None:
    result = CliRunner().invoke(bench.main, ["--cases", "stroe1"])
    assert result.exit_code == 2
    assert "store1" in result.output
