"""Copies at other hospitals: placed by rule, complete, dropped when nobody wants them any more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from node.control import ask
from tests.grid import GridNode
from tests.node.committing import Results, action, asking
from tests.node.copies import hospitals, is_done, kept, sent, wait_until_met
from tests.node.keepers import flip
from tests.running import dcmtk, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[GridNode]]:
    """Alpha, and beta and gamma that may keep copies of its studies."""
    nodes = hospitals(
        tmp_path_factory.mktemp("grid"), "alpha", "beta", "gamma", PEERPACS__LIFE__UNDO_DAYS="0"
    )
    yield nodes
    for node in nodes:
        if node.process is not None:
            node.stop()


def test_a_study_has_its_copies_and_they_go_when_it_is_deleted(three: list[GridNode], tmp_path: Path) -> None:
    alpha, beta, gamma = three
    alpha.say("copies", "add", "all", "--copies", "3", "--min-sites", "3")
    uid, _ = sent(alpha, tmp_path / "a", 11, 5, 1_500_000)
    wait_until_met(alpha, 1)
    until(lambda: (kept(beta), kept(gamma)) == (5, 5))
    sent(alpha, tmp_path / "b", 12, 3)
    wait_until_met(alpha, 2)
    until(lambda: (kept(beta), kept(gamma)) == (8, 8))
    assert "Every study has its copies" in alpha.say("copies", "lacking")
    gamma.kill()
    until(lambda: not alpha.is_connected(gamma))
    made = alpha.told("delete", uid, "--reason", "test", "--yes")

    def order() -> dict[str, Any]:
        orders: list[dict[str, Any]] = alpha.told("deletions")["orders"]
        return next(each for each in orders if each["decision"] == made["decision"])

    until(lambda: kept(beta) == 3 and order()["owing"] == ["gamma"])
    assert order()["unheard"] == ["gamma"]
    assert "no receipt yet from gamma" in alpha.say("deletions")
    gamma.start(**gamma.env)
    until(lambda: kept(gamma) == 3 and order()["owing"] == [], 60)
    assert {row["node"]: row["copies"] for row in order()["receipts"]} == {"beta": 5, "gamma": 5}
    until(lambda: order()["unheard"] == [])
    until(lambda: "gamma dropped 5 instances of it" in alpha.say("trace", uid))


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


def test_copies_that_no_rule_asks_for_any_more_go_when_the_owner_has_its_own_whole(
    three: list[GridNode], tmp_path: Path
) -> None:
    alpha, beta, gamma = three
    alpha.say("copies", "add", "all", "--copies", "3")
    _, paths = sent(alpha, tmp_path / "a", 25, 3, 200_000)
    until(lambda: is_done(alpha), 60)
    flip(alpha.home / "archives", paths[1].read_bytes()[-100_000:])
    alpha.say("copies", "add", "all", "--copies", "1")
    # What is not whole at the owner is mended from a copy before the copies go.
    until(lambda: (kept(beta), kept(gamma)) == (0, 0), 120)
    alpha.cli("verify")


def test_a_damaged_object_is_healed_from_a_copy(three: list[GridNode], tmp_path: Path) -> None:
    alpha, *_ = three
    alpha.say("copies", "add", "all", "--copies", "3")
    _, paths = sent(alpha, tmp_path / "a", 31, 3, 200_000)
    until(lambda: is_done(alpha), 60)
    before = len(alpha.audit("copies"))
    flip(alpha.home / "archives", paths[1].read_bytes()[-100_000:])
    alpha.cli("verify", exit_code=1)
    until(lambda: len(alpha.audit("copies")) > before)
    assert [each["outcome"] for each in alpha.audit("copies")[before:]] == ["healed"]
    alpha.cli("verify")


def test_a_node_with_an_empty_disk_gets_its_studies_and_decisions_back(
    three: list[GridNode], tmp_path: Path
) -> None:
    alpha, beta, gamma = three
    alpha.say("copies", "add", "all", "--copies", "3")
    uid, _ = sent(alpha, tmp_path / "a", 41, 4)
    alpha.say("correct", uid, "PatientName=MENDED^ANNA", "--reason", "test")
    until(lambda: is_done(alpha), 60)
    had = ask(alpha.home, "status")["archive"]
    assert alpha.stop() == 0
    for folder in ("archives", "copies"):
        shutil.rmtree(alpha.home / folder)
    alpha.start(**alpha.env)
    until(lambda: ask(alpha.home, "status")["archive"] == had, 60)
    asked = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}", "-k", "PatientName")
    assert "MENDED" in dcmtk("findscu", "-S", "-aec", "ALPHA", *asked, "127.0.0.1", str(alpha.port))
    until(lambda: is_done(alpha), 60)
    assert kept(beta) == kept(gamma)


def test_what_a_lost_node_had_is_copied_to_another_and_nothing_is_dropped_unproved(
    three: list[GridNode], tmp_path: Path
) -> None:
    alpha, beta, gamma = three
    alpha.say("copies", "add", "all", "--copies", "2")
    for number in range(4):
        sent(alpha, tmp_path / str(number), 51 + number, 2)
    until(lambda: kept(beta) + kept(gamma) == ask(alpha.home, "status")["archive"]["instances"], 60)
    had = kept(beta)
    assert had
    beta.kill()
    alpha.stop()
    alpha.start(**alpha.env, PEERPACS__COPIES__LOST_AFTER_HOURS="0.003")
    wanted = ask(alpha.home, "status")["archive"]["instances"]
    until(lambda: kept(gamma) == wanted, 90)
    assert ask(alpha.home, "copies")["lost"] == ["beta"]
    beta.start(**beta.env)
    until(lambda: kept(beta) + kept(gamma) == ask(alpha.home, "status")["archive"]["instances"], 90)
    until(lambda: is_done(alpha), 60)


def test_a_keeper_killed_at_nine_tenths_of_a_large_object_goes_on_there(
    three: list[GridNode], tmp_path: Path
) -> None:
    alpha, beta, gamma = three
    alpha.say("copies", "add", "all", "--copies", "2", "--must", "BETA", "--never", "GAMMA")
    until(lambda: is_done(alpha), 90)
    ops = ("catalog", "find_live", "retrieve", "host_replicas")
    alpha.say("grants", "add", "beta", "everything", *ops, "--rate", "20000000")
    size = 80_000_000
    before = max(alpha.metric("transfer_bytes_total"), default=0.0)
    sent(alpha, tmp_path / "large", 71, 1, size)
    incoming = beta.home / "copies" / "incoming"
    until(lambda: any(path.stat().st_size > 0.9 * size for path in incoming.glob("*.resumed")), 60)
    beta.kill()
    beta.start(**beta.env)
    until(lambda: is_done(alpha), 90)
    assert kept(beta) == ask(alpha.home, "status")["archive"]["instances"]
    assert max(alpha.metric("transfer_bytes_total")) - before < 1.12 * size
    alpha.say("grants", "add", "beta", "everything", *ops)
    alpha.say("copies", "add", "all", "--copies", "2")
    assert kept(gamma) == 0


def test_a_keeper_that_lost_everything_after_its_receipts_gets_it_again(
    three: list[GridNode], tmp_path: Path
) -> None:
    alpha, beta, _ = three
    alpha.say("copies", "add", "all", "--copies", "2", "--must", "BETA")
    until(lambda: is_done(alpha), 90)
    had = kept(beta)
    beta.kill()
    shutil.rmtree(beta.home / "copies")
    beta.start(**beta.env)
    until(lambda: kept(beta) == had, 90)


def test_a_node_that_is_full_survives_ten_times_its_size(three: list[GridNode], tmp_path: Path) -> None:
    alpha, *_ = three
    alpha.say("copies", "add", "all", "--copies", "2")
    until(lambda: is_done(alpha), 60)
    alpha.stop()
    mark = {"PEERPACS__COPIES__NEARLINE_ABOVE_MB": "4", "PEERPACS__COPIES__NEARLINE_AFTER_DAYS": "0"}
    alpha.start(**alpha.env, **mark)
    found = [sent(alpha, tmp_path / str(number), 61 + number, 10, 500_000) for number in range(8)]
    until(lambda: is_done(alpha), 120)
    until(lambda: _used(alpha.home / "archives" / "main" / "objects") < 9_000_000, 90)
    uid, paths = found[0]
    asked = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}", "-k", "InstanceAvailability")
    assert "NEARLINE" in dcmtk("findscu", "-S", "-aec", "ALPHA", *asked, "127.0.0.1", str(alpha.port))
    (tmp_path / "got").mkdir()
    dcmtk(
        "getscu",
        "-S",
        "-aec",
        "ALPHA",
        "-od",
        str(tmp_path / "got"),
        *asked[:4],
        "127.0.0.1",
        str(alpha.port),
    )
    got = {dcmread(path).PixelData for path in (tmp_path / "got").iterdir()}
    assert got == {dcmread(path).PixelData for path in paths}
    alpha.cli("verify")
    alpha.stop()
    alpha.start(**alpha.env)
    alpha.say("copies", "add", "all", "--copies", "1")
    # Nobody is to keep it any more, so all of it comes home, and then goes there.
    until(lambda: (kept(three[1]), kept(three[2])) == (0, 0), 180)
    assert not ask(alpha.home, "copies_lacking")
    alpha.cli("verify")


def _used(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*.tar"))
