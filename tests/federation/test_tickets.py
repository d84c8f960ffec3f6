"""Tickets survive paper and telephone, and whatever is changed in one is noticed."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import BadRequest
from federation.trust.ticket import Ticket, is_address, make_ticket, read, write
from federation.trust.words import fingerprint, word_list

TICKET = Ticket("praha.example:7444", bytes(range(16)), b"tokentok", b"secret secret 16")


@given(st.binary(min_size=16, max_size=16), st.sampled_from(["a.b:1", "[::1]:7444", "x-y_z.org:65535"]))
def test_a_ticket_is_read_as_it_was_written(grid_id: bytes, address: str) -> None:
    ticket = make_ticket(address, grid_id)
    assert read(write(ticket)) == ticket


def test_a_ticket_survives_paper_and_telephone() -> None:
    text = write(TICKET)
    assert text.startswith("pp1-praha.example:7444-")
    wrapped = "\n  ".join(text[at : at + 20] for at in range(0, len(text), 20))
    assert read(f"  {wrapped.upper()}\n") == TICKET
    before, letters = text.rsplit("-", 1)
    assert read(f"{before}-{letters.replace('o', '0').replace('l', '1').replace('b', '8')}") == TICKET


@pytest.mark.parametrize("at", range(len(write(TICKET))))
def test_whatever_letter_is_changed_is_noticed(at: int) -> None:
    text = write(TICKET)
    other = "q" if text[at] != "q" else "w"
    with pytest.raises(BadRequest):
        read(text[:at] + other + text[at + 1 :])


@pytest.mark.parametrize(("begin", "end"), [(0, 16), (16, 24), (24, 40), (40, 42)])
def test_a_changed_field_does_not_fit_the_checksum(begin: int, end: int) -> None:
    before, letters = write(TICKET).rsplit("-", 1)
    raw = bytearray(base64.b32decode(letters.upper() + "===="))
    raw[begin:end] = bytes(byte ^ 0x55 for byte in raw[begin:end])
    with pytest.raises(BadRequest, match="checksum"):
        read(f"{before}-{base64.b32encode(raw).decode().rstrip('=')}")


def test_a_changed_address_does_not_fit_the_checksum() -> None:
    with pytest.raises(BadRequest, match="checksum"):
        read(write(TICKET).replace("praha.example", "praha.examp1e"))


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: "pp1-a:1-" + raw.hex()))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(BadRequest):
        read(text)


def test_addresses_are_host_and_port() -> None:
    assert all(map(is_address, ["a:1", "pacs.example.org:7444", "10.0.0.1:7444", "[fe80::1]:7444"]))
    assert not any(map(is_address, ["", "a", "a:", "a:0", "a:65536", "a b:1", "http://a:1", "fe80::1:1"]))


def test_the_words_are_plain_and_far_apart() -> None:
    words = word_list()
    assert len(words) == 2048
    assert len(set(words)) == 2048
    assert all(word.isascii() and word.isalpha() and word.islower() and 3 <= len(word) <= 9 for word in words)
    masks = [word[:at] + "?" + word[at + 1 :] for word in words for at in range(len(word))]
    assert len(masks) == len(set(masks)), "two words differ in one letter only"


def test_the_words_depend_on_key_and_grid() -> None:
    words = fingerprint(b"g" * 16, b"key")
    assert len(words) == 6
    assert words == fingerprint(b"g" * 16, b"key")
    assert words != fingerprint(b"g" * 16, b"kez")
    assert words != fingerprint(b"h" * 16, b"key")
