"""A person at the command line of a running node sends, finds, fetches and decides, and is told so."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from node.audit import read
from sim.ports import free_port
from tests.homes import phantoms
from tests.node.oldpacs.odd import odd
from tests.running import RunningNode, running, until

from .commandline import CommandLine

CT_FILE = Path(str(get_testdata_file("CT_small.dcm")))
CT = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"
JPEG = Path(str(get_testdata_file("JPEG2000.dcm")))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running(tmp_path_factory.mktemp("alpha")) as started:
        yield started


@pytest.fixture
def cli(node: RunningNode, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    command = CommandLine(node.home, capsys)
    command("send", "ALPHA", str(CT_FILE))
    return command


def altered(path: Path, folder: Path, **values: str) -> Path:
    """Return a copy of a file with other values."""
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    copy = folder / f"{len(list(folder.iterdir()))}.dcm"
    dataset.save_as(copy)
    return copy


def test_status_says_who_answers_where(cli: CommandLine, node: RunningNode) -> None:
    said = cli("status")
    assert f"alpha answers as ALPHA on DICOM port {node.port}" in said
    status = cli.json("status")
    assert status["is_running"]
    assert status["archive"]["instances"] >= 1


def test_check_finds_the_running_node_well(cli: CommandLine) -> None:
    said = cli("check")
    assert "✓ the node runs and answers commands" in said
    assert "answers C-ECHO" in said


def test_what_was_sent_is_found_by_name_by_address_and_at_the_desk(
    cli: CommandLine, node: RunningNode
) -> None:
    key = ("-k", f"StudyInstanceUID={CT}")
    there = ("-aec", "ALPHA", "127.0.0.1", str(node.port))
    answers = [cli.json("find", *whom, *key) for whom in (("ALPHA",), there, ())]
    assert [answer[0]["00100020"]["Value"] for answer in answers] == [["1CT1"]] * 3
    assert "CompressedSamples^CT1" in cli("find", *key)


def test_what_nobody_has_is_told_in_words(cli: CommandLine, tmp_path: Path) -> None:
    said = cli("get", "ALPHA", "-k", "StudyInstanceUID=1.2.3", "-od", str(tmp_path))
    assert said == "They have nothing of that: no instance came.\n"


@pytest.mark.parametrize("ends", [0xFE00, 0xB000])
def test_a_list_that_the_other_side_cuts_short_is_not_shown_as_if_it_were_whole(
    cli: CommandLine, ends: int
) -> None:
    with odd(0) as other:
        other.keep(*phantoms(1, size=4_000, instances=1), *phantoms(2, size=4_000, instances=1))
        there = ("find", "-aec", "OLD", "127.0.0.1", str(other.port))
        assert "2 studies." in cli(*there)
        other.at_most, other.ends = 1, ends
        assert "1 study." in cli(*there, code=3)
        assert cli.complaint == f"OLD ended its list with status {ends:04X}: there may be more.\n"


@pytest.mark.parametrize("file", [CT_FILE, JPEG], ids=["uncompressed", "JPEG 2000"])
def test_what_was_sent_is_fetched_as_it_was(cli: CommandLine, tmp_path: Path, file: Path) -> None:
    cli("send", "ALPHA", str(file))
    sent = pydicom.dcmread(file)
    cli("get", "ALPHA", "-k", f"StudyInstanceUID={sent.StudyInstanceUID}", "-od", str(tmp_path))
    fetched = pydicom.dcmread(tmp_path / f"{sent.SOPInstanceUID}.dcm")
    assert fetched.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert fetched == sent


def test_a_study_is_moved_to_a_device_of_the_book(cli: CommandLine, tmp_path: Path) -> None:
    port = free_port()
    receiver = subprocess.Popen(["storescp", "-od", str(tmp_path), str(port)])
    try:
        cli("devices", "add", "READER", "--address", "127.0.0.1", "--port", str(port))
        _until_it_answers(cli, "READER")
        cli("move", "ALPHA", "-aem", "READER", "-k", f"StudyInstanceUID={CT}")
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        receiver.terminate()
        receiver.wait()


def _until_it_answers(cli: CommandLine, ae_title: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            cli("devices", "echo", ae_title)
            return
        except AssertionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_move_to_a_stranger_is_refused_and_status_says_how_to_allow_it(cli: CommandLine) -> None:
    cli("move", "ALPHA", "-aem", "NOWHERE", "-k", f"StudyInstanceUID={CT}", code=1)
    until(lambda: "peerpacs devices add NOWHERE --address HOST --port PORT" in cli("status"))


def test_only_some_sent_is_partial_and_nothing_sent_is_a_failure(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    report = cli.json("send", "ALPHA", str(CT_FILE), str(tmp_path))
    assert (report["sent"], len(report["not_dicom"])) == (1, 1)
    cli("send", "ALPHA", str(tmp_path), code=1)


def test_a_folder_is_imported_and_every_file_is_accounted_for(cli: CommandLine, tmp_path: Path) -> None:
    altered(CT_FILE, tmp_path, SOPInstanceUID="1.2.3.1", StudyInstanceUID="1.2.3")
    altered(CT_FILE, tmp_path, SOPInstanceUID="1.2.3.2", StudyInstanceUID="1.2.3")
    (tmp_path / "README").write_text("no image")
    report = cli.json("import", str(tmp_path))
    assert (report["stored"], report["not DICOM"]) == (2, 1)
    assert cli.json("find", "-k", "StudyInstanceUID=1.2.3")[0]["00201208"]["Value"] == [2]


def test_a_correction_is_seen_told_in_the_trace_and_taken_back(cli: CommandLine, tmp_path: Path) -> None:
    made = cli.json("correct", CT, "PatientName=NOVAK^JAN", "--reason", "wrong worklist entry")
    assert "NOVAK^JAN" in cli("find", "-k", f"StudyInstanceUID={CT}")
    cli("get", "ALPHA", "-k", f"StudyInstanceUID={CT}", "-od", str(tmp_path))
    [file] = tmp_path.iterdir()
    assert pydicom.dcmread(file).PatientName == "NOVAK^JAN"
    told = cli("trace", CT)
    assert "corrected this study (PatientName): wrong worklist entry." in told
    assert "stored 1 instance of it" in told
    assert re.search(r"\(\d+ kB\) is here; it came from ", told)
    cli("undo", made["decision"][:8], "--reason", "it was right")
    assert "NOVAK" not in cli("find", "-k", f"StudyInstanceUID={CT}")


@pytest.mark.parametrize("verb", ["reject", "delete"])
def test_what_is_hidden_or_deleted_is_not_found_until_that_is_undone(
    cli: CommandLine, tmp_path: Path, verb: str
) -> None:
    study = f"1.2.4.{len(verb)}"
    cli("import", str(altered(CT_FILE, tmp_path, SOPInstanceUID=f"{study}.1", StudyInstanceUID=study)))
    more = ("--yes",) if verb == "delete" else ()
    made = cli.json(verb, study, "--reason", "a test", *more)
    assert cli.json("find", "-k", f"StudyInstanceUID={study}") == []
    cli("undo", made["decision"], "--reason", "a test")
    assert len(cli.json("find", "-k", f"StudyInstanceUID={study}")) == 1


def test_a_correction_to_a_patient_who_is_somebody_else_is_made_with_a_warning(
    cli: CommandLine, tmp_path: Path
) -> None:
    said = {
        "StudyInstanceUID": "1.2.9",
        "PatientID": "OTHER-1",
        "PatientSex": "M",
        "PatientBirthDate": "19500101",
    }
    (tmp_path / "one").mkdir()
    cli("import", str(altered(CT_FILE, tmp_path / "one", SOPInstanceUID="1.2.9.1", **said)))
    said |= {"StudyInstanceUID": "1.2.10", "PatientID": "OTHER-2", "PatientSex": "F"}
    cli("import", str(altered(CT_FILE, tmp_path, SOPInstanceUID="1.2.10.1", **said)))
    told = cli("correct", "1.2.10", "PatientID=OTHER-1", "--reason", "x")
    assert "! Other studies of this patient have another PatientSex" in told
    assert "PatientBirthDate" not in told
    assert cli.json("correct", "1.2.10", "PatientSex=M", "--reason", "x")["warnings"] == []


def test_a_decision_about_nothing_or_with_a_wrong_value_is_refused(cli: CommandLine) -> None:
    cli("reject", "9.9.9", "--reason", "x", code=1)
    cli("correct", CT, "StudyDate=20201399", "--reason", "x", code=2)
    cli("correct", CT, "StudyDate=20200101", code=2)
    cli("undo", "zz", "--reason", "x", code=1)


def test_two_versions_of_one_instance_are_shown_side_by_side_and_one_is_chosen(
    cli: CommandLine, tmp_path: Path
) -> None:
    uids = {"SOPInstanceUID": "1.2.5.1", "StudyInstanceUID": "1.2.5"}
    cli("import", str(altered(CT_FILE, tmp_path, PatientID="FIRST", **uids)))
    cli("import", str(altered(CT_FILE, tmp_path, PatientID="SECOND", **uids)))
    shown = cli.json("conflicts", "show", "1.2.5.1")
    assert shown["values"]["PatientID"] == ["FIRST", "SECOND"]
    assert "PatientID" in cli("conflicts", "list")
    cli(
        "conflicts", "prefer", "1.2.5.1", shown["versions"][1]["sha256"][:12], "--reason", "the right patient"
    )
    assert cli.json("conflicts", "show", "1.2.5.1")["versions"][0]["sha256"] == shown["versions"][1]["sha256"]
    assert "1.2.5.1" in {one["SOPInstanceUID"] for one in cli.json("conflicts", "list", "--resolved")}
    assert "1.2.5.1" not in {one["SOPInstanceUID"] for one in cli.json("conflicts", "list")}


def test_what_could_not_be_taken_waits_with_its_reason_and_can_be_thrown_away(
    cli: CommandLine, tmp_path: Path
) -> None:
    dataset = pydicom.dcmread(CT_FILE)
    del dataset.StudyInstanceUID
    dataset.save_as(tmp_path / "torso.dcm")
    cli("import", str(tmp_path), code=3)
    name = cli.json("rejected")[-1]["name"]
    assert "StudyInstanceUID" in cli("rejected", "list")
    cli("rejected", "release", name, code=2)
    [again] = [one["name"] for one in cli.json("rejected") if one["name"].endswith(name[-16:])]
    cli("rejected", "discard", again, "--yes")
    assert again not in cli("rejected", "list")


def test_nothing_a_person_decided_or_sent_is_quoted_in_audit_or_log(
    cli: CommandLine, node: RunningNode
) -> None:
    made = cli.json("correct", CT, "PatientName=SECRET^NAME", "--reason", "SECRETREASON")
    cli("undo", made["decision"], "--reason", "SECRETREASON")
    audit = "".join(path.read_text() for path in (node.home / "audit").glob("*.jsonl"))
    assert made["decision"] in audit
    for text in (audit, node.log()):
        assert not any(word in text for word in ("SECRET", "CompressedSamples", "1CT1"))


def test_the_audit_of_all_this_holds_and_names_who_did_it(cli: CommandLine, node: RunningNode) -> None:
    cli("audit", "verify")
    cli("reject", CT, "--reason", "x")
    line = [one for one in read(node.home / "audit", CT) if one.event == "decision"][-1]
    assert line.detail["who"]
    cli("undo", line.detail["decision"], "--reason", "x")


def test_a_running_node_is_not_rebuilt_under_its_feet(cli: CommandLine) -> None:
    cli("rebuild", "--yes", code=1)
    assert "A node (process" in cli.complaint


def test_a_stranger_is_held_until_a_person_releases_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = RunningNode(tmp_path / "closed", dev=False)
    node.start()
    cli = CommandLine(node.home, capsys)
    try:
        cli("send", "-aet", "CT3", "ALPHA", str(CT_FILE))
        assert cli.json("find") == []
        [row] = cli.json("held")
        assert (row["source"], row["instances"]) == ("CT3", 1)
        assert "1 instance from unknown senders (CT3) wait for you" in cli("status")
        cli("find", "-aet", "WS1", "ALPHA", code=1)
        assert "peerpacs devices add WS1 --address 127.0.0.1 --services echo,find" in cli("status")
        cli("held", "release", "--from", "CT3", "--reason", "a new scanner")
        assert len(cli.json("find")) == 1
        cli("devices", "add", "WS1", "--address", "127.0.0.1", "--services", "echo,find")
        assert len(cli.json("find", "-aet", "WS1", "ALPHA")) == 1
    finally:
        assert node.stop() == 0


def test_a_node_that_is_stopped_still_answers_at_the_desk_and_is_rebuilt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = CommandLine(tmp_path / "home", capsys)
    cli.init()
    files = tmp_path / "files"
    files.mkdir()
    altered(CT_FILE, files, SOPInstanceUID="1.2.6.1", StudyInstanceUID="1.2.6")
    assert cli.json("import", str(files))["stored"] == 1
    cli("correct", "1.2.6", "PatientName=NOVAK^JAN", "--reason", "x")
    assert cli.json("rebuild", "--yes")["decisions"] == 1
    assert "NOVAK^JAN" in cli("find")
    assert "is not running" in cli("status", code=1)
