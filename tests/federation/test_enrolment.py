"""Joining: one ticket, one request, two people who compare words; all else is refused with a letter."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog import BadRequest, NotFound, NotPermitted, PacsError
from federation.trust.certificates import Node, make_request, parse, public_key
from federation.trust.credentials import check_admission
from federation.trust.enrolment import (
    BAD_TRIES,
    Applicant,
    Pending,
    proof_of,
    read_request,
    resume_text,
    return_text,
)
from federation.trust.keys import make_key, sign, spki
from federation.trust.ticket import key_of
from federation.trust.words import fingerprint
from tests.federation.members import ADDRESS, NONCE, Grid, Joiner, invited


def _collect(grid: Grid, joiner: Joiner, request_id: str) -> Pending | tuple[bytes, ...]:
    return grid.registrar.resume(request_id, sign(joiner.key, resume_text(request_id, NONCE)), NONCE)


def test_a_ticket_and_an_admins_yes_make_a_member(grid: Grid) -> None:
    joiner = invited(grid)
    pending = joiner.ask(grid)
    assert _collect(grid, joiner, pending.request_id) == pending
    grid.registrar.approve(pending.request_id[:6], "admin")
    chain = _collect(grid, joiner, pending.request_id)
    assert isinstance(chain, tuple)
    check_admission(grid.trust, chain, joiner.node_id, joiner.key)
    identity = grid.trust.identify(chain[0])
    assert (identity.node_id, identity.site, identity.name) == (joiner.node_id, "HOSP-B", "Brno")
    assert [grant.peer for _, grant in grid.tables.grants.scan()] == [f"node:{joiner.node_id}"]


def test_both_sides_see_the_same_words(grid: Grid) -> None:
    joiner = invited(grid)
    pending = joiner.ask(grid)
    own = fingerprint(joiner.ticket.grid_id, spki(joiner.key.public_key()))
    [(_, request)] = grid.registrar.requests()
    assert pending.words == own == request.words


def test_the_grid_proves_that_it_gave_the_ticket_out(grid: Grid) -> None:
    joiner = invited(grid)
    expected = proof_of(key_of(joiner.ticket.secret), grid.trust.bundle.lineage, b"mine")
    assert grid.registrar.prove(joiner.ticket.token_id, b"mine") == expected
    assert grid.registrar.prove(b"unknown!", b"mine") != expected


def test_a_token_counts_once(grid: Grid) -> None:
    joiner = invited(grid)
    joiner.ask(grid)
    with pytest.raises(NotPermitted, match="used already"):
        Joiner(joiner.ticket).ask(grid)


def test_five_bad_tries_burn_a_token(grid: Grid) -> None:
    joiner = invited(grid)
    for _ in range(BAD_TRIES):
        with pytest.raises(NotPermitted, match="proof"):
            joiner.ask(grid, secret=b"guess")
    with pytest.raises(NotPermitted, match="used already"):
        joiner.ask(grid)


def test_four_bad_tries_do_not(grid: Grid) -> None:
    joiner = invited(grid)
    for _ in range(BAD_TRIES - 1):
        with pytest.raises(NotPermitted):
            joiner.ask(grid, secret=b"guess")
    joiner.ask(grid)


def test_a_ticket_ends(grid: Grid) -> None:
    joiner = invited(grid)
    grid.clock.now += 86401
    with pytest.raises(NotPermitted, match="time is over"):
        joiner.ask(grid)


def test_an_unknown_token_is_refused(grid: Grid) -> None:
    joiner = invited(grid)
    with pytest.raises(NotPermitted, match="unknown"):
        Joiner(joiner.ticket._replace(token_id=b"whatever")).ask(grid)


def test_a_request_that_was_exchanged_on_its_way_does_not_fit_the_proof(grid: Grid) -> None:
    joiner, thief = invited(grid), Joiner(invited(grid).ticket)
    with pytest.raises(NotPermitted, match="proof"):
        joiner.ask(grid, csr=thief.csr(), signed=joiner.csr())
    assert not grid.registrar.requests()


def test_no_changed_byte_of_a_request_makes_it_ask_for_something_else(grid: Grid) -> None:
    csr = Joiner(invited(grid).ticket).csr()
    for at in range(len(csr)):
        changed = csr[:at] + bytes([csr[at] ^ 1]) + csr[at + 1 :]
        with contextlib.suppress(BadRequest):
            assert read_request(changed) == read_request(csr)
            assert at > len(csr) - 80, "only how the signature is padded can be spelled in two ways"


def test_a_bad_request_with_a_right_proof_does_not_spend_the_ticket(grid: Grid) -> None:
    joiner = invited(grid)
    with pytest.raises(BadRequest):
        joiner.ask(grid, csr=b"not a request")
    joiner.ask(grid)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600))
def test_no_bytes_do_more_than_be_refused(grid: Grid, raw: bytes) -> None:
    for attempt in (
        lambda: read_request(raw),
        lambda: grid.registrar.ask(raw[:8], NONCE, raw, raw[:32], Applicant("x")),
        lambda: grid.registrar.resume(raw.hex(), raw[:64], NONCE),
        lambda: grid.registrar.come_back(raw, raw, raw[:64], NONCE),
        lambda: grid.trust.identify(raw),
        lambda: grid.trust.accept_crl(raw),
        lambda: grid.trust.accept_bundle(raw),
    ):
        with contextlib.suppress(PacsError):
            attempt()  # type: ignore[no-untyped-call]


def test_a_denied_request_says_who_and_why(grid: Grid) -> None:
    joiner = invited(grid)
    pending = joiner.ask(grid)
    grid.registrar.deny(pending.request_id, "admin", "wrong words")
    with pytest.raises(NotPermitted, match="admin did not approve this request: wrong words"):
        _collect(grid, joiner, pending.request_id)
    with pytest.raises(NotFound):
        grid.registrar.approve(pending.request_id, "admin")


def test_only_the_waiting_key_learns_how_a_request_stands(grid: Grid) -> None:
    pending = invited(grid).ask(grid)
    with pytest.raises(NotFound):
        _collect(grid, Joiner(invited(grid).ticket), pending.request_id)


def test_the_id_of_a_member_cannot_be_taken_without_an_invitation_for_it(grid: Grid) -> None:
    member = grid.node("brno")
    joiner = invited(grid)
    joiner.node_id = member.node_id
    with pytest.raises(BadRequest, match="in this grid already"):
        joiner.ask(grid)


def test_a_node_whose_place_is_taken_counts_no_more(grid: Grid) -> None:
    member = grid.node("brno")
    joiner = invited(grid, replacing=member.node_id)
    request = joiner.ask(grid)
    grid.registrar.approve(request.request_id, "admin")
    chain = _collect(grid, joiner, request.request_id)
    assert isinstance(chain, tuple)
    assert grid.trust.identify(chain[0]).node_id == member.node_id
    with pytest.raises(NotPermitted, match="expelled"):
        grid.trust.identify(member.credentials.pair.leaf)


def test_a_certificate_that_ended_a_week_ago_comes_back_by_approval(grid: Grid) -> None:
    member = grid.node("brno")
    grid.clock.now += 37 * 86400
    key = make_key()
    csr = make_request(key, Node(member.node_id, "", "brno"))
    signature = sign(member.credentials.pair.key, return_text(csr, NONCE))
    with pytest.raises(NotPermitted, match="not signed"):
        grid.registrar.come_back(member.credentials.pair.leaf, csr, sign(key, b"other"), NONCE)
    pending = grid.registrar.come_back(member.credentials.pair.leaf, csr, signature, NONCE)
    request = grid.registrar.approve(pending.request_id, "admin")
    assert spki(public_key(parse(request.chain[0]))) == spki(key.public_key())
    assert (request.site, request.is_return) == ("brno", True)


def test_a_certificate_that_ended_15_days_ago_does_not(grid: Grid) -> None:
    member = grid.node("brno")
    grid.clock.now += 45 * 86400 + 60
    csr = make_request(make_key(), Node(member.node_id, "", "brno"))
    signature = sign(member.credentials.pair.key, return_text(csr, NONCE))
    with pytest.raises(NotPermitted, match="14 days"):
        grid.registrar.come_back(member.credentials.pair.leaf, csr, signature, NONCE)


def test_invitations_are_checked_before_they_are_given(grid: Grid) -> None:
    for site, template, ttl in (("", "peer", 3600), ("B", "admin", 3600), ("B", "peer", 1)):
        with pytest.raises(BadRequest):
            grid.registrar.invite(ADDRESS, site, template, ttl, "admin")
    with pytest.raises(BadRequest):
        grid.registrar.invite("no port", "B", "peer", 3600, "admin")
    assert not list(grid.tables.invitations.scan())


def test_the_secret_of_a_ticket_is_kept_nowhere(grid: Grid) -> None:
    ticket = invited(grid).ticket
    kept = (grid.folder / "state" / "data.mdb").read_bytes()
    assert ticket.token_id in kept
    assert ticket.secret not in kept


def test_what_an_applicant_says_is_trimmed_to_what_can_be_shown(grid: Grid) -> None:
    joiner = invited(grid)
    ugly = Applicant("Br\x1b[31mno\n" + "x" * 100, ("A" * 50,), ("not an address", "a:1"))
    csr = joiner.csr()
    from federation.trust.enrolment import mac_of

    mac = mac_of(key_of(joiner.ticket.secret), csr, NONCE)
    grid.registrar.ask(joiner.ticket.token_id, NONCE, csr, mac, ugly)
    [(_, request)] = grid.registrar.requests()
    assert request.name.isprintable()
    assert len(request.name) == 64
    assert (request.ae_titles, request.addresses) == (("A" * 16,), ("a:1",))
