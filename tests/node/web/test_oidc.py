"""People come by the word of an identity provider: a small one, of real keys and HTTP, beside the node."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from catalog import BadRequest
from node.accounts import Accounts
from node.oidc import parse_groups
from node.web.doorkeeper import COOKIE
from sim.ports import free_port
from tests.homes import serving
from tests.node.web.asking import Answer, Web

CLIENT, SECRET = "peerpacs", "secret of & client"
ADDRESS = "https://pacs.hospital.example"


class Issuer(ThreadingHTTPServer):
    """An OpenID provider: discovery, keys, authorization code with PKCE. Whoever comes is `person`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), _Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.keys = {"one": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.person: dict[str, Any] = {"sub": "s-1", "preferred_username": "Anna", "groups": ["radiology"]}
        self.codes: dict[str, dict[str, str]] = {}
        self.is_away = False
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def token(self, key: str = "one", **claims: Any) -> str:
        """Return a token of the person, with other claims if they are named."""
        now = int(time.time())
        told = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, **self.person, **claims}
        told = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(told, self.keys[key], algorithm="RS256", headers={"kid": key})

    def jwks(self) -> dict[str, Any]:
        """Return the public keys."""
        rows = []
        for name, key in self.keys.items():
            row = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
            rows.append({**row, "kid": name, "use": "sig", "alg": "RS256"})
        return {"keys": rows}

    def close(self) -> None:
        """End it."""
        self.shutdown()
        self.server_close()
        self.thread.join()


class _Answers(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        issuer, (path, _, query) = self.server, self.path.partition("?")
        if issuer.is_away:
            self._say({}, 503)
        elif path == "/.well-known/openid-configuration":
            ways = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            self._say({"issuer": issuer.url, **{key: f"{issuer.url}/{way}" for key, way in ways.items()}})
        elif path == "/jwks":
            self._say(issuer.jwks())
        elif path == "/authorize":
            asked = dict(urllib.parse.parse_qsl(query))
            code = secrets.token_urlsafe(16)
            issuer.codes[code] = asked
            back = urllib.parse.urlencode({"code": code, "state": asked["state"]})
            self.send_response(302)
            self.send_header("Location", f"{asked['redirect_uri']}?{back}")
            self.end_headers()

    def do_POST(self) -> None:
        issuer = self.server
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        asked = issuer.codes.pop(form["code"], None)
        pair = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode().split(":")
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        is_right = (
            asked is not None
            and list(map(urllib.parse.unquote_plus, pair)) == [CLIENT, SECRET]
            and base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
            and form["redirect_uri"] == asked["redirect_uri"]
        )
        if not is_right or asked is None:
            self._say({"error": "invalid_grant"}, 400)
            return
        token = issuer.token(nonce=asked["nonce"])
        self._say({"access_token": "x", "token_type": "Bearer", "id_token": token})

    def _say(self, told: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Web]:
    home = tmp_path_factory.mktemp("oidc") / "alpha"
    secret = home.with_name("client.secret")
    secret.write_text(SECRET)
    oidc = {
        "issuer": issuer.url,
        "client_id": CLIENT,
        "client_secret_file": str(secret),
        "address": ADDRESS,
        "groups": ["radiology=viewer", "cn=admins,o=x=admin"],
    }
    with serving(home, is_trusting=False, web={"plain_port": free_port()}, oidc=oidc) as node:
        yield Web(node, node.ports["web"])


@pytest.fixture(autouse=True)
def nobody_waits(web: Web, issuer: Issuer) -> None:
    gate: Any = web.node._web._gate  # type: ignore[union-attr]
    gate._addresses._mistakes.clear()
    issuer.person = {"sub": "s-1", "preferred_username": "Anna", "groups": ["radiology"]}


def cookie_of(answer: Answer, name: str) -> str:
    """Return a cookie that was set, as a browser shows it."""
    found = [part for part in answer.headers["set-cookie"].split(", ") if part.startswith(f"{name}=")]
    return found[0].partition(";")[0]


def come_back(web: Web, issuer: Issuer) -> tuple[str, str]:
    """Begin a login and go to the provider; return the way back, and the cookie of the attempt."""
    begun = web.ask("GET", "/api/session/oidc")
    assert begun.status == 302
    assert begun.headers["location"].startswith(f"{issuer.url}/authorize?")
    attempt = cookie_of(begun, "__Host-peerpacs-oidc")
    assert "SameSite=Lax" in begun.headers["set-cookie"]
    port, _, path = begun.headers["location"].removeprefix("http://127.0.0.1:").partition("/")
    sent = Web.ask(_at(int(port)), "GET", f"/{path}")
    assert sent.status == 302
    assert sent.headers["location"].startswith(f"{ADDRESS}/api/session/oidc/callback?")
    return sent.headers["location"].removeprefix(ADDRESS), attempt


def _at(port: int) -> Any:
    from tests.node.web.asking import Remote

    return Remote(port)


def test_a_person_logs_in_at_the_provider_and_has_the_rights_of_the_groups(web: Web, issuer: Issuer) -> None:
    back, attempt = come_back(web, issuer)
    arrived = web.ask("GET", back, Cookie=attempt)
    assert arrived.status == 200, arrived.body
    assert b'content="0;url=/"' in arrived.body
    session = cookie_of(arrived, COOKIE)
    now = web.ask("GET", "/api/session", Cookie=session).json
    assert (now["user"], now["grants"]) == ("anna", ["viewer@main"])
    assert web.ask("GET", "/api/studies", Cookie=session).status == 200
    assert web.ask("GET", "/api/devices", Cookie=session).status == 403
    assert web.ask("GET", back, Cookie=attempt).status == 403, "a code counts once"
    assert web.ask("GET", back).status == 403, "another browser did not begin this login"
    other, _ = come_back(web, issuer)
    assert web.ask("GET", other, Cookie=attempt).status == 403
    issuer.person["groups"] = ["cn=admins,o=x"]
    back, attempt = come_back(web, issuer)
    assert web.ask("GET", back, Cookie=attempt).status == 200
    assert web.ask("GET", "/api/devices", Cookie=session).status == 200, "rights follow the groups at once"


def shown(web: Web) -> str:
    """Return the page to log in, as its script reads it."""
    return html.unescape(web.ask("GET", "/login").body.decode()).replace(": ", ":")


def test_the_page_to_log_in_leads_to_the_provider(web: Web, tmp_path: Path) -> None:
    assert '"has_provider":true' in shown(web)
    with serving(tmp_path / "beta", is_trusting=False, web={"plain_port": free_port()}) as node:
        assert '"has_provider":false' in shown(Web(node, node.ports["web"]))


def test_a_program_shows_a_token_of_the_provider_and_a_wrong_one_never_counts(
    web: Web, issuer: Issuer
) -> None:
    def ask(token: str) -> int:
        web.node._web._gate._addresses._mistakes.clear()  # type: ignore[union-attr]
        return web.ask("GET", "/api/studies", Authorization=f"Bearer {token}").status

    assert ask(issuer.token()) == 200
    now = int(time.time())
    for wrong in (
        {"aud": "another"},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"iss": "http://127.0.0.1:1"},
        {"exp": now - 120},
        {"iat": now + 600},
        {"nbf": now + 600},
        {"sub": None},
        {"exp": None},
        {"preferred_username": None},
        {"preferred_username": "not a name!"},
    ):
        assert ask(issuer.token(**wrong)) == 401, wrong
    issuer.keys["stranger"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    foreign = issuer.token(key="stranger")
    del issuer.keys["stranger"]
    assert ask(foreign) == 401
    public = issuer.keys["one"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    head = {"kid": "one", "typ": "JWT"}
    assert ask(forged({**head, "alg": "HS256"}, claims, pem)) == 401, "a public key is no secret"
    assert ask(forged({**head, "alg": "none"}, claims, b"")) == 401
    assert ask(jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", head)) == 401
    assert ask(issuer.token()[:-4] + "AAAA") == 401
    assert ask("a.b.c") == 401
    issuer.person["groups"] = []
    assert ask(issuer.token()) == 403, "nobody without a group may do anything"


def forged(head: dict[str, str], claims: dict[str, Any], secret: bytes) -> str:
    """Return a token as libraries refuse to make it."""
    import hmac

    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (head, claims)]
    signed = b".".join(parts)
    mac = hmac.digest(secret, signed, "sha256") if secret else b""
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def test_a_user_of_the_node_is_never_taken_over(web: Web, issuer: Issuer) -> None:
    accounts = Accounts(web.node.state, web.node.clock)
    accounts.add("boss", ("admin",))
    issuer.person |= {"sub": "s-2", "preferred_username": "boss"}
    answer = web.ask("GET", "/api/studies", Authorization=f"Bearer {issuer.token()}")
    assert (answer.status, answer.json["detail"]) == (401, "There is another user boss here.")
    issuer.person |= {"sub": "s-3", "preferred_username": "anna"}
    assert web.ask("GET", "/api/studies", Authorization=f"Bearer {issuer.token()}").status == 401
    issuer.person |= {"sub": "s-4", "preferred_username": "eva"}
    assert web.ask("GET", "/api/studies", Authorization=f"Bearer {issuer.token()}").status == 200
    from msgspec.structs import replace

    accounts.put(replace(accounts.find("eva"), is_disabled=True))
    assert web.ask("GET", "/api/studies", Authorization=f"Bearer {issuer.token()}").status == 401
    assert accounts.check_password("eva", "") is None, "nobody logs in with no password"


def test_a_provider_that_is_away_is_said_so_and_a_new_key_is_found(web: Web, issuer: Issuer) -> None:
    issuer.keys["two"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token = issuer.token(key="two")
    gate: Any = web.node._web._gate  # type: ignore[union-attr]
    # Keys are not asked for again within 30 s; a node that begins to ask finds the new one.
    gate.provider._found = None
    assert web.ask("GET", "/api/studies", Authorization=f"Bearer {token}").status == 200
    gate.provider._found = None
    issuer.is_away = True
    away = web.ask("GET", "/api/studies", Authorization=f"Bearer {token}")
    assert (away.status, away.headers["retry-after"]) == (503, "5")
    assert web.ask("GET", "/api/session/oidc").status == 503
    issuer.is_away = False
    assert web.ask("GET", "/api/studies", Authorization=f"Bearer {token}").status == 200


def test_what_the_configuration_lacks_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no role"):
        parse_groups(["radiology"])
    with pytest.raises(BadRequest, match="not a role"):
        parse_groups(["radiology=king"])
    assert parse_groups(["a=viewer", "a=sender"]) == {"a": ("viewer@main", "sender@main")}
    with (
        pytest.raises(BadRequest, match="client_id"),
        serving(tmp_path / "home", web={"plain_port": free_port()}, oidc={"issuer": "https://x.example"}),
    ):
        pass
