"""What must be on disk before a C-STORE is answered, seen by strace; kill -9 proves nothing about fsync."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from pydicom.data import get_testdata_file

from tests.running import PEERPACS, RunningNode, dcmtk, until

CT = str(get_testdata_file("CT_small.dcm"))
_CALLS = "trace=pwritev,pwrite64,pwritev2,writev,fdatasync,fsync,msync,sendmsg,sendto"
_LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>)?(.*)$")


class Call:
    """One finished system call and the path of the file it was made on."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path


def finished_calls(trace: str) -> list[Call]:
    """Return the calls in the order they returned."""
    calls, begun = [], dict[str, str]()
    for line in trace.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        thread, name, rest = match.groups()
        path = re.search(r"\(\d+<([^>]+)>", rest)
        if "<unfinished" in line:
            begun[thread] = path[1] if path else ""
        elif "resumed>" in line:
            calls.append(Call(name, begun.pop(thread, "")))
        else:
            calls.append(Call(name, path[1] if path else ""))
    return calls


def trace_one_store(home: Path, trace: Path) -> list[Call]:
    """Store one instance at a node that runs under strace; return what it did from the write on."""
    node = RunningNode(home)
    strace = shutil.which("strace")
    assert strace, "This test needs strace: sudo apt install strace"
    command = [strace, "-f", "-y", "-e", _CALLS, "-o", str(trace), PEERPACS, "run", "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        pid = int(until(lambda: re.search(r"process (\d+)", process.stdout.readline()), 60)[1])
        dcmtk("storescu", "-aec", "ALPHA", "127.0.0.1", str(node.port), CT)
        os.kill(pid, signal.SIGTERM)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    calls = finished_calls(trace.read_text(errors="replace"))
    first = next(
        n for n, call in enumerate(calls) if call.name.startswith("pwrite") and call.path.endswith(".tar")
    )
    return calls[first:]


def test_bytes_and_row_are_on_disk_before_the_answer_leaves(tmp_path: Path) -> None:
    calls = trace_one_store(tmp_path / "home", tmp_path / "trace")
    answer = next(n for n, call in enumerate(calls) if call.name.startswith("send"))
    synced = {call.path for call in calls[:answer] if call.name in ("fdatasync", "fsync", "msync")}
    assert any(path.endswith(".tar") for path in synced), synced
    assert any("/catalog/" in path for path in synced), synced


def test_the_folder_of_a_new_segment_is_on_disk_before_its_first_answer(tmp_path: Path) -> None:
    home = tmp_path / "home"
    trace_one_store(home, tmp_path / "trace")
    calls = finished_calls((tmp_path / "trace").read_text(errors="replace"))
    names = [(call.name, call.path) for call in calls]
    folder = str(home / "archives" / "main" / "objects" / "00")
    written = next(
        n for n, call in enumerate(calls) if call.name.startswith("pwrite") and call.path.endswith(".tar")
    )
    answer = next(n for n in range(written, len(calls)) if calls[n].name.startswith("send"))
    assert ("fsync", folder) in names[:answer], names[:answer]
