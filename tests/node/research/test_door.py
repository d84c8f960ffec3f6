"""The clinical trial interface: what a listed sender stores is de-identified on arrival, or held back."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import StorageCommitmentPushModel

from anonymizer import Policy
from catalog import BadRequest, PacsError
from node.contracts import Device, Service
from node.dimse import Requestor
from node.research.door import Budget
from tests.homes import EXPLICIT, RawInstance, attribute, phantoms
from tests.privacy import files_with

from .site import PROJECT, Site, picture

TITLE = "TRIAL7"


def door(site: Site, sender: str = "CT1", called: str = TITLE) -> Requestor:
    """Return a modality that calls the project's AE title."""
    return Requestor(sender, "127.0.0.1", site.node.ports["dicom"], called)


def listed(site: Site, **settings: object) -> None:
    """Make the project, its archive and its sender."""
    site.node.devices.put(Device(ae_title="CT1", address="127.0.0.1", services=(Service.ECHO,)))
    site.project(ae_title=TITLE, senders=["CT1"], **settings)


def holders(value: object, folder: Path) -> list[Path]:
    """Return the files below a folder that hold a value."""
    return [path for path, _ in files_with([str(value).encode()], folder)]


def test_what_is_sent_lands_de_identified_and_nothing_identified_is_on_the_disk(site: Site) -> None:
    listed(site)
    sent = phantoms(1, size=4_000)
    assert {answer.status for answer in door(site).store(sent)} == {0}
    archive = site.node.archive(PROJECT.lower())
    assert archive.catalog.totals().instances == len(sent)
    site.node.catalog.tidy()
    for one in sent:
        for keyword in ("PatientID", "PatientName", "SOPInstanceUID", "StudyInstanceUID"):
            assert holders(attribute(one, keyword), site.node.home) == []


def test_the_same_patient_gets_the_same_pseudonym_by_export_and_by_arrival(site: Site) -> None:
    listed(site)
    sent = site.store(1)
    assert {answer.status for answer in door(site).store(sent)} == {0}
    before = site.node.archive(PROJECT.lower()).catalog.totals()
    assert site.export("archive:")["standing"] == "released"
    assert site.node.archive(PROJECT.lower()).catalog.totals() == before


def test_only_listed_senders_from_their_address_may_store(site: Site) -> None:
    listed(site)
    sent = phantoms(1, size=4_000)
    assert refused(door(site, "CT2"), sent)
    # Whom the book lets call every archive may ask, but not store.
    every = Device(ae_title="PACS", services=(Service.STORE, Service.FIND), called=("*",))
    site.node.devices.put(every)
    assert refused(door(site, "PACS"), sent)
    site.node.devices.put(Device(ae_title="CT1", address="10.1.2.3", services=(Service.ECHO,)))
    assert refused(door(site), sent)
    assert site.node.archive(PROJECT.lower()).catalog.totals().instances == 0


def refused(requestor: Requestor, sent: list[RawInstance]) -> bool:
    """Say whether none was taken."""
    try:
        return all(answer.status not in (0, None) for answer in requestor.store(sent))
    except PacsError:
        return True


def test_storage_commitment_is_refused(site: Site) -> None:
    listed(site)
    ae = AE("CT1")
    ae.add_requested_context(StorageCommitmentPushModel)
    association = ae.associate("127.0.0.1", site.node.ports["dicom"], ae_title=TITLE)
    try:
        assert not association.is_established or not association.accepted_contexts
    finally:
        association.abort()


def test_what_cannot_be_vouched_for_is_kept_encrypted_until_its_end_date(site: Site) -> None:
    listed(site, quarantine_days=1)
    shot = picture()
    assert {answer.status for answer in door(site).store([shot])} == {0}
    [held] = site.ask("quarantine")
    assert held["reason"] == "BURNED_IN_RISK"
    assert holders("NOVAK^JAN", site.node.home) == []
    shown = site.ask("quarantined", id=held["id"], who="novak")
    assert {"NOVAK^JAN"} <= {row["value"] for row in shown["attributes"]}
    quarantine = site.node.research.quarantine
    assert quarantine.tidy() == 0
    quarantine._clock = lambda: held["until"] + 1  # type: ignore[method-assign]
    assert quarantine.tidy() == 1
    assert not list((site.node.home / "research" / "quarantine").glob("*/*"))


def test_a_rule_releases_what_was_held_and_counts_for_the_next_of_its_kind(site: Site) -> None:
    listed(site)
    assert {answer.status for answer in door(site).store([picture()])} == {0}
    [held] = site.ask("quarantine")
    with pytest.raises(BadRequest):
        site.ask("rerun_quarantined", id=held["id"], who="novak", boxes=[[0, 0, 64, 8]])
    done = site.ask("rerun_quarantined", id=held["id"], who="novak", boxes=[[0, 0, 64, 8]], reason="name bar")
    assert done["outcome"] == "released", done
    assert site.ask("quarantine") == []
    assert {answer.status for answer in door(site).store([picture("1.2.3.4.5.6.9")])} == {0}
    assert site.ask("quarantine") == []
    assert site.node.archive(PROJECT.lower()).catalog.totals().instances == 2


def test_what_is_rejected_is_gone(site: Site) -> None:
    listed(site)
    assert {answer.status for answer in door(site).store([picture()])} == {0}
    [held] = site.ask("quarantine")
    site.ask("reject_quarantined", id=held["id"], who="novak", reason="a screenshot")
    assert site.ask("quarantine") == []
    assert not list((site.node.home / "research" / "quarantine").glob("*/*"))


@pytest.mark.parametrize("size", [0, 7, 4000])
def test_bytes_that_are_no_data_set_end_in_quarantine_or_are_refused(site: Site, size: int) -> None:
    listed(site)
    junk = RawInstance("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", EXPLICIT, os.urandom(size))
    statuses = {answer.status for answer in door(site).store([junk])}
    assert site.node.archive(PROJECT.lower()).catalog.totals().instances == 0
    assert statuses == {0}
    [held] = site.ask("quarantine")
    assert held["reason"] in ("UNREADABLE", "UNSUPPORTED_SOP_CLASS")


def test_nothing_is_imported_into_a_projects_archive(site: Site, tmp_path: Path) -> None:
    listed(site)
    with pytest.raises(BadRequest):
        site.node.desk.of(PROJECT.lower()).start_import(str(tmp_path))


def test_a_withdrawn_subject_is_refused_at_the_door(site: Site) -> None:
    listed(site)
    sent = phantoms(1, size=4_000)
    assert {answer.status for answer in door(site).store(sent)} == {0}
    archive = site.node.archive(PROJECT.lower())
    name = str(attribute(sent[0], "PatientID"))
    issuer = str(attribute(sent[0], "IssuerOfPatientID") or "")
    done = site.ask("withdraw_subject", subject=name, issuer=issuer, who="novak", reason="consent")
    assert done["projects"][0]["removed"] == 1
    assert archive.catalog.totals().instances == 0
    assert {answer.status for answer in door(site).store(sent)} == {0x0124}
    assert archive.catalog.totals().instances == 0


def test_a_killed_anonymizer_is_begun_anew_and_nothing_is_lost(site: Site) -> None:
    listed(site)
    for seed in (1, 2):
        assert {answer.status for answer in door(site).store(phantoms(seed, size=4_000))} == {0}
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
    assert site.ask("quarantine") == []
    assert site.node.archive(PROJECT.lower()).catalog.totals().instances == 2


def test_what_does_not_fit_into_memory_is_told_to_come_again_and_touches_no_disk(site: Site) -> None:
    listed(site)
    budget = Budget(total=3_000)
    site.node.research._budget = budget
    sent = phantoms(1, size=4_000)
    assert {answer.status for answer in door(site).store(sent)} == {0xA700}
    assert holders(attribute(sent[0], "PatientID"), site.node.home) == []
    budget.take(3_000, 0)


def test_a_projects_policy_is_built_once_and_anew_for_each_change_of_it(site: Site) -> None:
    projects = site.node.research.projects
    research = {"profile": "basic", "options": ["113105"]}
    projects.put_policy("own", research, "novak")
    site.project(profile="own")

    def built() -> Policy:
        return projects.policy(projects.find(PROJECT))

    first = built()
    assert built() is first
    projects.put(PROJECT, is_new=False, words=["+Cuthbert"])
    assert built() is not first
    assert built().words == {"cuthbert"}
    projects.put_policy("own", {**research, "private": {"list": [ROW]}}, "novak")
    assert built().document["private"]["list"] == [ROW]
    assert built() is built()


ROW = {"group": "0019", "creator": "ACME", "element": "10", "vr": "DS"}
