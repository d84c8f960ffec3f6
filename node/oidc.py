"""Who somebody is, by the word of the hospital's identity provider: OpenID Connect Core 1.0, with PyJWT.

A provider is believed about names and groups; what a group may do here is this node's own table. Tokens are
signed by keys of the provider's JWKS with an asymmetric algorithm, made for this node, and of this moment.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import jwt

from catalog import BadRequest, Clock, NotPermitted, Unavailable

from .rights import parse_grant

_PATIENCE: Final = 10.0
_KEPT: Final = 3600.0
"""Seconds for which what the provider says of itself counts."""
_SKEW: Final = 60
_LARGEST: Final = 1 << 20
_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""None of them is symmetric: a public key must not pass for a secret."""
_LONGEST_NAME: Final = 64


class Settings(NamedTuple):
    """What the configuration says of a provider."""

    issuer: str
    client_id: str
    client_secret: str
    address: str
    """https://host[:port] at which browsers reach this node."""
    name_claim: str
    groups_claim: str
    groups: Mapping[str, tuple[str, ...]]
    """By group, `role@archive` each."""


class Person(NamedTuple):
    """Somebody whom the provider vouches for."""

    name: str
    grants: tuple[str, ...]
    subject: str
    """The provider's own name for the person, which never goes to another."""


class Attempt(NamedTuple):
    """A login under way, as the browser that began it keeps it."""

    state: str
    nonce: str
    verifier: str


def parse_groups(rows: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return `GROUP=role@archive` rows as a table.

    Raises:
        BadRequest: one is none.
    """
    table: dict[str, tuple[str, ...]] = {}
    for row in rows:
        group, is_there, grant = row.rpartition("=")
        if not is_there or not group.strip():
            raise BadRequest(
                f"{row!r} says no role for a group.", "Write it as GROUP=viewer or GROUP=role@archive"
            )
        name = group.strip()
        table[name] = (*table.get(name, ()), parse_grant(grant))
    return table


class Provider:
    """One identity provider; any thread may use it. What it says of itself is asked when it is needed."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._found: tuple[float, dict[str, Any], jwt.PyJWKClient] | None = None

    @property
    def redirect(self) -> str:
        """Where the provider sends browsers back to."""
        return f"{self._settings.address}/api/session/oidc/callback"

    def begin(self) -> tuple[str, Attempt]:
        """Return where a browser is sent to log in, and what it has to keep until it comes back.

        Raises:
            Unavailable: the provider does not answer.
        """
        attempt = Attempt(*(secrets.token_urlsafe(32) for _ in range(3)))
        digest = hashlib.sha256(attempt.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self.redirect,
            "scope": "openid profile",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        endpoint = self._about()[0]["authorization_endpoint"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urllib.parse.urlencode(asked)}", attempt

    def end(self, attempt: Attempt, state: str, code: str) -> Person:
        """Return who logged in.

        Raises:
            NotPermitted: it is not the login that this browser began, or the provider does not confirm it.
            Unavailable: the provider does not answer.
        """
        if not code or not secrets.compare_digest(state, attempt.state):
            raise NotPermitted("That is not the login that this browser began.", "Log in once more.")
        asked = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "client_id": self._settings.client_id,
            "code_verifier": attempt.verifier,
        }
        answer = self._post(self._about()[0]["token_endpoint"], asked)
        claims = self._claims(str(answer.get("id_token", "")))
        if not secrets.compare_digest(str(claims.get("nonce", "")), attempt.nonce):
            raise NotPermitted("The identity provider answered another login.", "Log in once more.")
        return self._person(claims)

    def verify(self, token: str) -> Person:
        """Return whose token a program shows.

        Raises:
            NotPermitted: it is not one of the provider's for this node, or not of this time.
            Unavailable: the provider does not answer.
        """
        return self._person(self._claims(token))

    def _claims(self, token: str) -> dict[str, Any]:
        _, keys = self._about()
        try:
            key = keys.get_signing_key_from_jwt(token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(_ALGORITHMS),
                audience=self._settings.client_id,
                issuer=self._settings.issuer,
                leeway=_SKEW,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise _away() from error
        except jwt.PyJWTError as error:
            what = f"The identity provider's token does not count here: {error}."
            raise NotPermitted(what, "Log in once more.") from error
        parties = claims["aud"]
        if isinstance(parties, list) and len(parties) > 1 and claims.get("azp") != self._settings.client_id:
            raise NotPermitted("The identity provider's token was made for another program.", "Log in here.")
        return claims

    def _person(self, claims: dict[str, Any]) -> Person:
        settings = self._settings
        name = str(claims.get(settings.name_claim, "")).strip().lower()[:_LONGEST_NAME]
        groups = claims.get(settings.groups_claim, ())
        groups = [groups] if isinstance(groups, str) else groups
        grants = [grant for group in groups for grant in settings.groups.get(str(group), ())]
        if not name:
            what = (
                f"The identity provider does not say {settings.name_claim}, by which people are named here."
            )
            raise NotPermitted(what, "Set oidc.name_claim.")
        return Person(name, tuple(dict.fromkeys(grants)), f"{settings.issuer} {claims['sub']}")

    def _about(self) -> tuple[dict[str, Any], jwt.PyJWKClient]:
        """Return what the provider says of itself, and its keys."""
        with self._lock:
            if self._found is None or not 0 <= self._clock() - self._found[0] < _KEPT:
                about = self._get(f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
                if about.get("issuer") != self._settings.issuer:
                    what = "The identity provider says that it is another one than oidc.issuer names."
                    raise NotPermitted(what, "Compare the two, to the last slash.")
                keys = jwt.PyJWKClient(str(about["jwks_uri"]), lifespan=300, timeout=int(_PATIENCE))
                self._found = self._clock(), about, keys
            return self._found[1], self._found[2]

    def _get(self, url: str) -> dict[str, Any]:
        return self._asked(urllib.request.Request(url, headers={"Accept": "application/json"}))

    def _post(self, url: str, form: dict[str, str]) -> dict[str, Any]:
        settings = self._settings
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if settings.client_secret:
            pair = ":".join(map(urllib.parse.quote_plus, (settings.client_id, settings.client_secret)))
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        body = urllib.parse.urlencode(form).encode()
        return self._asked(urllib.request.Request(url, body, headers, method="POST"))

    def _asked(self, request: urllib.request.Request) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
                told = json.loads(answer.read(_LARGEST))
        except urllib.error.HTTPError as error:
            error.close()
            if 400 <= error.code < 500:
                raise NotPermitted(
                    "The identity provider does not confirm this login.", "Log in once more."
                ) from error
            raise _away() from error
        except (OSError, ValueError) as error:
            raise _away() from error
        if not isinstance(told, dict):
            raise _away()
        return told


def _away() -> Unavailable:
    return Unavailable("The identity provider does not answer.", "Log in with a user of this node meanwhile.")
