"""A backup has what only this site has of research: keys, records, and what is held."""

from __future__ import annotations

import time
from pathlib import Path

from node.backup.layout import HOME
from node.backup.making import Wish, make_backup
from node.contracts import Device, Service
from node.dimse import Requestor
from tests.homes import serving

from .site import Site, picture


def test_a_backup_keeps_keys_records_and_what_is_held(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home) as node:
        site = Site(node)
        node.devices.put(Device(ae_title="CT1", address="127.0.0.1", services=(Service.ECHO,)))
        site.project(ae_title="TRIAL7", senders=["CT1"])
        site.store(1)
        export = site.export(tmp_path / "cohort")
        modality = Requestor("CT1", "127.0.0.1", node.ports["dicom"], "TRIAL7")
        assert {answer.status for answer in modality.store([picture()])} == {0}
        [held] = site.ask("quarantine")
    backup = make_backup(home, tmp_path / "backups", time.time(), Wish())
    names = {path.name for path in (backup.path / HOME).rglob("*")}
    assert {"TRIAL-7.key", "research.key", f"{export['id']}-00000.sealed", f"{held['id']}.sealed"} <= names
