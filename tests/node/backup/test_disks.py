"""Backups and disks: a home with several volumes comes back; a full backup disk costs only that backup."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from node.app import Node
from node.backup import whole_backups
from tests.homes import Peer, RawInstance, attribute, phantoms, serving
from tests.node.commandline import CommandLine
from tests.node.storage.filling import in_small_tmpfs
from tests.running import PEERPACS, until


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.delenv("PEERPACS_HOME", raising=False)
    return CommandLine(tmp_path / "home", capsys)


def got(node: Node, sent: list[RawInstance]) -> dict[str, bytes]:
    """Return the data sets of a study as the node gives them."""
    return {
        one.SOPInstanceUID: one.data for one in Peer(node).get(str(attribute(sent[0], "StudyInstanceUID")))
    }


def two_disks(home: Path, disk: Path) -> list[list[RawInstance]]:
    """Make a home whose second volume has the second of two studies; return them."""
    disk.mkdir()
    first, second = phantoms(1, instances=2), phantoms(2, instances=2)
    with serving(home) as node:
        verbs = node.desk.verbs()
        assert set(Peer(node).store(*first)) == {0}
        verbs["add_volume"](path=str(disk), who="tester")
        verbs["set_read_only"](path=str(node.main.folder), who="tester", is_wanted=True)
        until(lambda: [each["state"] for each in verbs["volumes"]()] == ["read-only", "ok"])
        assert set(Peer(node).store(*second)) == {0}
    assert list(disk.rglob("*.tar"))
    return [first, second]


@pytest.mark.parametrize("is_disk_there", [True, False])
def test_a_home_with_several_volumes_comes_back_on_a_new_machine(
    cli: CommandLine, tmp_path: Path, is_disk_there: bool
) -> None:
    home, disk = tmp_path / "home", tmp_path / "disk"
    studies = two_disks(home, disk)
    cli("backup", str(tmp_path / "backup"), "--objects")
    shutil.rmtree(home)
    shutil.rmtree(disk)
    if is_disk_there:
        disk.mkdir()
    cli("restore", str(tmp_path / "backup"))
    with serving(home) as node:
        for sent in studies:
            assert got(node, sent) == {one.SOPInstanceUID: one.data for one in sent}
        later = phantoms(3, instances=1)
        assert Peer(node).store(*later) == [0]
        assert got(node, later)


FILL = """
head -c "$1" /dev/zero > "$2/ballast"
shift
folder="$1"
shift
"$@"
echo "code $?"
ls "$folder"
"""


@pytest.mark.parametrize(
    ("ballast", "what"), [(0, "the objects"), (20_800_000, "the databases")], ids=lambda each: str(each)
)
def test_a_backup_onto_a_full_disk_is_none_and_the_node_goes_on(
    tmp_path: Path, ballast: int, what: str
) -> None:
    folder = tmp_path / "backup"
    folder.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "PEERPACS_HOME"}
    with serving(tmp_path / "home") as node:
        sent = phantoms(1, instances=3, series=1, size=9_000_000)
        assert set(Peer(node).store(*sent)) == {0}
        backup = [PEERPACS, "backup", str(folder), "--home", str(node.home), "--objects"]
        command = in_small_tmpfs(folder, ["sh", "-c", FILL, "sh", str(ballast), str(folder), *backup])
        if command is None:
            # No mount allowed here: a limit on the size of each file refuses in the same places.
            limit = "10000" if ballast else "5000000"
            command = ["prlimit", f"--fsize={limit}", "sh", "-c", FILL, "sh", "0", str(folder), *backup]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=100)
        assert "code 1" in done.stdout, done.stdout + done.stderr
        assert "The backup was not made" in done.stderr
        assert "Free space in the backup folder" in done.stderr
        assert "Traceback" not in done.stderr
        left = [name for name in done.stdout.split() if name.startswith("20") or name.endswith(".new")]
        assert not left, what
        assert Peer(node).store(*phantoms(2, instances=1)) == [0]
        shutil.rmtree(folder)
        subprocess.run(backup, check=True, capture_output=True, env=env, timeout=100)
        assert len(whole_backups(folder)) == 1
