"""Whatever a peer states, questions are answered: broken rows are kept as they came, and not believed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec

from catalog import Change, Head, Level, Selection
from catalog.statements import is_tombstone
from federation.foreign import attributes_of
from federation.messages import SnapshotBegin, SnapshotEnd, SnapshotPart
from tests.catalog.samples import Ticking, arrival, query
from tests.federation.grids import Node
from tests.federation.unions import Seen


def test_dicom_json_whose_values_are_not_what_their_vr_holds_is_refused() -> None:
    good = (
        b'{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A"}]},"00080020":{"vr":"DA","Value":["20240101"]}}'
    )
    assert attributes_of(good) == msgspec.json.decode(good)
    for bad in (
        b"",
        b"[]",
        b'{"00100010":{}}',
        b'{"00100010":{"vr":"PN","Value":["A"]}}',
        b'{"00100010":{"vr":"PN","Value":[{"Alphabetic":1}]}}',
        b'{"00100020":{"vr":"PN","Value":[]}}',
        b'{"00100020":{"vr":"LO","Value":[{"a":"b"}]}}',
        b'{"00100020":{"vr":"LO","Value":"text"}}',
        b'{"00100020":{"vr":"LO","Value":["\xff"]}}',
        b'{"00100020":{"vr":"SQ","Value":[' + b'{"a":' * 5000,
    ):
        assert attributes_of(bad) is None


def broken(row: bytes, chance: Random) -> bytes:
    """Return a row with a few bytes changed, cut out or put in."""
    found = bytearray(row)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found))
        kind = chance.randrange(3)
        if kind == 0:
            found[at] = chance.randrange(256)
        elif kind == 1:
            del found[at : at + chance.randint(1, 9)]
        else:
            found[at:at] = chance.randbytes(3)
        if not found:
            return b"\x90\x90"
    return bytes(found)


def test_questions_are_answered_whatever_bytes_a_peer_states(tmp_path: Path) -> None:
    clock, chance = Ticking(), Random(3)
    alpha, beta = Node(tmp_path / "alpha", clock), Node(tmp_path / "beta", clock)
    alpha.catalog.record([arrival("own", "own.1", "own.1.1")])
    beta.catalog.record([arrival(f"{n}", f"{n}.1", f"{n}.1.1") for n in range(60)])
    grid = Seen(alpha, beta)
    beta.clock.now += 3
    beta.publish()
    source = alpha.mirror.source(b"beta", 0)
    sound = [row for row in beta.catalog.snapshot(b"", 1000) if not is_tombstone(row.row)]
    for epoch in range(1, 6):
        rows = [
            Change(row.seq, row.key, broken(row.row, chance) if chance.random() < 0.7 else row.row)
            for row in sound
        ]
        at = Head(epoch, len(rows), bytes(8))
        alpha.mirror.allow(source)
        alpha.mirror.begin(source, SnapshotBegin(at))
        alpha.mirror.extend(source, SnapshotPart(at, at, b"", rows[-1].key, rows))
        alpha.mirror.finish(source, SnapshotEnd(at, rows[-1].key))
        grid.index()
        for question in (
            query(Level.STUDY),
            query(Level.SERIES, Modality="CT", StudyDescription="*HES*", PatientName="DOE*"),
            query(Level.PATIENT, PatientID="4711", **{"00201202": {"vr": "IS"}}),
            query(Level.STUDY, StudyDate="20240102", **{"00080061": {"vr": "CS", "Value": ["CT"]}}),
        ):
            answers = grid.find(question)
            assert answers, "the node's own are always among them"
        grid.catalog.select(Selection(patient=("4711",)))
    grid.close()
