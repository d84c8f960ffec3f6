"""Echo, store, find, get and move as DCMTK and our own SCU see them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.data.data_manager import DATA_ROOT

from catalog import (
    Attributes,
    BadRequest,
    Busy,
    Entry,
    NotPermitted,
    OutOfSpace,
    Query,
    Selection,
    Unavailable,
    Unreadable,
)
from node.contracts import Caller, Device, Outgoing, Rejection, Service, StoreResult
from node.dimse import Limits, Part10File, Requestor
from node.dimse.commands import Command, encode_command
from node.dimse.dialing import Peer, dial, hang_up
from sim.ports import free_port
from tests.node.dimse.archive import (
    CT_IMAGE,
    Archive,
    Node,
    Receiving,
    Stored,
    identifier,
    instances,
    part10,
    serving,
)
from tests.node.dimse.peers import ENVIRONMENT, dcmtk, storescp, until
from tests.node.dimse.wire import IMPLICIT, VERIFICATION

LOOPBACK = "127.0.0.1"
TEST_FILES = Path(DATA_ROOT) / "test_files"


@pytest.fixture
def alpha() -> Iterator[Node]:
    with serving() as node:
        yield node


def scu(node: Node) -> Requestor:
    return Requestor("VIEWER", LOOPBACK, node.port, "ALPHA")


def taking(archive: Archive) -> Callable[[str, str, str], Receiving]:
    """Return what a C-GET as SCU puts its instances into."""
    caller = Caller("PEER", "", "")
    return lambda *uids: archive.begin(caller, *uids, is_held=False)


def files(folder: Path, stored: list[Stored]) -> list[str]:
    folder.mkdir(exist_ok=True)
    for number, instance in enumerate(stored):
        (folder / f"{number:05d}.dcm").write_bytes(part10(instance))
    return [str(path) for path in sorted(folder.iterdir())]


def study(StudyInstanceUID: str = "1.2.3") -> Attributes:
    return identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=StudyInstanceUID)


def test_echoscu_and_our_echo_are_answered(alpha: Node) -> None:
    dcmtk("echoscu", "-aec", "ALPHA", LOOPBACK, str(alpha.port))
    assert scu(alpha).echo() < 5


def test_storescu_stores_the_very_bytes(alpha: Node, tmp_path: Path) -> None:
    made = instances(20, 300_000)
    dcmtk("storescu", "-aec", "ALPHA", LOOPBACK, str(alpha.port), *files(tmp_path, made))
    assert {uid: stored.data for uid, stored in alpha.archive.instances.items()} == {
        stored.SOPInstanceUID: stored.data for stored in made
    }


@pytest.mark.parametrize("max_pdu", ["4096", "16384", "131072"])
def test_every_size_of_pdu_carries_every_size_of_instance(alpha: Node, tmp_path: Path, max_pdu: str) -> None:
    made = [
        one
        for n, size in enumerate((200, 4084, 4090, 131_060, 1_500_000))
        for one in instances(1, size, f"1.2.{n}")
    ]
    dcmtk(
        "storescu", "-aec", "ALPHA", "-pdu", max_pdu, LOOPBACK, str(alpha.port), *files(tmp_path / "in", made)
    )
    for stored in made:
        assert alpha.archive.instances[stored.SOPInstanceUID].data == stored.data
    (tmp_path / "out").mkdir()
    with storescp(tmp_path / "out", "-pdu", max_pdu) as port:
        sent = list(Requestor("ALPHA", LOOPBACK, port, "ANY").store(made))
    assert {one.status for one in sent} == {0}
    for stored in made:
        kept = tmp_path / "out" / f"CT.{stored.SOPInstanceUID}"
        assert kept.read_bytes().endswith(stored.data)


def test_every_transfer_syntax_of_pydicoms_files_goes_through_unchanged(alpha: Node) -> None:
    opened = []
    for path in TEST_FILES.rglob("*.dcm"):
        try:
            opened.append(Part10File(path))
        except Unreadable:
            continue
    originals = {}
    for file in opened:
        buffer = memoryview(bytearray(file.size))
        assert file.read_into(buffer, 0) == file.size
        originals[file.SOPInstanceUID, file.TransferSyntaxUID] = bytes(buffer)
    sent = list(scu(alpha).store(opened))
    stored = [one for one in sent if one.status == 0]
    refused = {one.comment for one in sent if one.status}
    assert len(stored) > 60, refused
    syntaxes = set()
    for instance in alpha.archive.instances.values():
        assert originals[instance.SOPInstanceUID, instance.TransferSyntaxUID] == instance.data
        syntaxes.add(instance.TransferSyntaxUID)
    assert {"1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"} < syntaxes


def test_a_status_and_its_comment_reach_the_sender_and_the_next_message_works(alpha: Node) -> None:
    made = instances(3)
    alpha.archive.result = StoreResult(0xA900, "SOP Class in the data set differs")
    requestor = scu(alpha).store(made)
    assert next(requestor)[1:] == (0xA900, "SOP Class in the data set differs")
    alpha.archive.result = StoreResult(0)
    assert [one.status for one in requestor] == [0, 0]


def test_out_of_space_drops_the_rest_and_answers_a700(alpha: Node) -> None:
    alpha.archive.room = 500_000
    sent = list(scu(alpha).store([*instances(1, 2_000_000, "1.2.9"), *instances(1, 1000)]))
    assert [one.status for one in sent] == [0xA700, 0]
    assert alpha.archive.abandoned == ["1.2.9.4.1"]


def test_a_data_set_beyond_the_limit_is_dropped() -> None:
    with serving(Limits(data_set=100_000)) as node:
        sent = list(scu(node).store([*instances(1, 200_000, "1.2.9"), *instances(1, 1000)]))
    assert [one.status for one in sent] == [0xA700, 0]


def test_a_stranger_who_may_not_store_is_rejected_with_the_association(alpha: Node) -> None:
    alpha.book.services = {Service.ECHO}
    with pytest.raises(NotPermitted, match="rejects associations from VIEWER"):
        list(scu(alpha).store(instances(2)))
    assert not alpha.archive.instances
    assert alpha.trail.of("association")[0][1]["triple"] == "1 1 3"


def test_a_right_that_is_taken_away_counts_in_an_open_association(alpha: Node) -> None:
    deadline = time.monotonic() + 20

    def endless() -> Iterator[Outgoing]:
        while time.monotonic() < deadline:
            yield from instances(1)

    answers = scu(alpha).store(endless())
    assert next(answers).status == 0
    alpha.book.services = {Service.ECHO}
    refused = next(one for one in answers if one.status)
    assert refused.status == 0x0124
    assert refused.comment == "VIEWER may not store here"
    assert alpha.trail.of("refusal")[0][1]["service"] == "store"


def test_what_an_unknown_sender_stores_is_held(alpha: Node) -> None:
    alpha.book.is_held = True
    assert [one.status for one in scu(alpha).store(instances(1))] == [0]
    assert alpha.archive.held == ["1.2.3.4.1"]


def test_find_answers_findscu_and_our_scu(alpha: Node) -> None:
    list(scu(alpha).store(instances(1)))
    said = dcmtk(
        "findscu", "-S", "-aec", "ALPHA", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID",
        LOOPBACK, str(alpha.port),
    )  # fmt: skip
    assert "1.2.3" in said
    answers = list(scu(alpha).find(study(StudyInstanceUID="")))
    assert [answer["0020000D"]["Value"] for answer in answers] == [["1.2.3"]]


def test_ten_thousand_answers_come_in_order(alpha: Node) -> None:
    alpha.archive.answers = lambda query: (
        {"0020000D": {"vr": "UI", "Value": [f"1.2.{n}"]}} for n in range(10_000)
    )
    found = [answer["0020000D"]["Value"][0] for answer in scu(alpha).find(study(StudyInstanceUID=""))]
    assert found == [f"1.2.{n}" for n in range(10_000)]


def test_a_find_without_a_unique_key_above_names_the_offending_element(alpha: Node) -> None:
    with pytest.raises(BadRequest, match="A900"):
        list(scu(alpha).find(identifier(QueryRetrieveLevel="SERIES", SeriesInstanceUID="")))
    said = dcmtk(
        "findscu", "-d", "-S", "-aec", "ALPHA", "-k", "QueryRetrieveLevel=SERIES", "-k", "SeriesInstanceUID",
        LOOPBACK, str(alpha.port),
    )  # fmt: skip
    assert "0xa900" in said.lower()
    assert "(0000,0901) AT (0020,000d)" in said


def test_an_unsupported_key_makes_answers_ff01(alpha: Node) -> None:
    list(scu(alpha).store(instances(1)))
    find = scu(alpha).find({**study(StudyInstanceUID=""), "00091001": {"vr": "LO", "Value": ["X"]}})
    for _ in find:
        assert find.status in (0xFF00, 0xFF01)
    assert find.status == 0


def test_a_catalog_that_fails_is_c000_and_tells_nothing_of_the_patient(
    alpha: Node, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(query: Query) -> Iterator[Attributes]:
        yield {"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}
        raise RuntimeError("Secret^Patient")

    alpha.archive.answers = broken
    with caplog.at_level(logging.DEBUG), pytest.raises(Unavailable, match="C000"):
        list(scu(alpha).find(study()))
    assert "RuntimeError" in caplog.text
    assert "Secret" not in caplog.text
    assert scu(alpha).echo() < 5


def test_a_catalog_out_of_space_is_a700(alpha: Node) -> None:
    def full(query: Query) -> Iterator[Attributes]:
        raise OutOfSpace("More than 10000 matches.")

    alpha.archive.answers = full
    with pytest.raises(Busy, match=r"A700 \(More than 10000 matches"):
        list(scu(alpha).find(study()))


def test_a_catalog_that_cannot_count_is_a701_for_a_move(alpha: Node) -> None:
    def busy(selection: Selection) -> list[Entry]:
        raise Busy("The catalog is busy.")

    alpha.archive.select = busy  # type: ignore[method-assign]
    moving(alpha, alpha.port)
    moved = scu(alpha).move(study(), "DEST")
    assert (moved.status, moved.comment) == (0xA701, "The catalog is busy.")


def test_a_stranger_who_may_not_find_is_rejected_with_the_association(alpha: Node) -> None:
    alpha.book.services = {Service.ECHO}
    with pytest.raises(NotPermitted, match="rejects associations from VIEWER"):
        list(scu(alpha).find(study()))


def test_getscu_gets_the_study_back(alpha: Node, tmp_path: Path) -> None:
    made = instances(5, 300_000)
    list(scu(alpha).store(made))
    said = dcmtk(
        "getscu", "-v", "-S", "-aec", "ALPHA", "-od", str(tmp_path), "-k", "QueryRetrieveLevel=STUDY",
        "-k", "StudyInstanceUID=1.2.3", LOOPBACK, str(alpha.port),
    )  # fmt: skip
    assert "Completed Suboperations : 5" in said
    for stored in made:
        assert (tmp_path / f"CT.{stored.SOPInstanceUID}").read_bytes().endswith(stored.data)


def test_our_get_takes_what_our_get_gives(alpha: Node) -> None:
    for syntax in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.1"):
        list(scu(alpha).store(instances(3, 100_000, study=f"1.2.3{syntax[17:]}", syntax=syntax)))
    mine = Archive()
    pairs = {(one.SOPClassUID, one.TransferSyntaxUID) for one in alpha.archive.instances.values()}
    got = scu(alpha).get(
        identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=["1.2.3.4.50", "1.2.3.1", "1.2.3"]),
        taking(mine),
        storage=pairs,
    )
    assert (got.status, got.completed, got.failed) == (0, 6, 0)
    assert {u: s.data for u, s in mine.instances.items()} == {
        u: s.data for u, s in alpha.archive.instances.items()
    }


def test_what_the_caller_cannot_take_fails_alone(alpha: Node) -> None:
    list(scu(alpha).store([*instances(2), *instances(1, study="1.2.9", syntax="1.2.840.10008.1.2.4.50")]))
    got = scu(alpha).get(
        identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=["1.2.3", "1.2.9"]),
        taking(Archive()),
        storage=[(CT_IMAGE, "1.2.840.10008.1.2.1")],
    )
    assert (got.status, got.completed, got.failed, got.failed_uids) == (0xB000, 2, 1, ("1.2.9.4.1",))
    assert "takes no" in got.comment


def test_a_get_of_nothing_is_a_success(alpha: Node) -> None:
    got = scu(alpha).get(study(), taking(Archive()))
    assert got[:5] == (0, 0, 0, 0, 0)


def test_implicit_instances_are_re_encoded_for_a_caller_that_takes_only_explicit(alpha: Node) -> None:
    path = TEST_FILES / "MR_small_implicit.dcm"
    list(scu(alpha).store([Part10File(path)]))
    mine = Archive()
    uid = next(iter(alpha.archive.entries)).StudyInstanceUID
    got = scu(alpha).get(
        study(StudyInstanceUID=uid),
        taking(mine),
        storage=[("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1")],
    )
    assert got.completed == 1
    (stored,) = mine.instances.values()
    original = pydicom.dcmread(path)
    again = pydicom.filereader.read_dataset(BytesIO(stored.data), False, True)
    assert again.PixelData == original.PixelData
    assert again.PatientID == original.PatientID


def moving(node: Node, port: int, title: str = "DEST") -> None:
    node.book.destinations[title] = Device(ae_title=title, address=LOOPBACK, port=port)


def test_movescu_moves_a_study_to_storescp(alpha: Node, tmp_path: Path) -> None:
    made = instances(5, 300_000)
    list(scu(alpha).store(made))
    with storescp(tmp_path) as port:
        moving(alpha, port)
        dcmtk(
            "movescu", "-S", "-aec", "ALPHA", "-aem", "DEST", "-k", "QueryRetrieveLevel=STUDY",
            "-k", "StudyInstanceUID=1.2.3", LOOPBACK, str(alpha.port),
        )  # fmt: skip
    for stored in made:
        assert (tmp_path / f"CT.{stored.SOPInstanceUID}").read_bytes().endswith(stored.data)
    outcome, detail = alpha.trail.of("move")[0]
    assert (outcome, detail["completed"], detail["destination"]) == ("success", 5, "DEST")


def test_a_move_to_another_node_of_ours_keeps_every_syntax(alpha: Node) -> None:
    syntaxes = [
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.5",
    ]
    for number, syntax in enumerate(syntaxes):
        list(scu(alpha).store(instances(2, 5000, f"1.2.3.{number}", syntax)))
    with serving() as beta:
        moving(alpha, beta.port, "ALPHA")
        moved = scu(alpha).move(
            identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=[f"1.2.3.{n}" for n in range(4)]), "ALPHA"
        )
        assert (moved.status, moved.completed) == (0, 8)
        assert len(beta.archive.instances) == 8
        for uid, stored in beta.archive.instances.items():
            assert stored.data == alpha.archive.instances[uid].data
            assert stored.TransferSyntaxUID == alpha.archive.instances[uid].TransferSyntaxUID


def test_an_unknown_destination_is_a801(alpha: Node) -> None:
    moved = scu(alpha).move(study(), "NOWHERE")
    assert (moved.status, moved.comment) == (0xA801, "Move destination NOWHERE is unknown here")


@pytest.mark.parametrize("address", ["", "10.0.0.0/8"])
def test_a_destination_without_a_host_is_a801_and_not_a_guess(alpha: Node, address: str) -> None:
    alpha.book.destinations["DEST"] = Device(ae_title="DEST", address=address, port=alpha.port)
    assert scu(alpha).move(study(), "DEST").status == 0xA801


def test_a_destination_that_does_not_answer_fails_every_sub_operation(alpha: Node) -> None:
    list(scu(alpha).store(instances(3)))
    moving(alpha, free_port())
    moved = scu(alpha).move(study(), "DEST")
    assert (moved.status, moved.completed, moved.failed) == (0xA702, 0, 3)
    assert set(moved.failed_uids) == set(alpha.archive.instances)
    assert "does not answer" in moved.comment


def test_an_instance_that_is_gone_fails_alone_and_the_others_arrive(alpha: Node) -> None:
    list(scu(alpha).store(instances(4)))
    alpha.archive.missing = {"1.2.3.4.1", "1.2.3.4.3"}
    with serving() as beta:
        moving(alpha, beta.port, "ALPHA")
        moved = scu(alpha).move(study(), "ALPHA")
        assert (moved.status, moved.completed, moved.failed) == (0xB000, 2, 2)
        assert moved.failed_uids == ("1.2.3.4.1", "1.2.3.4.3")
        assert set(beta.archive.instances) == {"1.2.3.4.2", "1.2.3.4.4"}


def test_warnings_of_the_destination_are_warnings_not_failures(alpha: Node) -> None:
    list(scu(alpha).store(instances(2)))
    with serving() as beta:
        beta.archive.result = StoreResult(0xB000, "coerced")
        moving(alpha, beta.port, "ALPHA")
        moved = scu(alpha).move(study(), "ALPHA")
    assert (moved.status, moved.completed, moved.warning, moved.failed) == (0xB000, 0, 2, 0)


def test_two_thousand_failures_are_all_listed(alpha: Node) -> None:
    for stored in instances(2000, 300):
        alpha.archive.put(stored)
    alpha.archive.missing = set(alpha.archive.instances)
    moving(alpha, free_port())
    moved = scu(alpha).move(study(), "DEST")
    assert moved.failed == 2000
    assert len(moved.failed_uids) == 2000


def test_a_rejected_requestor_is_told_why(alpha: Node) -> None:
    alpha.book.rejection = Rejection(1, 1, 3, "not in the device book")
    with pytest.raises(NotPermitted, match="does not know the calling AE title"):
        scu(alpha).echo()
    assert alpha.server.counters()["refused"] == 1
    assert alpha.trail.of("association")[0][0] == "refused"


def test_an_unknown_called_ae_is_1_1_7(alpha: Node) -> None:
    with pytest.raises(NotPermitted, match="does not know the called AE title"):
        Requestor("VIEWER", LOOPBACK, alpha.port, "OTHER").echo()


def test_one_sentence_per_association_and_no_patient_in_any(
    alpha: Node, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        list(scu(alpha).store(instances(3)))
        until(lambda: alpha.trail.of("store"))
    told = [record for record in caplog.records if record.levelno == logging.INFO]
    assert len(told) == 1
    assert "VIEWER at 127.0.0.1 spoke to ALPHA" in told[0].getMessage()
    assert "stored 3 instances" in told[0].getMessage()
    assert "Secret" not in caplog.text


def test_a_sender_that_leaves_nagle_on_does_not_wait_for_delayed_acknowledgements(
    alpha: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(ENVIRONMENT, "TCP_NODELAY")
    paths = files(tmp_path, instances(100, 20_000))
    started = time.monotonic()
    dcmtk("storescu", "-aec", "ALPHA", LOOPBACK, str(alpha.port), *paths)
    assert time.monotonic() - started < 3, "100 delayed acknowledgements are 4 s"


def test_each_study_stored_is_on_record_once_and_a_long_association_is_told_shortly(
    alpha: Node, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        list(scu(alpha).store([*instances(3, study="1.2.3"), *instances(2, study="1.2.4")]))
        until(lambda: len(alpha.trail.of("store")) == 2)
        asker = dial(Peer("ALPHA", LOOPBACK, alpha.port, "VIEWER"), [(VERIFICATION, (IMPLICIT,))], Limits())
        for number in range(100):
            request = Command(CommandField=0x30, MessageID=number, AffectedSOPClassUID=VERIFICATION)
            asker.send(asker.contexts[1], encode_command(request))
            asker.receive_command()
        hang_up(asker, release=True)
        until(lambda: "95 requests more" in caplog.text)
    assert [detail for _, detail in alpha.trail.of("store")] == [
        {"StudyInstanceUID": "1.2.3", "instances": 3},
        {"StudyInstanceUID": "1.2.4", "instances": 2},
    ]
