"""The audit tells who did what, shows when somebody touched it, and never stands in the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from node.audit import AuditLog, read, verify
from node.contracts import Caller

CT1 = Caller("CT1", "10.1.7.20", "ALPHA")
NOVEMBER = 1_795_300_000.0
DECEMBER = NOVEMBER + 20 * 86400


def audit(folder: Path, now: float = NOVEMBER) -> AuditLog:
    return AuditLog(folder, lambda: now)


def store_three(folder: Path) -> Path:
    log = audit(folder)
    for number in range(3):
        log.record("store", CT1, "stored", {"SOPInstanceUID": f"1.2.{number}"})
    log.close()
    [path] = folder.glob("*.jsonl")
    return path


def test_each_line_says_who_what_and_when_and_holds_the_one_before(tmp_path: Path) -> None:
    path = store_three(tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3]
    assert lines[0]["ae"] == "CT1"
    assert lines[0]["time"].startswith("2026-11")
    assert verify(tmp_path).breaks == ()


def test_the_chain_goes_on_over_a_restart_and_into_the_next_month(tmp_path: Path) -> None:
    store_three(tmp_path)
    later = audit(tmp_path, DECEMBER)
    later.record("find", CT1, "answered", {"answers": 2})
    later.close()
    audit(tmp_path, NOVEMBER).record("change", None, "clock set back", {})
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert verify(tmp_path)[0::2] == (5, ())


@pytest.mark.parametrize("event", ["change", "decision", "refusal"])
def test_changes_decisions_and_refusals_are_on_disk_when_record_returns(tmp_path: Path, event: str) -> None:
    audit(tmp_path).record(event, CT1, "done", {})
    assert verify(tmp_path).lines == 1


def test_other_events_are_on_disk_after_a_step(tmp_path: Path) -> None:
    log = audit(tmp_path)
    log.record("store", CT1, "stored", {})
    assert verify(tmp_path).lines == 0
    log.step()
    assert verify(tmp_path).lines == 1


def _edit(path: Path, change: Any) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda lines: lines.__setitem__(0, lines[0].replace(b"CT1", b"CT9")), "not as it was written"),
        (lambda lines: lines.pop(1), "lines 2 to 2 are missing"),
        (lambda lines: lines.pop(0), "lines 1 to 1 are missing"),
        (lambda lines: lines.insert(1, lines[0]), "put in afterwards"),
        (lambda lines: lines.__setitem__(1, b"nonsense\n"), "not a line of the audit"),
    ],
)
def test_what_somebody_did_to_the_file_is_found(tmp_path: Path, change: Any, why: str) -> None:
    _edit(store_three(tmp_path), change)
    assert any(why in found.why for found in verify(tmp_path).breaks)


def test_a_cut_end_is_found_by_the_hash_that_was_written_down(tmp_path: Path) -> None:
    path = store_three(tmp_path)
    anchor = verify(tmp_path).last
    assert verify(tmp_path, anchor).breaks == ()
    _edit(path, lambda lines: lines.pop())
    assert verify(tmp_path).breaks == ()
    assert len(verify(tmp_path, anchor).breaks) == 1


def test_a_torn_last_line_is_set_aside_and_told_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = store_three(tmp_path)
    torn = b'{"sequence":4,"ti'
    path.write_bytes(path.read_bytes() + torn)
    audit(tmp_path).record("change", None, "device added", {})
    assert verify(tmp_path)[0::2] == (5, ())
    assert [line.outcome for line in read(tmp_path)][3] == "torn line set aside"
    [kept] = tmp_path.glob("*.torn")
    assert kept.read_bytes() == torn


def test_two_processes_write_one_chain(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from node.audit import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]), lambda: 1795300000.0)\n"
        "for number in range(50): log.record('change', None, sys.argv[2], {'number': number})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("one", "two")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert verify(tmp_path)[0::2] == (100, ())


def test_a_killed_writer_leaves_a_chain_that_goes_on(tmp_path: Path) -> None:
    code = (
        "import itertools, sys; from pathlib import Path; from node.audit import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]), lambda: 1795300000.0)\n"
        "for n in itertools.count(): log.record('change', None, 'x', {'n': n}); print(n, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
    audit(tmp_path).record("change", None, "after the crash", {})
    found = verify(tmp_path)
    assert found.breaks == ()
    assert found.lines >= acknowledged + 2


def test_attributes_of_a_patient_are_withheld_and_uids_stay(tmp_path: Path) -> None:
    detail = {
        "StudyInstanceUID": "1.2.3",
        "PatientName": "Novák^Jan",
        "keys": {"00100020": "4711", "AccessionNumber": "A1"},
    }
    audit(tmp_path).record("change", CT1, "corrected", detail)
    text = next(tmp_path.glob("*.jsonl")).read_text()
    assert "1.2.3" in text
    assert not any(secret in text for secret in ("Nov", "4711", "A1"))


def test_a_disk_that_refuses_does_not_fail_the_caller_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    log = audit(folder)
    folder.rename(tmp_path / "away")
    log.record("change", None, "while the disk was away", {})
    (tmp_path / "away").rename(folder)
    log.step()
    assert [line.outcome for line in read(folder)] == ["while the disk was away"]


def test_an_odd_value_in_the_detail_is_written_as_text(tmp_path: Path) -> None:
    audit(tmp_path).record("change", None, "done", {"path": Path("/x")})
    assert next(read(tmp_path)).detail == {"path": "/x"}
