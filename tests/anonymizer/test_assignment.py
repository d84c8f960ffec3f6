"""What a project assigns: whose the Patient IDs are, subject ids and time points."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydicom import dcmread

from anonymizer import PRESETS, Assignment, Engine, ProjectKey, policy_from
from anonymizer.arrivals import Arrivals
from anonymizer.keys import identity_of
from anonymizer.worker import Worker
from tests.anonymizer.conftest import SECRET, sample, stored
from tests.anonymizer.test_midi import dciodvfy_errors

KEY = ProjectKey("T", SECRET)
POLICY = policy_from("trial", {**PRESETS["research"], "clinical_trial": {"protocol_id": "TRIAL-7"}})


def arrivals(assignment: Assignment) -> Arrivals:
    """Return what de-identifies in memory."""
    return Arrivals(Worker(POLICY, KEY, Path("/nonexistent"), assignment=assignment))


def test_an_issuer_that_is_given_counts_for_ids_without_one() -> None:
    dataset = sample(PatientID="4711")
    named = sample(PatientID="4711", IssuerOfPatientID="BRNO")
    given = Engine(POLICY, KEY, Assignment(issuer="BRNO"))
    assert given.deidentify(stored(dataset)).subject == KEY.subject(identity_of("BRNO", "4711"))
    assert given.deidentify(stored(dataset)).subject == given.deidentify(stored(named)).subject
    assert Engine(POLICY, KEY).deidentify(stored(dataset)).subject == KEY.subject(identity_of("", "4711"))


@pytest.mark.parametrize("name", ["CT_small.dcm", "rtplan.dcm", "rtdose.dcm"])
def test_labels_pass_the_verifier_and_add_no_error_of_the_iod(name: str, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools is not installed")
    dataset = sample(name, PatientID="4711", PatientName="Featherstonehaugh^Cuthbert")
    study = str(dataset.StudyInstanceUID)
    assignment = Assignment("", {identity_of("", "4711"): "S-001"}, {study: "BASELINE"})
    before, after = tmp_path / "before.dcm", tmp_path / "after.dcm"
    before.write_bytes(stored(dataset))
    outcome, file = arrivals(assignment).take(before.read_bytes())
    assert outcome.reason == "", outcome.sentence
    after.write_bytes(file)
    read = dcmread(after)
    assert (read.ClinicalTrialSubjectID, read.ClinicalTrialTimePointID) == ("S-001", "BASELINE")
    assert dciodvfy_errors(after) <= dciodvfy_errors(before)


def test_what_an_earlier_instance_told_is_looked_for_in_a_later_one() -> None:
    machine = arrivals(Assignment())
    first = sample(PatientID="4711", PatientName="Featherstonehaugh^Cuthbert")
    assert machine.take(stored(first))[0].reason == ""
    later = sample(PatientID="4711", PatientName="", StudyDescription="CT FOR FEATHERSTONEHAUGH")
    outcome, file = machine.take(stored(later))
    assert outcome.reason == ""
    assert b"FEATHERSTONEHAUGH" not in file.upper()


@pytest.mark.parametrize("length", [0, 100, 132, 500, 5000])
def test_whatever_arrives_ends_in_an_outcome(length: int) -> None:
    content = stored(sample())
    for broken in (content[:length], content[length:], content[:length] + content[length + 3 :]):
        outcome, file = arrivals(Assignment()).take(broken)
        assert bool(file) == (outcome.reason == "")


def test_a_second_run_changes_nothing_of_what_was_assigned() -> None:
    dataset = sample(PatientID="4711")
    assignment = Assignment("", {identity_of("", "4711"): "S-001"}, {str(dataset.StudyInstanceUID): "V1"})
    outcome, once = arrivals(assignment).take(stored(dataset))
    assert outcome.reason == ""
    outcome, twice = arrivals(Assignment()).take(once)
    assert outcome.reason == "", outcome.sentence
    assert twice == once
