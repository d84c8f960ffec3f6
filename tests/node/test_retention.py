"""What rules let go and what they keep; a clock that may be wrong deletes nothing; rules survive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import BadRequest, NotFound, NotPermitted
from node.app import Node, open_node, rebuild
from node.commands.archives import troubles
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
    return edited(phantoms(600, number)[0], **{"PatientBirthDate": "19500101", **values})


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
    old = study(0, StudyDate="20100101")
    young = study(1, StudyDate="20100101", PatientBirthDate="20080101")
    unknown = study(2, StudyDate="")
    breast = study(3, StudyDate="20100101", Modality="MG")
    recent = study(4, StudyDate="20200101")
    held = study(5, StudyDate="20100101")
    everything = (old, young, unknown, breast, recent, held)
    send(node, *everything)
    node.desk.verbs()["hold"](target=uid(held), **WHO)
    node.main.retention.step()
    assert kept(node, *everything) == [True] * 6, "nothing goes without a rule"
    rule(node, "ten years", years=10, until_age=28)
    rule(node, "mammography", "ModalitiesInStudy=MG", years=30)
    plan = node.desk.verbs()["retention_plan"]()
    assert plan["rules"]["ten years"] == {
        "due": 1, "held": 1, "undated": 1, "examples": [{"StudyInstanceUID": uid(old), "until": "2020-01-01"}]
    }  # fmt: skip
    assert node.main.retention.step() == 1
    assert kept(node, *everything) == [False, True, True, True, True, True]
    [order] = node.desk.verbs()["deletions"]()["orders"]
    assert (order["who"], order["StudyInstanceUID"]) == ("rule ten years", uid(old))
    clock.now += 8 * DAY
    go_on(node, clock)
    assert node.catalog.versions((uid(old),)) == []


@pytest.mark.parametrize("key", ["PatientID=", "PatientID=*", "StudyDate"])
def test_a_key_that_would_match_every_study_makes_no_rule(node: Node, key: str) -> None:
    with pytest.raises(BadRequest, match="matches every study"):
        rule(node, "one patient", key, years=1)
    assert node.desk.verbs()["retention"]()["rules"] == []


def test_what_has_a_date_that_says_nothing_is_kept_and_a_corrected_date_counts(node: Node) -> None:
    studies = [
        study(70, StudyDate="19000101"),
        study(71, StudyDate="2010.01.01"),
        study(72, StudyDate="20100101", PatientBirthDate="19000101"),
        study(73, StudyDate="20100101", PatientBirthDate="20150101"),
        study(74, StudyDate="20990101"),
        study(75, StudyDate="20000229", PatientBirthDate="19990201"),
        old := study(76, StudyDate="20100101"),
        recent := study(77, StudyDate="20260101"),
    ]
    send(node, *studies)
    verbs = node.desk.verbs()
    verbs["correct"](target=uid(old), attributes=["StudyDate=20250101"], **WHO)
    verbs["correct"](target=uid(recent), attributes=["StudyDate=20000101"], **WHO)
    rule(node, "ten years", years=10, until_age=28)
    assert verbs["retention_plan"]()["rules"]["ten years"]["undated"] == 4
    assert node.main.retention.step() == 1
    assert kept(node, *studies) == [True] * 7 + [False]


def test_a_rule_that_is_not_active_lets_nothing_go_and_keeps_what_it_matches(node: Node) -> None:
    breast = study(80, StudyDate="20100101", Modality="MG")
    send(node, breast)
    rule(node, "mammography", "ModalitiesInStudy=MG", years=30)
    rule(node, "ten years", years=10)
    verbs = node.desk.verbs()
    verbs["put_retention"](name="mammography", keys=["ModalitiesInStudy=MG"], years=25, who="ann")
    assert node.main.retention.step() == 0, "a rule that is being edited goes on keeping"
    assert verbs["retention_plan"](without="mammography")["rules"]["ten years"]["due"] == 1
    verbs["remove_retention"](name="mammography", who="ann")
    assert node.main.retention.step() == 1


def test_a_rule_that_is_changed_while_it_works_lets_nothing_more_go(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = [study(90 + number, StudyDate="20000101") for number in range(3)]
    send(node, *studies)
    rule(node, "all", years=5)
    retention, verbs = node.main.retention, node.desk.verbs()
    left = retention._left

    def meanwhile() -> int:
        if kept(node, *studies).count(False) == 1:
            verbs["put_retention"](name="all", keys=[], years=50, who="ann")
        return left()

    monkeypatch.setattr(retention, "_left", meanwhile)
    assert retention.step() == 2, "the change came between two studies"
    assert retention.step() == 0


def test_a_hold_on_a_study_goes_on_holding_a_series_that_is_moved_out_of_it(node: Node) -> None:
    held, other, third = phantoms(700, instances=2), phantoms(701, instances=1), phantoms(702, instances=1)
    send(node, *held, *other, *third)
    verbs, series = node.desk.verbs(), uid(held[0], "SeriesInstanceUID")
    made = verbs["hold"](target=uid(held[0]), **WHO)
    for to in (other, third):
        verbs["move_series"](series=[series], to=uid(to[0]), attributes=[], **WHO)
        for verb in ("delete", "erase"):
            with pytest.raises(NotPermitted, match="legal hold"):
                verbs[verb](target=uid(to[0]), **WHO)
    verbs["delete"](target=uid(other[0]), **WHO)
    verbs["undo"](decision=made["decision"], **WHO)
    verbs["delete"](target=uid(third[0]), **WHO)
    assert kept(node, held[0], other[0], third[0]) == [False] * 3


def test_a_rule_by_access_counts_from_the_last_fetch(node: Node, clock: Moving) -> None:
    read, unread = study(10, StudyDate="20000101"), study(11, StudyDate="20000101")
    send(node, read, unread)
    rule(node, "unread", years=1, basis="access")
    for _ in range(13):
        clock.now += 30 * DAY
        assert not node.main.clock_guard.why_not()
        [entry] = node.catalog.versions((uid(read),))
        node.retriever.open(entry).close()
    clock.now -= 3650 * DAY
    node.retriever.open(entry).close()  # by a clock that is wrong for a while
    clock.now += 3650 * DAY
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
    send(node, study(42, StudyInstanceUID=""))
    assert len(node.rejected.list()) == 1
    rule(node, "ten years", years=10)
    node.desk.verbs()["delete"](target=uid(deleted), **WHO)
    go_on(node, clock)
    clock.now += 3 * 365 * DAY
    for _ in range(3):
        go_on(node, clock)
        assert node.main.retention.step() == 0
        clock.now += 3600
    assert kept(node, due) == [True]
    send(node, study(43, StudyInstanceUID=""))
    assert len(node.rejected.list()) == 2, "what could not be taken is a person's to discard"
    assert len(node.catalog.versions((uid(deleted),))) == 1
    assert "days after" in node.desk.verbs()["retention"]()["clock"]
    [told] = troubles(node.desk.status()["archives"])
    assert told.startswith("Nothing is deleted from main: this clock is 1095 days after"), told
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
    node.desk.verbs()["believe_clock"](who="ann")
    assert not node.main.clock_guard.why_not()
    skew = 60.0
    assert not node.main.clock_guard.why_not(), "set right again, it is believed by itself"
    skew = 2 * 3600.0
    assert node.main.clock_guard.why_not(), "the person's word was about the first time"
    skew = 60.0
    assert node.main.retention.step() == 1


def test_after_a_loss_of_the_state_what_was_read_last_counts_from_that_day(
    tmp_path: Path, clock: Moving
) -> None:
    home, read = new_home(tmp_path / "home"), study(55, StudyDate="20000101")
    with open_node(home, clock) as node:
        send(node, read)
        rule(node, "unread", years=1, basis="access")
    clock.now += 400 * DAY
    shutil.rmtree(home / "archives" / "main" / "catalog")
    shutil.rmtree(home / "state")
    rebuild(home, clock)
    with open_node(home, clock) as node:
        assert not node.main.clock_guard.why_not()
        assert node.main.retention.step() == 0, "nobody knows that it was not read yesterday"


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
