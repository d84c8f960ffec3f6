"""Copies at other hospitals: placed by rule, complete, dropped when nobody wants them any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from node.control import ask
from tests.grid import GridNode
from tests.node.committing import Results, action, asking
from tests.node.copies import hospitals, kept, sent, wait_until_met
from tests.running import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[GridNode]]:
    """Alpha, and beta and gamma that may keep copies of its studies."""
    nodes = hospitals(tmp_path_factory.mktemp("grid"), "alpha", "beta", "gamma")
    yield nodes
    for node in nodes:
        if node.process is not None:
            node.stop()


def test_a_study_has_its_copies_and_they_go_when_it_is_deleted(three: list[GridNode], tmp_path: Path) -> None:
    alpha, beta, gamma = three
    alpha.say("copies", "add", "all", "--copies", "3", "--min-sites", "3")
    uid, _ = sent(alpha, tmp_path / "a", 11, 5, 1_500_000)
    wait_until_met(alpha, 1)
    assert (kept(beta), kept(gamma)) == (5, 5)
    sent(alpha, tmp_path / "b", 12, 3)
    wait_until_met(alpha, 2)
    assert (kept(beta), kept(gamma)) == (8, 8)
    assert "Every study has its copies" in alpha.say("copies", "lacking")
    alpha.say("delete", uid, "--reason", "test", "--yes")
    until(lambda: (kept(beta), kept(gamma)) == (3, 3))


def test_commitment_waits_for_a_second_site_and_a_cut_only_delays_it(
    three: list[GridNode], tmp_path: Path
) -> None:
    alpha, beta, _gamma = three
    alpha.say("copies", "add", "all", "--copies", "2", "--commit-sites", "2", "--must", "BETA")
    results = Results()
    alpha.cli("devices", "add", "CT1", "--services", "echo,store,commit")
    with asking(alpha.port, results) as scu:
        _, paths = sent(alpha, tmp_path / "a", 21, 20, 200_000)
        found = [dcmread(path, stop_before_pixels=True) for path in paths]
        references = [(str(each.SOPClassUID), str(each.SOPInstanceUID)) for each in found]
        assert scu.ask(action(references)) == 0
        assert results.only()[1] == {uid for _, uid in references}
        results.taken.clear()
        beta.kill()
        _, paths = sent(alpha, tmp_path / "b", 22, 3)
        found = [dcmread(path, stop_before_pixels=True) for path in paths]
        late = [(str(each.SOPClassUID), str(each.SOPInstanceUID)) for each in found]
        assert scu.ask(action([*references, *late])) == 0
        until(lambda: "enough other sites" in json.dumps(ask(alpha.home, "status")))
        assert results.taken == []
        beta.start(**beta.env)
        until(lambda: results.taken, 60)
        assert results.only()[1] == {uid for _, uid in (*references, *late)}
