"""A filled catalog is one that queries and retrieves cannot tell from a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog import Busy, Level, Query, Selection
from node.app import open_node
from node.config import write_config
from node.reception import Origin
from sim.filling import arrival_of, fill
from sim.phantoms import instances, study

SHARED = study(5, 0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A node with one study of one instance."""
    me = {"name": "bench", "ae_title": "BENCH", "node_id": "bench"}
    write_config(
        tmp_path, {"node": me, **{door: {"port": 0} for door in ("dicom", "tls", "web", "grid", "watch")}}
    )
    with open_node(tmp_path) as node:
        [instance] = instances(SHARED)
        incoming = node.store.incoming()
        incoming.space(instance.size)[:] = instance.part10()
        incoming.filled(instance.size)
        holding = node.store.keep(incoming, Origin("TEST", 0, False))
        node.store.sync(holding)
        node.catalog.record([arrival_of(instance, holding)])
    return tmp_path


def test_every_instance_is_counted_and_names_the_shared_object(home: Path) -> None:
    fill(home, SHARED.StudyInstanceUID, 250, seed=6)
    with open_node(home) as node:
        assert node.catalog.totals().instances == 251
        everything = Query(level=Level.STUDY, keys={"0020000D": {"vr": "UI"}}, patient_root=False)
        assert len(list(node.catalog.find(everything))) == 4
        entries = node.catalog.select(Selection(studies=(study(6, 0).StudyInstanceUID,)))
    assert len(entries) == len({entry.SOPInstanceUID for entry in entries}) == 100
    assert len({entry.holding for entry in entries}) == 1
    assert len({entry.SeriesInstanceUID for entry in entries}) == 2


def test_a_running_node_is_not_filled(home: Path) -> None:
    with open_node(home), pytest.raises(Busy):
        fill(home, SHARED.StudyInstanceUID, 1, seed=6)
