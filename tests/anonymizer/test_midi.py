"""The engine against the answer key of a MIDI-B-format set that knows nothing of the engine."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from anonymizer import PRESETS, Engine, Policy, ProjectKey, policy_from
from anonymizer.leaks import Needles
from anonymizer.promises import Expected
from anonymizer.verifier import verify
from tests.anonymizer.conftest import SECRET, written
from tests.anonymizer.midi_score import Score, score
from tests.anonymizer.midi_set import RULES, Instance, make_set

REMOVALS = {
    "text_removed",
    "date_shifted",
    "uid_changed",
    "uid_consistent",
    "patid_consistent",
    "pixels_hidden",
}
KEY = ProjectKey("MIDI", SECRET)


def curated() -> Policy:
    """The tcia policy of a curator who knows which of these machines burn text in, and where."""
    return policy_from("curated", {**PRESETS["tcia"], "faces": "flag", "pixel": {"rules": RULES}})


def mappings(instances: list[Instance]) -> tuple[dict[str, str], dict[str, str]]:
    uids = {c.value: KEY.uid(c.value) for i in instances for c in i.checks if c.action == "uid_consistent"}
    return uids, {i.patient: KEY.subject(f"\0{i.patient.casefold()}") for i in instances}


def run_engine(instances: list[Instance]) -> dict[Path, bytes]:
    engine = Engine(curated(), KEY)
    return {i.path: written(engine.deidentify(i.path.read_bytes())) for i in instances}


def scored(instances: list[Instance], outputs: dict[Path, bytes]) -> Score:
    read = {path: dcmread(io.BytesIO(data)) for path, data in outputs.items()}
    return score(instances, lambda i: read.get(i.path), *mappings(instances))


def test_doing_nothing_fails_the_removal_checks_and_no_other(tmp_path: Path) -> None:
    instances = make_set(tmp_path)

    def untouched(instance: Instance) -> Dataset:
        return dcmread(instance.path)

    result = score(instances, untouched, *mappings(instances))
    asked = Counter(check.action for i in instances for check in i.checks)
    failed = result.by_action
    assert set(failed) == REMOVALS
    assert all(failed[action] == asked[action] for action in REMOVALS - {"text_removed"})
    assert failed["text_removed"] == asked["text_removed"]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_curated_policy_scores_at_least_99_9_percent_and_leaks_nothing(tmp_path: Path, seed: int) -> None:
    instances = make_set(tmp_path, seed)
    result = scored(instances, run_engine(instances))
    assert result.by_action["text_removed"] == 0, result.failures
    assert result.percent >= 99.9, result.failures


@pytest.mark.parametrize("seed", [1, 5, 6])
def test_no_injected_value_is_in_any_byte_of_any_output(tmp_path: Path, seed: int) -> None:
    instances = make_set(tmp_path, seed)
    outputs = run_engine(instances)
    for instance in instances:
        data = outputs[instance.path]
        assert not [n for n in planted(instance) if n in data.lower()], instance.path.name
        expected = Expected(
            frozenset(curated().document["options"]),
            boxes=tuple(tuple(r["boxes"][0]) for r in RULES[:1] if has_burned_in(instance)),  # type: ignore[index]
            given=frozenset([str(dcmread(io.BytesIO(data)).PatientID)]),
        )
        assert verify(instance.path.read_bytes(), data, expected, Needles()) == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_no_instance_has_more_dciodvfy_errors_than_before(tmp_path: Path) -> None:
    instances = make_set(tmp_path / "in")
    for path, data in run_engine(instances).items():
        after = tmp_path / "after.dcm"
        after.write_bytes(data)
        assert dciodvfy_errors(after) <= dciodvfy_errors(path), path.name


@pytest.mark.skipif(shutil.which("dcmdump") is None, reason="DCMTK is not installed")
def test_a_second_parser_opens_every_output(tmp_path: Path) -> None:
    for number, data in enumerate(run_engine(make_set(tmp_path / "in")).values()):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(data)
        subprocess.run(["dcmdump", "-q", str(path)], check=True, stdout=subprocess.DEVNULL, timeout=30)


def planted(instance: Instance) -> list[bytes]:
    """What was injected, as bytes in several encodings, lower case."""
    ds = instance.dataset
    texts = ["Mulberrygrove", "Westhampstead", "Quillington", "Featherstonehaugh", "Polycarp"]
    texts += [instance.patient, str(ds.AccessionNumber), str(ds.PatientTelephoneNumbers)]
    texts += [part for part in str(ds.PatientName).replace("=", "^").split("^") if len(part) > 3]
    forms = []
    for codec in ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "iso8859_5"):
        forms += [text.lower().encode(codec, "ignore") for text in texts]
    return [form for form in forms if len(form) > 5]


def has_burned_in(instance: Instance) -> bool:
    return str(instance.dataset.get("ManufacturerModelName", "")) == "BURNER 3000"


def dciodvfy_errors(path: Path) -> int:
    told = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True, timeout=60, errors="replace"
    )
    return sum(line.startswith("Error") for line in told.stderr.splitlines() + told.stdout.splitlines())
