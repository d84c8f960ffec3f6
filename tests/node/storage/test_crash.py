"""An acknowledged object outlives its process, and the order of system calls says it outlives the power."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from catalog import Holding
from node.storage import Damage

from .filling import objects, segment_store

ROOT = Path(__file__).parents[3]


def appender(folder: Path, threads: int, count: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "tests.node.storage.appender", str(folder), str(threads), str(count), *more]


def kill_while_storing(folder: Path, after: float, syncer: str) -> list[Holding]:
    """Let eight threads store for so long, kill them, and return what was acknowledged."""
    command = appender(folder, 8, 0, *syncer.split())
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        first = process.stdout.readline()
        time.sleep(after)
        process.kill()
        lines = [first, *process.stdout]
    words = [line.split() for line in lines if line.endswith(b"\n")]
    return [Holding(bytes.fromhex(a.decode()), bytes.fromhex(b.decode()), int(c)) for a, b, c in words]


def survive(folder: Path, rounds: int) -> None:
    source = random.Random()
    acknowledged: list[Holding] = []
    for number in range(rounds):
        fresh = kill_while_storing(folder, source.uniform(0, 0.3), "syncer" * (number % 2))
        acknowledged += fresh
        store = segment_store(folder)
        told = objects(store.recover())
        for holding in [*fresh, *(item.holding for item in told)]:
            store.verify(holding)
        store.close()
    everything = [*store.scan()]
    assert {holding.where for holding in acknowledged} <= {
        item.holding.where for item in objects(iter(everything))
    }
    assert not [item for item in everything if isinstance(item, Damage)]
    assert not [*(folder / "incoming").iterdir()]


def test_what_was_acknowledged_before_kill_9_is_there_and_whole(tmp_path: Path) -> None:
    survive(tmp_path, 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_was_acknowledged_before_a_hundred_kills_is_there_and_whole(tmp_path: Path) -> None:
    survive(tmp_path, 100)


def test_processes_that_store_at_once_do_not_touch_each_others_segments(tmp_path: Path) -> None:
    command = appender(tmp_path, 3, 40)
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    lines = [line for process in processes for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(lines) == 4 * 3 * 40
    store = segment_store(tmp_path)
    assert not [item for item in store.recover() if isinstance(item, Damage)]
    found = [
        f"{i.holding.sha256.hex()} {i.holding.where.hex()} {i.holding.size}" for i in objects(store.scan())
    ]
    assert sorted(found) == sorted(lines)


class Call(NamedTuple):
    """One system call as strace saw it: when it began and ended, in lines."""

    name: str
    text: str
    began: int
    ended: int


def traced(tmp_path: Path, *arguments: str) -> list[Call]:
    assert shutil.which("strace"), "strace is missing: sudo apt install strace"
    log = tmp_path / "strace"
    calls = "trace=/^(pread.*|pwrite.*|write|fdatasync|fsync|openat|rename|fallocate)$"
    strace = ["strace", "-f", "-y", "-s", "80", "-e", calls, "-o", str(log)]
    subprocess.run([*strace, *arguments], cwd=ROOT, check=True, capture_output=True, timeout=60)
    return parsed(log.read_text().splitlines())


def parsed(lines: list[str]) -> list[Call]:
    """Put the halves of calls that other threads interrupted together again."""
    calls: list[Call] = []
    open_calls: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines):
        thread, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            open_calls[thread] = (text, number)
        elif resumed := re.match(r"<\.\.\. (\w+) resumed>", text):
            begun, began = open_calls.pop(thread)
            calls.append(Call(resumed[1], begun, began, number))
        elif call := re.match(r"(\w+)\(", text):
            calls.append(Call(call[1], text, number, number))
    return calls


def first(calls: list[Call], name: str, part: str, after: int = -1) -> Call:
    return next(
        call for call in calls if call.name.startswith(name) and part in call.text and call.began > after
    )


@pytest.mark.parametrize(("threads", "syncer"), [(1, ""), (1, "syncer"), (6, ""), (6, "syncer")])
def test_the_disk_has_an_object_before_the_sender_hears_of_it(
    tmp_path: Path, threads: int, syncer: str
) -> None:
    calls = traced(tmp_path, *appender(tmp_path / "store", threads, 4, *syncer.split()))
    said = [call for call in calls if call.name == "write" and call.text.startswith("write(1")]
    assert len(said) == 4 * threads
    for acknowledgement in said:
        sha256 = acknowledgement.text.split('"')[1].split()[0]
        written = first(calls, "pwritev", sha256)
        durable = first(calls, "fdatasync", "objects/00/000001.tar", after=written.ended)
        assert durable.ended < acknowledgement.began


def test_the_name_of_a_segment_is_durable_before_its_first_object(tmp_path: Path) -> None:
    calls = traced(tmp_path, *appender(tmp_path / "store", 1, 1))
    steps = [
        ("openat", "objects/open/000001"),
        ("fsync", "store/objects/open>"),
        ("fsync", "store/objects>"),
        ("openat", "objects/00/000001.tar"),
        ("fsync", "store/objects/00>"),
        ("pwritev", "objects/00/000001.tar"),
        ("fdatasync", "objects/00/000001.tar"),
        ("write", "write(1"),
    ]
    check_order(calls, steps)


def check_order(calls: list[Call], steps: list[tuple[str, str]]) -> None:
    """Find the steps, each after the one before."""
    at = -1
    for name, part in steps:
        at = first(calls, name, part, after=at).ended


ONE_OF_EACH = """
import sys
from pathlib import Path
from tests.node.storage.filling import CAME, fill, keep, segment_store
store = segment_store(Path(sys.argv[1]))
small = keep(store, b"small" * 10_000)
large = store.keep(fill(store.incoming(), b"large" * 200_000), CAME)
print("kept", flush=True)
store.remove(small, erase=True)
"""


def test_a_large_object_is_on_the_disk_under_its_name_before_keep_returns(tmp_path: Path) -> None:
    calls = traced(tmp_path, sys.executable, "-c", ONE_OF_EACH, str(tmp_path / "store"))
    steps = [
        ("openat", "store/incoming/"),
        ("openat", "objects/open/000002"),
        ("fsync", "store/objects/open>"),
        ("fdatasync", "store/incoming/"),
        ("rename", "000002.tar"),
        ("fsync", "store/objects/00>"),
        ("write", "write(1"),
    ]
    check_order(calls, steps)


def test_an_object_is_nameless_on_the_disk_before_its_bytes_are_touched(tmp_path: Path) -> None:
    calls = traced(tmp_path, sys.executable, "-c", ONE_OF_EACH, str(tmp_path / "store"))
    said = first(calls, "write", "write(1").ended
    segment = "objects/00/000001.tar"
    names = [
        call.name + " deleted" * ("deleted/" in call.text)
        for call in calls
        if call.began > said and segment in call.text and call.name.startswith(("pwrite", "fdata", "fallo"))
    ]
    assert names == ["pwrite64 deleted", "fdatasync", "pwrite64", "fdatasync", "fallocate"]


def test_what_a_start_tells_is_made_durable_first(tmp_path: Path) -> None:
    kill_while_storing(tmp_path / "store", 0.05, "")
    calls = traced(tmp_path, *appender(tmp_path / "store", 1, 1))
    marker = first(calls, "openat", "objects/open/")
    durable = first(calls, "fdatasync", "objects/00/", after=marker.ended)
    named = first(calls, "fsync", "store/objects/00>", after=durable.ended)
    assert named.ended < first(calls, "pread", "objects/00/", after=marker.ended).began
