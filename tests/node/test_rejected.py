"""What was rejected is seen by nobody but those who may, and what is sent again obeys what was decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from node.app import Node
from node.audit import Line, read
from node.contracts import Device, Reference, Service
from node.iocm import KEY_OBJECTS
from tests.homes import EXPLICIT, Peer, RawInstance, attribute, edited, phantoms, serving

WHO = {"reason": "a test", "who": "tester"}
MEANINGS = {"113001": "quality", "113037": "safety", "113038": "worklist", "113039": "expired"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for all tests here; each has studies of its own."""
    with serving(tmp_path_factory.mktemp("node") / "home", is_trusting=False) as node:
        asking = (Service.FIND, Service.GET, Service.ECHO)
        node.devices.put(Device(ae_title="CT", services=(Service.STORE, *asking)))
        node.devices.put(Device(ae_title="QA", services=(Service.STORE, Service.REJECT, *asking),
                                called=("ALPHA", "ALPHA_REJ")))  # fmt: skip
        yield node


def study_of(instance: RawInstance) -> str:
    return str(attribute(instance, "StudyInstanceUID"))


def count_of(peer: Peer, study: str) -> int:
    """Return how many instances of a study there are to see."""
    [answer] = peer.find(StudyInstanceUID=study, NumberOfStudyRelatedInstances="")
    return int(answer["NumberOfStudyRelatedInstances"])


def note_about(sent: list[RawInstance], code: str, uid: str) -> RawInstance:
    """Return a rejection note as a workstation makes it, IHE RAD TF-2 4.66."""
    first = read_dataset(BytesIO(sent[0].data), False, True)
    note = Dataset()
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "StudyDate"):
        setattr(note, keyword, first.get(keyword, ""))
    note.SOPClassUID, note.SOPInstanceUID = KEY_OBJECTS, uid
    note.SeriesInstanceUID, note.Modality = f"{uid}.1", "KO"
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = code, "DCM", MEANINGS.get(code, "x")
    note.ConceptNameCodeSequence = Sequence([title])
    series: dict[str, list[RawInstance]] = defaultdict(list)
    for instance in sent:
        series[str(attribute(instance, "SeriesInstanceUID"))].append(instance)
    evidence = Dataset()
    evidence.StudyInstanceUID = first.StudyInstanceUID
    evidence.ReferencedSeriesSequence = Sequence(
        [_dataset(SeriesInstanceUID=each, ReferencedSOPSequence=Sequence(
            [_dataset(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID)
             for one in ones])) for each, ones in series.items()]
    )  # fmt: skip
    note.CurrentRequestedProcedureEvidenceSequence = Sequence([evidence])
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, note)
    return RawInstance(KEY_OBJECTS, uid, EXPLICIT, out.getvalue())


def _dataset(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def told(node: Node, event: str, study: str) -> list[Line]:
    """Return what the audit tells of a study."""
    node.audit.step()  # type: ignore[attr-defined]
    return [line for line in read(node.home / "audit", study) if line.event == event]


@pytest.mark.parametrize("code", MEANINGS)
def test_a_key_object_hides_what_it_names_and_itself_until_that_is_undone(node: Node, code: str) -> None:
    sent = phantoms(300 + int(code[-2:]), instances=4)
    study, ct, qa = study_of(sent[0]), Peer(node, "CT"), Peer(node, "QA")
    shown = Peer(node, "QA", "_REJ")
    assert set(ct.store(*sent)) == {0}
    assert qa.store(note_about(sent[:2], code, f"2.25.{code}")) == [0]
    [answer] = ct.find(StudyInstanceUID=study, NumberOfStudyRelatedInstances="")
    assert answer["NumberOfStudyRelatedInstances"] == 2
    assert ct.get(study) == sent[2:]
    [answer] = shown.find(StudyInstanceUID=study, NumberOfStudyRelatedInstances="", PatientName="")
    assert answer["NumberOfStudyRelatedInstances"] == 3, "two images and the note"
    assert shown.get(study) == sent[:2], "this reader takes no Key Objects"
    series = str(attribute(sent[0], "SeriesInstanceUID"))
    seen = shown.find("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID="")
    assert {one["SOPInstanceUID"] for one in seen} == {one.SOPInstanceUID for one in sent[:2]}
    for decision in node.catalog.decisions(study):
        assert decision.why == MEANINGS[code]
        node.desk.verbs()["undo"](decision=decision.id, **WHO)
    assert count_of(ct, study) == 5
    assert shown.find(StudyInstanceUID=study) == []
    assert qa.store(note_about(sent[:2], code, f"2.25.{code}")) == [0]
    assert count_of(ct, study) == 5, "what a person took back stays so"
    assert [line.outcome for line in told(node, "reject", study)] == ["success", "taken back before"]


def test_a_key_object_from_whom_may_not_reject_is_an_object_like_others(node: Node) -> None:
    sent = phantoms(350)
    study, ct = study_of(sent[0]), Peer(node, "CT")
    note = note_about(sent, "113001", "2.25.350")
    assert set(ct.store(*sent, note)) == {0}
    assert count_of(ct, study) == len(sent) + 1
    assert [line.outcome for line in told(node, "reject", study)] == ["refused"]
    assert Peer(node, "QA").store(note) == [0], "the same note, by whom may"
    assert ct.get(study) == []


def test_a_key_object_for_another_purpose_rejects_nothing(node: Node) -> None:
    sent = phantoms(351)
    qa = Peer(node, "QA")
    assert set(qa.store(*sent, note_about(sent, "113000", "2.25.351"))) == {0}
    assert count_of(qa, study_of(sent[0])) == len(sent) + 1


def test_a_note_that_comes_before_its_images_rejects_them_when_they_come(node: Node) -> None:
    sent = phantoms(352, instances=2)
    assert Peer(node, "QA").store(note_about(sent, "113038", "2.25.352")) == [0]
    assert set(Peer(node, "CT").store(*sent)) == {0}
    assert Peer(node, "CT").get(study_of(sent[0])) == []


def test_what_is_rejected_is_shown_and_taken_in_only_where_it_may_be(node: Node) -> None:
    [sent] = phantoms(353)
    with pytest.raises(Exception, match="ALPHA_REJ"):
        Peer(node, "CT", "_REJ").find(StudyInstanceUID="")
    assert Peer(node, "QA", "_REJ").store(sent) != [0]
    assert Peer(node, "QA").find(StudyInstanceUID=study_of(sent)) == []


@pytest.mark.parametrize("why", ["quality", "safety", "worklist"])
def test_what_was_rejected_and_is_sent_again_stays_rejected_with_an_alarm(node: Node, why: str) -> None:
    sent = phantoms(360 + len(why), instances=2)
    study, ct = study_of(sent[0]), Peer(node, "CT")
    ct.store(sent[0])
    node.desk.verbs()["reject"](target=study, why=why, **WHO)
    assert set(ct.store(*sent, edited(sent[0], PatientID="OTHER"))) == {0}
    assert ct.find(StudyInstanceUID=study) == []
    assert [line.outcome for line in told(node, "alarm", study)] == ["sent again"]
    known = [Reference(one.SOPClassUID, one.SOPInstanceUID) for one in sent]
    judge = node.main.commitment._judge
    assert judge.judge(known) == [0x0112] * 2


@pytest.mark.parametrize("verb", ["expired", "delete"])
def test_what_expired_or_was_deleted_comes_back_as_new(node: Node, verb: str) -> None:
    sent = phantoms(370 + len(verb), instances=2)
    study, ct, verbs = study_of(sent[0]), Peer(node, "CT"), node.desk.verbs()
    ct.store(*sent)
    if verb == "delete":
        verbs["delete"](target=study, **WHO)
    else:
        verbs["reject"](target=study, why=verb, **WHO)
    assert ct.find(StudyInstanceUID=study) == []
    assert ct.store(sent[0]) == [0]
    assert ct.get(study) == [sent[0]]
    assert not told(node, "alarm", study)


def test_what_was_corrected_and_is_sent_again_stays_corrected_with_an_alarm(node: Node) -> None:
    sent = phantoms(380)
    study, ct = study_of(sent[0]), Peer(node, "CT")
    ct.store(*sent)
    node.desk.verbs()["correct"](target=study, attributes=["PatientID=RIGHT-1"], **WHO)
    assert ct.store(*sent) == [0]
    assert {str(attribute(one, "PatientID")) for one in ct.get(study)} == {"RIGHT-1"}
    assert len(told(node, "alarm", study)) == 1
