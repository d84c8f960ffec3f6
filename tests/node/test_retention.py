"""What rules let go and what they keep; a clock that may be wrong deletes nothing; rules survive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import NotFound
from node.app import Node, open_node, rebuild
from tests.homes import RawInstance, edited, new_home, phantoms
from tests.node.test_deleted import DAY, WHO, Moving, count, go_on, send, uid


@pytest.fixture
def clock() -> Moving:
    return Moving()  # 2027-01-15


@pytest.fixture
def node(tmp_path: Path, clock: Moving) -> Iterator[Node]:
    with open_node(new_home(tmp_path / "home"), clock) as node:
        yield node


def study(number: int, **values: str) -> RawInstance:
    return edited(phantoms(600, number)[0], **values)


def rule(
    node: Node, name: str, *keys: str, years: float, until_age: float = 0.0, basis: str = "study"
) -> None:
    verbs = node.desk.verbs()
    verbs["put_retention"](
        name=name, keys=list(keys), years=years, until_age=until_age, basis=basis, who="ann"
    )
    verbs["activate_retention"](name=name, who="ann")


def kept(node: Node, *studies: RawInstance) -> list[bool]:
    return [count(node, uid(each)) > 0 for each in studies]


def test_what_is_due_by_every_rule_that_matches_goes_and_nothing_else(node: Node, clock: Moving) -> None:
    old = study(0, StudyDate="20100101", PatientBirthDate="19500101")
    young = study(1, StudyDate="20100101", PatientBirthDate="20080101")
    unknown = study(2, StudyDate="", PatientBirthDate="19500101")
    breast = study(3, StudyDate="20100101", PatientBirthDate="19500101", Modality="MG")
    recent = study(4, StudyDate="20200101", PatientBirthDate="19500101")
    held = study(5, StudyDate="20100101", PatientBirthDate="19500101")
    everything = (old, young, unknown, breast, recent, held)
    send(node, *everything)
    node.desk.verbs()["hold"](target=uid(held), **WHO)
    node.main.retention.step()
    assert kept(node, *everything) == [True] * 6, "nothing goes without a rule"
    rule(node, "ten years", years=10, until_age=28)
    rule(node, "mammography", "ModalitiesInStudy=MG", years=30)
    plan = node.desk.verbs()["retention_plan"]()
    assert plan["rules"]["ten years"] == {"due": 1, "held": 1, "examples": [uid(old)]}
    assert node.main.retention.step() == 1
    assert kept(node, *everything) == [False, True, True, True, True, True]
    [order] = node.desk.verbs()["deletions"]()["orders"]
    assert (order["who"], order["StudyInstanceUID"]) == ("rule ten years", uid(old))
    clock.now += 8 * DAY
    go_on(node, clock)
    assert node.catalog.versions((uid(old),)) == []


def test_a_rule_by_access_counts_from_the_last_fetch(node: Node, clock: Moving) -> None:
    read, unread = study(10, StudyDate="20000101"), study(11, StudyDate="20000101")
    send(node, read, unread)
    rule(node, "unread", years=1, basis="access")
    for _ in range(13):
        clock.now += 30 * DAY
        assert not node.main.clock_guard.why_not()
        [entry] = node.catalog.versions((uid(read),))
        node.retriever.open(entry).close()
    assert node.main.retention.step() == 1
    assert kept(node, read, unread) == [True, False]


def test_no_more_goes_in_a_day_than_one_person_may_have_go(node: Node, clock: Moving) -> None:
    studies = [study(20 + number, StudyDate="20000101") for number in range(13)]
    send(node, *studies)
    rule(node, "all", years=5)
    assert node.main.retention.step() == 10
    assert node.main.retention.step() == 0
    clock.now += 1.1 * DAY
    assert node.main.retention.step() == 3


def test_a_clock_that_jumps_three_years_deletes_nothing_until_a_person_says_it_is_right(
    node: Node, clock: Moving
) -> None:
    due, deleted = study(40, StudyDate="20180101"), study(41)
    send(node, due, deleted)
    rule(node, "ten years", years=10)
    node.desk.verbs()["delete"](target=uid(deleted), **WHO)
    go_on(node, clock)
    clock.now += 3 * 365 * DAY
    for _ in range(3):
        go_on(node, clock)
        assert node.main.retention.step() == 0
        clock.now += 3600
    assert kept(node, due) == [True]
    assert len(node.catalog.versions((uid(deleted),))) == 1
    assert "days after" in node.desk.verbs()["retention"]()["clock"]
    [order] = node.desk.verbs()["deletions"]()["orders"]
    assert "waits" in order["problem"]
    clock.now -= 3 * 365 * DAY
    node.main.retention.step()
    assert not node.desk.verbs()["retention"]()["clock"], "set right again, it is believed by itself"
    clock.now += 3 * 365 * DAY
    node.desk.verbs()["believe_clock"](who="ann")
    assert node.main.retention.step() == 1
    go_on(node, clock)
    assert node.catalog.versions((uid(deleted),)) == []


def test_a_clock_that_differs_from_the_peers_deletes_nothing(node: Node, clock: Moving) -> None:
    due = study(50, StudyDate="20000101")
    send(node, due)
    rule(node, "ten years", years=10)
    skew = 2 * 3600.0
    node.main.peers_skew = lambda: skew
    assert node.main.retention.step() == 0
    assert "behind" in node.desk.verbs()["retention"]()["clock"]
    skew = 60.0
    assert node.main.retention.step() == 1


def test_rules_links_and_grants_outlive_the_loss_of_the_state(tmp_path: Path, clock: Moving) -> None:
    home = new_home(tmp_path / "home")
    with open_node(home, clock) as node:
        send(node, study(60))
        rule(node, "gone", years=3)
        rule(node, "ten years", "ModalitiesInStudy=MG", years=10, until_age=28)
        node.desk.verbs()["remove_retention"](name="gone", who="ann")
        links = node.neighbourhood.links
        pairs = [(("A", "1"), ("B", "2")), (("A", "3"), ("B", "4"))]
        links.add(pairs, "ann", 7)  # type: ignore[arg-type]
        links.remove(*pairs[1])  # type: ignore[arg-type]
        before = node.desk.verbs()["retention"](), links.all()
    shutil.rmtree(home / "archives" / "main" / "catalog")
    shutil.rmtree(home / "state")
    rebuild(home, clock)
    with open_node(home, clock) as node:
        assert (node.desk.verbs()["retention"](), node.neighbourhood.links.all()) == before
        with pytest.raises(NotFound):
            node.desk.verbs()["activate_retention"](name="gone", who="ann")
