"""Exports of several sites: ordered at one, approved and de-identified at each owner, one release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pydicom
import pytest

from catalog import BadRequest, Contradiction, Damaged, NotFound
from node.contracts import Device, Service
from node.dimse import Requestor
from node.research.combining import Piece, check_name, check_piece
from node.research.release import complaints
from tests.homes import Peer, RawInstance, attribute, edited, phantoms, serving
from tests.node.commandline import CommandLine
from tests.privacy import files_with

from .site import PROJECT
from .sites import GridSite, grid_of

TOLD = ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
Three = tuple[GridSite, GridSite, GridSite]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    """Two hospitals that hold the project's key, and a university that only orders and receives."""
    with grid_of(tmp_path_factory.mktemp("sites"), "alpha", "beta", "uni") as (alpha, beta, uni):
        alpha.project(smallest=2)
        alpha.share(beta, approvers=["dvorak"])
        alpha.share(uni, with_key=False)
        for owner in (alpha, beta):
            owner.grant(uni, project=PROJECT)
        beta.ask("put_project", name=PROJECT, who="dvorak", is_new=False, smallest=2)
        yield alpha, beta, uni


def moved(instances: list[RawInstance], **values: Any) -> list[RawInstance]:
    """Return instances as another hospital made them of the same person: other UIDs."""
    return [
        RawInstance(made.SOPClassUID, f"{made.SOPInstanceUID}.7", made.TransferSyntaxUID, made.data)
        for made in (
            edited(
                one,
                SOPInstanceUID=f"{one.SOPInstanceUID}.7",
                SeriesInstanceUID=f"{attribute(one, 'SeriesInstanceUID')}.7",
                StudyInstanceUID=f"{attribute(one, 'StudyInstanceUID')}.7",
                **values,
            )
            for one in instances
        )
    ]


def store(site: GridSite, instances: list[RawInstance]) -> list[RawInstance]:
    """Store instances at a site."""
    assert set(Peer(site.node).store(*instances)) == {0}
    return instances


def identifying(instances: list[RawInstance]) -> set[bytes]:
    """Return what may be found nowhere but at the hospital."""
    values = {str(attribute(one, word)) for one in instances for word in TOLD}
    return {value.encode() for value in values if len(value) > 3}


def files_of(folder: Path) -> dict[str, list[pydicom.Dataset]]:
    """Return the instances of a release by the Patient ID they have now."""
    found: dict[str, list[pydicom.Dataset]] = {}
    for path in folder.rglob("IM*"):
        if path.is_file():
            made = pydicom.dcmread(path)
            found.setdefault(made.PatientID, []).append(made)
    return found


def test_each_owner_approves_its_part_and_nothing_identified_reaches_who_ordered_it(
    sites: Three, tmp_path: Path
) -> None:
    alpha, beta, uni = sites
    both = phantoms(1, size=4_000)
    at_alpha = store(alpha, both) + alpha.store(2)
    at_beta = store(beta, moved(both)) + beta.store(3)
    query = ["Modality="]

    told = uni.ask("preview_export", project=PROJECT, query=query)
    assert {row["site"]: row["state"] for row in told["sites"]} == {
        "alpha": "needs approval there",
        "beta": "needs approval there",
    }
    assert {row["subjects"] for row in told["sites"]} == {10}, "two subjects, as ten"

    out = tmp_path / "cohort"
    export = uni.ask("order_export", project=PROJECT, query=query, target=str(out), who="svoboda")
    assert export["standing"] == "waits for sites"
    for owner, person in ((alpha, "novak"), (beta, "dvorak")):
        order = owner.asked_for()
        assert "svoboda" not in order["who"]
        assert order["who"].endswith("at HOSP-UNI")
        owner.ask("approve_export", id=order["id"], who=person)
    with pytest.raises(NotFound):
        uni.ask("export", id="")
    export = uni.waits_for(export["id"], "released")
    assert export["released"] == len(at_alpha) + len(at_beta)
    assert len(export["subjects"]) == 3, "who was at both hospitals is one subject"
    assert list(complaints(out)) == []
    assert (out / "DICOMDIR").is_file()

    header, *rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [site["site"] for site in header["sites"]] == ["alpha", "beta"]
    assert {row["site"] for row in rows} == {"alpha", "beta"}
    twice = [
        s for s in export["subjects"] if {r["site"] for r in rows if r["subject"] == s} == {"alpha", "beta"}
    ]
    assert len(twice) == 1

    uni.until(lambda: not (uni.node.home / "research" / "exports" / export["id"]).exists())
    words = identifying(at_alpha + at_beta)
    assert list(files_with(words, uni.node.home, out)) == []
    assert not list((uni.node.home / "secrets").rglob(f"{PROJECT}*")), "it never had the key"
    for owner in (alpha, beta):
        owner.until(lambda owner=owner: not list((owner.node.home / "research" / "outbox").glob("*")))


def test_one_key_gives_a_patient_one_pseudonym_one_set_of_uids_and_one_shift_at_two_nodes(
    sites: Three, tmp_path: Path
) -> None:
    alpha, beta, _ = sites
    same = phantoms(11, size=4_000)
    made: dict[str, list[pydicom.Dataset]] = {}
    name = str(attribute(same[0], "PatientID"))
    for site in (alpha, beta):
        store(site, same)
        for project in (PROJECT, "OTHER"):
            if project == "OTHER":
                site.project(project)
            key = "alpha" if site is alpha else "beta"
            out = tmp_path / f"{key}-{project}"
            asked = {
                "project": project,
                "query": [f"PatientID={name}"],
                "target": str(out),
                "sites": ["here"],
            }
            order = site.ask("order_export", who="svoboda", **asked)
            if order["standing"] == "waits for approval":
                site.ask("approve_export", id=order["id"], who="dvorak")
            assert site.over(order["id"])["standing"] == "released"
            made[f"{key}-{project}"] = sorted(
                (each for found in files_of(out).values() for each in found),
                key=lambda each: each.SOPInstanceUID,
            )
    words = (*TOLD, "StudyDate")
    values = {
        name: [tuple(str(each.get(word)) for word in words) for each in found] for name, found in made.items()
    }
    assert values[f"alpha-{PROJECT}"] == values[f"beta-{PROJECT}"]
    ours, others = ({cell for row in values[f"alpha-{p}"] for cell in row} for p in (PROJECT, "OTHER"))
    assert not ours & others, "another project: all different"
    assert values["alpha-OTHER"] != values["beta-OTHER"], "each made its own key"


def test_numbers_that_people_linked_are_one_subject_at_every_site(sites: Three, tmp_path: Path) -> None:
    alpha, beta, _ = sites
    one = phantoms(13, size=4_000)
    name = str(attribute(store(alpha, one)[0], "PatientID"))
    issuer = str(attribute(one[0], "IssuerOfPatientID") or "MPI")
    store(beta, moved(one, PatientID=f"B-{name}", IssuerOfPatientID="HOSP-B"))
    made = {}
    for site, patient in ((alpha, name), (beta, f"B-{name}")):
        site.ask("link_patients", pairs=[[issuer, name, "HOSP-B", f"B-{name}"]], who="novak")
        asked = {"project": PROJECT, "query": [f"PatientID={patient}"], "sites": ["here"], "who": "svoboda"}
        order = site.ask("order_export", target=str(tmp_path / site.name), **asked)
        if order["standing"] == "waits for approval":
            site.ask("approve_export", id=order["id"], who="dvorak")
        made[site.name] = site.over(order["id"])["subjects"]
    assert made["alpha"] == made["beta"]
    assert len(made["alpha"]) == 1
    for site, patient, whose in ((alpha, name, issuer), (beta, f"B-{name}", "HOSP-B")):
        asked = {"subject": patient, "issuer": whose, "who": "novak", "reason": "x", "project": PROJECT}
        [done] = site.ask("withdraw_subject", **asked)["projects"]
        assert (done["subject"],) == tuple(made["alpha"])


def test_a_list_is_answered_by_all_sites_and_too_few_are_told_nothing(sites: Three, tmp_path: Path) -> None:
    alpha, beta, uni = sites
    here, there = [alpha.store(seed)[0] for seed in (21, 22)], [beta.store(seed)[0] for seed in (23, 24, 25)]
    ids = [str(attribute(one, "PatientID")) for one in (*here, *there)]
    wanted = [{"line": at, "patient": id} for at, id in enumerate([*ids, "NOBODY"], 2)]
    told = uni.ask("preview_export", project=PROJECT, wanted=wanted)
    assert told["findings"] == {"found": 5, "not found": 1, "ambiguous": 0, "refused": 0}
    few = uni.ask("preview_export", project=PROJECT, wanted=wanted[:1])
    assert few["findings"]["found"] == 0
    assert {row["subjects"] for row in few["sites"]} == {-1}


def test_a_site_that_grants_nothing_is_not_asked_for_more_and_the_others_go_on(
    sites: Three, tmp_path: Path
) -> None:
    alpha, beta, uni = sites
    alpha.store(31)
    beta.store(31)
    grant = next(row["id"] for row in beta.ask("grants")["grants"])
    beta.ask("remove_grant", grant=grant, who="admin")
    try:
        alpha.ask("put_project", name=PROJECT, who="novak", is_new=False, trusted=["+uni"])
        out = tmp_path / "cohort"
        export = uni.ask("order_export", project=PROJECT, query=["Modality="], target=str(out), who="svoboda")
        export = uni.waits_for(export["id"], "released")
        parts = {part["name"]: part for part in export["sites"]}
        assert parts["alpha"]["standing"] == "released", "a standing approval needs no person"
        assert "grant" in parts["beta"]["why"]
        assert list(complaints(out)) == []
    finally:
        beta.grant(uni, project=PROJECT)
        alpha.ask("put_project", name=PROJECT, who="novak", is_new=False, trusted=["-uni"])


@pytest.mark.slow
def test_a_grant_on_a_share_gives_only_what_the_share_has(sites: Three, tmp_path: Path) -> None:
    _, beta, uni = sites
    grants = {row["id"]: row for row in beta.ask("grants")["grants"]}
    beta.ask("remove_grant", grant=next(iter(grants)), who="admin")
    name = str(attribute(store(beta, phantoms(41, size=4_000))[0], "PatientID"))
    beta.ask("put_share", name="one", keys=[f"PatientID={name}"], view="full", who="admin")
    beta.ask("put_grant", peer="uni", share="one", ops=["export_deid"], who="admin", project=PROJECT)
    beta.ask("put_project", name=PROJECT, who="dvorak", is_new=False, trusted=["+uni"])
    try:
        out = tmp_path / "cohort"
        asked = {"query": ["Modality="], "target": str(out), "who": "svoboda", "sites": ["beta"]}
        export = uni.ask("order_export", project=PROJECT, **asked)
        export = uni.waits_for(export["id"], "released")
        assert len(export["subjects"]) == 1
        beta.ask("put_grant", peer="uni", share="one", ops=["export_deid"], who="admin", project=PROJECT,
                 min_cohort=5)  # fmt: skip
        small = uni.ask("order_export", project=PROJECT, **asked | {"target": str(tmp_path / "small")})
        small = uni.waits_for(small["id"], "failed")
        assert "Fewer than 5 subjects" in small["why"]
    finally:
        beta.ask("put_project", name=PROJECT, who="dvorak", is_new=False, trusted=["-uni"])
        beta.ask("remove_grant", grant=f"{beta_peer(beta)}/one/{PROJECT}", who="admin")
        beta.ask("remove_share", name="one", who="admin")
        beta.grant(uni, project=PROJECT)


def beta_peer(site: GridSite) -> str:
    """Return the node id that the grants of a site name."""
    return str(site.ask("grants")["grants"][0]["peer"]).partition(":")[2]


def test_any_archive_that_a_site_grants_is_exported_and_no_other(sites: Three, tmp_path: Path) -> None:
    _, beta, uni = sites
    beta.ask("put_archive", name="lab", ae_titles=["LAB"], who="admin", is_new=True, s3=[])
    kept = phantoms(151, size=4_000)
    lab = Requestor("PEER", "127.0.0.1", beta.node.ports["dicom"], "LAB")
    assert {answer.status for answer in lab.store(kept)} == {0}
    store(beta, phantoms(152, size=4_000))
    beta.ask("put_project", name=PROJECT, who="dvorak", is_new=False, trusted=["+uni"], smallest=1)
    asked = {"project": PROJECT, "query": ["Modality="], "who": "svoboda", "sites": ["beta/lab"]}
    try:
        refused = uni.ask("order_export", target=str(tmp_path / "refused"), **asked)
        assert "grants no exports" in uni.waits_for(refused["id"], "failed")["why"]
        beta.ask("put_share", name="of-lab", keys=[], view="full", who="admin", archive="lab")
        beta.ask("put_grant", peer="uni", share="of-lab", ops=["export_deid"], who="admin", project=PROJECT)
        out = tmp_path / "cohort"
        export = uni.ask("order_export", target=str(out), **asked)
        export = uni.waits_for(export["id"], "released")
        assert export["released"] == len(kept), "what lies in the archive that was named, and nothing else"
        assert list(complaints(out)) == []
        with pytest.raises(BadRequest, match="one from each site"):
            uni.ask("preview_export", **asked | {"sites": ["beta/lab", "beta"]})
    finally:
        beta.ask("put_project", name=PROJECT, who="dvorak", is_new=False, trusted=["-uni"], smallest=2)
        beta.ask("remove_grant", grant=f"{beta_peer(beta)}/of-lab/{PROJECT}", who="admin")
        beta.ask("remove_share", name="of-lab", who="admin")


def test_who_is_no_partner_gets_nothing(sites: Three) -> None:
    _, beta, uni = sites
    beta.project("SECRET")
    with pytest.raises(NotFound):
        uni.ask("preview_export", project="SECRET", query=["Modality="])
    uni.project("SECRET", partners=[beta.node.config.node.node_id])
    told = uni.ask("preview_export", project="SECRET", query=["Modality="], sites=["beta"])
    assert "no partner" in told["sites"][0]["state"]
    with pytest.raises(Contradiction, match="another key"):
        uni.ask("share_project", name="SECRET", peer="beta", who="svoboda")


def test_a_subject_is_withdrawn_everywhere_and_barred_from_later_exports(
    sites: Three, tmp_path: Path
) -> None:
    alpha, beta, uni = sites
    same = phantoms(51, size=4_000)
    name = str(attribute(store(alpha, same)[0], "PatientID"))
    store(beta, moved(same))
    for site in (alpha, beta):
        site.ask("put_project", name=PROJECT, who="novak", is_new=False, trusted=["+uni"])
    uni.ask("put_project", name=PROJECT, who="svoboda", is_new=False, ae_title="TRIAL7")
    asked = {"query": [f"PatientID={name}"], "who": "svoboda"}
    out = tmp_path / "cohort"
    for target in ("archive:", str(out)):
        export = uni.ask("order_export", project=PROJECT, target=target, **asked)
        assert uni.waits_for(export["id"], "released")["released"] == 2 * len(same)
    archive = uni.node.archive(PROJECT.lower())
    assert archive.catalog.totals().instances == 2 * len(same)

    done = alpha.ask("withdraw_subject", subject=name, who="novak", reason="consent", project=PROJECT)
    told = {site["site"]: site for site in done["projects"][0]["sites"]}
    assert told["uni"]["removed"] == 2
    assert [copy["target"] for copy in told["uni"]["copies"]] == [str(out)]
    assert told["beta"]["outcome"] == "withdrawn"
    assert archive.catalog.totals().instances == 0
    again = uni.ask("order_export", project=PROJECT, target=str(tmp_path / "again"), **asked)
    again = uni.waits_for(again["id"], "failed")
    assert "Nothing that can be exported" in again["why"]
    for site in (alpha, beta):
        site.ask("put_project", name=PROJECT, who="novak", is_new=False, trusted=["-uni"])


@pytest.mark.slow
def test_a_standing_export_sends_what_comes_later(sites: Three, tmp_path: Path) -> None:
    _, beta, uni = sites
    beta.ask("put_project", name=PROJECT, who="dvorak", is_new=False, trusted=["+uni"])
    out = tmp_path / "growing"
    out.mkdir()
    query = [f"PatientID={attribute(phantoms(61, size=4_000)[0], 'PatientID')}"]
    asked = {"query": query, "target": str(out), "who": "svoboda", "sites": ["beta"], "is_standing": True}
    standing = uni.ask("order_export", project=PROJECT, **asked)
    assert standing["standing"] == "standing"
    uni.until(lambda: uni.ask("export", id=standing["id"])["sites"][0]["standing"] == "standing")
    services = (Service.ECHO, Service.STORE)
    beta.node.devices.put(Device(ae_title="WARD", address="127.0.0.1", services=services, complete_after=0.5))
    sent = phantoms(61, size=4_000)
    assert set(Peer(beta.node, "WARD").store(*sent)) == {0}
    uni.until(lambda: len(list(out.rglob("manifest.jsonl"))) >= 1, 90)
    grown = next(path.parent for path in out.rglob("manifest.jsonl") if path.parent.parent == out)
    assert list(complaints(grown)) == []
    assert sum(map(len, files_of(grown).values())) == len(sent)
    uni.ask("stop_export", id=standing["id"], who="svoboda")
    stopped = [each for each in beta.ask("exports") if each["is_standing"]]
    assert [each["standing"] for each in stopped] == ["stopped"]


def test_what_a_site_did_not_sign_or_names_outside_is_refused(sites: Three, tmp_path: Path) -> None:
    alpha, _, _ = sites
    name = str(attribute(alpha.store(71)[0], "PatientID"))
    out = tmp_path / "cohort"
    asked = {"query": [f"PatientID={name}"], "target": str(out), "who": "novak", "sites": ["here"]}
    order = alpha.ask("order_export", project=PROJECT, **asked)
    assert alpha.over(order["id"])["standing"] == "released"
    manifest = out / "manifest.jsonl"
    key = json.loads(manifest.read_text().splitlines()[0])["key"]
    piece = Piece("alpha", out)
    digest = sha256(manifest.read_bytes()).hexdigest()
    check_piece(piece, PROJECT, key, digest)
    with pytest.raises(Contradiction, match="another key"):
        check_piece(piece, PROJECT, "0" * 16, digest)
    with pytest.raises(Damaged, match="not the one it told"):
        check_piece(piece, PROJECT, key, "0" * 64)
    image = next(out.rglob("IM*"))
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged, match="not what it signed"):
        check_piece(piece, PROJECT, key, digest)
    manifest.write_text(manifest.read_text().replace('"file": "', '"file": "../'))
    with pytest.raises(Damaged, match="no release has"):
        check_piece(piece, PROJECT, key, sha256(manifest.read_bytes()).hexdigest())
    for bad in ("../x", "/etc/passwd", "a/../b", ".open", "a//b", "", "a/.b", "x" * 401):
        with pytest.raises(Damaged):
            check_name(bad)


def test_the_whole_way_at_the_command_line(
    sites: Three, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, beta, uni = sites
    at = {site.name: CommandLine(site.node.home, capsys) for site in sites}
    assert "sealed" in at["alpha"]("projects", "share", "--help")
    at["alpha"]("projects", "add", "CLI", "--smallest", "1")
    assert "peerpacs projects accept CLI" in at["alpha"]("projects", "share", "CLI", "beta")
    assert "peerpacs projects accept CLI" in at["alpha"]("projects", "share", "CLI", "uni", "--without-key")
    assert "alpha of HOSP-ALPHA" in at["beta"]("projects", "offers")
    accepted = at["beta"]("projects", "accept", "CLI")
    assert "export_deid --project CLI" in accepted
    at["uni"]("projects", "decline", "CLI")
    at["alpha"]("projects", "share", "CLI", "uni", "--without-key")
    assert "in force" in at["uni"]("projects", "accept", "CLI")
    for owner in ("alpha", "beta"):
        at[owner](
            "grants", "add", "uni", "everything", "export_deid", "--project", "CLI", "--min-cohort", "1"
        )
    name = str(attribute(beta.store(81)[0], "PatientID"))
    asked = ("export", "--project", "CLI", "--query", f"PatientID={name}")
    assert "needs approval there" in at["uni"](*asked, "--dry-run")
    out = tmp_path / "cohort"
    said = at["uni"](*asked, "--to", str(out), "--no-wait")
    assert "waits for sites" in said
    beta.asked_for()
    assert "uni" in at["beta"]("export", "list").lower()
    order = beta.asked_for()["id"]
    at["beta"]("export", "approve", order[:8])
    uni.until(lambda: (out / "manifest.jsonl").exists())
    assert "Every file is what was released" in at["uni"]("export", "check", str(out))
    shown = at["uni"]("export", "list")
    assert "released" in shown
    assert "barred there too" in at["beta"](
        "export", "withdraw", name, "--project", "CLI", "--reason", "consent", "--issuer", "MPI"
    )


@pytest.mark.slow
def test_a_site_that_is_away_hears_of_a_withdrawal_when_it_is_back(tmp_path: Path) -> None:
    with grid_of(tmp_path, "one", "two") as (one, two):
        one.project(smallest=1)
        one.share(two)
        two.ask("put_project", name=PROJECT, who="dvorak", is_new=False, ae_title="TRIAL7")
        name = str(attribute(store(two, phantoms(91, size=4_000))[0], "PatientID"))
        asked = {"project": PROJECT, "query": [f"PatientID={name}"], "sites": ["here"], "who": "dvorak"}
        order = two.ask("order_export", target="archive:", **asked)
        [subject] = two.over(order["id"])["subjects"]
        home = two.node.home
        two.leave()
        one.until(lambda: not one.is_connected(two), 60)
        done = one.ask("withdraw_subject", subject=subject, who="novak", reason="consent")
        [told] = done["projects"][0]["sites"]
        assert told["outcome"] == "not told yet"
        with serving(home) as again:
            back = GridSite(again)
            back.name = "two"
            archive = again.archive(PROJECT.lower())
            one.until(lambda: one.is_connected(back), 60)
            one.until(lambda: archive.catalog.totals().instances == 0, 90)
            with pytest.raises(BadRequest, match="Nothing that can be exported"):
                back.ask("order_export", target="archive:", **asked)
