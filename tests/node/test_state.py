"""Rows are typed, durable, and shared at once between processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import msgspec
import pytest

from catalog import Damaged
from node.state import State


class Job(msgspec.Struct, frozen=True):
    name: str
    tries: int = 0


class OlderJob(msgspec.Struct, frozen=True):
    name: str


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / "state") as opened:
        yield opened


def test_a_row_comes_back_as_it_was_put_and_is_gone_when_deleted(state: State) -> None:
    jobs = state.table("jobs", Job)
    jobs.put(b"a", Job("one", 2))
    assert jobs.get(b"a") == Job("one", 2)
    assert jobs.delete(b"a")
    assert not jobs.delete(b"a")
    assert jobs.get(b"a") is None


def test_tables_do_not_see_each_other_and_a_scan_follows_a_prefix(state: State) -> None:
    jobs, others = state.table("jobs", Job), state.table("jobs2", Job)
    for key in (b"a1", b"b1", b"a2"):
        jobs.put(key, Job(key.decode()))
    others.put(b"a3", Job("other"))
    assert [key for key, _ in jobs.scan(b"a")] == [b"a1", b"a2"]
    assert [row.name for _, row in jobs.scan()] == ["a1", "a2", "b1"]


def test_a_change_of_several_rows_happens_whole_or_not_at_all(state: State) -> None:
    jobs = state.table("jobs", Job)
    jobs.put(b"a", Job("a"))

    def fails(job: Job | None) -> Job:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        jobs.change({b"a": lambda _: Job("changed"), b"b": fails})
    assert jobs.get(b"a") == Job("a")


def test_a_row_written_before_a_field_was_added_is_still_read(state: State) -> None:
    state.table("jobs", OlderJob).put(b"a", OlderJob("old"))
    assert state.table("jobs", Job).get(b"a") == Job("old", 0)


def test_a_row_of_a_newer_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    State(folder).close()
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"jobs\0a", b"\x07whatever")
    with State(folder) as state, pytest.raises(Damaged, match="version 7"):
        state.table("jobs", Job).get(b"a")


def test_what_another_process_writes_is_seen_at_once(state: State, tmp_path: Path) -> None:
    devices = state.table("names", str)
    assert devices.get(b"a") is None
    code = "import sys; from pathlib import Path; from node.state import State\n"
    code += "State(Path(sys.argv[1])).table('names', str).put(b'a', 'from elsewhere')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "state")], check=True, timeout=60)
    assert devices.get(b"a") == "from elsewhere"
