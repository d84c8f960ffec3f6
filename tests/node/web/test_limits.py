"""How much of the web one caller may take, and requests that come twice because an answer was lost."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.contracts import Device
from node.web.crowding import Crowd
from sim.ports import free_port
from tests.homes import phantoms, serving
from tests.node.web.asking import Answer, Web, path_of
from tests.running import until

EVERYTHING = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    web = {"plain_port": free_port(), "requests_at_once": 2}
    with serving(tmp_path_factory.mktemp("limits") / "alpha", web=web) as node:
        yield Web(node, node.ports["web"])


def test_a_caller_has_its_rate_back_after_a_while_and_nobody_pays_for_another() -> None:
    now = [0.0]
    crowd = Crowd(lambda: now[0], rate=5, at_once=0)
    assert [crowd.enter("anna", {}) for _ in range(10)] == [0] * 10
    assert crowd.enter("anna", {}) == 1
    assert crowd.enter("eva", {}) == 0
    now[0] += 0.2
    assert crowd.enter("anna", {}) == 0
    assert crowd.enter("anna", {}) == 1
    now[0] += 60
    assert [crowd.enter("anna", {}) for _ in range(11)] == [0] * 10 + [1]


def test_a_place_is_given_back_once_however_the_request_ended() -> None:
    crowd = Crowd(lambda: 0.0, rate=0, at_once=1)
    first: dict[str, object] = {}
    assert crowd.enter("anna", first) == 0
    assert crowd.enter("anna", {}) == 1
    crowd.leave({})
    crowd.leave(first)
    crowd.leave(first)
    assert crowd.enter("anna", {}) == 0


def test_who_holds_all_his_places_is_told_to_wait_and_then_let_in(site: Web) -> None:
    site.store(*(sent := phantoms(1, instances=8, size=4_000_000)))
    slow = []
    for _ in range(2):
        line = socket.create_connection(("127.0.0.1", site.port), timeout=60)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        path = f"/dicom-web{path_of(sent[0], levels=1)}"
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {EVERYTHING}\r\n\r\n".encode())
        assert line.recv(16).startswith(b"HTTP/1.1 200")
        slow.append(line)
    refused = site.ask("GET", "/api/studies")
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert refused.json["detail"]
    for line in slow:
        line.close()
    until(lambda: site.ask("GET", "/api/studies").status == 200, 30)
    assert site.ask("GET", "/livez").status == 200


def told(site: Web, path: str, value: object, key: str = "") -> Answer:
    headers = {"Content_Type": "application/json", **({"Idempotency_Key": key} if key else {})}
    return site.ask("POST", path, json.dumps(value).encode(), **headers)


def test_a_request_that_comes_again_is_done_once_and_answered_as_before(site: Web) -> None:
    site.node.devices.put(Device(ae_title="AWAY", address="127.0.0.1", port=free_port()))
    site.store(*(sent := phantoms(2, instances=1)))
    order = {"target": sent[0].SOPInstanceUID, "destination": "AWAY"}
    key = str(uuid.uuid4())
    first = told(site, "/api/transfers", order, key)
    assert first.status == 202
    assert site.ask("POST", f"{first.headers['location']}/cancel").status == 200
    again = told(site, "/api/transfers", order, key)
    assert (again.status, again.body) == (202, first.body)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert site.ask("GET", first.headers["location"]).json["standing"] == "cancelled", "it was not begun anew"
    other = told(site, "/api/transfers", {**order, "lane": "now"}, key)
    assert other.status == 422
    assert other.json["next"]
    assert told(site, "/api/transfers", order, "white space").status == 400
    bad = told(site, "/api/transfers", {"target": "1.2.3.4", "destination": "AWAY"}, "k1")
    assert bad.status == 404
    assert "idempotency-replayed" not in told(site, "/api/transfers", order, "k1").headers


def test_many_at_once_with_one_key_are_one(site: Web) -> None:
    answers: list[Answer] = []
    user = {"name": "eva", "grants": ["viewer"]}

    def ask() -> None:
        answers.append(told(site, "/api/grants", {"peer": "site:X", "ops": ["catalog"]}, "same"))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} <= {200, 503}
    site.node.audit.step()
    lines = site.ask("GET", "/api/audit?event=change").json
    assert len([line for line in lines if line["outcome"] == "granted"]) == 1
    secret = told(site, "/api/users", user, "k2")
    assert (secret.status, "kept nowhere" in secret.json["detail"]) == (400, True)


def test_an_answer_is_remembered_over_a_restart(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    share = {"peer": "site:X", "ops": ["catalog"]}
    bodies = []
    for _ in range(2):
        with serving(home, web={"plain_port": port}) as node:
            bodies.append(told(Web(node, node.ports["web"]), "/api/grants", share, "over a restart"[:4]))
    assert bodies[0].body == bodies[1].body
    assert bodies[1].headers["idempotency-replayed"] == "true"
