"""Who may come over the web: nobody without a right, and everybody is told why and what to do."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from node.accounts import Accounts
from node.archives import Plan
from node.audit import read
from node.certificates import make_certificate
from node.patience import Patience
from node.rights import Right
from node.web.api import TABLE
from node.web.api.router import paths_of
from node.web.application import OPEN, ROUTES
from node.web.doorkeeper import COOKIE, CSRF
from sim.ports import free_port
from tests.homes import phantoms, serving
from tests.node.web.asking import Answer, Web, path_of

ORANGE = "four-plain-orange-words"


class Person:
    """Somebody with a browser: keeps the cookie, sends what pages send."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.cookie = self.csrf = ""

    def ask(self, method: str, path: str, told: Any = None, **headers: str) -> Answer:
        if self.cookie:
            headers.setdefault("Cookie", f"{COOKIE}={self.cookie}")
            headers.setdefault(CSRF.replace("-", "_"), self.csrf)
        body = None
        if told is not None:
            body = json.dumps(told).encode()
            headers.setdefault("Content_Type", "application/json")
        answer = self.web.ask(method, path, body, **headers)
        if found := re.match(rf"{COOKIE}=([^;]{{20,}});", answer.headers.get("set-cookie", "")):
            self.cookie = found[1].strip('"')
            self.csrf = answer.json["csrf"] if answer.body else ""
        return answer

    def log_in(self, name: str, password: str) -> Answer:
        return self.ask("POST", "/api/session", {"name": name, "password": password})


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    home = tmp_path_factory.mktemp("access") / "alpha"
    with serving(home, is_trusting=False, web={"plain_port": free_port()}) as node:
        node.put_archive(Plan(name="other", ae_titles=("OTHER",)))
        yield Web(node, node.ports["web"])


@pytest.fixture(scope="module")
def accounts(web: Web) -> Accounts:
    accounts = Accounts(web.node.state, web.node.clock)
    for name, *roles in (
        ("boss", "admin"),
        ("viola", "viewer"),
        ("sam", "sender"),
        ("ottilie", "viewer@other"),
        ("rita", "researcher@other"),
    ):
        accounts.add(name, tuple(roles))
    accounts.set_password("viola", ORANGE)
    return accounts


@pytest.fixture(autouse=True)
def nobody_waits(web: Web) -> None:
    """Have no test pay for the wrong guesses of another."""
    gate: Any = web.node._web._gate  # type: ignore[union-attr]
    gate._addresses._mistakes.clear()
    gate._names._mistakes.clear()


def token(accounts: Accounts, user: str, *rights: Right, archive: str = "main") -> str:
    return accounts.make_token(user, rights, (archive,), 1)[1]


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


Wanted = tuple[str, str, Right | None, bool]
"""Method, path, the right, and whether it is about the whole node."""


def every_route() -> Iterator[Wanted]:
    """Yield what the tables say is there; the OpenAPI document is compared elsewhere."""
    for operation in TABLE:
        for path in paths_of(operation):
            yield operation.method, path, operation.right, operation.is_node
    yield "GET", "/openapi.json", None, True
    for root in ("", "/archives/{archive}", "/research/{project}"):
        for route in ROUTES:
            yield route.method, f"{root}/dicom-web{route.path}", route.right, False
        yield "GET", f"{root}/wado", Right.RETRIEVE, False
        yield "OPTIONS", f"{root}/dicom-web", Right.SEARCH, False


def filled(path: str, archive: str) -> str:
    return re.sub(r"{\w+}", "1.2", path.replace("{archive}", archive))


def check_problem(answer: Answer, status: int, where: str) -> None:
    assert answer.status == status, f"{where}: {answer.status} {answer.body!r}"
    assert answer.headers["content-type"] == "application/problem+json", where
    assert answer.json["status"] == status
    assert answer.json["detail"], where
    assert answer.json["next"], where


def test_no_route_is_reachable_without_a_right(web: Web, accounts: Accounts) -> None:
    ended = token(accounts, "boss", Right.SEARCH)
    row, _ = accounts.token(ended)
    accounts._tokens.put(row.id.encode(), replace(row, ends=web.node.clock() - 1))
    of = {right: token(accounts, "boss", right, archive="*") for right in Right}
    elsewhere = token(accounts, "ottilie", Right.SEARCH, Right.RETRIEVE, archive="other")
    walked = 0
    for method, path, right, _ in every_route():
        if (method, path) in OPEN:
            continue
        ours = filled(path, "main")
        where = f"{method} {ours}"
        check_problem(web.ask(method, ours), 401, where)
        check_problem(web.ask(method, ours, **bearer("pp_0123456789ab_" + "x" * 43)), 401, where)
        check_problem(web.ask(method, ours, **bearer(ended)), 401, where)
        web.node._web._gate._addresses.succeeded("127.0.0.1")  # type: ignore[union-attr]
        if right is not None:
            wrong = next(each for each in Right if each is not right)
            check_problem(web.ask(method, ours, **bearer(of[wrong])), 403, where)
            check_problem(web.ask(method, ours, **bearer(elsewhere)), 403, where)
        walked += 1
    assert walked > 100


def test_what_is_open_is_only_the_login_and_the_probes(web: Web) -> None:
    login = {"/api/session", "/api/session/oidc", "/api/session/oidc/callback"}
    assert {path for _, path in OPEN} == login | {"/livez", "/readyz"}
    assert web.ask("GET", "/api/session/oidc").status == 404, "there is no identity provider"
    assert web.ask("GET", "/livez").body == b"ok\n"
    assert web.ask("GET", "/readyz").status == 200
    assert web.ask("GET", "/metrics").status == 401


def test_the_right_opens_the_door_and_only_in_its_archive(web: Web, accounts: Accounts) -> None:
    viewer = bearer(token(accounts, "viola", Right.SEARCH))
    researcher = bearer(token(accounts, "rita", Right.SEARCH, archive="other"))
    assert web.ask("GET", "/dicom-web/studies", **viewer).status == 204
    assert web.ask("GET", "/api/studies", **viewer).json == []
    assert web.ask("GET", "/api/archives/other/studies", **viewer).status == 403
    for nowhere in ("/api/archives/nowhere", "/archives/nowhere/dicom-web", "/research/nothing/dicom-web"):
        assert web.ask("GET", f"{nowhere}/studies", **viewer).status == 403
    assert web.ask("GET", "/api/archives/other/studies", **researcher).status == 200
    assert web.ask("GET", "/dicom-web/studies", **researcher).status == 403


def test_a_refusal_stands_in_the_status_with_the_command_that_allows_it(web: Web, accounts: Accounts) -> None:
    web.ask("GET", "/dicom-web/studies", **bearer(token(accounts, "sam", Right.STORE)))
    whole = accounts.make_token("viola", ("search",), ("main",), 1)[1]
    answer = web.ask("GET", "/api/audit", **bearer(whole))
    assert (answer.json["detail"], answer.json["next"]) == (
        "viola may not audit on this node.",
        "peerpacs users edit viola --role +admin",
    )
    refusals = {row["ae_title"]: row for row in web.node.desk.status()["refusals"]}
    assert refusals["sam"]["remedy"] == "peerpacs users edit sam --role +viewer"
    assert refusals["viola"]["address"] == "127.0.0.1"


def test_a_token_reaches_no_farther_than_its_user_does_now(web: Web, accounts: Accounts) -> None:
    accounts.add("max", ("viewer",))
    shown = bearer(token(accounts, "max", Right.SEARCH))
    assert web.ask("GET", "/api/studies", **shown).status == 200
    accounts.put(replace(accounts.find("max"), grants=()))
    assert web.ask("GET", "/api/studies", **shown).status == 403
    accounts.remove("max")
    assert web.ask("GET", "/api/studies", **shown).status == 401


def test_the_first_visit_sets_a_password_of_ones_own_and_can_do_nothing_before(
    web: Web, accounts: Accounts
) -> None:
    _, password = accounts.add("nina", ("admin",))
    nina = Person(web)
    assert nina.log_in("nina", password).json["is_one_time"]
    refused = nina.ask("GET", "/api/studies")
    assert (refused.status, refused.json["next"]) == (403, "PUT /api/session/password sets it.")
    short = nina.ask("PUT", "/api/session/password", {"old": password, "new": "short"})
    assert short.status == 400
    changed = nina.ask("PUT", "/api/session/password", {"old": password, "new": ORANGE})
    assert (changed.status, changed.json["is_one_time"]) == (200, False)
    assert nina.ask("GET", "/api/studies").status == 200
    assert nina.ask("GET", "/api/archives").json[0]["name"] == "main"
    assert Person(web).log_in("nina", password).status == 401


def test_a_cookie_is_for_this_site_only_and_changes_nothing_without_its_token(
    web: Web, accounts: Accounts
) -> None:
    viola = Person(web)
    cookie = viola.log_in("viola", ORANGE).headers["set-cookie"]
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert viola.ask("GET", "/api/session").json["user"] == "viola"
    there = "/api/transfers"
    told = {"target": "1.2", "destination": "NOBODY"}
    assert viola.ask("POST", there, told, X_CSRF_Token="").json["detail"].startswith("This request lacks")
    assert viola.ask("POST", there, told, Origin="http://evil.example").status == 403
    assert viola.ask("POST", there, told, Sec_Fetch_Site="cross-site").status == 403
    assert viola.ask("POST", there, told).json["detail"] == "viola may not transfer in the archive main."
    assert viola.ask("DELETE", "/api/session").status == 204
    assert web.ask("GET", "/api/session", Cookie=f"{COOKIE}={viola.cookie}").status == 401


def test_a_changed_password_and_a_disabled_account_end_the_sessions(web: Web, accounts: Accounts) -> None:
    accounts.add("emil", ("viewer",))
    accounts.set_password("emil", ORANGE)
    emil = Person(web)
    emil.log_in("emil", ORANGE)
    accounts.put(replace(accounts.find("emil"), is_disabled=True))
    assert emil.ask("GET", "/api/session").status == 401
    accounts.put(replace(accounts.find("emil"), is_disabled=False))
    assert emil.ask("GET", "/api/session").status == 200
    accounts.give_one_time("emil")
    assert emil.ask("GET", "/api/session").status == 401


def test_guessing_is_slowed_down_never_for_ever_and_stands_in_the_audit(web: Web, accounts: Accounts) -> None:
    thief = Person(web)
    statuses = [thief.log_in("viola", f"wrong guess {number}").status for number in range(6)]
    assert statuses == [401] * 5 + [429]
    waiting = thief.log_in("viola", ORANGE)
    assert waiting.status == 429
    assert 1 <= int(waiting.headers["retry-after"]) <= 3
    time.sleep(2.1)
    assert thief.log_in("viola", ORANGE).status == 200
    web.node.audit.step()
    lines = [line for line in read(web.node.home / "audit") if line.event == "login"]
    assert [line.outcome for line in lines if line.user == "viola"][-6:] == ["refused"] * 5 + ["ok"]
    assert all(line.address == "127.0.0.1" for line in lines)


def test_bad_tokens_wait_and_a_good_one_beside_them_does_not(web: Web, accounts: Accounts) -> None:
    good = bearer(token(accounts, "viola", Right.SEARCH))
    bad = [web.ask("GET", "/api/studies", **bearer(f"guess {number}")).status for number in range(7)]
    assert bad == [401] * 5 + [429] * 2
    assert web.ask("GET", "/api/studies", **good).status == 200


def test_a_lock_grows_and_always_opens() -> None:
    now = 1000.0
    patience = Patience(lambda: now, 60.0)
    waits = []
    for _ in range(40):
        patience.failed("x")
        waits.append(patience.wait("x"))
    assert waits[:4] == [0.0] * 4
    assert waits[4:8] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == 60.0
    now += 60.1
    assert patience.wait("x") == 0.0
    now -= 5000
    assert patience.wait("x") <= 60.0


def test_only_hashes_are_kept(web: Web, accounts: Accounts) -> None:
    _, password = accounts.add("hana", ("viewer",))
    text = token(accounts, "hana", Right.SEARCH)
    secret = accounts.begin_session(accounts.find("hana"), "127.0.0.1")
    stored = b"".join(path.read_bytes() for path in (web.node.home / "state").glob("*.mdb"))
    for word in (password, text, text.split("_", 2)[2], secret):
        assert word.encode() not in stored


def test_every_access_says_who_from_where_what_and_how_it_ended(web: Web, accounts: Accounts) -> None:
    shown = bearer(token(accounts, "boss", Right.WATCH, Right.SEARCH, archive="*"))
    assert web.ask("GET", "/api/status", **shown).json["ae_title"] == "ALPHA"
    assert web.ask("GET", "/api/studies/1.2.3", **shown).status == 404
    web.node.audit.step()
    lines = [line for line in read(web.node.home / "audit") if line.user.startswith("boss (token")]
    assert ("access", "ok", "GET /status") in [(x.event, x.outcome, x.detail["what"]) for x in lines[-2:]]
    assert (lines[-1].outcome, lines[-1].detail["study"]) == ("failed, 404", "1.2.3")


def test_every_answer_carries_the_guarding_headers(web: Web) -> None:
    for path in ("/livez", "/dicom-web/studies", "/nowhere"):
        headers = web.ask("GET", path).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_a_body_longer_than_allowed_is_413_and_stores_nothing(tmp_path: Path) -> None:
    sections: dict[str, Any] = {"plain_port": free_port(), "max_upload_mb": 1}
    with serving(tmp_path / "alpha", web=sections) as node:
        web = Web(node, node.ports["web"])
        [instance, *_] = phantoms(1, size=2_000_000)
        sent = web.ask("POST", "/api/instances", instance.data, Content_Type="application/dicom")
        check_problem(sent, 413, "known length")
        pieces = (instance.data[at : at + 65536] for at in range(0, len(instance.data), 65536))
        chunked = web.ask(
            "POST", "/api/instances", pieces, Content_Type="application/dicom", Transfer_Encoding="chunked"
        )
        check_problem(chunked, 413, "chunked")
        assert node.catalog.totals().instances == 0


def test_whoever_is_on_a_trusted_machine_needs_no_login_but_a_proxy_on_it_does(tmp_path: Path) -> None:
    with serving(tmp_path / "alpha", web={"plain_port": free_port()}) as node:
        web = Web(node, node.ports["web"])
        assert web.ask("GET", "/api/studies").json == []
        assert web.ask("GET", "/api/studies", X_Forwarded_For="10.0.0.1").status == 401
        assert web.ask("GET", "/api/studies", Origin="http://evil.example").status == 401
        node.devices.remove("*")
        assert web.ask("GET", "/api/studies").status == 401


def tls_answer(port: int, path: str, **headers: str) -> tuple[int, bytes, bytes]:
    """Return status, body and the certificate that was shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        shown = connection.sock.getpeercert(binary_form=True)
        response = connection.getresponse()
        return response.status, response.read(), shown
    finally:
        connection.close()


def test_the_web_speaks_tls_with_the_certificate_that_lies_there_now(tmp_path: Path) -> None:
    with serving(tmp_path / "alpha", web={"host": "127.0.0.1", "port": free_port()}) as node:
        port = node.ports["https"]
        assert "web" not in node.ports
        web = Web(node, 0)
        instance = phantoms(2, size=3_000_000)[0]
        web.store(instance)
        path = f"/dicom-web{path_of(instance)}"
        status, body, first = tls_answer(port, path, Accept="application/dicom; transfer-syntax=*")
        assert status == 200
        assert body.endswith(instance.data)
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            socket.create_connection(("127.0.0.1", port)) as silent,
        ):
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            silent.sendall(b"\x16")
            answer = b"".join(iter(lambda: plain.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 400 "), "without TLS nothing is told but"
            assert answer.endswith(b"\r\n\r\nThis port speaks https: write https:// before the address.\n")
            assert tls_answer(port, "/livez")[:2] == (200, b"ok\n")
        folder = tmp_path / "alpha" / "tls"
        for name in ("node.crt", "node.key"):
            (folder / name).unlink()
        make_certificate(folder / "node.crt", folder / "node.key", "new", ("127.0.0.1",), node.clock())
        assert tls_answer(port, "/livez")[2] != first
