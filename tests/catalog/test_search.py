"""Any attribute is searchable; the index may lag, may be lost, and is never trusted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tantivy

from catalog import Attributes, Decision, Level, LmdbCatalog, Verb
from catalog.search import SearchIndex
from tests.catalog.samples import Shelf, Ticking, data_set, index_all, open_catalog, query

CREATOR = {"vr": "LO", "Value": ["ACME 1.0"]}
REQUEST = "00400275"
PROTOCOL = "00400007"
CODE = "00400009"


def request(description: str, id: str) -> dict[str, object]:
    return {PROTOCOL: {"vr": "LO", "Value": [description]}, CODE: {"vr": "SH", "Value": [id]}}


class Archive:
    """A catalog over a shelf of data sets."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.shelf = Shelf()
        self.clock = Ticking()
        self.catalog = self.open()

    def open(self) -> LmdbCatalog:
        return open_catalog(self.home, clock=self.clock, shelf=self.shelf)

    def store(self, *data_sets: Attributes) -> None:
        self.catalog.record([self.shelf.arrival(each) for each in data_sets])

    def settle(self) -> None:
        index_all(self.catalog, self.clock)

    def found(self, level: Level = Level.STUDY, **keys: object) -> list[str]:
        tag = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.IMAGE: "00080018"}[level]
        return [match[tag]["Value"][0] for match in self.catalog.find(query(level, **keys))]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path)
    yield made
    made.catalog.close()


@pytest.fixture(params=["not yet indexed", "indexed"])
def settled(request: pytest.FixtureRequest, archive: Archive) -> Archive:
    """Return an archive whose `store` is followed by the index, or not: the answers must be the same."""
    if request.param == "indexed":
        store = archive.store

        def store_and_index(*data_sets: Attributes) -> None:
            store(*data_sets)
            archive.settle()

        archive.store = store_and_index  # type: ignore[method-assign]
    return archive


def test_a_part_of_a_description_finds_the_study(settled: Archive) -> None:
    settled.store(
        data_set("1", "1.1", "1.1.1", StudyDescription="CT THORAX NATIVE"),
        data_set("2", "2.1", "2.1.1", StudyDescription="MR HEAD"),
    )
    assert settled.found(StudyDescription="*THORAX*") == ["1"]
    assert settled.found(StudyDescription="MR ?EAD") == ["2"]
    assert settled.found(StudyDescription="*thorax*") == []


def test_a_part_of_a_name_finds_the_study_in_any_case(settled: Archive) -> None:
    settled.store(
        data_set("1", "1.1", "1.1.1", PatientName="Müller^Änne"),
        data_set("2", "2.1", "2.1.1", PatientName="MILLER^ANN"),
    )
    assert settled.found(PatientName="*ller^ä*") == ["1"]
    assert settled.found(PatientName="*ILLER*") == ["2"]


def test_an_attribute_outside_the_fixed_table_finds_series_and_instances(settled: Archive) -> None:
    settled.store(
        data_set("1", "1.1", "1.1.1", **{"00180050": {"vr": "DS", "Value": [1.5]}}),
        data_set("1", "1.1", "1.1.2", InstanceNumber=2, **{"00180050": {"vr": "DS", "Value": ["5.0"]}}),
    )
    five = {"00180050": {"vr": "DS", "Value": ["5"]}}
    assert settled.found(Level.SERIES, **five) == ["1.1"]
    assert settled.found(Level.IMAGE, **five) == ["1.1.2"]
    assert settled.found(Level.STUDY, **five) == ["1"]
    assert settled.found(Level.STUDY, **{"00180050": {"vr": "DS", "Value": ["7"]}}) == []


def test_a_private_attribute_is_found_and_answered(settled: Archive) -> None:
    settled.store(
        data_set("1", "1.1", "1.1.1", **{"00091001": {"vr": "LO", "Value": ["SECRET"]}, "00090010": CREATOR}),
        data_set("2", "2.1", "2.1.1", **{"00091001": {"vr": "LO", "Value": ["OTHER"]}, "00090010": CREATOR}),
    )
    (match,) = settled.catalog.find(query(Level.STUDY, **{"00091001": {"vr": "LO", "Value": ["SEC*"]}}))
    assert match["0020000D"]["Value"] == ["1"]
    assert match["00091001"]["Value"] == ["SECRET"]


def test_keys_of_one_item_are_matched_within_one_item(settled: Archive) -> None:
    items = [request("HEAD", "A"), request("CHEST", "B")]
    settled.store(data_set("1", "1.1", "1.1.1", **{REQUEST: {"vr": "SQ", "Value": items}}))

    def asked(description: str, id: str) -> list[str]:
        return settled.found(Level.SERIES, **{REQUEST: {"vr": "SQ", "Value": [request(description, id)]}})

    assert asked("HEAD", "A") == ["1.1"]
    assert asked("HEAD", "B") == []
    assert asked("*EST", "") == ["1.1"]


def test_keys_met_by_different_series_find_the_study(settled: Archive) -> None:
    settled.store(
        data_set("1", "1.1", "1.1.1", StationName="CT1", Modality="CT"),
        data_set("1", "1.2", "1.2.1", StationName="SR1", Modality="SR"),
    )
    modalities = {"00080061": {"vr": "CS", "Value": ["CT"]}}
    assert settled.found(Level.STUDY, StationName="SR1", **modalities) == ["1"]
    assert settled.found(Level.SERIES, StationName="SR1", **modalities) == ["1.2"]


def test_a_tag_with_very_many_values_is_still_found(settled: Archive) -> None:
    settled.store(
        *(
            data_set("1", "1.1", f"1.1.{n}", InstanceNumber=n, **{"00201041": {"vr": "DS", "Value": [n / 2]}})
            for n in range(1, 150)
        )
    )
    last = {"00201041": {"vr": "DS", "Value": ["74.5"]}}
    assert settled.found(Level.SERIES, **last) == ["1.1"]
    assert settled.found(Level.IMAGE, **last) == ["1.1.149"]
    assert settled.found(Level.SERIES, **{"00201041": {"vr": "DS", "Value": ["75.5"]}}) == []


@pytest.mark.parametrize(
    "text", ["a+b", "a.b", "(x)", "[y]", "\\d", "a|b", '"q"', "x^2$", "{1}", "é&~#-", "50 %"]
)
def test_no_character_of_a_value_is_query_syntax(settled: Archive, text: str) -> None:
    settled.store(data_set("1", "1.1", "1.1.1", StationName="none"), data_set("2", "2.1", "2.1.1"))
    settled.store(data_set("3", "3.1", "3.1.1", SeriesDescription=f"x {text} y"))
    if "\\" not in text:
        assert settled.found(SeriesDescription=f"*{text}*") == ["3"]
    assert settled.found(SeriesDescription=f"{text}*") == []


def test_answers_are_in_order_whether_indexed_or_not(archive: Archive) -> None:
    for n in range(40):
        archive.store(
            data_set(f"{n}", f"{n}.1", f"{n}.1.1", StudyDate=f"202401{n % 28 + 1:02}", StudyDescription="X")
        )
        if n == 20:
            archive.settle()
    dates = [
        match["00080020"]["Value"][0]
        for match in archive.catalog.find(query(Level.STUDY, StudyDescription="*X*"))
    ]
    assert len(dates) == 40
    assert dates == sorted(dates, reverse=True)


@pytest.mark.parametrize("dates", [1, 3])
def test_hundreds_of_studies_of_one_moment_are_all_found(archive: Archive, dates: int) -> None:
    for n in range(700):
        keys = data_set(
            f"{n}", f"{n}.1", f"{n}.1.1", StudyDate=f"2024010{n % dates + 1}", StudyDescription="SAME"
        )
        archive.catalog.record([archive.shelf.arrival(keys)])
        if n % 100 == 99:
            archive.settle()
    matches = list(archive.catalog.find(query(Level.STUDY, StudyDescription="*SAM*")))
    found = [(match["00080020"]["Value"][0], match["0020000D"]["Value"][0]) for match in matches]
    assert len(found) == 700
    assert found == sorted(sorted(found, key=lambda each: each[1]), key=lambda each: each[0], reverse=True)


def test_after_a_correction_the_new_value_finds_and_the_old_does_not(archive: Archive) -> None:
    archive.store(data_set("1", "1.1", "1.1.1", StudyDescription="WRONG WORD"))
    archive.settle()
    new = data_set("1", "1.1", "1.1.1", StudyDescription="RIGHT WORD")["00081030"]
    archive.catalog.decide(
        Decision(
            id="c", verb=Verb.CORRECT, target=("1",), reason="", who="", when=1, attributes={"00081030": new}
        )
    )
    for _ in range(2):
        assert archive.found(StudyDescription="*RIGHT*") == ["1"]
        assert archive.found(StudyDescription="*WRONG*") == []
        archive.settle()


def test_a_rejected_instance_takes_its_values_with_it(archive: Archive) -> None:
    thick = {"00180050": {"vr": "DS", "Value": ["5"]}}
    archive.store(data_set("1", "1.1", "1.1.1"), data_set("1", "1.1", "1.1.2", InstanceNumber=2, **thick))
    archive.settle()
    reject = Decision(id="r", verb=Verb.REJECT, target=("1", "1.1", "1.1.2"), reason="", who="", when=1)
    archive.catalog.decide(reject)
    for _ in range(2):
        assert archive.found(Level.SERIES, **thick) == []
        archive.settle()
    archive.catalog.decide(Decision(id="u", verb=Verb.UNDO, target=(), reason="", who="", when=2, detail="r"))
    for _ in range(2):
        assert archive.found(Level.SERIES, **thick) == ["1.1"]
        archive.settle()


def test_a_deleted_index_grows_back(archive: Archive) -> None:
    archive.store(*(data_set(f"{n}", f"{n}.1", f"{n}.1.1", StudyDescription=f"D{n}") for n in range(30)))
    archive.settle()
    archive.catalog.close()
    shutil.rmtree(archive.home / "search")
    archive.catalog = archive.open()
    assert archive.found(StudyDescription="*17") == ["17"]
    archive.shelf.reads = 0
    archive.settle()
    assert archive.found(StudyDescription="*17") == ["17"]
    assert archive.shelf.reads == 0


def test_an_index_that_is_removed_while_it_is_written_grows_back_and_no_disk_is_called_full(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, removed = SearchIndex.put, list[int]()

    def removing(index: SearchIndex, number: int, ordinal: int, terms: list[str], text: str) -> None:
        if not removed:
            removed.append(number)
            index.remove()
        put(index, number, ordinal, terms, text)

    monkeypatch.setattr(SearchIndex, "put", removing)
    archive.store(*(data_set(f"{n}", f"{n}.1", f"{n}.1.1", StudyDescription=f"D{n}") for n in range(30)))
    archive.settle()
    assert removed
    assert archive.found(StudyDescription="*17") == ["17"]
    assert [path.name for path in archive.home.iterdir() if "search" in path.name] == ["search"]


def test_indexing_reads_each_object_once_and_finding_none(archive: Archive) -> None:
    archive.store(*(data_set("1", "1.1", f"1.1.{n}", InstanceNumber=n) for n in range(100)))
    archive.settle()
    assert archive.shelf.reads == 100
    archive.found(Level.IMAGE, **{"00080005": {"vr": "CS"}, "00180050": {"vr": "DS"}})
    assert archive.shelf.reads == 100


def test_a_search_index_of_another_schema_is_thrown_away_and_grows_back(archive: Archive) -> None:
    archive.store(data_set("1", "1.1", "1.1.1", StudyDescription="KNEE LEFT"))
    archive.settle()
    archive.catalog.close()
    token = (archive.home / "search" / "token").read_bytes()
    shutil.rmtree(archive.home / "search")
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("something else")
    (archive.home / "search").mkdir()
    tantivy.Index(builder.build(), path=str(archive.home / "search"))
    (archive.home / "search" / "token").write_bytes(token)
    archive.catalog = archive.open()
    archive.settle()
    assert len(archive.found(StudyDescription="*LEFT*")) == 1


def test_what_is_done_to_an_answer_is_not_in_the_next_one(settled: Archive) -> None:
    settled.store(data_set("1", "1.1", "1.1.1", **{REQUEST: {"vr": "SQ", "Value": [request("HEAD", "7")]}}))
    for _ in range(2):
        [answer] = settled.catalog.find(query(Level.SERIES, **{REQUEST: {"vr": "SQ"}}))
        [item] = answer[REQUEST]["Value"]
        assert item[PROTOCOL]["Value"] == ["HEAD"]
        item[PROTOCOL]["Value"].append("CHEST")
