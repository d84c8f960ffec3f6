"""A batch is released all at once or not at all, whoever kills it and however many processes it has."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydicom import dcmread

from anonymizer import Batch, BatchRefused, Report, load_policy, read_key, run
from anonymizer.command import main
from anonymizer.manifest import is_unbroken
from anonymizer.worker import Known, Surveyed, Worker, survey_many
from tests.anonymizer.conftest import sample, stored

NAME = "Featherstonehaugh^Cuthbert"


def fill(folder: Path, count: int, **changes: object) -> Path:
    """CT instances of one subject and study."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        uid = f"1.2.826.0.1.3680043.8.498.9.{number}"
        dataset = sample(PatientName=NAME, SOPInstanceUID=uid, InstanceNumber=str(number), **changes)
        (folder / f"Cuthbert{number}.dcm").write_bytes(stored(dataset))
    return folder


def batch(tmp_path: Path, key_file: Path, **changes: object) -> Batch:
    made = Batch(tmp_path / "in", tmp_path / "out", load_policy("research"), key_file)
    return replace(made, **changes)  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def outcome(report: Report) -> tuple[int, dict[str, int]]:
    return report.released, report.quarantined


def test_a_released_folder_names_nobody_and_has_an_unbroken_manifest(tmp_path: Path, key_file: Path) -> None:
    fill(tmp_path / "in", 3)
    report = run(batch(tmp_path, key_file))
    assert outcome(report) == (3, {})
    files = tree(tmp_path / "out")
    assert not any(b"uthbert" in data or "uthbert" in name for name, data in files.items())
    assert is_unbroken(tmp_path / "out" / "manifest.jsonl")
    rows = [json.loads(line) for line in files["manifest.jsonl"].splitlines()]
    assert {row["file"] for row in rows[1:]} == set(files) - {"manifest.jsonl"}
    assert not list(tmp_path.glob(".*"))
    assert {p.stat().st_mtime for p in (tmp_path / "out").rglob("*.dcm")} == {315532800}


def test_a_changed_manifest_is_noticed(tmp_path: Path, key_file: Path) -> None:
    fill(tmp_path / "in", 3)
    run(batch(tmp_path, key_file))
    path = tmp_path / "out" / "manifest.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:2] + lines[3:]))
    assert not is_unbroken(path)


def test_the_confidential_record_stays_beside_it_for_its_owner_only(tmp_path: Path, key_file: Path) -> None:
    fill(tmp_path / "in", 2)
    run(batch(tmp_path, key_file))
    folder = tmp_path / "out.confidential"
    assert folder.stat().st_mode & 0o077 == 0
    record = (folder / "record.jsonl").read_text()
    assert "1.2.826.0.1.3680043.8.498.9.1" in record
    assert "Cuthbert^" not in record
    assert NAME not in record


def test_one_process_and_several_write_the_same_bytes(tmp_path: Path, key_file: Path) -> None:
    fill(tmp_path / "in", 40)
    run(batch(tmp_path, key_file))
    run(batch(tmp_path, key_file, target=tmp_path / "many", jobs=3))
    assert tree(tmp_path / "out") == tree(tmp_path / "many")


def test_the_record_has_the_digest_of_what_was_read_when_a_file_changed_after_the_survey(
    tmp_path: Path, key_file: Path
) -> None:
    fill(tmp_path, 1)
    path = tmp_path / "Cuthbert0.dcm"
    worker = Worker(load_policy("research"), read_key(key_file), tmp_path / "staging")
    surveyed = worker.survey(path)
    known = Known(surveyed.subject.identifiers, surveyed.needles)
    assert worker.process(path, known, surveyed).source_digest == surveyed.digest
    fill(tmp_path, 1, Rows=64, PixelData=b"\0" * (64 * 128 * 2))
    changed = worker.process(path, known, surveyed).source_digest
    assert changed == hashlib.sha256(path.read_bytes()).hexdigest() != surveyed.digest


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path, key_file: Path) -> None:
    fill(tmp_path / "in", 2)
    report = run(batch(tmp_path, key_file, is_dry_run=True))
    assert report.released == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "trial.key"]


def test_each_thing_that_is_wrong_has_its_reason_and_blocks_no_other(tmp_path: Path, key_file: Path) -> None:
    folder = fill(tmp_path / "in", 2)
    (folder / "notes.txt").write_text("Cuthbert was here")
    (folder / "copy.dcm").write_bytes((folder / "Cuthbert0.dcm").read_bytes())
    twin = sample(PatientName=NAME, SOPInstanceUID="1.2.3.7", StudyInstanceUID="1.2.3.70")
    (folder / "twin1.dcm").write_bytes(stored(twin))
    twin.InstanceNumber = 99
    (folder / "twin2.dcm").write_bytes(stored(twin))
    for number, patient in enumerate(("A1", "B2")):
        two = sample(PatientID=patient, StudyInstanceUID="1.2.3.80", SOPInstanceUID=f"1.2.3.8{number}")
        (folder / f"two{number}.dcm").write_bytes(stored(two))
    report = run(batch(tmp_path, key_file))
    held = {"DUPLICATE_INSTANCE": 2, "IDENTITY_CONFLICT": 2, "UNREADABLE": 1}
    assert outcome(report) == (2, held)
    assert report.copies == 1


def test_one_leak_holds_the_whole_subject_and_no_other(tmp_path: Path, key_file: Path) -> None:
    folder = fill(tmp_path / "in", 3)
    pixels = bytearray(sample().PixelData)
    pixels[400:417] = b"Featherstonehaugh"
    leaking = sample(PatientName=NAME, SOPInstanceUID="1.2.3.9", PixelData=bytes(pixels))
    (folder / "leaking.dcm").write_bytes(stored(leaking))
    other = sample(PatientID="other", PatientName="A^B", SOPInstanceUID="1.2.4", StudyInstanceUID="1.2.5")
    (folder / "other.dcm").write_bytes(stored(other))
    report = run(batch(tmp_path, key_file))
    assert outcome(report) == (1, {"LEAK_FOUND": 4})
    (path,) = (tmp_path / "out").rglob("*.dcm")
    assert dcmread(path).PatientID.startswith("TRIAL-")


def test_what_one_instance_knows_of_the_subject_is_removed_from_its_siblings(
    tmp_path: Path, key_file: Path
) -> None:
    folder = fill(tmp_path / "in", 1, Manufacturer="Quillington Scanners")
    knowing = sample(PatientName=NAME, SOPInstanceUID="1.2.9", OperatorsName="Quillington^Prudence")
    (folder / "knowing.dcm").write_bytes(stored(knowing))
    assert run(batch(tmp_path, key_file)).released == 2
    assert not any(b"Quillington" in data for data in tree(tmp_path / "out").values())


def test_a_second_run_over_a_release_changes_nothing_but_the_manifest(tmp_path: Path, key_file: Path) -> None:
    fill(tmp_path / "in", 3)
    run(batch(tmp_path, key_file))
    again = batch(tmp_path, key_file, source=tmp_path / "out", target=tmp_path / "again")
    assert outcome(run(again)) == (3, {})
    first, second = tree(tmp_path / "out"), tree(tmp_path / "again")
    assert {n for n in first if first[n] != second[n]} == {"manifest.jsonl"}


def test_a_target_that_holds_something_is_refused(tmp_path: Path, key_file: Path) -> None:
    fill(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(BatchRefused, match="not empty"):
        run(batch(tmp_path, key_file))


def test_a_batch_killed_half_way_releases_nothing_and_goes_on_where_it_stopped(
    tmp_path: Path, key_file: Path
) -> None:
    fill(tmp_path / "in", 300)
    command = [sys.executable, "-m", "anonymizer", str(tmp_path / "in"), str(tmp_path / "out")]
    command += ["--profile", "research", "--project", str(key_file), "--jobs", "2", "--json"]
    process = subprocess.Popen(command, start_new_session=True)
    journal = tmp_path / ".out.staging" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < 20):
        assert process.poll() is None, "it was done before it could be killed"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    staged = journal.read_bytes().count(b"\n") - 1
    assert 0 < staged < 300
    seen = []
    report = run(batch(tmp_path, key_file), lambda step, done, total: seen.append((step, done)))
    assert outcome(report) == (300, {})
    first_done = next(done for step, done in seen if step == "de-identify")
    assert first_done > staged, "what was verified before is not done again"
    assert len(tree(tmp_path / "out")) == 301


def test_the_command_tells_what_happened_and_describes_profiles(tmp_path: Path) -> None:
    fill(tmp_path / "in", 2)
    key, target = str(tmp_path / "k"), str(tmp_path / "out")
    runner = CliRunner()
    assert runner.invoke(main, ["--make-key", "T7", "--project", key]).exit_code == 0
    arguments = [str(tmp_path / "in"), target, "--profile", "research", "--project", key, "--jobs", "1"]
    dry = runner.invoke(main, [*arguments, "--dry-run"])
    assert "2 instances of 1 subject would be released" in dry.output
    done = runner.invoke(main, [*arguments, "--json"])
    assert json.loads(done.stdout)["released"] == 2
    assert runner.invoke(main, arguments).exit_code == 2
    assert "(0010,0010)" in runner.invoke(main, ["--describe", "research"]).output
    assert "There is no profile" in runner.invoke(main, ["--describe", "reserch"]).output
    (tmp_path / "in" / "notes.txt").write_text("x")
    partial = runner.invoke(main, [arguments[0], str(tmp_path / "b"), *arguments[2:]])
    assert partial.exit_code == 3
    assert "1 held back, UNREADABLE: It is not a DICOM Part 10 file." in partial.output


def test_a_file_that_kills_its_process_is_held_and_blocks_no_other(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "in", 20)
    poison = tmp_path / "in" / "Cuthbert7.dcm"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr("anonymizer.batch.survey_many", partial(fatal, str(poison)))
    report = run(batch(tmp_path, key_file))
    assert outcome(report) == (19, {"INTERNAL_ERROR": 1})


def fatal(poison: str, sources: list[Path]) -> list[Surveyed]:
    """Surveys, but dies of one file as a codec or a parser in C might."""
    if any(str(source) == poison for source in sources):
        os.kill(os.getpid(), signal.SIGKILL)
    return survey_many(sources)
