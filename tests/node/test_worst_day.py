"""The worst day of a PACS administrator: what was acknowledged is there, or is said to be missing."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from catalog import Busy, Damaged, PacsError
from node.app import open_node, rebuild
from node.devices import DEV_RULE
from node.dimse import Requestor
from tests.homes import Peer, RawInstance, attribute, new_home, phantoms, serving
from tests.running import PEERPACS, RunningNode, running, until


def fill(home: Path, seed: int = 1, studies: int = 4) -> list[RawInstance]:
    """Store a few studies in a home whose node does not run; return them."""
    sent = [one for number in range(studies) for one in phantoms(seed, number)]
    with serving(home) as node:
        assert not any(Peer(node).store(*sent))
    return sent


def store(node: RunningNode, sent: Iterable[Any]) -> list[int]:
    """Return the status of each."""
    requestor = Requestor("PEER", "127.0.0.1", node.port, node.ae_title)
    return [answer.status for answer in requestor.store(sent)]


def archive(home: Path) -> Path:
    return home / "archives" / "main"


def study_of(instance: RawInstance) -> str:
    return str(attribute(instance, "StudyInstanceUID"))


def test_without_its_catalog_a_node_says_rebuild_and_that_brings_all_back(tmp_path: Path) -> None:
    sent = fill(tmp_path)
    with open_node(tmp_path) as node:
        made = node.desk.of("").correct(study_of(sent[0]), ["PatientID=X1"], reason="r", who="me")
        hidden = node.desk.of("").reject(study_of(sent[1]), reason="r", who="me")
    shutil.rmtree(archive(tmp_path) / "catalog")
    with pytest.raises(Damaged, match="rebuild"):
        open_node(tmp_path)
    assert rebuild(tmp_path).instances == len(sent)
    with open_node(tmp_path) as node:
        assert len(node.desk.of("").find([], limit=0)) == 3
        assert len(node.desk.of("").find(["PatientID=X1"])) == 1
        for decision in (made, hidden):
            node.desk.of("").undo(decision["decision"][:8], reason="u", who="me")
        assert len(node.desk.of("").find([], limit=0)) == 4


def test_without_its_state_a_node_says_what_is_lost_and_rebuild_finds_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = fill(tmp_path)
    with serving(tmp_path, is_trusting=False) as node:
        node.devices.remove("*")
        assert Peer(node, "STRANGER").store(*phantoms(9)) == [0]
        hidden = node.desk.of("").reject(study_of(sent[1]), reason="r", who="me")
    shutil.rmtree(tmp_path / "state")
    with caplog.at_level(logging.ERROR), open_node(tmp_path) as node:
        assert "device book" in caplog.text
        assert len(node.desk.of("").find([], limit=0)) == 3
    assert rebuild(tmp_path).held == 1
    with open_node(tmp_path) as node:
        assert node.desk.status()["held"]["senders"] == ["STRANGER"]
        node.desk.of("").undo(hidden["decision"][:8], reason="u", who="me")
        assert len(node.desk.of("").find([], limit=0)) == 4


def test_a_decision_is_taken_back_once(tmp_path: Path) -> None:
    sent = fill(tmp_path, studies=1)
    with open_node(tmp_path) as node:
        made = node.desk.of("").reject(study_of(sent[0]), reason="r", who="me")
        node.desk.of("").undo(made["decision"], reason="u", who="me")
        with pytest.raises(PacsError, match="taken back before"):
            node.desk.of("").undo(made["decision"], reason="u", who="me")


def test_without_its_search_index_a_node_answers_and_grows_it_back(tmp_path: Path) -> None:
    fill(tmp_path)
    shutil.rmtree(archive(tmp_path) / "search")
    with open_node(tmp_path) as node:
        key = "StudyDescription=*hant*"
        assert len(node.desk.of("").find([key])) == 4
        until(lambda: node.catalog.index(time.time() + 60) == 0)
        assert len(node.desk.of("").find([key])) == 4
    assert (archive(tmp_path) / "search" / "meta.json").exists()


def test_the_search_index_grows_back_under_a_running_node(tmp_path: Path) -> None:
    fill(tmp_path)
    with serving(tmp_path) as node:
        key = "StudyDescription=*hant*"
        until((archive(tmp_path) / "search" / "meta.json").exists)
        # At once, as the node may be writing there.
        (archive(tmp_path) / "search").rename(tmp_path / "gone")
        assert len(node.desk.of("").find([key])) == 4
        assert Peer(node).store(*phantoms(2)) == [0]
        until((archive(tmp_path) / "search" / "meta.json").exists)
        assert len(node.desk.of("").find([key])) == 5
    with serving(tmp_path) as node:
        assert len(node.desk.of("").find([key])) == 5


def test_a_segment_that_lost_its_end_is_told_and_the_rest_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = fill(tmp_path)
    [segment] = archive(tmp_path).glob("objects/??/*.tar")
    os.truncate(segment, segment.stat().st_size // 2)
    with caplog.at_level(logging.ERROR), serving(tmp_path) as node:
        assert "had been stored for good" in caplog.text
        assert node.recovered.damaged
        assert 0 < len(node.desk.of("").find([], limit=0)) < 4
        assert not any(Peer(node).store(*sent))
        assert len(node.desk.of("").find([], limit=0)) == 4
        assert all(len(Peer(node).get(study_of(one))) == 1 for one in sent)


@pytest.mark.parametrize("at", [100, 700, 9000])
def test_a_flipped_byte_is_told_by_rebuild_and_costs_one_object(tmp_path: Path, at: int) -> None:
    sent = fill(tmp_path)
    [segment] = archive(tmp_path).glob("objects/??/*.tar")
    with segment.open("r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    recovered = rebuild(tmp_path)
    assert recovered.damaged or recovered.unreadable
    assert recovered.instances == len(sent) - 1


def test_only_one_works_on_a_home(tmp_path: Path) -> None:
    new_home(tmp_path)
    with open_node(tmp_path):
        for second in (lambda: open_node(tmp_path), lambda: rebuild(tmp_path)):
            with pytest.raises(Busy, match=f"process {os.getpid()}"):
                second()


@pytest.mark.parametrize("place", ["state", "archives/main/catalog"])
def test_a_row_of_a_later_version_is_a_sentence(tmp_path: Path, place: str) -> None:
    fill(tmp_path, studies=1)
    environment = lmdb.open(str(tmp_path / place), map_size=1 << 34)
    with environment.begin(write=True) as transaction:
        for key, row in list(transaction.cursor()):
            if row[:1] == b"\x01":
                transaction.put(key, b"\x09" + row[1:])
    environment.close()
    with pytest.raises(Damaged, match="version"):
        look_around(tmp_path)


def look_around(home: Path) -> None:
    """Ask a node for its devices and studies."""
    with open_node(home) as node:
        node.devices.find("*")
        node.desk.of("").find([])


def test_a_clock_that_jumps_does_not_disturb_storing(tmp_path: Path) -> None:
    new_home(tmp_path)
    now = [2_000_000_000.0]
    with open_node(tmp_path, clock=lambda: now[0]) as node:
        node.devices.put(DEV_RULE)
        node.start()
        for number, jump in enumerate((0.0, -1e8, 2e8, -5.0)):
            now[0] += jump
            assert Peer(node).store(*phantoms(2, number)) == [0]
        assert len(Peer(node).find()) == 4
    cli = subprocess.run(
        [PEERPACS, "audit", "verify", "--home", str(tmp_path)], capture_output=True, check=False
    )
    assert cli.returncode == 0, cli.stdout


class Small:
    """A file system of a few megabytes for the objects, where this user may mount one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)]
        self.is_there = not os.geteuid() and not subprocess.run(command, capture_output=True).returncode

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.folder / "brim").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def grow(self) -> None:
        (self.folder / "brim").unlink()
        subprocess.run(["mount", "-o", "remount,size=96m", str(self.folder)], check=True)

    def close(self) -> None:
        if self.is_there:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


def test_a_full_disk_is_a700_loses_nothing_and_is_over_by_itself(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "home")
    sent = [one for number in range(60) for one in phantoms(5, number, size=600_000)]
    with contextlib.closing(Small(node.home / "archives")) as disk:
        if not disk.is_there:
            full_by_its_margin(node, sent)
            return
        margins = {"PEERPACS__STORAGE__STOP_BELOW_MB": "1", "PEERPACS__STORAGE__RESUME_ABOVE_MB": "2"}
        node.start(**margins)
        statuses = store(node, sent)
        refused = [one for one, status in zip(sent, statuses, strict=True) if status]
        assert set(statuses) == {0, 0xA700}
        disk.fill()
        until(lambda: "The disk is full" in node.cli("status"))
        assert set(store(node, refused[:3])) == {0xA700}
        assert len(node.json("find")) == len(sent) - len(refused)
        disk.grow()
        until(lambda: store(node, refused[:1]) == [0])
        assert not any(store(node, refused))
        node.kill()
        node.start(**margins)
        assert node.json("status")["archive"]["instances"] == len(sent)
        assert node.stop() == 0


def full_by_its_margin(node: RunningNode, sent: list[RawInstance]) -> None:
    """Claim as much as holds without a disk that can really be filled."""
    node.start(PEERPACS__STORAGE__STOP_BELOW_MB="1048576", PEERPACS__STORAGE__RESUME_ABOVE_MB="1048576")
    assert set(store(node, sent[:5])) == {0xA700}
    node.stop()
    node.start()
    assert not any(store(node, sent[:5]))
    assert node.stop() == 0


@pytest.mark.parametrize("doing", ["rebuild", "reject", "release"])
def test_kill_9_in_the_middle_of_a_command_leaves_a_whole_node(tmp_path: Path, doing: str) -> None:
    fill(tmp_path, studies=3)
    with serving(tmp_path, is_trusting=False) as node:
        node.devices.remove("*")
        for number in range(40):
            assert Peer(node, "STRANGER").store(*phantoms(9, number)) == [0]
        uid = str(node.desk.of("").find([])[0]["0020000D"]["Value"][0])
    words = {
        "rebuild": ["rebuild", "--yes"],
        "reject": ["reject", uid, "--reason", "r"],
        "release": ["held", "release", "--from", "STRANGER", "--reason", "r"],
    }[doing]
    for delay in (0.15, 0.3, 0.45):
        environment = {**os.environ, "PEERPACS_HOME": str(tmp_path)}
        command = subprocess.Popen([PEERPACS, *words], env=environment, stdout=subprocess.DEVNULL, stderr=-3)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(delay)
        command.kill()
        command.wait()
        with open_node(tmp_path) as node:
            status, seen = node.desk.status(), len(node.desk.of("").find([], limit=0))
            assert status["archive"]["instances"] + status["held"]["instances"] in (42, 43)
            assert seen == status["archive"]["studies"]
    rebuild(tmp_path)
    with open_node(tmp_path) as node:
        again = node.desk.status()
        assert (again["archive"], again["held"]) == (status["archive"], status["held"])


def resources(node: RunningNode) -> tuple[int, int, int]:
    """Return descriptors, threads and MB of anonymous memory of the node's process."""
    assert node.process is not None
    folder = Path("/proc", str(node.process.pid))
    told = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return len(os.listdir(folder / "fd")), int(told["Threads"]), int(told["RssAnon"].split()[0]) // 1024


def test_500_bare_connects_and_half_open_associations_leave_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "home", "ALPHA", PEERPACS__DICOM__ARTIM_TIMEOUT="1") as node:
        assert store(node, phantoms(1)) == [0]
        files, threads, memory = resources(node)
        opened = []
        for number in range(500):
            opened.append(socket.create_connection(("127.0.0.1", node.port)))
            if number % 2:
                opened[-1].sendall(b"\x01\x00\x00\x00\x01\x00 half an A-ASSOCIATE-RQ")
        assert Requestor("PEER", "127.0.0.1", node.port, "ALPHA").echo() < 5
        until(lambda: resources(node)[0] <= files + 8)
        after = resources(node)
        assert (after[1] <= threads + 8, after[2] <= memory + 16) == (True, True), (threads, memory, after)
        for one in opened:
            one.close()


def test_128_associations_store_at_once_and_none_starves(tmp_path: Path) -> None:
    work = [[one for number in range(3) for one in phantoms(100 + who, number)] for who in range(128)]
    statuses: list[int] = []
    with running(tmp_path / "home") as node:
        threads = [
            threading.Thread(target=lambda mine=mine: statuses.extend(store(node, mine))) for mine in work
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert statuses == [0] * 128 * 3
        assert node.json("status")["archive"]["instances"] == 128 * 3


@pytest.mark.parametrize("moment", ["receiving", "moving to a deaf destination"])
def test_sigterm_ends_in_ten_seconds_whatever_is_in_flight(tmp_path: Path, moment: str) -> None:
    deaf = socket.create_server(("127.0.0.1", 0))
    with running(tmp_path / "home") as node, deaf:
        [one] = phantoms(1)
        assert store(node, [one]) == [0]
        requestor = Requestor("PEER", "127.0.0.1", node.port, "ALPHA")
        if moment == "receiving":
            work: Callable[[], object] = lambda: [*requestor.store([Endless(one)])]  # noqa: E731
        else:
            port = str(deaf.getsockname()[1])
            node.cli("devices", "add", "DEAF", "--address", "127.0.0.1", "--port", port)
            asked = ["-aet", "PEER", "-aem", "DEAF", "-k", f"StudyInstanceUID={study_of(one)}"]
            # On a thread, so as a process: what it says would mix with what the test's own commands say.
            words = [PEERPACS, "move", *asked, "ALPHA", "--home", str(node.home)]
            work = lambda: subprocess.run(words, capture_output=True)  # noqa: E731
        thread = threading.Thread(target=lambda: quietly(work), daemon=True)
        thread.start()
        until(lambda: node.json("status")["associations"]["open"])
        started = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - started < 10
        thread.join(timeout=30)
        assert not any((archive(node.home) / "incoming").iterdir())
        node.start()
        assert node.json("status")["archive"]["instances"] == 1


class Endless:
    """An instance that never comes to its end."""

    def __init__(self, begun: RawInstance) -> None:
        self.SOPClassUID, self.SOPInstanceUID = begun.SOPClassUID, begun.SOPInstanceUID
        self.TransferSyntaxUID = begun.TransferSyntaxUID
        self.size = 64 << 20
        self._data = begun.data

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Give the beginning, then a little now and then."""
        if offset:
            time.sleep(0.3)
            return len(buffer)
        buffer[: len(self._data)] = self._data
        return len(self._data)

    def close(self) -> None:
        """Nothing to give back."""


def quietly(work: Callable[[], object]) -> None:
    """Do something that the node's end may interrupt."""
    with contextlib.suppress(PacsError, AssertionError):
        work()


def test_every_command_that_a_sentence_names_exists() -> None:
    from node.cli import _COMMANDS

    root = Path(__file__).parents[2]
    named = {
        word
        for package in ("node", "catalog")
        for path in (root / package).rglob("*.py")
        for word in re.findall(r"(?:: |`|[Rr]un )peerpacs ([a-z-]+)", path.read_text())
    }
    assert named <= set(_COMMANDS), named - set(_COMMANDS)
