"""What is deleted goes after its days, what is erased at once and without a trace; a hold keeps all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from catalog import BadRequest, NotPermitted, Selection
from node.app import Node, open_node, rebuild
from node.contracts import Caller
from node.research.model import Export, Project, Standing
from node.storage import Damage
from node.storage.places import place_of, segment_path
from tests.homes import RawInstance, attribute, edited, new_home, phantoms
from tests.privacy import files_with

WHO = {"reason": "a test", "who": "tester"}
DAY = 86_400.0


class Moving:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Moving:
    return Moving()


@pytest.fixture
def node(tmp_path: Path, clock: Moving) -> Iterator[Node]:
    """A node that is open and serves nobody: its steps are taken here."""
    with open_node(new_home(tmp_path / "home"), clock) as node:
        yield node


def send(node: Node, *sent: RawInstance, is_held: bool = False) -> list[int]:
    """Have instances come in as from a device, known or not; return the status of each."""
    found = []
    for one in sent:
        caller = Caller("CT", "127.0.0.1", "ALPHA")
        reception = node.ingest.begin(
            caller, one.SOPClassUID, one.SOPInstanceUID, one.TransferSyntaxUID, is_held=is_held
        )
        reception.space(one.size)[:] = one.data
        reception.filled(one.size)
        found.append(reception.finish().status)
    return found


def count(node: Node, study: str) -> int:
    """Return how many instances of a study can be seen."""
    return len(node.catalog.select(Selection(studies=(study,))))


def uid(instance: RawInstance, keyword: str = "StudyInstanceUID") -> str:
    return str(attribute(instance, keyword))


def go_on(node: Node, clock: Moving, steps: int = 4) -> None:
    """Take the steps that threads of a serving node take."""
    for _ in range(steps):
        clock.now += 5.0
        node.catalog.publish(clock())
        while node.catalog.index(clock()):
            clock.now += 1.0
        node.main.disposal.step()


def traces(home: Path, *values: str) -> list[tuple[str, str]]:
    """Return which files of a home hold one of the values."""
    found = files_with([value.encode() for value in values], home)
    return [(word.decode(), str(path.relative_to(home))) for path, word in found]


def named(instance: RawInstance) -> list[str]:
    """Return what an instance says of its patient."""
    keywords = ("PatientID", "AccessionNumber", "StudyDescription")
    values = [uid(instance, keyword) for keyword in keywords] + uid(instance, "PatientName").split("^")
    return [value for value in values if len(value) > 3]


def test_a_deletion_can_be_taken_back_for_seven_days_and_then_its_bytes_go(node: Node, clock: Moving) -> None:
    gone, kept, other = phantoms(500, 0, instances=3), phantoms(500, 1), phantoms(500, 2)
    assert set(send(node, *gone, *kept, *other)) == {0}
    verbs, stored = node.desk.verbs(), node.catalog.totals().stored
    made = verbs["delete"](target=uid(gone[0]), **WHO)
    verbs["delete"](target=uid(other[0]), **WHO)
    go_on(node, clock)
    assert count(node, uid(gone[0])) == 0
    clock.now += 6.9 * DAY
    go_on(node, clock)
    assert node.catalog.totals().stored == stored
    verbs["undo"](decision=made["decision"], **WHO)
    assert count(node, uid(gone[0])) == 3
    made = verbs["delete"](target=uid(gone[0]), **WHO)
    clock.now += 7.1 * DAY
    places = [entry.holding for entry in node.catalog.versions((uid(gone[0]),))]
    go_on(node, clock)
    assert node.catalog.versions((uid(gone[0]),)) == []
    for place in places:
        with pytest.raises(Exception, match=r".+"):
            node.store.open(place)
    with pytest.raises(BadRequest, match="gone"):
        verbs["undo"](decision=made["decision"], **WHO)
    assert (count(node, uid(kept[0])), node.catalog.totals().studies) == (len(kept), 1)
    assert {row["outcome"] for row in verbs["deletions"]()["orders"]} == {"gone", "taken back"}
    assert set(send(node, *gone)) == {0}, "what was deleted comes back as new"
    assert count(node, uid(gone[0])) == 3


def test_after_an_erasure_no_file_of_the_home_names_the_patient(
    node: Node, clock: Moving, tmp_path: Path
) -> None:
    gone = [edited(one, PatientComments="SECRETWORD") for one in phantoms(510, 0, instances=70)]
    kept = phantoms(511, 1)
    assert set(send(node, *gone, *kept)) == {0}
    assert set(send(node, edited(gone[0], PatientName="OTHERNAME^X"))) == {0}, "two versions of one"
    verbs, study = node.desk.verbs(), uid(gone[0])
    verbs["correct"](target=study, attributes=["PatientName=CORRECTEDNAME^Y", "PatientID=RIGHTID"], **WHO)
    go_on(node, clock)
    words = [*named(gone[0]), "SECRETWORD", "OTHERNAME", "CORRECTEDNAME", "RIGHTID"]
    words = [word for word in words if word not in kept[0].data.decode("latin-1")]
    assert {word for word, _ in traces(node.home, *words)} == set(words)
    verbs["erase"](target=study, **WHO)
    go_on(node, clock)
    assert [row["outcome"] for row in verbs["deletions"]()["orders"]] == ["erased"]
    assert traces(node.home, *words) == []
    assert send(node, gone[0], edited(gone[1], PatientID="X")) == [0x0124] * 2
    go_on(node, clock)
    assert traces(node.home, *words) == []
    assert count(node, uid(kept[0])) == len(kept)
    with pytest.raises(BadRequest, match="cannot be taken back"):
        verbs["undo"](decision=verbs["deletions"]()["orders"][0]["decision"], **WHO)


def test_an_erasure_takes_what_waits_for_a_person_too(node: Node, clock: Moving) -> None:
    gone, kept = phantoms(515, 0, instances=4), phantoms(516, 1, instances=2)
    assert set(send(node, *gone[:2], kept[0])) == {0}
    held = edited(gone[2], PatientComments="HELDWORD")
    assert send(node, held, is_held=True) == [0]
    # Two that could not be taken: one says whose it is by its study, the other by nothing but its own UID.
    assert send(node, edited(gone[3], SOPInstanceUID="1.2.3.4", PatientComments="STUDYWORD")) == [0xA900]
    assert send(node, edited(gone[1], StudyInstanceUID="", PatientComments="LONEWORD")) == [0xA900]
    assert send(node, edited(kept[1], SOPInstanceUID="1.2.3.5", PatientComments="OTHERWORD")) == [0xA900]
    go_on(node, clock)
    words = ["HELDWORD", "STUDYWORD", "LONEWORD"]
    assert {word for word, _ in traces(node.home, *words)} == set(words)
    node.desk.verbs()["erase"](target=uid(gone[0]), **WHO)
    go_on(node, clock)
    assert traces(node.home, *words) == []
    assert not list(node.held.list())
    assert traces(node.home, "OTHERWORD"), "what waits of others waits still"


def test_backups_and_research_sets_that_may_hold_what_is_erased_are_listed_by_name(
    node: Node, clock: Moving
) -> None:
    gone = phantoms(522, 0)
    assert set(send(node, *gone)) == {0}
    node.state.table("research-projects", Project).put(b"TRIAL", Project(name="TRIAL"))
    book = node.state.table("research-exports", Export)

    def export(id: str, standing: Standing, archive: str = "main") -> None:
        told = {"project": "TRIAL", "profile": "research", "target": "outbox:", "who": "ann"}
        row = Export(id=id, archive=archive, standing=standing, when=clock(), **told)
        book.put(id.encode(), row)

    for standing in Standing:
        export(f"{standing.name.lower():.8}-1", standing)
    export("elsewher-1", Standing.DONE, "lab")
    node.audit.record("backup", None, "ok", {"who": "ann", "backup": "monday"})
    clock.now += 5
    node.desk.verbs()["erase"](target=uid(gone[0]), **WHO)
    go_on(node, clock)
    clock.now += 5
    export("later-1", Standing.DONE)
    node.audit.record("backup", None, "ok", {"who": "ann", "backup": "tuesday"})
    node.audit.step()
    [order] = node.desk.verbs()["deletions"]()["orders"]
    assert order["backups"] == ["monday"]
    made = {"running", "staged", "done", "failed", "stopped", "gatherin"}
    assert set(order["exports"]) == {f"TRIAL {name:.8}" for name in {f"{each}-1" for each in made}}


@pytest.mark.parametrize("verb", ["erase", "delete"])
def test_what_has_a_damaged_header_on_the_disk_goes_without_a_rebuild(
    node: Node, clock: Moving, verb: str
) -> None:
    gone, kept = (
        [edited(one, PatientComments=word) for one in phantoms(531, number, instances=3)]
        for number, word in enumerate(("GONEWORD", "KEPTWORD"))
    )
    assert set(send(node, *gone, *kept)) == {0}
    for entry in node.catalog.versions((uid(gone[0]),))[:2]:
        place = place_of(entry.holding.where)
        with segment_path(node.main.folder / "objects", place.segment).open("r+b") as segment:
            segment.seek(place.offset + 10)
            segment.write(b"\xff" * 20)
    node.desk.verbs()[verb](target=uid(gone[0]), **WHO)
    clock.now += 8 * DAY
    go_on(node, clock)
    [order] = node.desk.verbs()["deletions"]()["orders"]
    assert order["outcome"] == {"erase": "erased", "delete": "gone"}[verb]
    assert [path for _, path in traces(node.home / "archives", "GONEWORD") if path.endswith(".tar")] == []
    assert count(node, uid(kept[0])) == 3
    assert [item for item in node.main.segments.scan() if isinstance(item, Damage)] == []


def test_an_erasure_takes_what_was_set_aside_and_has_no_record_or_a_torn_one(
    node: Node, clock: Moving
) -> None:
    gone = phantoms(521, 0, instances=3)
    assert send(node, gone[0]) == [0]
    for number, one in enumerate(gone[1:]):
        wrong = edited(one, SOPInstanceUID=f"1.2.3.{number}", PatientComments="SETASIDE")
        assert send(node, wrong) == [0xA900]
    shelf = node.main.rejected.path("any").parent
    first, second = sorted(shelf.glob("*.json"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:20])
    node.desk.verbs()["erase"](target=uid(gone[0]), **WHO)
    go_on(node, clock)
    assert traces(node.home, "SETASIDE") == []
    assert list(shelf.iterdir()) == []


def test_what_is_set_aside_of_an_erased_study_later_is_not_kept(node: Node, clock: Moving) -> None:
    gone, kept = phantoms(517, 0, instances=2), phantoms(518, 1)
    assert set(send(node, *gone, *kept)) == {0}
    node.desk.verbs()["erase"](target=uid(gone[0]), **WHO)
    go_on(node, clock)
    # They could not be taken before the erasure either; one is readable, one is cut in its header.
    wrong = edited(gone[0], SOPInstanceUID="1.2.3.4", PatientComments="LATEWORD")
    torn = edited(gone[1], PatientComments="TORNWORD")
    at = torn.data.index(b"TORNWORD")
    torn = replace(torn, data=torn.data[: at + 8] + b"\xff" * 40)
    assert send(node, wrong, torn) == [0x0124, 0x0124]
    assert send(node, edited(gone[0], PatientComments="HELDWORD"), is_held=True) == [0x0124]
    assert traces(node.home, "LATEWORD", "TORNWORD", "HELDWORD") == []
    assert send(node, edited(kept[0], SOPInstanceUID="1.2.3.5", PatientComments="OTHERWORD")) == [0xA900]
    assert traces(node.home, "OTHERWORD"), "what is set aside of others waits for a person"


def test_what_names_an_erased_instance_alone_is_not_kept_after_the_loss_of_the_state_either(
    tmp_path: Path, clock: Moving
) -> None:
    gone, kept, home = phantoms(519, 0, instances=2), phantoms(518, 1), new_home(tmp_path / "home")
    with open_node(home, clock) as node:
        assert set(send(node, *gone, *kept)) == {0}
        node.desk.verbs()["erase"](target=uid(gone[0]), **WHO)
        go_on(node, clock)
    shutil.rmtree(home / "archives" / "main" / "catalog")
    shutil.rmtree(home / "state")
    rebuild(home, clock)
    with open_node(home, clock) as node:
        # It says whose it was by nothing but its own UID.
        assert send(node, edited(gone[1], StudyInstanceUID="", PatientComments="LONEWORD")) == [0x0124]
        go_on(node, clock)
        assert traces(home, "LONEWORD") == []
        other = edited(kept[0], SOPInstanceUID="1.2.3.5", StudyInstanceUID="", PatientComments="OTHERWORD")
        assert send(node, other) == [0xA900]
        assert traces(home, "OTHERWORD"), "what is set aside of others waits for a person"


def test_an_erasure_takes_the_links_that_name_a_patient_who_has_nothing_else(
    node: Node, clock: Moving
) -> None:
    gone = [edited(one, PatientID="GONEID77") for one in phantoms(513, 0, instances=2)]
    one, other = (
        [edited(one, PatientID="STAYSID88") for one in phantoms(514, number, instances=1)]
        for number in range(2)
    )
    assert set(send(node, *gone, *one, *other)) == {0}
    issuer = str(node.catalog.stated(uid(gone[0])).study.patient[0])  # type: ignore[union-attr]
    links, key = node.neighbourhood.links, (issuer, "GONEID77")
    links.add(
        [(key, ("UNI", "4712")), (("LAB", "9"), key), ((issuer, "STAYSID88"), ("UNI", "4713"))], "ann", 7
    )
    links.remove(("LAB", "9"), key)
    hexed = b"GONEID77".hex()
    verbs = node.desk.verbs()
    verbs["erase"](target=uid(one[0]), **WHO)
    go_on(node, clock)
    assert len(links.all()) == 2, "who has another study stays linked"
    assert {word for word, _ in traces(node.home, "GONEID77", hexed)} == {"GONEID77", hexed}
    assert len(links.current().groups()) == 2
    verbs["erase"](target=uid(gone[0]), **WHO)
    go_on(node, clock)
    assert traces(node.home, "GONEID77", hexed) == []
    assert [link.other for link in links.all()] == [("UNI", "4713")]
    assert len(links.current().groups()) == 1


def test_an_erased_instance_leaves_the_rest_of_its_series_as_it_was(node: Node, clock: Moving) -> None:
    sent = [edited(one, ImageComments=f"REMARK{at}") for at, one in enumerate(phantoms(512, instances=3))]
    send(node, *sent)
    go_on(node, clock)
    verbs = node.desk.verbs()
    verbs["erase"](target=sent[1].SOPInstanceUID, **WHO)
    go_on(node, clock, 6)
    assert traces(node.home, "REMARK1") == []
    found = verbs["find"](keys=["ImageComments=REMARK2"], level="STUDY", limit=0)
    assert [each["0020000D"]["Value"] for each in found] == [[uid(sent[0])]]
    assert not verbs["find"](keys=["ImageComments=REMARK1"], level="STUDY", limit=0)
    assert count(node, uid(sent[0])) == 2


def test_a_legal_hold_forbids_to_delete_and_stops_what_was_ordered_before(node: Node, clock: Moving) -> None:
    sent = phantoms(520)
    study = uid(sent[0])
    send(node, *sent)
    verbs = node.desk.verbs()
    verbs["delete"](target=study, **WHO)
    hold = verbs["hold"](target=study, **WHO)
    clock.now += 8 * DAY
    go_on(node, clock)
    assert len(node.catalog.versions((study,))) == len(sent)
    for verb in ("delete", "erase"):
        with pytest.raises(NotPermitted, match="hold"):
            verbs[verb](target=study, **WHO)
    verbs["undo"](decision=hold["decision"], **WHO)
    go_on(node, clock)
    assert node.catalog.versions((study,)) == []


def test_more_than_ten_studies_of_a_small_archive_in_a_day_need_a_second_person(
    node: Node, clock: Moving
) -> None:
    studies = [phantoms(530, number)[0] for number in range(13)]
    send(node, *studies)
    verbs = node.desk.verbs()
    for one in studies[:10]:
        verbs["delete"](target=uid(one), **WHO)
    with pytest.raises(NotPermitted, match="more than one person"):
        verbs["delete"](target=uid(studies[10]), **WHO)
    assert count(node, uid(studies[10])) == 1
    [wish] = verbs["deletions"]()["wishes"]
    with pytest.raises(NotPermitted, match="second person"):
        verbs["confirm"](wish=wish["wish"], who="tester")
    verbs["confirm"](wish=wish["wish"], who="somebody else")
    assert count(node, uid(studies[10])) == 0
    assert verbs["deletions"]()["wishes"] == []
    clock.now += 1.1 * DAY
    verbs["delete"](target=uid(studies[11]), **WHO)


def test_a_rebuild_repeats_erasures_holds_and_deletions(tmp_path: Path, clock: Moving) -> None:
    home = new_home(tmp_path / "home")
    erased, deleted, held, rejected = (phantoms(540, number) for number in range(4))
    with open_node(home, clock) as node:
        send(node, *erased, *deleted, *held, *rejected)
        verbs = node.desk.verbs()
        words = [word for word in named(erased[0]) if word.encode() not in held[0].data + rejected[0].data]
        node.main.segments.store(0).retire()  # type: ignore[union-attr]
        [segment] = (home / "archives" / "main" / "objects").rglob("*.tar")
        saved = segment.read_bytes()
        verbs["erase"](target=uid(erased[0]), **WHO)
        verbs["delete"](target=uid(deleted[0]), **WHO)
        verbs["hold"](target=uid(held[0]), **WHO)
        verbs["reject"](target=uid(rejected[0]), why="safety", **WHO)
        clock.now += 8 * DAY
        go_on(node, clock)
        assert node.catalog.totals().studies == 1
    # The segment as it was before is put back: what a restore of an old backup does.
    segment.write_bytes(saved)
    assert traces(home, *words)
    shutil.rmtree(home / "archives" / "main" / "catalog")
    recovered = rebuild(home, clock)
    assert not recovered.damaged
    with open_node(home, clock) as node:
        assert node.catalog.totals().studies == 1
        assert len(node.catalog.versions((uid(erased[0]),))) == len(erased), "the bytes are back, unseen"
        assert send(node, erased[0]) == [0x0124]
        with pytest.raises(NotPermitted, match="hold"):
            node.desk.verbs()["delete"](target=uid(held[0]), **WHO)
        assert node.catalog.rejected().select(Selection(studies=(uid(rejected[0]),)))
        go_on(node, clock)
        assert traces(home, *words) == []
        assert node.catalog.versions((uid(deleted[0]),)) == []
