"""A PACS administrator's first day: what is refused says what to do, and that works as it stands."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pydicom
import pydicom.data
import pytest

from node.cli import main
from tests.homes import phantoms
from tests.running import PEERPACS, RunningNode, dcmtk, running, until

from .commandline import CommandLine

MEDIUM = Path(pydicom.data.__file__).parent / "test_files" / "dicomdirtests"
CT = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"


@pytest.fixture
def alpha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningNode]:
    monkeypatch.delenv("PEERPACS_HOME", raising=False)
    node = RunningNode(tmp_path / "my home", dev=False)
    node.start()
    yield node
    node.stop()


@pytest.fixture
def cli(alpha: RunningNode, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(alpha.home, capsys)


def paste(cli: CommandLine) -> list[str]:
    """Run each command that `status` offers, as a shell would; return them."""
    offered = [line.partition("To allow it: peerpacs ")[2] for line in cli("status").splitlines()]
    commands = [command for command in offered if command]
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command))
        assert not ended.value.code, command
    return commands


def test_what_status_offers_to_allow_works_as_it_stands(alpha: RunningNode, cli: CommandLine) -> None:
    uid = "StudyInstanceUID=1.2"
    cli("devices", "add", "WS1", "--address", "127.0.0.1", "--port", "104")
    cli("devices", "add", "WS2", "--address", "127.0.0.1", "--port", "104")
    for asked in ("find", "get"):
        cli(asked, "-aet", "WS1", "ALPHA", "-k", uid, code=1)
    assert len(paste(cli)) == 2
    [device] = [row for row in cli.json("devices") if row["ae_title"] == "WS1"]
    assert device["services"] == ["echo", "find", "get"] or device["services"] == ["echo", "get", "find"]
    assert "Refused" not in cli("status")


def test_a_second_destination_does_not_cost_the_first(alpha: RunningNode, cli: CommandLine) -> None:
    for title in ("WS1", "WS2"):
        cli("devices", "add", title, "--address", "127.0.0.1", "--port", "104", "--services", "echo,move")
    cli("move", "-aet", "WS1", "-aem", "WS2", "ALPHA", "-k", "StudyInstanceUID=1.2", code=1)
    assert len(paste(cli)) == 1
    [device] = [row for row in cli.json("devices") if row["ae_title"] == "WS1"]
    assert device["move_destinations"] == ["WS1", "WS2"]


def test_a_device_that_is_in_the_book_is_not_offered_to_be_added(cli: CommandLine) -> None:
    cli("send", "-aet", "CT3", "ALPHA", str(CT))
    cli("devices", "add", "CT3", "--services", "echo,store")
    cli("devices", "add", "CT3", "--services", "find", code=2)
    assert "peerpacs devices edit CT3 --services +find" in cli.complaint
    assert "devices add" not in cli("held", "release", "--from", "CT3", "--reason", "a new scanner")


def test_misuse_is_json_too_where_json_is_asked_for(cli: CommandLine) -> None:
    for words in (("stat",), ("status", "--foo"), ("undo", "ff")):
        cli("--json", *words, code=2)
        assert json.loads(cli.complaint)["what"]


def test_an_import_tells_of_every_file_it_could_not_take(cli: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "cd"
    folder.mkdir()
    shutil.copy(CT, folder / "good.dcm")
    (folder / "cut.dcm").write_bytes(CT.read_bytes()[:300])
    (folder / "readme.txt").write_text("hello")
    (folder / "gone.dcm").symlink_to(tmp_path / "nowhere")
    (folder / "again").symlink_to(folder)
    with zipfile.ZipFile(folder / "inner.zip", "w") as inner:
        inner.write(CT, "one.dcm")
    report = cli.json("import", str(folder), code=3)
    assert report["stored"] == 1
    told = {trouble["name"]: trouble["fate"] for trouble in report["not_stored"]}
    refused = dict.fromkeys(("again", "cut.dcm", "gone.dcm", "inner.zip"), "refused")
    assert told == {**refused, "readme.txt": "not DICOM"}


def test_a_file_that_is_cut_short_in_its_pixels_is_taken_and_told(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "short.dcm").write_bytes(CT.read_bytes()[:30_000])
    assert "! short.dcm: The data set is cut short" in cli("import", str(tmp_path / "short.dcm"))


def test_half_a_zip_file_is_a_failure(cli: CommandLine, tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.zip", tmp_path / "half.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.write(CT, "one.dcm")
    half.write_bytes(whole.read_bytes()[:-60])
    assert "damaged zip" in cli("import", str(half), code=1)


def test_a_dicomdir_reaches_nothing_outside_its_medium(cli: CommandLine, tmp_path: Path) -> None:
    shutil.copytree(MEDIUM, tmp_path / "medium")
    listed = pydicom.dcmread(tmp_path / "medium" / "DICOMDIR")
    record = next(one for one in listed.DirectoryRecordSequence if "ReferencedFileID" in one)
    record.ReferencedFileID = ["..", "OUTSIDE"]
    listed.save_as(tmp_path / "medium" / "DICOMDIR")
    shutil.copy(CT, tmp_path / "OUTSIDE")
    report = cli.json("import", str(tmp_path / "medium" / "DICOMDIR"), code=3)
    assert (report["missing"], report["stored"]) == (1, 30)


def test_ctrl_c_stops_an_import_and_the_next_one_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(2500):
        [one] = phantoms(3, number, size=5000)[:1]
        (folder / f"{number:04d}").write_bytes(one.data)
    with running(tmp_path / "home") as node:
        command = [PEERPACS, "import", "--home", str(node.home), str(folder)]
        # What a shell has in the background would not hear of Ctrl-C at all.
        hears = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
        pipe = subprocess.PIPE
        person = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=hears)
        # Asking the node would take a busy machine as long as the import takes.
        segments = node.home / "archives" / "main" / "objects"
        until(lambda: sum(path.stat().st_size for path in segments.rglob("*.tar")) > 50_000)
        person.send_signal(signal.SIGINT)
        assert person.wait(timeout=60) == 1
        person.communicate()
        report = node.json("import", str(folder))
        assert report["stored"] + report["done earlier"] == 2500
        assert node.json("status")["archive"]["instances"] == 2500


def test_an_import_goes_on_after_the_node_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        [one] = phantoms(4, number, size=50_000)[:1]
        (folder / f"{number:04d}").write_bytes(one.data)
    node = RunningNode(tmp_path / "home")
    node.start()
    command = [PEERPACS, "import", "--home", str(node.home), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as person:
        until(lambda: node.json("status")["archive"]["instances"] > 20)
        node.kill()
        person.kill()
    node.start()
    try:
        report = node.json("import", str(folder))
        assert report["stored"] + report["done earlier"] == 300
        assert node.json("status")["archive"]["instances"] == 300
    finally:
        node.stop()


@pytest.mark.parametrize("program", ["getscu", "movescu"])
def test_a_retrieve_that_makes_no_sense_does_not_cost_the_association(tmp_path: Path, program: str) -> None:
    with running(tmp_path / "home") as node:
        to = ["-aem", "NOWHERE"] if program == "movescu" else []
        asked = [
            "-S",
            "-aec",
            "ALPHA",
            *to,
            "-k",
            "QueryRetrieveLevel=NONSENSE",
            "-k",
            "StudyInstanceUID=1.2",
        ]
        dcmtk(program, *asked, "127.0.0.1", str(node.port), exit_code=None)
        until(lambda: "spoke to ALPHA" in node.log())
        assert "released" in node.log()
        assert "failed (" not in node.log()
