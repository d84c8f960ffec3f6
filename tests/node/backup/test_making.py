"""A backup is whole or it is none; it costs little the second time, and says when it is damaged."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from catalog import Damaged, Selection
from node.app import open_node
from node.backup import prove, whole_backups
from tests.homes import new_home
from tests.node.test_kill import Sender
from tests.running import PEERPACS, RunningNode, until

from .drills import Drill, fingerprint, hospital, peerpacs


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = new_home(tmp_path / "home")
    (home / "secrets").mkdir(mode=0o700)
    (home / "secrets" / "objects-main.key").write_text("k" * 64)
    (home / "secrets" / "objects-main.key").chmod(0o600)
    with hospital(home) as node:
        Drill(node).first_days()
    return home


def test_the_second_run_copies_no_object_again_and_old_backups_go(home: Path, tmp_path: Path) -> None:
    copied = []
    for _ in range(3):
        told = json.loads(
            peerpacs("backup", tmp_path / "b", "--home", home, "--objects", "--keep", "2", "--json")
        )
        copied.append(told["copied_bytes"])
        time.sleep(1.0)  # Names of backups are seconds.
    assert copied[0] > 50_000
    assert copied[1:] == [0, 0]
    assert len(whole_backups(tmp_path / "b")) == 2


def test_every_byte_of_a_backup_counts(home: Path, tmp_path: Path) -> None:
    peerpacs("backup", tmp_path / "b", "--home", home, "--objects")
    [backup] = whole_backups(tmp_path / "b")
    assert not prove(backup).faults
    files = [path for path in (tmp_path / "b").rglob("*") if path.is_file() and path.stat().st_size > 200]
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
        assert _is_refused(backup), path
        path.write_bytes(whole)
    assert not prove(backup).faults
    files[0].write_bytes(b"")
    peerpacs("backup", "--check", tmp_path / "b", "--home", home, code=1)


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["altered", "gone", "index"])
def test_a_restore_says_which_objects_of_the_backup_are_not_as_they_were_written(
    home: Path, tmp_path: Path, harm: str
) -> None:
    peerpacs("backup", tmp_path / "b", "--home", home, "--objects")
    [segment, *_] = sorted((tmp_path / "b" / "objects").rglob("*.tar"))
    name, whole = str(segment.relative_to(tmp_path / "b")), bytearray(segment.read_bytes())
    whole[len(whole) // 2] ^= 1
    if harm == "altered":
        segment.write_bytes(whole)
    elif harm == "gone":
        segment.unlink()
    else:
        (tmp_path / "b" / "objects" / "INDEX.json").write_text("{")
    said = peerpacs("restore", tmp_path / "b", "--home", tmp_path / "new", code=3)
    assert f"✗ {name} of the backup" in said
    assert "peerpacs verify" in said
    assert list((tmp_path / "new" / "archives").rglob("*.tar")) or harm == "gone"


def _is_refused(backup: Path) -> bool:
    try:
        return bool(prove(backup).faults)
    except Damaged:
        return True


def test_keys_stay_for_their_owner_and_the_audit_stays_a_chain(home: Path, tmp_path: Path) -> None:
    said = peerpacs("backup", tmp_path / "b", "--home", home)
    assert "is the hospital" in said
    assert "objects-*.key" in said
    # There are no images in it: that is told, and a partial success.
    assert "without whole bytes" in peerpacs("restore", tmp_path / "b", "--home", tmp_path / "new", code=3)
    for folder in (tmp_path / "new", *whole_backups(tmp_path / "b")):
        [key] = folder.rglob("objects-main.key")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    peerpacs("audit", "verify", "--home", tmp_path / "new")


def test_a_node_is_not_overwritten_unless_a_person_says_so(home: Path, tmp_path: Path) -> None:
    before = fingerprint(home)
    peerpacs("backup", tmp_path / "b", "--home", home)
    with hospital(home) as node:
        Drill(node).store(7)
        assert "Wait until" in peerpacs("restore", tmp_path / "b", "--home", home, "--replace", code=1)
    later = fingerprint(home)
    assert "--replace" in peerpacs("restore", tmp_path / "b", "--home", home, code=2)
    assert fingerprint(home) == later
    assert "4 instances" in peerpacs("restore", tmp_path / "b", "--home", home, "--replace")
    assert fingerprint(home) == later != before
    [aside] = home.glob("replaced-*")
    assert (aside / "archives/main/catalog/data.mdb").exists()


def test_nonsense_is_told_so(home: Path, tmp_path: Path) -> None:
    assert "lost with it" in peerpacs("backup", home / "b", "--home", home, code=2)
    assert "no archive" in peerpacs("backup", tmp_path / "b", "--archive", "foo", "--home", home, code=1)
    assert not whole_backups(tmp_path / "b")
    (tmp_path / "none").mkdir()
    said = peerpacs("restore", tmp_path / "none", "--home", tmp_path / "new", code=1)
    assert "no whole backup" in said


def killed(*words: str | Path, after: float) -> None:
    with subprocess.Popen([PEERPACS, *map(str, words)], stdout=subprocess.DEVNULL) as command:
        time.sleep(after)  # The moment is what is tried out.
        command.kill()


@pytest.mark.slow
def test_backups_and_restores_that_are_killed_are_never_taken_for_whole_ones(
    home: Path, tmp_path: Path
) -> None:
    with hospital(home) as node:
        Drill(node).store(*range(20, 60))
    before = fingerprint(home)
    # A command takes about half a second to come to its work.
    for step in range(8):
        killed("backup", tmp_path / "b", "--home", home, "--objects", after=0.35 + step * 0.06)
        assert all(not prove(backup).faults for backup in whole_backups(tmp_path / "b"))
    time.sleep(1.0)
    peerpacs("backup", tmp_path / "b", "--home", home, "--objects")
    assert not list((tmp_path / "b").glob("*.unfinished"))
    shutil.rmtree(home)
    for step in range(8):
        killed("restore", tmp_path / "b", "--home", home, after=0.35 + step * 0.08)
        if (home / "RESTORING.json").exists():
            with pytest.raises(Damaged, match="not finished"), open_node(home):
                pass
    peerpacs("restore", tmp_path / "b", "--home", home, "--replace")
    assert fingerprint(home) == before


def test_a_backup_while_images_stream_in_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "home")
    node.start()
    senders = [Sender(node, seed) for seed in (1, 2)]
    for sender in senders:
        sender.start()
    until(lambda: sum(len(sender.acknowledged) for sender in senders) > 60)
    earlier = {uid: data for sender in senders for uid, data in dict(sender.acknowledged).items()}
    peerpacs("backup", tmp_path / "b", "--home", node.home, "--objects")
    meanwhile = sum(len(sender.acknowledged) for sender in senders) - len(earlier)
    node.kill()
    for sender in senders:
        sender.join()
    assert meanwhile > 10
    peerpacs("restore", tmp_path / "b", "--home", tmp_path / "new")
    with open_node(tmp_path / "new") as restored:
        for uid in earlier:
            [entry] = restored.catalog.select(Selection(instances=(uid,)))
            restored.store.verify(entry.holding)
