"""One grid out of many catalogs: series counted once, patients never mixed, what is missing is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import monotonic

import pytest
from msgspec.structs import replace

from catalog import Attributes, Entry, Level, Query, Selection, Unavailable, Verb
from catalog.statements import SeriesStatement
from federation import proposing
from federation.choosing import choose
from federation.identities import Asker, ForeignIds, Links, prefixed, read_links, rewritten, shown
from federation.manifests import Manifests
from federation.mirror import Mirror
from federation.mirror_search import MirrorSearch
from federation.outcomes import Part
from federation.sourcing import Sources
from federation.union import UnionCatalog
from sim import mirroring
from tests.catalog.samples import Ticking, arrival, query
from tests.catalog.test_decisions import decision
from tests.federation.grids import Node
from tests.federation.unions import ANYBODY, Seen

ALPHA = Asker(issuer="ALPHA")
AVAILABILITY = {"00080056": {"vr": "CS"}}


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Seen]:
    clock = Ticking()
    nodes = [Node(tmp_path / name, clock) for name in ("alpha", "beta", "gamma")]
    seen = Seen(*nodes)
    yield seen
    seen.close()


def beta_of(grid: Seen) -> Node:
    return grid.peers[b"beta"]


def gamma_of(grid: Seen) -> Node:
    return grid.peers[b"gamma"]


def values(answers: list[Attributes], tag: str) -> list[object]:
    return [answer.get(tag, {}).get("Value", [None])[0] for answer in answers]


def split_study(grid: Seen) -> None:
    """One study: a series here, one at beta, one at both peers, one partly here and wholly at gamma."""
    grid.here.catalog.record([arrival("1", "1.1", "1.1.1"), arrival("1", "1.4", "1.4.1", SeriesNumber=4)])
    beta_of(grid).catalog.record(
        [arrival("1", "1.2", "1.2.1", SeriesNumber=2), arrival("1", "1.3", "1.3.1", SeriesNumber=3)]
    )
    gamma_of(grid).catalog.record(
        [
            arrival("1", "1.3", "1.3.1", SeriesNumber=3),
            arrival("1", "1.4", "1.4.1", SeriesNumber=4),
            arrival("1", "1.4", "1.4.2", SeriesNumber=4, InstanceNumber="2"),
        ]
    )
    grid.sync()


def availability(grid: Seen) -> dict[object, object]:
    found = grid.find(query(Level.SERIES, StudyInstanceUID="1", **AVAILABILITY))
    return dict(zip(values(found, "0020000E"), values(found, "00080056"), strict=True))


def test_a_study_split_over_three_nodes_is_one_with_every_series_counted_once(grid: Seen) -> None:
    split_study(grid)
    wanted = {tag: {"vr": "IS"} for tag in ("00201206", "00201208", "00080056")}
    (study,) = grid.find(query(Level.STUDY, StudyDescription="CHEST", **wanted))
    assert [study[tag]["Value"] for tag in wanted] == [[4], [5], ["NEARLINE"]]
    assert availability(grid) == {"1.1": "ONLINE", "1.2": "NEARLINE", "1.3": "NEARLINE", "1.4": "NEARLINE"}
    images = grid.find(query(Level.IMAGE, StudyInstanceUID="1", SeriesInstanceUID="1.4", **AVAILABILITY))
    assert list(zip(values(images, "00080018"), values(images, "00080056"), strict=True)) == [
        ("1.4.1", "ONLINE"),
        ("1.4.2", "NEARLINE"),
    ]


def test_a_retrieve_takes_what_is_here_from_here_and_the_rest_from_who_holds_it(grid: Seen) -> None:
    split_study(grid)
    entries = grid.catalog.select(Selection(studies=("1",)))
    assert [(entry.SOPInstanceUID, entry.holding.where) for entry in entries] == [
        ("1.1.1", b"0:0"),
        ("1.2.1", b"peer:beta"),
        ("1.3.1", b"peer:beta"),
        ("1.4.1", b"0:0"),
        ("1.4.2", b"peer:gamma"),
    ]


def test_when_a_holder_is_down_its_parts_are_unavailable_unless_another_has_them(grid: Seen) -> None:
    split_study(grid)
    grid.down = {b"beta"}
    assert availability(grid) == {"1.1": "ONLINE", "1.2": "UNAVAILABLE", "1.3": "NEARLINE", "1.4": "NEARLINE"}
    (study,) = grid.find(query(Level.STUDY, StudyInstanceUID="1", **AVAILABILITY))
    assert study["00080056"]["Value"] == ["UNAVAILABLE"]
    uids = [entry.SOPInstanceUID for entry in grid.catalog.select(Selection(studies=("1",)))]
    assert uids == ["1.1.1", "1.3.1", "1.4.1", "1.4.2", ""], "what cannot be had counts, and fails"
    with pytest.raises(Unavailable, match="site beta"):
        grid.catalog.select(Selection(series=("1.2",)))


def test_rows_of_a_history_that_ended_are_not_taken_for_reachable(grid: Seen) -> None:
    split_study(grid)
    with grid.here.mirror._writing(grid.here.mirror.source(b"beta", 0)) as writing:
        writing.state.confirmed = 99
    assert availability(grid)["1.2"] == "UNAVAILABLE"


def test_one_study_uid_with_two_patients_is_the_own_ones_study_and_both_are_alarmed(grid: Seen) -> None:
    grid.here.catalog.record([arrival("1", "1.1", "1.1.1", PatientName="MINE^ONE")])
    beta_of(grid).catalog.record([arrival("1", "1.9", "1.9.1", PatientID="8", PatientName="OTHER^TWO")])
    grid.sync()
    (study,) = grid.find(query(Level.STUDY, StudyInstanceUID="1", **{"00201206": {"vr": "IS"}}))
    assert study["00100010"]["Value"] == [{"Alphabetic": "MINE^ONE"}]
    assert study["00201206"]["Value"] == [1]
    assert ("1", [b"beta"]) in grid.alarms
    assert grid.find(query(Level.STUDY, PatientID="8")) == []
    assert [e.SOPInstanceUID for e in grid.catalog.select(Selection(studies=("1",)))] == ["1.1.1"]


def test_where_no_own_study_settles_it_the_home_does_the_same_everywhere(grid: Seen) -> None:
    later = 1_700_000_000_000 + 5000
    beta_of(grid).catalog.record([arrival("1", "1.1", "1.1.1", PatientID="B", received=later)])
    gamma_of(grid).catalog.record([arrival("1", "1.2", "1.2.1", PatientID="C")])
    grid.sync()
    assert values(grid.find(query(Level.STUDY, StudyInstanceUID="1")), "00100020") == ["C"]
    assert grid.alarms[-1] == ("1", [b"beta"])


def two_hospitals(grid: Seen) -> None:
    """The number 4711 at both hospitals: two people."""
    grid.here.catalog.record([arrival("1", "1.1", "1.1.1", issuer="ALPHA")])
    beta_of(grid).catalog.record(
        [
            arrival("2", "2.1", "2.1.1", issuer="BETA", PatientName="ELSE^SOMEBODY"),
            arrival("3", "3.1", "3.1.1", issuer="BETA", PatientID="99"),
        ]
    )
    grid.sync()


def found(grid: Seen, asker: Asker, **keys: object) -> list[object]:
    return values(grid.find(query(Level.STUDY, **keys), asker), "0020000D")


def test_a_patient_id_without_an_issuer_is_never_another_hospitals_same_number(grid: Seen) -> None:
    two_hospitals(grid)
    for asker in (ALPHA, Asker("ALPHA", foreign_ids=ForeignIds.KEEP)):
        assert found(grid, asker, PatientID="4711") == ["1"]
        assert found(grid, asker, PatientID="47*") == ["1"]
        assert found(grid, asker, PatientID="*4711") == ["1"]
    assert found(grid, ALPHA, PatientID="BETA/4711") == ["2"]
    assert found(grid, ALPHA, PatientID="4711", IssuerOfPatientID="BETA") == ["2"]
    assert found(grid, Asker("ALPHA", all_issuers=True), PatientID="4711") == ["1", "2"]
    chosen = grid.as_seen_by(ALPHA).select(Selection(patient=("4711",)))
    assert [entry.SOPInstanceUID for entry in chosen] == ["1.1.1"]
    chosen = grid.as_seen_by(ALPHA).select(Selection(patient=("BETA/4711",)))
    assert [entry.SOPInstanceUID for entry in chosen] == ["2.1.1"]


def test_a_foreign_patient_is_shown_with_its_issuer_and_may_be_asked_for_as_shown(grid: Seen) -> None:
    two_hospitals(grid)
    (study,) = grid.find(query(Level.STUDY, StudyInstanceUID="2"), ALPHA)
    assert (study["00100020"]["Value"], study["00100021"]["Value"]) == (["BETA/4711"], ["BETA"])
    assert found(grid, ALPHA, PatientID=study["00100020"]["Value"][0]) == ["2"]
    (study,) = grid.find(
        query(Level.STUDY, StudyInstanceUID="2"), Asker("ALPHA", foreign_ids=ForeignIds.KEEP)
    )
    assert (study["00100020"]["Value"], study["00100021"]["Value"]) == (["4711"], ["BETA"])


def test_a_linked_identity_is_found_under_the_askers_own_number_and_unlinked_it_is_not(grid: Seen) -> None:
    two_hospitals(grid)
    assert found(grid, ALPHA, PatientID="4711") == ["1"]
    grid.links = Links(read_links("issuer,id,issuer,id\nALPHA,4711,BETA,99\n"))
    assert found(grid, ALPHA, PatientID="4711") == ["1", "3"]
    (study,) = grid.find(query(Level.STUDY, StudyInstanceUID="3"), ALPHA)
    assert (study["00100020"]["Value"], study["00100021"]["Value"]) == (["4711"], ["ALPHA"])
    counts = {"00201200": {"vr": "IS"}}
    patients = grid.find(query(Level.PATIENT, PatientID="4711", **counts), ALPHA)
    assert [patient["00201200"]["Value"] for patient in patients] == [[2]]
    entries = grid.as_seen_by(ALPHA).select(Selection(patient=("4711",)))
    assert [entry.SOPInstanceUID for entry in entries] == ["1.1.1", "3.1.1"]


def test_linked_identities_of_one_study_uid_are_one_patient(grid: Seen) -> None:
    grid.here.catalog.record([arrival("1", "1.1", "1.1.1", issuer="ALPHA")])
    beta_of(grid).catalog.record([arrival("1", "1.2", "1.2.1", issuer="BETA", PatientID="99")])
    grid.sync()
    series = query(Level.SERIES, StudyInstanceUID="1")
    assert values(grid.find(series), "0020000E") == ["1.1"]
    grid.links = Links([(("ALPHA", "4711"), ("BETA", "99"))])
    grid.alarms.clear()
    assert values(grid.find(series), "0020000E") == ["1.1", "1.2"]
    assert grid.alarms == []


def test_prefixed_ids_fit_their_vr_and_stay_different() -> None:
    long = "H" * 60
    assert prefixed("BETA", "4711") == "BETA/4711"
    assert len(prefixed(long, "12345")) == 64
    assert prefixed(long, "12345") != prefixed(long, "12346")
    patient = arrival("1", "1.1", "1.1.1").patient
    assert rewritten({}, shown(patient, Asker("OTHER")))["00100020"]["Value"] == ["ALPHA/4711"]


def test_links_that_are_no_links_are_refused_whole() -> None:
    with pytest.raises(Exception, match="Line 2"):
        read_links("A,1,B,2\nA,1,B\n")


@pytest.mark.parametrize("is_indexed", [False, True])
def test_answers_come_in_one_order_over_the_whole_grid(grid: Seen, is_indexed: bool) -> None:
    chance = Random(7)
    for n in range(120):
        date, time = f"2024{chance.randint(1, 12):02d}01", f"{chance.randint(0, 23):02d}0000"
        facts = {"StudyDate": date, "StudyTime": time, "Modality": chance.choice(["CT", "MR"])}
        for node in chance.sample([grid.here, *grid.peers.values()], chance.randint(1, 3)):
            node.catalog.record(
                [arrival(f"7.{n}", f"7.{n}.{node.name[0]}", f"7.{n}.{node.name[0]}.1", **facts)]
            )
    # Where two sites state different dates, the study stands where its answer says.
    grid.here.catalog.record([arrival("8", "8.1", "8.1.1", StudyDate="20200101")])
    beta_of(grid).catalog.record([arrival("8", "8.2", "8.2.1", StudyDate="20250101")])
    grid.sync()
    if is_indexed:
        grid.index()
    for question in (
        query(Level.STUDY),
        query(Level.STUDY, StudyDescription="*HES*"),
        query(Level.STUDY, PatientName="DOE*"),
        query(Level.STUDY, StudyDate="20190101-20251231"),
    ):
        answers = grid.find(question)
        assert len(answers) == 121
        order = [(a["00080020"]["Value"][0], a["00080030"]["Value"][0]) for a in answers]
        assert order == sorted(order, reverse=True)
    wanted = grid.find(query(Level.STUDY, **{"00080061": {"vr": "CS", "Value": ["MR"]}}))
    assert 0 < len(wanted) < 121


def test_a_study_new_to_the_index_is_found_by_what_its_answer_says_and_by_nothing_else(grid: Seen) -> None:
    for node, word in zip(grid.peers.values(), ("KNEE", "HIP"), strict=True):
        node.catalog.record([arrival("9", f"9.{word}", f"9.{word}.1", StudyDescription=f"LEFT {word} AP")])
        node.clock.now += 1
    grid.sync()

    def found() -> list[object]:
        words = ("*LEFT*", "*KNEE*", "*HIP*")
        return [values(grid.find(query(Level.STUDY, StudyDescription=word)), "0020000D") for word in words]

    new = found()
    grid.index()
    assert new == found() == [["9"], ["9"], []]


def test_of_a_long_answer_only_a_part_is_remembered_and_yet_no_study_comes_twice(
    grid: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every study is at three sites; of each third one they state different dates."""
    monkeypatch.setattr(proposing, "_REMEMBERED", 2)
    for n in range(30):
        for year, node in zip(("2020", "2022", "2024"), (grid.here, *grid.peers.values()), strict=True):
            date = f"{year if n % 3 == 0 else 2021}01{n + 1:02d}"
            node.catalog.record([arrival(f"5.{n}", f"5.{n}.{node.name}", f"5.{n}.1", StudyDate=date)])
    grid.sync()
    found = values(grid.find(query(Level.STUDY)), "0020000D")
    assert sorted(map(str, found)) == sorted(f"5.{n}" for n in range(30))
    assert len(grid.find(query(Level.STUDY, limit=5))) == 5


@pytest.mark.slow
def test_an_answer_of_the_grid_has_no_end_but_that_of_its_matches(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", clock=monotonic)
    sources = [mirror.source(name, 0) for name in (b"beta", b"gamma")]
    for site, source in enumerate(sources, 1):
        mirroring.bootstrap(mirror, source, mirroring.site_rows(site, 11_000))
    search = MirrorSearch(mirror, tmp_path / "search")
    catalog = mirroring.united(tmp_path, mirror, search, sources)
    found = [answer["0020000D"]["Value"][0] for answer in catalog.find(query(Level.STUDY))]
    assert len(found) == len(set(found)) == 22_000
    search.close()
    mirror.close()


def test_only_peers_that_grant_their_catalog_count_and_each_tells_its_age(
    grid: Seen,
) -> None:
    split_study(grid)
    grid.ages[b"gamma"] = None
    _, outcomes = grid.catalog.ask(query(Level.STUDY, StudyInstanceUID="1"))
    assert [(each.site, each.part, each.age) for each in outcomes] == [
        ("site beta", Part.MIRROR, 1.0),
        ("site gamma", Part.NONE, None),
    ]
    del grid.peers[b"gamma"]
    beta_of(grid).stop()
    del grid.peers[b"beta"]
    assert values(grid.find(query(Level.SERIES, StudyInstanceUID="1")), "0020000E") == ["1.1", "1.4"]


def test_keys_that_are_not_synchronised_are_answered_for_what_is_here_and_said_to_be_unjudged_elsewhere(
    grid: Seen,
) -> None:
    split_study(grid)
    key = {"00181151": {"vr": "IS", "Value": ["100"]}}
    question = Query(level=Level.STUDY, keys=key)
    answers, outcomes = grid.catalog.ask(question)
    assert list(answers) == []
    assert [each.can_judge for each in outcomes] == [False, False]
    assert all(each.can_judge for each in grid.catalog.ask(Query(level=Level.STUDY, keys={}))[1])


def test_a_series_of_which_two_sites_have_different_parts_is_retrieved_whole(grid: Seen) -> None:
    grid.here.catalog.record([arrival("1", "1.1", f"1.1.{n}", InstanceNumber=f"{n}") for n in (1, 2)])
    beta_of(grid).catalog.record([arrival("1", "1.1", f"1.1.{n}", InstanceNumber=f"{n}") for n in (2, 3)])
    gamma_of(grid).catalog.record([arrival("1", "1.1", "1.1.4", InstanceNumber="4")])
    grid.sync()
    entries = grid.catalog.select(Selection(studies=("1",)))
    assert [(e.SOPInstanceUID, e.holding.where) for e in entries] == [
        ("1.1.1", b"0:0"),
        ("1.1.2", b"0:0"),
        ("1.1.3", b"peer:beta"),
        ("1.1.4", b"peer:gamma"),
    ]
    images = grid.find(query(Level.IMAGE, StudyInstanceUID="1", SeriesInstanceUID="1.1"))
    assert values(images, "00080018") == ["1.1.1", "1.1.2", "1.1.3", "1.1.4"]


def test_a_manifest_is_fetched_once_until_its_series_changes(grid: Seen) -> None:
    kept = Manifests(grid.manifest, most=4)
    cached = UnionCatalog(grid.grid._replace(manifest=kept), ANYBODY)
    beta_of(grid).catalog.record([arrival("1", "1.1", f"1.1.{n}") for n in range(3)])
    grid.sync()
    for _ in range(3):
        assert len(cached.select(Selection(studies=("1",)))) == 3
    assert grid.manifests == 1
    beta_of(grid).catalog.record([arrival("1", "1.1", "1.1.9"), arrival("2", "2.1", "2.1.1")])
    assert len(cached.select(Selection(studies=("1",)))) == 3, "as it was stated"
    grid.sync()
    assert len(cached.select(Selection(studies=("1",)))) == 4
    assert len(cached.select(Selection(studies=("2",)))) == 1
    assert grid.manifests == 3


def test_a_series_that_was_moved_is_listed_anew(grid: Seen) -> None:
    cached = UnionCatalog(grid.grid._replace(manifest=Manifests(grid.manifest)), ANYBODY)
    beta = beta_of(grid)
    beta.catalog.record([arrival("1", "1.1", "1.1.1"), arrival("2.2", "2.1", "2.1.1")])
    grid.sync()
    assert len(cached.select(Selection(studies=("1",)))) == 1
    beta.catalog.decide(decision("m", Verb.MOVE, "1", "1.1", detail="2.2"))
    grid.sync()
    found = cached.select(Selection(studies=("2.2",)))
    assert [entry.StudyInstanceUID for entry in found] == ["2.2", "2.2"], "its owner is asked for it by that"
    assert cached.select(Selection(studies=("1",))) == []


def test_every_correction_and_its_undoing_are_told_to_who_has_copies(grid: Seen) -> None:
    beta = beta_of(grid)
    beta.catalog.record([arrival("1", "1.1", "1.1.1")])
    [entry] = beta.catalog.select(Selection(studies=("1",)))

    def state() -> bytes:
        grid.sync()
        return Sources(grid.grid)(entry)[0].state

    before = state()
    said = {"00104000": {"vr": "LT", "Value": ["of no row"]}}
    beta.catalog.decide(replace(decision("c", Verb.CORRECT, "1"), attributes=said))
    corrected = state()
    beta.catalog.decide(decision("i", Verb.CORRECT, "1", "1.1", "1.1.1", InstanceNumber="9"))
    assert len({before, corrected, state()}) == 3
    for undone in ("i", "c"):
        beta.catalog.decide(decision(f"u{undone}", Verb.UNDO, "1", detail=undone))
    assert state() == before


def test_a_series_that_grows_is_listed_by_its_owner_anew(grid: Seen) -> None:
    cached = UnionCatalog(grid.grid._replace(manifest=Manifests(grid.manifest)), ANYBODY)
    beta = beta_of(grid)
    beta.catalog.record([arrival("1", "1.1", f"1.1.{n}") for n in range(3)])
    beta.publish()
    grid.here.sync(beta)
    assert len(cached.select(Selection(studies=("1",)))) == 3
    beta.catalog.record([arrival("1", "1.1", "1.1.9")])
    assert len(cached.select(Selection(studies=("1",)))) == 4


def test_one_sop_instance_uid_with_two_contents_is_one_row_and_a_conflict_that_is_told(grid: Seen) -> None:
    for node, content in ((beta_of(grid), "one"), (gamma_of(grid), "two")):
        node.catalog.record([arrival("1", "1.1", "1.1.1", content=content)])
    grid.sync()
    chosen = choose(grid.grid, ANYBODY, Selection(studies=("1",)))
    assert [entry.holding.where for entry in chosen.entries] == [b"peer:beta"]
    assert chosen.conflicts == {"1.1.1": b"gamma"}
    assert len(grid.find(query(Level.IMAGE, StudyInstanceUID="1", SeriesInstanceUID="1.1"))) == 1


def test_what_a_holder_does_not_list_in_time_is_missing_and_never_silently_left_out(grid: Seen) -> None:
    """It is thought to be there, but the call for its instances fails."""
    grid.here.catalog.record([arrival("1", "1.1", "1.1.1")])
    beta_of(grid).catalog.record([arrival("1", "1.2", f"1.2.{n}") for n in (1, 2)])
    grid.sync()

    def silent(owner: bytes, series: SeriesStatement) -> list[Entry]:
        raise Unavailable("It does not answer.")

    chosen = choose(grid.grid._replace(manifest=silent), ANYBODY, Selection(studies=("1",)))
    assert [entry.SOPInstanceUID for entry in chosen.entries] == ["1.1.1"]
    assert [(each.SeriesInstanceUID, each.instances, each.sites) for each in chosen.missing] == [
        ("1.2", 2, ("site beta",))
    ]
