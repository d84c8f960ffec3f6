"""What lies beside a node's identity finds its grid again, and is never made less."""

from __future__ import annotations

from pathlib import Path

import pytest

from federation.trust.credentials import NODE_FILE
from federation.trust.policy import Grant, Op
from federation.trust.rows import Document, PeerRow, Tables
from node.keepsake import FILE, Keepsake
from node.state import State


def tables(folder: Path) -> Tables:
    """Return the tables of a new state."""
    return Tables(State(folder).table)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """The folder of an identity."""
    folder = tmp_path / "identity"
    folder.mkdir()
    (folder / NODE_FILE).touch()
    return folder


def test_a_state_that_was_lost_is_told_what_lay_beside_the_identity(identity: Path, tmp_path: Path) -> None:
    first = tables(tmp_path / "first")
    first.documents.put(b"bundle", Document(b"signed", 3, 0))
    first.peers.put(b"b", PeerRow(node_id="b", name="beta", site="BETA", addresses=("10.0.0.2:7443",)))
    first.grants.put(b"1", Grant(peer="node:b", share="everything", ops=(Op.HOST_REPLICAS,)))
    Keepsake(identity, first).step()
    second = tables(tmp_path / "second")
    assert Keepsake(identity, second).restore()
    for name in ("documents", "peers", "grants"):
        assert [*getattr(second, name).scan()] == [*getattr(first, name).scan()]
    assert not Keepsake(identity, second).restore(), "what a state knows is not overwritten"


def test_what_cannot_be_read_is_left_alone_and_nothing_takes_its_place(
    identity: Path, tmp_path: Path
) -> None:
    (identity / FILE).write_bytes(b"no rows")
    (identity / FILE).chmod(0o600)
    keepsake = Keepsake(identity, tables(tmp_path / "state"))
    assert not keepsake.restore()
    keepsake.step()
    assert (identity / FILE).read_bytes() == b"no rows"
