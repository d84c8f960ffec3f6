"""What fails below copies: nothing acknowledged is lost, nothing is believed that was not seen."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from catalog import Move, Moved
from node.copies.ledger import Placed
from node.storage import VolumeStore
from node.storage.elsewhere import place_elsewhere
from tests.homes import Peer, phantoms, serving
from tests.running import until


def test_a_disk_that_does_not_answer_is_no_damage_and_no_reason_to_drop_copies(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with serving(tmp_path / "node") as node:
        archive, copying = node.archive("main"), node.neighbourhood.copying
        volumes = archive.segments
        assert isinstance(volumes, VolumeStore)
        volumes.list.add(disk)
        volumes.list.mark(0, is_read_only=True)
        until(lambda: [state.state for state in volumes.states()][1:] == ["ok"])
        assert set(Peer(node).store(*phantoms(1, instances=2))) == {0}
        entries = [entry for _, entry in archive.care.inspector.entries()]
        assert [copying.is_sound("main", entry) for entry in entries] == [True, True]
        disk.rename(tmp_path / "unplugged")
        until(lambda: not any(copying.is_sound("main", entry) for entry in entries))
        assert [*archive.care.book] == []


def test_copies_of_what_lies_at_their_keeper_alone_never_go(tmp_path: Path) -> None:
    with serving(tmp_path / "node") as node:
        archive, copying = node.archive("main"), node.neighbourhood.copying
        assert set(Peer(node).store(*phantoms(1, instances=2))) == {0}
        entries = [entry for _, entry in archive.care.inspector.entries()]
        uid = entries[0].StudyInstanceUID
        copying.ledger.received(uid, "keeper", [entry.holding.sha256 for entry in entries])
        for placed in (None, Placed(archive="main", rule="all", nodes=())):
            copying.ledger.place(uid, placed)
            assert copying.may_drop("main", uid)
        moves = [
            Move(each.SOPInstanceUID, each.holding, replace(each.holding, where=place_elsewhere(each)))
            for each in entries
        ]
        assert archive.catalog.relocate(moves) == [Moved.NOW, Moved.NOW]
        for placed in (None, Placed(archive="main", rule="all", nodes=())):
            copying.ledger.place(uid, placed)
            assert not copying.may_drop("main", uid)
