"""Examinations hang together as those of a department do, and a PACS keeps and returns each of them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from sim.association import STUDY_ROOT_FIND, STUDY_ROOT_GET, Association
from sim.examinations import EXAMINATIONS, examination, instances_of
from sim.patients import visitor
from sim.pdu import Address, identifier
from tests.homes import serving


def sets(what: str) -> list[Dataset]:
    return [
        dcmread(io.BytesIO(instance.part10()))
        for instance in instances_of(examination(1, 2, what, is_small=True))
    ]


@pytest.mark.parametrize("what", EXAMINATIONS)
def test_an_examination_is_one_study_of_one_patient(what: str) -> None:
    made = sets(what)
    assert len({(ds.StudyInstanceUID, ds.PatientID, ds.AccessionNumber) for ds in made}) == 1
    assert len({ds.SOPInstanceUID for ds in made}) == len(made)
    classes = {ds.SeriesInstanceUID: ds.SOPClassUID for ds in made}
    assert all(classes[ds.SeriesInstanceUID] == ds.SOPClassUID for ds in made)


@pytest.mark.parametrize("what", ["RT", "SEG"])
def test_what_documents_refer_to_is_in_the_study(what: str) -> None:
    made = sets(what)
    there = {ds.SOPInstanceUID for ds in made}
    named = {
        element.value
        for ds in made
        for element in ds.iterall()
        if element.keyword == "ReferencedSOPInstanceUID"
    }
    named -= {made[0].StudyInstanceUID}
    assert named
    assert named <= there


def test_the_same_seed_gives_the_same_examination() -> None:
    once, again = (
        b"".join(i.part10() for i in instances_of(examination(3, 1, "RT", is_small=True))) for _ in range(2)
    )
    assert once == again


def test_a_node_keeps_every_kind_of_examination(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as node:
        address = Address("ALPHA", node.ports["dicom"])
        for number, what in enumerate(EXAMINATIONS):
            who = visitor(1, number, "ALPHA")
            parts = examination(1, number, what, who, is_small=True)
            made = list(instances_of(parts))
            pairs = list(dict.fromkeys((each.SOPClassUID, each.TransferSyntaxUID) for each in made))
            with Association(address, [STUDY_ROOT_FIND, STUDY_ROOT_GET], sends=pairs) as association:
                assert {association.store(each) for each in made} == {0}
                asked = identifier("STUDY", PatientID=who.PatientID, StudyInstanceUID="")
                assert len(association.find(asked)) == 1
            with Association(address, [STUDY_ROOT_GET], receives=pairs) as association:
                uid = parts[0].StudyInstanceUID
                got = association.get(identifier("STUDY", StudyInstanceUID=uid))
                assert (got.instances, got.status) == (len(made), 0)
