"""What fails below copies: nothing acknowledged is lost, nothing is believed that was not seen."""

from __future__ import annotations

from pathlib import Path

from node.storage import VolumeStore
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
