"""What was recorded is there, and what a query sees adds up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from catalog import Level, LmdbCatalog, OutOfSpace, Recorded, Selection
from tests.catalog.samples import arrival, open_catalog, query


def test_the_same_instance_again_changes_nothing(catalog: LmdbCatalog) -> None:
    first = arrival("1", "1.1", "1.1.1")
    assert catalog.record([first]) == [Recorded.NEW]
    before = catalog.totals()
    assert catalog.record([first]) == [Recorded.SAME]
    assert catalog.totals() == before
    assert not list(catalog.conflicts())


def test_an_instance_is_held_only_with_exactly_its_bytes(catalog: LmdbCatalog) -> None:
    ours = arrival("1", "1.1", "1.1.1")
    catalog.record([ours])
    assert catalog.holds("1.1.1", ours.entry.holding.sha256)
    assert not catalog.holds("1.1.1", bytes(32))
    assert not catalog.holds("1.1.2", ours.entry.holding.sha256)


def test_of_two_versions_the_first_is_preferred_and_both_are_kept(catalog: LmdbCatalog) -> None:
    first, second = arrival("1", "1.1", "1.1.1"), arrival("1", "1.1", "1.1.1", content="other")
    assert catalog.record([first, second]) == [Recorded.NEW, Recorded.OTHER_VERSION]
    assert catalog.select(Selection(instances=("1.1.1",))) == [first.entry]
    assert catalog.holds("1.1.1", second.entry.holding.sha256)
    assert catalog.totals().instances == 1
    (conflict,) = catalog.conflicts()
    assert conflict.versions == (first.entry, second.entry)


def test_a_version_with_another_patient_says_what_differs(catalog: LmdbCatalog) -> None:
    catalog.record([arrival("1", "1.1", "1.1.1")])
    catalog.record(
        [arrival("1", "1.1", "1.1.1", content="x", PatientID="9", PatientSex="M", AccessionNumber="B")]
    )
    (conflict,) = catalog.conflicts()
    assert conflict.differences == ("PatientID", "PatientSex", "AccessionNumber")


def test_an_instance_in_two_studies_is_a_conflict_and_seen_where_it_was_first(catalog: LmdbCatalog) -> None:
    first = arrival("1", "1.1", "9.9")
    catalog.record([first, arrival("2", "2.1", "9.9")])
    (conflict,) = catalog.conflicts()
    assert {"StudyInstanceUID", "SeriesInstanceUID"} <= set(conflict.differences)
    assert catalog.select(Selection(instances=("9.9",))) == [first.entry]
    assert not list(catalog.find(query(Level.STUDY, StudyInstanceUID="2")))


def test_a_study_of_two_patients_answers_with_the_first_and_raises_one_alarm(catalog: LmdbCatalog) -> None:
    catalog.record([arrival("1", "1.1", "1.1.1", PatientName="FIRST^P")])
    catalog.record([arrival("1", "1.2", f"1.2.{n}", PatientName="SECOND^P") for n in range(5)])
    (found,) = catalog.find(query(Level.STUDY, StudyInstanceUID="1"))
    assert found["00100010"]["Value"] == [{"Alphabetic": "FIRST^P"}]
    (conflict,) = catalog.conflicts()
    assert conflict.differences == ("PatientName",)
    assert [entry.SOPInstanceUID for entry in conflict.versions] == ["1.1.1", "1.2.0"]


def test_a_closed_catalog_opens_as_it_was(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    catalog.record([arrival("1", "1.1", f"1.1.{n}") for n in range(10)])
    before = catalog.totals()
    catalog.close()
    again = open_catalog(tmp_path)
    assert again.totals() == before
    assert len(again.select(Selection(series=("1.1",)))) == 10
    again.close()


def test_everybody_who_records_at_once_is_answered_and_recorded(catalog: LmdbCatalog) -> None:
    results: dict[str, list[Recorded]] = {}

    def send(sender: int) -> None:
        for n in range(40):
            uid = f"{sender}.1.{n}"
            results[uid] = catalog.record([arrival(str(sender), f"{sender}.1", uid)])

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 320
    assert set(map(tuple, results.values())) == {(Recorded.NEW,)}
    assert catalog.totals().instances == 320


def test_a_full_map_refuses_and_keeps_all_it_had(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path, map_size=1 << 20)
    recorded = 0

    def fill() -> None:
        nonlocal recorded
        for n in range(5000):
            catalog.record([arrival(f"{n}", f"{n}.1", f"{n}.1.1")])
            recorded += 1

    with pytest.raises(OutOfSpace):
        fill()
    assert recorded
    assert catalog.totals().instances == recorded
    assert len(list(catalog.find(query(Level.STUDY)))) == recorded
    assert not list(catalog.find(query(Level.STUDY, StudyInstanceUID=f"{recorded}")))
    catalog.close()
