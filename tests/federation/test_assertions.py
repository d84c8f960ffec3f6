"""The asking user, role and purpose travel signed, for five minutes, for one owner."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog import BadRequest, NotPermitted, PacsError
from federation.trust.assertion import Asker, make_assertion, pseudonym_of, verify_assertion
from federation.trust.keys import make_key, sign
from tests.federation.members import Grid, Member

ASKER = Asker(pseudonym_of(b"key", "novak"), "radiologist", "treatment", "WS1", "req-17")


def _claims(text: str) -> dict[str, object]:
    part = text.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@pytest.fixture
def pair(grid: Grid) -> tuple[Member, Member]:
    return grid.node("alpha"), grid.node("beta")


def _made(pair: tuple[Member, Member]) -> str:
    return make_assertion(pair[0].credentials.pair, ASKER, pair[1].node_id, pair[0].clock())


def _verify(pair: tuple[Member, Member], text: str) -> Asker:
    alpha, beta = pair
    return verify_assertion(beta.trust, text, alpha.credentials.pair.identity, beta.node_id, beta.clock())


def test_the_owner_learns_who_asks_and_why(pair: tuple[Member, Member]) -> None:
    assert _verify(pair, _made(pair)) == ASKER


def test_the_user_is_named_by_a_pseudonym_that_only_the_asking_node_can_resolve() -> None:
    assert pseudonym_of(b"key", "novak") == pseudonym_of(b"key", "novak") != pseudonym_of(b"other", "novak")
    assert pseudonym_of(b"key", "") == ""


@pytest.mark.parametrize(("later", "counts"), [(299, True), (301, False), (-299, True), (-301, False)])
def test_it_counts_for_five_minutes(pair: tuple[Member, Member], later: int, counts: bool) -> None:
    text = _made(pair)
    pair[1].clock.now += later
    with contextlib.nullcontext() if counts else pytest.raises(NotPermitted, match="made"):
        assert _verify(pair, text) == ASKER


def test_it_is_signed_with_ecdsa_and_verified_by_an_independent_reader(pair: tuple[Member, Member]) -> None:
    """RFC 7515: header and claims as base64url, ES256 over both."""
    head, claims, signature = _made(pair).split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    pair[0].credentials.pair.key.public_key().verify(der, f"{head}.{claims}".encode(), ec.ECDSA(SHA256()))


def test_it_does_not_count_for_another_owner_or_from_another_node(
    grid: Grid, pair: tuple[Member, Member]
) -> None:
    gamma = grid.node("gamma")
    with pytest.raises(NotPermitted, match="another node"):
        _verify((pair[0], gamma), _made(pair))
    with pytest.raises(NotPermitted, match="another node"):
        verify_assertion(
            pair[1].trust, _made(pair), gamma.credentials.pair.identity, pair[1].node_id, pair[1].clock()
        )


def test_changed_claims_do_not_fit_the_signature(pair: tuple[Member, Member]) -> None:
    head, _, signature = _made(pair).split(".")
    with pytest.raises(NotPermitted, match="signature"):
        _verify(pair, f"{head}.{_part({**_claims(_made(pair)), 'role': 'admin'})}.{signature}")


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "ES256", "crit": ["b64"]}])
def test_no_other_algorithm_counts(pair: tuple[Member, Member], header: dict[str, object]) -> None:
    own = json.loads(base64.urlsafe_b64decode(_made(pair).split(".")[0] + "=="))
    claims = _made(pair).split(".")[1]
    signed = f"{_part({**own, **header})}.{claims}"
    text = (
        f"{signed}.{base64.urlsafe_b64encode(sign(pair[0].credentials.pair.key, signed.encode())).decode()}"
    )
    with pytest.raises(NotPermitted):
        _verify(pair, text.rstrip("="))


def test_a_certificate_in_it_is_judged_like_any_other(grid: Grid, pair: tuple[Member, Member]) -> None:
    text = _made(pair)
    grid.authority.revoke(pair[0].node_id)
    grid.tell(pair[1])
    with pytest.raises(NotPermitted, match="expelled"):
        _verify(pair, text)


def test_one_made_before_a_rotation_still_counts(grid: Grid, pair: tuple[Member, Member]) -> None:
    text, key = _made(pair), make_key()
    pair[0].credentials.replace(
        key, grid.authority.renew(pair[0].credentials.pair.identity, key.public_key())
    )
    assert _verify(pair, text) == ASKER


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=300), st.integers(0, 2000), st.binary(min_size=1, max_size=3))
def test_no_text_does_more_than_be_refused(
    pair: tuple[Member, Member], text: str, at: int, new: bytes
) -> None:
    made = _made(pair)
    for attempt in (text, f"{text}.{text}.{text}", made[:at] + new.hex() + made[at + 1 :]):
        with contextlib.suppress(PacsError):
            assert _verify(pair, attempt) == ASKER


def test_a_long_text_is_not_even_read(pair: tuple[Member, Member]) -> None:
    with pytest.raises(BadRequest):
        _verify(pair, "a" * 10_000 + "." + "b.c")
