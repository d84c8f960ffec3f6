"""The drill where a bucket keeps the objects: a machine is gone with its spool, and nothing is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.app import Node
from tests.node.bucket.serving import Server
from tests.node.bucket.test_node import bucket_home
from tests.running import until

from .drills import Drill, fingerprint, hospital, peerpacs


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "s3")
    yield server
    server.stop()


def sent(node: Node) -> None:
    """Wait until the bucket has everything."""
    bucket = node.main.bucket
    assert bucket is not None
    until(lambda: bucket.waiting() == 0)


@pytest.mark.parametrize("persistent", [True, False])
def test_a_new_machine_finds_in_the_bucket_what_came_after_the_backup(
    tmp_path: Path, server: Server, persistent: bool
) -> None:
    home = bucket_home(tmp_path / "home", server, persistent_spool=persistent)
    with hospital(home) as node:
        kept = Drill(node).first_days()
        peerpacs("backup", tmp_path / "b", "--home", home)
        Drill(node).later_days(kept)
        sent(node)
    before = fingerprint(home)
    shutil.rmtree(home)
    said = peerpacs("restore", tmp_path / "b", "--home", home)
    assert "16 instances" in said, said
    assert fingerprint(home) == before


def test_while_the_bucket_does_not_answer_the_restored_node_serves_nobody(
    tmp_path: Path, server: Server
) -> None:
    home = bucket_home(tmp_path / "home", server)
    with hospital(home) as node:
        Drill(node).store(0)
        peerpacs("backup", tmp_path / "b", "--home", home)
        Drill(node).decide("reject", 0)
        sent(node)
    before = fingerprint(home)
    shutil.rmtree(home)
    server.stop()
    said = peerpacs("restore", tmp_path / "b", "--home", home, code=3)
    assert "could not be taken in yet" in said
    peerpacs("find", "--home", home, code=1)
    server.start()
    assert fingerprint(home) == before
