"""What goes on by itself, over REST: routes, prefetch, old PACS, moving in, and copies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog import Selection
from node.contracts import Device, Service
from sim.phantoms import instances, study
from sim.ports import free_port
from tests.node.routing.homes import ruled, sent
from tests.node.web.asking import Answer, Web
from tests.running import until

RULES = """
[[route]]
name = "ward"
match = ["Modality=US"]
to = "ae:AWAY"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Yield a node with one route, to a device that does not answer."""
    may = (Service.ECHO, Service.STORE)
    away, mute = (
        Device(ae_title=title, address="127.0.0.1", port=free_port(), services=may)
        for title in ("AWAY", "MUTE")
    )
    home = tmp_path_factory.mktemp("standing") / "alpha"
    with ruled(home, RULES, devices=[away, mute], web={"plain_port": free_port()}) as node:
        yield Web(node, node.ports["web"])


def told(site: Web, method: str, path: str, value: Any = None) -> Answer:
    body = None if value is None else json.dumps(value).encode()
    return site.ask(method, f"/api{path}", body, **({"Content_Type": "application/json"} if body else {}))


def test_a_route_is_told_checked_and_sent_by(site: Web) -> None:
    study, made = sent(site.node, modality="CT")
    [route] = told(site, "GET", "/routes").json
    assert (route["name"], route["to"]) == ("ward", "ae:AWAY")
    checked = told(site, "GET", f"/routes/ward/check?study={study}").json
    assert (checked["matches"], checked["instances"]) == (False, len(made))
    assert checked["asked"] is False
    assert "AWAY" in checked["why_not_asked"], "nobody answers there, and it says who"
    ordered = told(site, "POST", "/routes/ward/send", {"study": study})
    assert (ordered.status, ordered.json["destination"]) == (200, "AWAY")
    assert told(site, "GET", f"/transfers/{ordered.json['transfer']}").json["StudyInstanceUID"] == study
    for answer in (
        told(site, "GET", f"/routes/nowhere/check?study={study}"),
        told(site, "GET", "/routes/ward/check?study=1.2.3"),
        told(site, "POST", "/routes/ward/send", {"study": "1.2.3"}),
    ):
        assert answer.status == 404
        assert answer.json["next"]
    assert told(site, "GET", "/routes/ward/check").status == 400, "it does not say which study"
    assert told(site, "POST", "/routes/ward/send", {"study": study, "to": "ELSEWHERE"}).status == 400


def test_without_a_rule_nothing_is_fetched_and_an_old_pacs_that_is_none_is_not_found(site: Web) -> None:
    asked = told(site, "POST", "/prefetch", {"patient": "4711"})
    assert (asked.status, asked.json) == (200, []), "no rule says what is fetched"
    assert told(site, "POST", "/prefetch", {"patient": ""}).status == 400
    assert told(site, "GET", "/old-pacs").json == []
    gone = told(site, "POST", "/old-pacs/siemens/allow")
    assert gone.status == 404
    assert "siemens" in gone.json["detail"]


def test_moving_in_is_begun_told_rests_goes_on_and_is_given_up(site: Web) -> None:
    assert told(site, "GET", "/migrations").json == []
    begun = told(site, "POST", "/migrations", {"source": "AWAY", "dates": "20200101-20200103"})
    assert (begun.status, begun.json["source"]) == (202, "AWAY")
    until(lambda: "AWAY" in told(site, "GET", "/migrations/AWAY").json["why"])
    waits = told(site, "GET", "/migrations/AWAY").json
    assert waits["series_failed"] == []
    assert [row["source"] for row in told(site, "GET", "/migrations").json] == ["AWAY"]
    assert told(site, "GET", "/migrations/AWAY/differences").json == []
    assert told(site, "POST", "/migrations/AWAY/pause").json["phase"] == "paused"
    assert told(site, "POST", "/migrations/AWAY/resume").json["phase"] == "moving"
    assert told(site, "POST", "/migrations/AWAY/cancel").json["phase"] == "cancelled"


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ({"source": "NOBODY", "dates": "2020-"}, 404),
        ({"source": "WARD", "dates": "2020-"}, 400),
        ({"source": "MUTE", "dates": "yesterday"}, 400),
        ({"source": "MUTE", "dates": "2020-", "hours": "25-99"}, 400),
        ({"source": "MUTE", "dates": "2020-", "rate": "quickly"}, 400),
        ({"source": "MUTE", "dates": "2020-", "lanes": 0}, 400),
        ({"source": "MUTE", "dates": "2020-", "archive": "attic"}, 404),
        ({"source": "MUTE"}, 400),
    ],
)
def test_an_order_that_cannot_be_is_refused_with_what_to_do(
    site: Web, order: dict[str, Any], status: int
) -> None:
    answer = told(site, "POST", "/migrations", order)
    assert answer.status == status, answer.body
    assert answer.json["next"]


def test_an_import_is_ordered_with_whose_it_is(site: Web, tmp_path: Path) -> None:
    [one] = instances(study(31, 0, instances=1, size=4_000))
    (tmp_path / "IM0").write_bytes(one.part10())
    order = {"source": str(tmp_path), "issuer": "HOSP-B", "patient": "4711"}
    name = told(site, "POST", "/imports", order).json["id"]
    until(lambda: told(site, "GET", f"/imports/{name}").json["is_over"])
    [row] = [each for each in told(site, "GET", "/imports").json if each["id"] == name]
    assert (row["stored"], row["issuer"], row["patient"]) == (1, "HOSP-B", "4711")
    [entry] = site.node.catalog.select(Selection(instances=(one.SOPInstanceUID,)))
    [decision] = site.node.catalog.decisions(entry.StudyInstanceUID)
    assert decision.who
    assert told(site, "POST", "/imports", {"source": "cdrom"}).status == 400


def test_the_copies_of_a_node_without_a_grid_are_told_as_none(site: Web) -> None:
    copies = told(site, "GET", "/copies").json
    assert (copies["rules"], copies["pinned"]) == ([], 0)
    assert told(site, "GET", "/copies/lacking").json == []
    assert told(site, "GET", "/copies/pins").json == []
