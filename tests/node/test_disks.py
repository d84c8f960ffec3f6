"""An administrator's disks: added, read-only, drained, missing, damaged, while the node runs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from catalog import Damaged, Unavailable
from node.app import open_node, rebuild
from node.dimse import Requestor
from tests.homes import Peer, RawInstance, Received, attribute, phantoms, serving
from tests.node.commandline import CommandLine
from tests.node.test_kill import held_by, kill_in_the_middle
from tests.running import RunningNode, running, until

UID = "SOPInstanceUID"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.mkdir()
    return path


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "objects").glob("??/*.tar"))


def send(node: RunningNode, *sent: RawInstance) -> list[int]:
    requestor = Requestor("PEER", "127.0.0.1", node.port, "ALPHA")
    return [answer.status for answer in requestor.store(sent)]


def flip(home: Path, instance: RawInstance) -> None:
    """Change a byte of the instance's pixels where it lies on the disk."""
    (path,) = [path for path in home.rglob("*.tar") if instance.data in path.read_bytes()]
    at = path.read_bytes().index(instance.data) + len(instance.data) // 2
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_a_disk_is_added_used_drained_and_removed_while_the_node_runs(tmp_path: Path, disk: Path) -> None:
    with running(tmp_path / "home") as node:
        archive = node.home / "archives" / "main"
        sent = phantoms(1) + phantoms(2)
        assert not any(send(node, *sent[: len(sent) // 2]))
        assert f"({disk})" in node.cli("storage", "add", str(disk))
        node.cli("storage", "readonly", str(archive), "on")
        until(lambda: node.json("storage", "list")[1]["state"] == "ok")
        assert not any(send(node, *sent[len(sent) // 2 :]))
        assert segments(disk)
        assert [row["state"] for row in node.json("storage", "list")] == ["read-only", "ok"]
        node.cli("storage", "readonly", str(archive), "off")
        node.cli("storage", "remove", str(disk), exit_code=2)
        node.cli("storage", "drain", str(disk))
        assert len(held_by(node)) == len(sent)
        until(lambda: node.json("storage", "list")[1]["state"] == "drained", 60)
        assert not segments(disk)
        assert f"peerpacs storage remove {disk}" in node.cli("status")
        node.cli("storage", "remove", str(disk))
        assert len(node.json("storage", "list")) == 1
        assert held_by(node) == {one.SOPInstanceUID: one.data for one in sent}
        assert "is not yet known" in node.cli("status")
        assert node.json("status")["storage"]["days_left"] is None
        audited = "".join(path.read_text() for path in (node.home / "audit").rglob("*.jsonl"))
        assert all(what in audited for what in ("volume added", "volume drained", "volume removed"))


def test_a_flipped_byte_under_a_running_node_is_found_not_served_and_healed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path) as node:
        cli = CommandLine(tmp_path, capsys)
        sent = phantoms(1, size=40_000, instances=4)
        study = str(attribute(sent[0], "StudyInstanceUID"))
        peer = Peer(node)
        assert not any(peer.store(*sent))
        assert "4 objects read" in cli("verify")
        flip(tmp_path, sent[2])
        found = cli.json("verify", code=1)
        assert (found["objects"], found["damaged"], found["is_good"]) == (4, 1, False)
        (row,) = cli.json("verify", "--list", code=1)
        assert row[UID] == sent[2].SOPInstanceUID
        assert "1 object damaged" in cli("status")
        received = Received()
        identifier = {
            "00080052": {"vr": "CS", "Value": ["STUDY"]},
            "0020000D": {"vr": "UI", "Value": [study]},
        }
        result = peer.requestor.get(identifier, received)
        assert (result.status, result.failed) == (0xB000, 1)
        assert "damaged" in str(result)
        got = {one.SOPInstanceUID for one in received.instances}
        assert got == {one.SOPInstanceUID for one in sent} - {sent[2].SOPInstanceUID}
        assert peer.store(sent[2]) == [0]
        assert {one.data for one in peer.get(study)} == {one.data for one in sent}
        assert cli.json("verify", "--list") == []
        assert cli.json("verify")["is_good"]
    assert rebuild(tmp_path).instances == 4


def test_verify_of_a_node_that_does_not_run_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = phantoms(1)
    with serving(tmp_path) as node:
        Peer(node).store(*sent)
    cli = CommandLine(tmp_path, capsys)
    assert cli.json("verify", "--rate", "1000")["objects"] == len(sent)
    flip(tmp_path, sent[0])
    assert "1 object damaged" in cli("verify", code=1)
    assert cli.json("verify", "--since", "2090-01-01")["objects"] == 0
    assert "percentage" in (cli("verify", "--sample", "lots", code=2), cli.complaint)[1]
    assert "sample" in (cli("verify", "--sample", "0%", code=2), cli.complaint)[1]


def test_a_disk_that_is_missing_at_the_start_makes_nothing_lost_and_rebuild_waits_for_it(
    tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    here, there = phantoms(1), phantoms(2, instances=3)
    with serving(home) as node:
        assert not any(Peer(node).store(*here))
        node.desk.of("").storekeeping.add_volume(str(disk), "me")
        node.desk.of("").storekeeping.set_read_only("0", "me", is_wanted=True)
        until(lambda: node.desk.of("").storekeeping.volumes()[1]["state"] == "ok")
        assert not any(Peer(node).store(*there))
        node.desk.of("").storekeeping.set_read_only("0", "me", is_wanted=False)
    disk.rename(tmp_path / "unplugged")
    cli = CommandLine(home, capsys)
    with serving(home) as node:
        assert node.recovered.lost == 0
        peer = Peer(node)
        assert len(peer.find()) == 2
        assert len(peer.get(str(attribute(here[0], "StudyInstanceUID")))) == len(here)
        assert peer.get(str(attribute(there[0], "StudyInstanceUID"))) == []
        assert peer.store(there[0]) == [0], "what comes again takes the place of what is away"
        assert len(peer.get(str(attribute(there[0], "StudyInstanceUID")))) == 1
        assert "is missing" in cli("status")
        cli("storage", "list", code=1)
        assert cli.json("verify", code=1)["damaged"] == 0
    with pytest.raises(Unavailable, match="Mount it"):
        rebuild(home)
    (tmp_path / "unplugged").rename(disk)
    assert rebuild(home).instances == len(here) + len(there)
    with serving(home) as node:
        assert len(Peer(node).get(str(attribute(there[0], "StudyInstanceUID")))) == len(there)
    (home / "archives/main/catalog").rename(tmp_path / "gone")
    with pytest.raises(Damaged, match="rebuild"):
        open_node(home)


def test_a_disk_given_up_is_out_of_the_way_of_a_rebuild(
    tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    with serving(home) as node:
        node.desk.of("").storekeeping.add_volume(str(disk), "me")
        node.desk.of("").storekeeping.set_read_only("0", "me", is_wanted=True)
        until(lambda: node.desk.of("").storekeeping.volumes()[1]["state"] == "ok")
        Peer(node).store(*phantoms(2))
        node.desk.of("").storekeeping.set_read_only("0", "me", is_wanted=False)
        Peer(node).store(*phantoms(1))
    disk.rename(tmp_path / "burnt")
    cli = CommandLine(home, capsys)
    cli("storage", "remove", str(disk), code=2)
    cli("storage", "remove", str(disk), "--even-with-objects", "--yes")
    assert rebuild(home).objects < len(phantoms(1)) + len(phantoms(2))


def test_reads_are_verified_where_the_configuration_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, storage={"verify_reads": True}) as node:
        sent = phantoms(1, size=40_000, instances=2)
        peer = Peer(node)
        peer.store(*sent)
        flip(tmp_path, sent[0])
        got = peer.get(str(attribute(sent[0], "StudyInstanceUID")))
        assert [one.data for one in got] == [sent[1].data]
        assert len(node.desk.of("").storekeeping.damaged()) == 1


def drain_and_kill(tmp_path: Path, rounds: int, seed: int) -> None:
    """Drain one disk into another and back while others store, killed again and again; lose nothing."""
    chance = random.Random(seed)
    node = RunningNode(tmp_path / "home")
    disk = tmp_path / "disk"
    disk.mkdir()
    config = node.home / "peerpacs.toml"
    config.write_text(config.read_text().replace("segment_mb = 256", "segment_mb = 1"))
    node.start()
    node.cli("storage", "add", str(disk))
    acknowledged: dict[str, bytes] = {}
    for number in range(rounds):
        source, target = ("0", str(disk)) if number % 2 == 0 else (str(disk), "0")
        node.cli("storage", "drain", target, "--stop")
        node.cli("storage", "drain", source)
        acknowledged |= kill_in_the_middle(node, seed + number, chance.uniform(0.5, 3.0))
        node.start()
    node.cli("storage", "drain", str(disk), "--stop")
    node.cli("storage", "drain", "0")
    until(lambda: node.json("storage", "list")[0]["state"] == "drained", 300)
    found = held_by(node)
    assert acknowledged
    assert not [uid for uid in acknowledged if found.get(uid) != acknowledged[uid]]
    told = node.json("verify")
    assert (told["is_good"], told["spare"]) == (True, 0), told
    assert node.stop() == 0
    assert rebuild(node.home).instances == len(found)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_a_drain_survives_many_kills(tmp_path: Path, seed: int) -> None:
    drain_and_kill(tmp_path, rounds=6, seed=2000 + 100 * seed)
