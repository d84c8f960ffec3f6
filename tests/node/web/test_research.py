"""Research, people and the grid over REST: whoever is logged in is who orders, approves and looks."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from node.accounts import Accounts
from node.contracts import Device, Service
from node.dimse import Requestor
from node.research.release import complaints
from node.rights import Right
from sim.ports import free_port
from tests.homes import attribute, phantoms, serving
from tests.node.research.site import picture
from tests.node.web.asking import Answer, Web
from tests.running import until

P = "/api/projects/TRIAL-7"
NOT_OVER = ("ready", "running")


class Somebody:
    """A user with a token; asks as scripts do."""

    def __init__(self, web: Web, accounts: Accounts, name: str, *grants: str) -> None:
        self.web, self.name = web, name
        user, _ = accounts.add(name, grants)
        rights = [right for right in Right if name == "boss" or right is Right.RESEARCH]
        places = ("*",) if name == "boss" else tuple(each.partition("@")[2] for each in user.grants)
        self._token = accounts.make_token(name, tuple(rights), places, 1)[1]

    def ask(self, method: str, path: str, told: Any = None, **headers: str) -> Answer:
        """Send one request."""
        headers["Authorization"] = f"Bearer {self._token}"
        body = None if told is None else json.dumps(told).encode()
        if body is not None:
            headers["Content_Type"] = "application/json"
        return self.web.ask(method, path, body, **headers)

    def over(self, url: str) -> Any:
        """Return an export when nothing goes on in it any more."""
        until(lambda: self.ask("GET", url).json["standing"] not in NOT_OVER, 60)
        return self.ask("GET", url).json


class Crowd:
    """The people of the tests."""

    def __init__(self, web: Web) -> None:
        self.web = web
        accounts = Accounts(web.node.state, web.node.clock)
        self.boss = Somebody(web, accounts, "boss", "admin")
        self.rita = Somebody(web, accounts, "rita", "researcher@trial-7")
        self.anna = Somebody(web, accounts, "anna", "researcher@trial-7")
        self.other = Somebody(web, accounts, "other", "researcher@trial-8")


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    home = tmp_path_factory.mktemp("research") / "alpha"
    with serving(home, is_trusting=False, web={"plain_port": free_port()}) as node:
        node.devices.put(Device(ae_title="PEER", address="127.0.0.1", services=tuple(Service)))
        node.devices.put(Device(ae_title="CT1", address="127.0.0.1", services=(Service.ECHO,)))
        crowd = Crowd(Web(node, node.ports["web"]))
        made = crowd.boss.ask("PUT", P, {"ae_title": "TRIAL7", "senders": ["CT1"], "smallest": 1})
        assert made.status == 200, made.body
        yield crowd


def test_whoever_is_logged_in_orders_and_another_person_approves(crowd: Crowd, tmp_path: Path) -> None:
    rita, anna, boss = crowd.rita, crowd.anna, crowd.boss
    crowd.web.store(*(sent := phantoms(1, size=4_000)))
    name = str(attribute(sent[0], "PatientID"))
    told = boss.ask("PUT", P, {"approvers": ["anna", "rita"], "title": "Lungs"}).json
    assert (told["title"], told["archive"]) == ("Lungs", "trial-7")
    asked = {"query": [f"PatientID={name}"], "purpose": "ethics 7"}
    preview = rita.ask("POST", f"{P}/preview", {"query": asked["query"]})
    assert preview.status == 200, preview.body
    assert preview.json["sites"][0]["state"] == "needs approval of anna or rita"
    ordered = rita.ask("POST", f"{P}/exports", asked)
    assert (ordered.status, ordered.json["who"]) == (202, "rita")
    url = ordered.headers["location"]
    assert rita.ask("POST", f"{url}/approve").status == 403, "nobody approves what he ordered himself"
    assert crowd.other.ask("GET", url).status == 403
    assert anna.ask("POST", f"{url}/stop").status == 403, "rita ordered it"
    assert rita.ask("GET", f"{url}/zip").status == 404, "nothing is released yet"
    assert anna.ask("POST", f"{url}/approve").json["approved_by"] == "anna"
    assert rita.over(url)["standing"] == "released"
    answer = rita.ask("GET", f"{url}/zip")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as made:
        made.extractall(tmp_path)
    assert list(complaints(tmp_path)) == []
    assert name.encode() not in answer.body
    crowd.web.node.audit.step()
    lines = boss.ask("GET", "/api/audit?event=export").json
    assert [line["detail"]["who"] for line in lines if line["outcome"] == "taken"] == ["rita"]
    boss.ask("PUT", P, {"approvers": []})


def test_only_who_manages_the_node_names_places_on_its_disk(crowd: Crowd, tmp_path: Path) -> None:
    crowd.web.store(*phantoms(2, size=4_000))
    asked = {"query": ["Modality="], "target": str(tmp_path / "cohort")}
    refused = crowd.rita.ask("POST", f"{P}/exports", asked)
    assert refused.status == 403
    assert "download:" in refused.json["next"]
    ordered = crowd.boss.ask("POST", f"{P}/exports", asked)
    assert crowd.boss.over(ordered.headers["location"])["standing"] == "released"
    assert (tmp_path / "cohort" / "DICOMDIR").is_file()


def test_what_is_held_is_seen_run_again_with_a_rule_and_rejected(crowd: Crowd) -> None:
    door = Requestor("CT1", "127.0.0.1", crowd.web.node.ports["dicom"], "TRIAL7")
    list(door.store([picture(), picture("1.2.3.4.5.6.8")]))
    held = crowd.boss.ask("GET", f"{P}/quarantine").json
    assert len(held) == 2
    first, second = (f"{P}/quarantine/{each['id']}" for each in held)
    assert crowd.rita.ask("GET", first).status == 403
    shown = crowd.boss.ask("GET", first).json
    assert {"PatientName", "PatientID"} <= {row["keyword"] for row in shown["attributes"]}
    assert crowd.boss.ask("POST", f"{first}/rerun", {"is_clean": True}).status == 400, "without a reason"
    again = crowd.boss.ask("POST", f"{first}/rerun", {"is_clean": True, "reason": "a phantom"})
    assert again.json["outcome"] == "released", again.body
    assert crowd.boss.ask("POST", f"{second}/reject", {"reason": "of no use"}).json["outcome"] == "rejected"
    assert crowd.boss.ask("GET", f"{P}/quarantine").json == []
    assert crowd.boss.ask("GET", second).status == 404


def test_a_subject_is_withdrawn_and_a_policy_told_in_english(crowd: Crowd) -> None:
    crowd.web.store(*(sent := phantoms(3, size=4_000)))
    name = str(attribute(sent[0], "PatientID"))
    told = {"subject": name, "reason": "consent"}
    assert crowd.rita.ask("POST", f"{P}/withdrawals", told).status == 403
    [project] = crowd.boss.ask("POST", f"{P}/withdrawals", told).json["projects"]
    assert project["subject"].startswith("TRIAL-7-")
    order = crowd.rita.ask("POST", f"{P}/exports", {"query": [f"PatientID={name}"]})
    assert (order.status, order.json["detail"]) == (400, "Nothing that can be exported was found.")
    assert any("Patient's Name" in line for line in crowd.rita.ask("GET", f"{P}/policy").json)
    assert crowd.rita.ask("GET", P).json["withdrawn"] == 1
    assert crowd.rita.ask("GET", "/api/projects").status == 403
    assert [each["name"] for each in crowd.boss.ask("GET", "/api/projects").json] == ["TRIAL-7"]
    assert crowd.boss.ask("GET", "/api/project-offers").json == []
    assert crowd.boss.ask("POST", "/api/project-offers/NONE/accept", {}).status == 404


def test_people_are_let_in_by_people_and_never_by_a_token(crowd: Crowd) -> None:
    accounts = Accounts(crowd.web.node.state, crowd.web.node.clock)
    refused = crowd.boss.ask("POST", "/api/users", {"name": "eve", "grants": ["admin"]})
    assert (refused.status, refused.json["detail"]) == (403, "A token gives nobody rights.")
    accounts.set_password("boss", "four-plain-orange-words")
    told = {"name": "boss", "password": "four-plain-orange-words"}
    session = crowd.web.ask(
        "POST", "/api/session", json.dumps(told).encode(), Content_Type="application/json"
    )
    shown = {
        "Cookie": session.headers["set-cookie"].partition(";")[0],
        "X_CSRF_Token": session.json["csrf"],
        "Content_Type": "application/json",
    }

    def ask(method: str, path: str, told: Any = None) -> Answer:
        return crowd.web.ask(method, path, None if told is None else json.dumps(told).encode(), **shown)

    made = ask("POST", "/api/users", {"name": "eva", "grants": ["viewer"]})
    assert made.status == 201
    assert accounts.check_password("eva", made.json["one_time_password"])
    assert ask("PUT", "/api/users/eva", {"grants": ["sender"], "note": "x"}).json["grants"] == ["sender@main"]
    assert ask("PUT", "/api/users/boss", {"grants": ["viewer"]}).status == 400
    assert ask("DELETE", "/api/users/boss").status == 400
    assert ask("POST", "/api/users/eva/one-time").json["one_time_password"]
    assert ask("POST", "/api/tokens", {"user": "eva", "rights": ["manage"], "archives": ["*"]}).status == 400
    token = ask("POST", "/api/tokens", {"user": "eva", "rights": ["store"]})
    assert token.status == 201
    assert accounts.token(token.json["token"])
    listed = ask("GET", "/api/tokens")
    assert token.json["id"] in {row["id"] for row in listed.json}
    assert token.json["token"].encode() not in listed.body
    assert ask("DELETE", f"/api/tokens/{token.json['id']}").status == 204
    assert ask("DELETE", "/api/users/eva").status == 204
    assert "eva" not in {row["name"] for row in ask("GET", "/api/users").json}


def test_the_grid_is_asked_and_granted_over_rest(crowd: Crowd) -> None:
    boss = crowd.boss
    assert boss.ask("GET", "/api/peers").status == 404
    assert boss.ask("PUT", "/api/shares/mammo", {"keys": ["Modality=MG"]}).json["name"] == "mammo"
    grant = boss.ask("POST", "/api/grants", {"peer": "site:HOSP-B", "share": "mammo", "ops": ["catalog"]})
    assert grant.status == 200, grant.body
    assert [row["id"] for row in boss.ask("GET", "/api/grants").json["grants"]] == ["HOSP-B/mammo"]
    assert boss.ask("DELETE", "/api/shares/mammo").status == 400
    assert boss.ask("DELETE", "/api/grants?id=HOSP-B/mammo").status == 204
    assert boss.ask("DELETE", "/api/shares/mammo").status == 204
    assert boss.ask("GET", "/api/peer-requests").status == 404


def test_a_study_leaves_as_a_medium_with_a_dicomdir(crowd: Crowd, tmp_path: Path) -> None:
    crowd.web.store(*(sent := phantoms(5, instances=3, size=400_000)))
    uid = attribute(sent[0], "StudyInstanceUID")
    answer = crowd.boss.ask("GET", f"/api/studies/{uid}/zip?dicomdir=true")
    assert answer.status == 200
    with zipfile.ZipFile(io.BytesIO(answer.body)) as made:
        made.extractall(tmp_path)
    records = pydicom.dcmread(tmp_path / "DICOMDIR").DirectoryRecordSequence
    named = [
        tmp_path.joinpath(*record.ReferencedFileID) for record in records if "ReferencedFileID" in record
    ]
    assert len(named) == 3
    kept = {pydicom.dcmread(path).SOPInstanceUID: path for path in named}
    assert set(kept) == {one.SOPInstanceUID for one in sent}
    for one in sent:
        assert kept[one.SOPInstanceUID].read_bytes().endswith(one.data)
