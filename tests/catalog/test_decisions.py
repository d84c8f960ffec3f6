"""A decision changes every answer and no byte; undo brings the old state back exactly."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from catalog import BadRequest, Decision, Level, LmdbCatalog, NotFound, Recorded, Selection, Verb
from tests.catalog.samples import arrival, attributes, open_catalog, query

NOW = 1_700_000_000_000


def decision(
    id: str, verb: Verb, *target: str, when: int = NOW, detail: str = "", **values: object
) -> Decision:
    return Decision(
        id=id,
        verb=verb,
        target=target,
        reason="wrong patient",
        who="ann",
        when=when,
        detail=detail,
        attributes=attributes(**values),
    )


def answers(catalog: LmdbCatalog, **keys: object) -> list[str]:
    return [match["0020000D"]["Value"][0] for match in catalog.find(query(Level.STUDY, **keys))]


def everything(catalog: LmdbCatalog) -> object:
    levels = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
    counts = {tag: {"vr": "IS"} for tag in ("00201200", "00201204", "00201206", "00201208", "00080061")}
    totals = catalog.totals()
    return (
        [list(catalog.find(query(level, **counts))) for level in levels],
        catalog.select(Selection(patient=("4711", "5000"))),
        (totals.studies, totals.series, totals.instances, totals.size, totals.open_conflicts),
    )


def test_a_corrected_study_is_found_under_the_new_patient_only(catalog: LmdbCatalog) -> None:
    catalog.record([arrival("1", "1.1", "1.1.1"), arrival("2", "2.1", "2.1.1")])
    catalog.decide(decision("c", Verb.CORRECT, "1", PatientID="5000", PatientName="NEW^NAME"))
    assert answers(catalog, PatientID="5000") == ["1"]
    assert answers(catalog, PatientID="4711") == ["2"]
    assert answers(catalog, PatientName="NEW*") == ["1"]
    assert answers(catalog, PatientName="DOE*") == ["2"]
    assert [entry.SOPInstanceUID for entry in catalog.select(Selection(patient=("5000",)))] == ["1.1.1"]


def test_a_corrected_date_changes_the_order(catalog: LmdbCatalog) -> None:
    catalog.record([arrival(str(n), f"{n}.1", f"{n}.1.1", StudyDate=f"2024010{n}") for n in range(1, 4)])
    assert answers(catalog) == ["3", "2", "1"]
    catalog.decide(decision("c", Verb.CORRECT, "1", StudyDate="20250101"))
    assert answers(catalog) == ["1", "3", "2"]
    assert answers(catalog, StudyDate="20240101") == []


@pytest.mark.parametrize(
    "made",
    [
        decision("d", Verb.CORRECT, "1", PatientID="5000", StudyDate="20200101", Modality="OT"),
        decision("d", Verb.CORRECT, "1", "1.1", SeriesDescription="X"),
        decision("d", Verb.CORRECT, "1", "1.1", "1.1.1", InstanceNumber="77"),
        decision("d", Verb.REJECT, "1"),
        decision("d", Verb.REJECT, "1", "1.1"),
        decision("d", Verb.REJECT, "1", "1.1", "1.1.1"),
        decision("d", Verb.DELETE, "1", "1.1"),
    ],
    ids=lambda made: f"{made.verb} {len(made.target)}",
)
def test_undo_restores_exactly_what_was(catalog: LmdbCatalog, made: Decision) -> None:
    for study in ("1", "2"):
        catalog.record([arrival(study, f"{study}.{n % 2}", f"{study}.{n % 2}.{n}") for n in range(4)])
    catalog.record([arrival("1", "1.1", "1.1.1")])
    before = everything(catalog)
    catalog.decide(made)
    assert everything(catalog) != before
    catalog.decide(decision("u", Verb.UNDO, detail="d"))
    assert everything(catalog) == before
    assert [each.id for each in catalog.decisions("1")] == ["d", "u"]


def test_what_is_rejected_is_in_no_answer_and_no_count(catalog: LmdbCatalog) -> None:
    catalog.record([arrival("1", "1.1", "1.1.1"), arrival("1", "1.2", "1.2.1", Modality="MR")])
    catalog.decide(decision("r", Verb.REJECT, "1", "1.2"))
    wanted = {"00201206": {"vr": "IS"}, "00080061": {"vr": "CS"}}
    (match,) = catalog.find(query(Level.STUDY, **wanted))
    assert match["00201206"]["Value"] == [1]
    assert match["00080061"]["Value"] == ["CT"]
    assert not list(catalog.find(query(Level.IMAGE, SOPInstanceUID="1.2.1")))
    assert catalog.select(Selection(instances=("1.2.1",))) == []
    assert [entry.SOPInstanceUID for entry in catalog.versions(("1",))] == ["1.1.1", "1.2.1"]


def test_what_arrives_later_obeys_what_was_decided(catalog: LmdbCatalog) -> None:
    catalog.record([arrival("1", "1.1", "1.1.1"), arrival("2", "2.1", "2.1.1")])
    catalog.decide(decision("c", Verb.CORRECT, "1", PatientID="5000", Modality="OT"))
    catalog.decide(decision("r", Verb.REJECT, "2"))
    late = arrival("1", "1.9", "1.9.1", received=NOW + 5000)
    assert catalog.record([late, arrival("2", "2.9", "2.9.1", received=NOW + 5000)]) == [Recorded.NEW] * 2
    (match,) = catalog.find(query(Level.SERIES, SeriesInstanceUID="1.9"))
    assert match["00100020"]["Value"] == ["5000"]
    assert match["00080060"]["Value"] == ["OT"]
    assert catalog.corrections(late.entry)[0].attributes["00100020"]["Value"] == ["5000"]
    assert answers(catalog, StudyInstanceUID="2") == []


def test_a_deleted_study_may_be_sent_again(catalog: LmdbCatalog) -> None:
    first = arrival("1", "1.1", "1.1.1", received=NOW - 10)
    catalog.record([first])
    catalog.decide(decision("d", Verb.DELETE, "1"))
    assert answers(catalog) == []
    assert not catalog.holds("1.1.1", first.entry.holding.sha256)
    again = arrival("1", "1.1", "1.1.1", received=NOW + 10)
    assert catalog.record([again]) == [Recorded.NEW]
    assert catalog.select(Selection(studies=("1",))) == [again.entry]
    assert catalog.record([again]) == [Recorded.SAME]


def test_the_preferred_version_is_served_until_that_is_undone(catalog: LmdbCatalog) -> None:
    first, second = (
        arrival("1", "1.1", "1.1.1"),
        arrival("1", "1.1", "1.1.1", content="b", InstanceNumber="8"),
    )
    catalog.record([first, second])
    prefer = decision("p", Verb.PREFER, "1", "1.1", "1.1.1", detail=second.entry.holding.sha256.hex())
    catalog.decide(prefer)
    assert catalog.select(Selection(instances=("1.1.1",))) == [second.entry]
    (match,) = catalog.find(query(Level.IMAGE, SOPInstanceUID="1.1.1"))
    assert match["00200013"]["Value"] == ["8"]
    assert not list(catalog.conflicts())
    assert [conflict.resolved for conflict in catalog.conflicts(resolved=True)] == [True]
    catalog.decide(decision("u", Verb.UNDO, detail="p", when=NOW + 1))
    assert catalog.select(Selection(instances=("1.1.1",))) == [first.entry]
    assert len(list(catalog.conflicts())) == 1
    assert catalog.totals().instances == 1


def test_a_version_in_another_study_can_be_preferred(catalog: LmdbCatalog) -> None:
    first, second = arrival("1", "1.1", "9"), arrival("2", "2.1", "9")
    catalog.record([first, second])
    catalog.decide(decision("p", Verb.PREFER, "2", "2.1", "9", detail=second.entry.holding.sha256.hex()))
    assert answers(catalog) == ["2"]
    catalog.decide(decision("u", Verb.UNDO, detail="p", when=NOW + 1))
    assert answers(catalog) == ["1"]


def test_correcting_the_patient_settles_a_study_of_two(catalog: LmdbCatalog) -> None:
    catalog.record([arrival("1", "1.1", "1.1.1"), arrival("1", "1.1", "1.1.2", PatientID="5000")])
    assert len(list(catalog.conflicts())) == 1
    catalog.decide(decision("c", Verb.CORRECT, "1", PatientID="5000"))
    assert not list(catalog.conflicts())
    catalog.decide(decision("u", Verb.UNDO, detail="c", when=NOW + 1))
    assert len(list(catalog.conflicts())) == 1


def test_the_same_decision_twice_changes_nothing(catalog: LmdbCatalog) -> None:
    catalog.record([arrival("1", "1.1", "1.1.1")])
    for _ in range(2):
        catalog.decide(decision("r", Verb.REJECT, "1"))
    catalog.decide(decision("u", Verb.UNDO, detail="r", when=NOW + 1))
    assert answers(catalog) == ["1"]
    assert len(catalog.decisions("1")) == 2


@pytest.mark.parametrize("target", [("9",), ("1", "9"), ("1", "1.1", "9")])
def test_nothing_can_be_decided_about_what_is_not_there(
    catalog: LmdbCatalog, target: tuple[str, ...]
) -> None:
    catalog.record([arrival("1", "1.1", "1.1.1")])
    with pytest.raises(NotFound):
        catalog.decide(decision("r", Verb.REJECT, *target))
    with pytest.raises(NotFound):
        catalog.decide(decision("u", Verb.UNDO, *target, detail="never said"))
    assert catalog.decisions(target[0]) == []


def test_uids_and_attributes_above_the_target_cannot_be_corrected(catalog: LmdbCatalog) -> None:
    catalog.record([arrival("1", "1.1", "1.1.1")])
    for target, values in [
        (("1",), {"StudyInstanceUID": "7"}),
        (("1", "1.1"), {"PatientName": "X"}),
        (("1", "1.1", "1.1.1"), {"Modality": "MR"}),
    ]:
        with pytest.raises(BadRequest) as caught:
            catalog.decide(decision("c", Verb.CORRECT, *target, **values))
        assert len(caught.value.tags) == 1


def test_a_catalog_made_again_from_its_segments_answers_the_same(tmp_path: Path) -> None:
    other = arrival("1", "1.1", "1.1.2", content="b", received=NOW + 3)
    arrivals = [arrival("1", "1.1", f"1.1.{n}", received=NOW + n) for n in range(3)] + [other]
    chosen = other.entry.holding.sha256.hex()
    made = [
        decision("c", Verb.CORRECT, "1", PatientID="5000", when=NOW + 10),
        decision("p", Verb.PREFER, "1", "1.1", "1.1.2", detail=chosen, when=NOW + 11),
        decision("r", Verb.REJECT, "1", "1.1", "1.1.0", when=NOW + 12),
        decision("c2", Verb.CORRECT, "1", AccessionNumber="B", when=NOW + 13),
        decision("u", Verb.UNDO, "1", detail="c2", when=NOW + 14),
    ]
    original = open_catalog(tmp_path / "original")
    original.record(arrivals)
    for each in made:
        original.decide(each)
    again = open_catalog(tmp_path / "again")
    for each in reversed(made):
        again.restore(each)
    again.record(arrivals)
    assert everything(again) == everything(original)
    assert msgspec.json.encode(again.decisions("1")) == msgspec.json.encode(original.decisions("1"))
    original.close()
    again.close()
