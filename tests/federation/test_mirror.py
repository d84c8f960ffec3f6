"""The mirror on its disk: it survives kill -9, other processes read it, its search index grows back."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from catalog import Change, Decision, Head, Level, Verb
from catalog.statements import is_tombstone
from federation.following import exchange
from federation.messages import Delta, SnapshotBegin, SnapshotEnd, SnapshotPart
from federation.mirror import Mirror
from federation.mirror_rows import INDEX, part_of
from federation.mirror_search import MirrorSearch
from sim.mirroring import site_rows
from tests.catalog.samples import Ticking, arrival, query
from tests.federation.grids import Node, known
from tests.federation.unions import Seen

CHAIN = b"c" * 8


def index_keys(mirror: Mirror, source: int) -> set[bytes]:
    with mirror.reading() as reading:
        keys = reading.cursor().iternext(keys=True, values=False)
        return {bytes(key) for key in keys if key[:1] in (INDEX, b"h") and key.endswith(part_of(source))}


def take_snapshot(mirror: Mirror, source: int, rows: list[Change]) -> Head:
    at = Head(1, len(rows), CHAIN)
    mirror.begin(source, SnapshotBegin(at))
    mirror.extend(source, SnapshotPart(at, at, b"", rows[-1].key, rows))
    mirror.finish(source, SnapshotEnd(at, rows[-1].key))
    return at


def test_indexes_made_by_a_snapshot_and_by_deltas_are_the_same_and_go_with_their_rows(tmp_path: Path) -> None:
    rows = site_rows(1, 30)
    mirror = Mirror(tmp_path / "mirror", clock=Ticking(), map_size=1 << 27)
    one, two = mirror.source(b"one", 0), mirror.source(b"two", 0)
    at = take_snapshot(mirror, one, rows)
    take_snapshot(mirror, two, rows[:6])
    head = Head(1, len(rows), CHAIN)
    mirror.apply(two, Delta(6, head, head, rows[6:]))
    plain = {key[:-2] for key in index_keys(mirror, one)}
    assert plain == {key[:-2] for key in index_keys(mirror, two)}
    assert len(plain) == 30 * 5
    assert mirror.digests(one) == mirror.digests(two)
    mirror.allow(one)
    gone = Head(1, at.seq + 1, CHAIN)
    mirror.apply(one, Delta(at.seq, gone, gone, [Change(at.seq + 1, row.key, b"") for row in rows]))
    assert index_keys(mirror, one) == set()
    assert len(index_keys(mirror, two)) == 150
    assert not any(digest.rows for digest in mirror.digests(one).values())
    mirror.close()


KILLED = """
import sys, time
from pathlib import Path
from catalog import Change, Head
from federation.messages import *
from federation.mirror import Mirror
from sim.mirroring import site_rows
mirror = Mirror(Path(sys.argv[1]), clock=time.time, map_size=1 << 27)
source, rows = mirror.source(b"one", 0), site_rows(1, 20)
at = Head(1, len(rows), b"c" * 8)
if mirror.state(source).epoch == 0:
    mirror.begin(source, SnapshotBegin(at))
    mirror.extend(source, SnapshotPart(at, at, b"", rows[-1].key, rows))
    mirror.finish(source, SnapshotEnd(at, rows[-1].key))
print("ready", flush=True)
head = mirror.state(source).applied
while True:
    row = rows[head % len(rows)]
    at = Head(1, head + 1, b"c" * 8)
    text = b"" if head % 7 == 0 else row.row
    mirror.apply(source, Delta(head, at, at, [Change(head + 1, row.key, text)]))
    head += 1
"""


def test_a_mirror_that_was_killed_while_it_followed_is_of_one_moment(tmp_path: Path) -> None:
    rows = site_rows(1, 20)
    for n in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "mirror")], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.03 * n)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        mirror = Mirror(tmp_path / "mirror", clock=Ticking(), map_size=1 << 27)
        source = mirror.source(b"one", 0)
        expected = {row.key for row in rows}
        for seq in range(len(rows), mirror.state(source).applied):
            (expected.discard if seq % 7 == 0 else expected.add)(rows[seq % len(rows)].key)
        assert {key for key, _ in mirror.rows(source)} == expected
        digests = mirror.digests(source)
        mirror.recount(source)
        assert {k: v for k, v in digests.items() if v.rows} == mirror.digests(source)
        mirror.close()


def test_another_process_reads_what_the_writer_mirrors(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", clock=Ticking(), map_size=1 << 27)
    take_snapshot(mirror, mirror.source(b"one", 0), site_rows(1, 5))
    script = (
        "import sys, time; from pathlib import Path; from federation.mirror import Mirror\n"
        "mirror = Mirror(Path(sys.argv[1]), clock=time.time, map_size=1 << 27, is_read_only=True)\n"
        "print(len(list(mirror.rows(mirror.source(b'one', 0)))), mirror.sources())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "mirror")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "30 {1: (b'one', 0)}\n"
    mirror.close()


def test_the_search_index_grows_back_after_it_was_removed(tmp_path: Path) -> None:
    clock = Ticking()
    alpha, beta = Node(tmp_path / "alpha", clock), Node(tmp_path / "beta", clock)
    beta.catalog.record([arrival(f"{n}", f"{n}.1", f"{n}.1.1", PatientName=f"P{n}X^Y") for n in range(30)])
    grid = Seen(alpha, beta)
    grid.sync()
    grid.index()
    question = query(Level.STUDY, PatientName="*17X*")
    assert len(grid.find(question)) == 1
    shutil.rmtree(alpha.home / "mirror.search")
    assert len(grid.find(question)) == 1
    grid.index()
    assert (alpha.home / "mirror.search").exists()
    assert len(grid.find(question)) == 1
    grid.search.close()
    shutil.rmtree(alpha.home / "mirror.search")
    grid.search = MirrorSearch(alpha.mirror, alpha.home / "mirror.search")
    assert grid.search.step(clock()) == 30
    assert len(grid.find(question)) == 1
    assert not any(is_tombstone(row) for _, row in alpha.mirror.rows(1))
    grid.close()


def test_the_search_index_that_is_removed_while_it_is_written_grows_back(tmp_path: Path) -> None:
    clock = Ticking()
    alpha, beta = Node(tmp_path / "alpha", clock), Node(tmp_path / "beta", clock)
    beta.catalog.record([arrival(f"{n}", f"{n}.1", f"{n}.1.1", PatientName=f"P{n}X^Y") for n in range(5)])
    grid = Seen(alpha, beta)
    grid.sync()
    put, index = grid.search.index.put, grid.search.index
    index.put = lambda *row: (index.remove(), put(*row))  # type: ignore[method-assign, assignment, func-returns-value]
    assert grid.search.step(clock()) == 1, "there is more to do, and nothing failed"
    index.put = put  # type: ignore[method-assign]
    grid.index()
    assert len(grid.find(query(Level.STUDY, PatientName="*3X*"))) == 1
    grid.close()


def test_a_mirror_takes_in_nothing_that_its_owner_had_erased_here_and_is_equal_when_the_owner_obeys(
    tmp_path: Path,
) -> None:
    clock = Ticking()
    alpha, beta = Node(tmp_path / "alpha", clock), Node(tmp_path / "beta", clock)
    studies = [arrival(f"{n}", f"{n}.1", f"{n}.1.1", PatientName=f"P{n}X^Y") for n in range(4)]
    beta.catalog.record(studies)
    beta.publish()
    alpha.mirror.erased = lambda owner: {b"2"} if owner == beta.name else ()
    follower = alpha.follower(beta.name)
    for _ in range(12):
        follower.told(beta.owner.head(0), clock())
        clock.now += 0.3
        exchange(follower, beta.owner, clock())
    studies_here = {key.partition(b"\0")[0] for key in alpha.mirrored(beta.name)}
    assert studies_here == {b"0", b"1", b"3"}
    assert follower.wants(clock()) is None, "what is not to be had is not asked for again and again"
    assert b"P2X" not in (tmp_path / "alpha" / "mirror" / "data.mdb").read_bytes()

    beta.catalog.decide(Decision(id="e", verb=Verb.ERASE, target=("2",), reason="", who="ann", when=1))
    clock.now += 5
    beta.publish()
    alpha.sync(beta)
    assert known(alpha.mirror.digests(1)) == known(beta.owner.digests(0).digests)
    for node in (alpha, beta):
        node.stop()
