"""What every `Catalog` promises, whoever keeps it.

A suite of claims over a `Reach`: a catalog to ask, and the one that records what it is asked about. For the
local catalog both are one object; a remote catalog or a peer's view joins by asking through its wire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from catalog import Catalog, CatalogWriter, Holding, Level, Matching, Move, Moved, Selection
from tests.catalog.samples import arrival, query


class Reach(NamedTuple):
    """A catalog under test, the writer behind it, and what makes the writer's statements due."""

    catalog: Catalog
    writer: CatalogWriter
    state: Callable[[], None]


def uids(reach: Reach, level: Level = Level.STUDY, **keys: object) -> list[str]:
    tag = {
        Level.PATIENT: "00100020",
        Level.STUDY: "0020000D",
        Level.SERIES: "0020000E",
        Level.IMAGE: "00080018",
    }[level]
    return [match[tag]["Value"][0] for match in reach.catalog.find(query(level, **keys))]


def three_studies(reach: Reach) -> None:
    reach.writer.record(
        [
            arrival("1", "1.1", "1.1.2", InstanceNumber="2", StudyDate="20240101", StudyTime="08"),
            arrival("1", "1.1", "1.1.1", InstanceNumber="1", StudyDate="20240101", StudyTime="08"),
            arrival("1", "1.2", "1.2.1", SeriesNumber=2, Modality="SR", StudyDate="20240101", StudyTime="08"),
            arrival(
                "2", "2.1", "2.1.1", StudyDate="20240101", StudyTime="0900", PatientID="8", Modality="MR"
            ),
            arrival("3", "3.1", "3.1.1", StudyDate="20240102", PatientID="8", PatientName="ROE^R=山田"),
        ]
    )


class CatalogClaims:
    """Inherit, and provide the fixture `reach`."""

    def test_a_find_sees_every_record_before_it(self, reach: Reach) -> None:
        for number in range(20):
            reach.writer.record([arrival(f"{number}", f"{number}.1", f"{number}.1.1")])
            assert uids(reach, StudyInstanceUID=f"{number}") == [f"{number}"]
            assert len(uids(reach, StudyDescription="*CHEST*")) == number + 1

    def test_studies_come_newest_first(self, reach: Reach) -> None:
        three_studies(reach)
        assert uids(reach) == ["3", "2", "1"]

    def test_series_and_instances_come_by_number(self, reach: Reach) -> None:
        three_studies(reach)
        assert uids(reach, Level.SERIES, StudyInstanceUID="1") == ["1.1", "1.2"]
        assert uids(reach, Level.IMAGE, StudyInstanceUID="1", SeriesInstanceUID="1.1") == ["1.1.1", "1.1.2"]

    def test_a_patient_is_answered_once(self, reach: Reach) -> None:
        three_studies(reach)
        assert uids(reach, Level.PATIENT) == ["8", "4711"]

    def test_every_kind_of_key_finds(self, reach: Reach) -> None:
        three_studies(reach)
        assert uids(reach, PatientID="8") == ["3", "2"]
        assert uids(reach, PatientID="4?11") == ["1"]
        assert uids(reach, PatientName="roe^r*") == ["3"]
        assert uids(reach, PatientName="*山*") == ["3"]
        assert uids(reach, StudyDate="20240102-") == ["3"]
        assert uids(reach, StudyDate="-20240101") == ["2", "1"]
        assert uids(reach, AccessionNumber="A1", PatientID="4711") == ["1"]
        assert uids(reach, StudyInstanceUID=["1", "3", "9"]) == ["3", "1"]
        assert uids(reach, Modality="MR") == ["2"]
        assert uids(reach, PatientID="none") == []

    def test_relational_questions_need_no_keys_above(self, reach: Reach) -> None:
        three_studies(reach)
        relational = {"matching": Matching.RELATIONAL}
        assert uids(reach, Level.SERIES, SeriesInstanceUID="2.1", **relational) == ["2.1"]
        assert uids(reach, Level.IMAGE, SOPInstanceUID="1.1.2", **relational) == ["1.1.2"]
        assert uids(reach, Level.SERIES, PatientID="8", **relational) == ["3.1", "2.1"]
        assert uids(reach, Level.STUDY, SOPInstanceUID="1.2.1", **relational) == ["1"]

    def test_counts_and_lists_are_computed_when_asked_for(self, reach: Reach) -> None:
        three_studies(reach)
        wanted = (
            "00201200",
            "00201202",
            "00201204",
            "00201206",
            "00201208",
            "00080061",
            "00080062",
            "00080056",
        )
        asked = {tag: {"vr": "IS"} for tag in wanted}
        (match,) = reach.catalog.find(query(Level.STUDY, StudyInstanceUID="1", **asked))
        assert [match[tag]["Value"] for tag in wanted[:5]] == [[1], [2], [3], [2], [3]]
        assert match["00080061"]["Value"] == ["CT", "SR"]
        assert match["00080056"]["Value"] == ["ONLINE"]
        (match,) = reach.catalog.find(
            query(Level.SERIES, SeriesInstanceUID="1.1", **{"00201209": {"vr": "IS"}})
        )
        assert match["00201209"]["Value"] == [2]

    def test_modalities_in_study_match_if_any_does(self, reach: Reach) -> None:
        three_studies(reach)
        assert uids(reach, **{"00080061": {"vr": "CS", "Value": ["SR"]}}) == ["1"]
        assert uids(reach, **{"00080061": {"vr": "CS", "Value": ["CT"]}}) == ["3", "1"]

    def test_issuers_narrow_the_patients(self, reach: Reach) -> None:
        reach.writer.record([arrival("1", "1.1", "1.1.1"), arrival("2", "2.1", "2.1.1", issuer="BETA")])
        question = query(Level.PATIENT, PatientID="4711")
        assert len(list(reach.catalog.find(question))) == 2
        narrowed = type(question)(level=Level.PATIENT, keys=question.keys, issuers=("BETA",))
        (match,) = reach.catalog.find(narrowed)
        assert match["00100021"]["Value"] == ["BETA"]

    def test_patients_without_an_id_are_one_per_study(self, reach: Reach) -> None:
        reach.writer.record([arrival(f"{n}", f"{n}.1", f"{n}.1.1", PatientID="") for n in range(3)])
        assert len(list(reach.catalog.find(query(Level.PATIENT)))) == 3

    def test_an_answer_ends_when_the_asker_closes_it(self, reach: Reach) -> None:
        reach.writer.record([arrival(f"{n}", f"{n}.1", f"{n}.1.1") for n in range(50)])
        found = reach.catalog.find(query(Level.STUDY))
        next(found)
        found.close()  # type: ignore[attr-defined]
        assert len(list(reach.catalog.find(query(Level.STUDY, limit=7)))) == 7

    def test_unique_keys_select_instances_in_order(self, reach: Reach) -> None:
        three_studies(reach)

        def selected(**names: tuple[str, ...]) -> list[str]:
            return [entry.SOPInstanceUID for entry in reach.catalog.select(Selection(**names))]  # type: ignore[arg-type]

        assert selected(studies=("1",)) == ["1.1.1", "1.1.2", "1.2.1"]
        assert selected(series=("1.2",)) == ["1.2.1"]
        assert selected(instances=("3.1.1", "1.1.2")) == ["1.1.2", "3.1.1"]
        assert selected(patient=("8",), studies=("2",)) == ["2.1.1"]
        assert sorted(selected(patient=("8",))) == ["2.1.1", "3.1.1"]
        assert selected(studies=("1",), patient=("8",)) == []
        assert selected(studies=("1",), instances=("3.1.1",)) == []

    def test_the_log_tells_of_every_study_and_series_once(self, reach: Reach) -> None:
        three_studies(reach)
        reach.state()
        told = reach.catalog.changes(0, 100)
        assert sorted(change.key for change in told) == [
            b"1",
            b"1\x001.1",
            b"1\x001.2",
            b"2",
            b"2\x002.1",
            b"3",
            b"3\x003.1",
        ]
        assert [change.seq for change in told] == sorted(change.seq for change in told)
        assert told[-1].seq == reach.catalog.head().seq
        assert reach.catalog.changes(told[2].seq, 2) == told[3:5]


class WriterClaims(CatalogClaims):
    """What the writer of a catalog promises besides, to those who keep the objects."""

    def test_what_was_moved_is_named_in_its_new_place_and_nobody_is_told(self, reach: Reach) -> None:
        three_studies(reach)
        reach.state()
        told = reach.catalog.head()
        (entry,) = reach.catalog.select(Selection(instances=("1.1.2",)))
        there = Holding(entry.holding.sha256, b"there", entry.holding.size)
        move = Move("1.1.2", entry.holding, there)
        assert reach.writer.relocate([move]) == [Moved.NOW]
        assert [each.holding for each in reach.catalog.select(Selection(instances=("1.1.2",)))] == [there]
        assert reach.writer.relocate([move]) == [Moved.BEFORE]
        third = Holding(entry.holding.sha256, b"third", entry.holding.size)
        assert reach.writer.relocate([Move("1.1.2", entry.holding, third)]) == [Moved.ELSEWHERE]
        assert reach.writer.relocate([Move("9", entry.holding, third)]) == [Moved.UNKNOWN]
        assert reach.writer.whereabouts("1.1.2", there.sha256) == there
        reach.state()
        assert reach.catalog.head() == told

    def test_versions_that_are_not_preferred_move_too(self, reach: Reach) -> None:
        first, second = arrival("1", "1.1", "1.1.1"), arrival("1", "1.1", "1.1.1", content="other")
        reach.writer.record([first, second])
        was = second.entry.holding
        there = Holding(was.sha256, b"there", was.size)
        assert reach.writer.relocate([Move("1.1.1", was, there)]) == [Moved.NOW]
        assert reach.writer.whereabouts("1.1.1", was.sha256) == there
        held = reach.writer.whereabouts("1.1.1", first.entry.holding.sha256)
        assert held == first.entry.holding

    def test_everything_stored_is_told_once_from_any_cursor_on(self, reach: Reach) -> None:
        three_studies(reach)
        reach.writer.record([arrival("1", "1.1", "1.1.1", content="other")])
        told, cursor = [], b""
        while step := reach.writer.stored_after(cursor, 2):
            told += [entry.SOPInstanceUID for _, entry in step]
            cursor = step[-1][0]
        assert sorted(told) == ["1.1.1", "1.1.1", "1.1.2", "1.2.1", "2.1.1", "3.1.1"]
