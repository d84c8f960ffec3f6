"""Free text: the words of medicine stay, those of people go."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymizer.text import Identifiers, cleaned, vocabulary, without_identifiers

SUBJECT = Identifiers(
    ["Bartholomew", "Kowalczyk", "Hand", "Müllerschön"], ["MRN-00471177", "bartholomewkowalczyk"]
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CT CHEST W/O CONTRAST 5.0mm", "CT CHEST W/O CONTRAST 5.0mm"),
        ("CT ABDOMEN for Bartholomew Kowalczyk 12/03/1970", "CT ABDOMEN"),
        ("MRI Brain Dr. Quillington, Prudence T2 FLAIR 3mm", "MRI Brain T2 FLAIR 3mm"),
        ("Axial 5mm KOWALCZYK^BARTHOLOMEW", "Axial 5mm"),
        ("knee mrn 00471177 left", "knee left"),
        ("spine B.KOWALCZYK2", "spine"),
        ("mullerschon knee", "knee"),
        ("left hand", "left"),
        ("call 555-123-4567 chest", "chest"),
        ("born March 3, 1999, chest", "chest"),
        ("mail b.k@infirmary.example or www.infirmary.example brain", "or brain"),
        ("Referred by Prudence Quillington, abdomen", "abdomen"),
        ("instance 1.2.840.113619.2.55.3 liver", "instance liver"),
        ("12 Mulberrygrove Lane head", "head"),
        ("", ""),
    ],
)
def test_what_names_somebody_goes_and_the_rest_keeps_its_order(text: str, expected: str) -> None:
    assert cleaned(text, SUBJECT).text == expected


def test_unknown_words_are_taken_out_and_reported_until_the_project_approves_them() -> None:
    assert cleaned("CT flurbiprofen", Identifiers()) == ("CT", ("flurbiprofen",))
    assert cleaned("CT flurbiprofen", Identifiers(), frozenset(["flurbiprofen"])).text == "CT flurbiprofen"


def test_text_that_is_not_identifying_by_nature_loses_only_the_subject() -> None:
    assert without_identifiers("SIEMENS syngo 00471177", SUBJECT) == "SIEMENS syngo"
    assert without_identifiers("syngo MR E11", SUBJECT) == "syngo MR E11"
    assert without_identifiers("KowalczykBartholomew Inc", SUBJECT) == "Inc"


@given(st.lists(st.sampled_from(["CHEST", "Kowalczyk", "MRN-00471177", "5mm", "1970-03-12", "^", "x@y.zz"])))
def test_cleaning_twice_changes_nothing_more_and_never_leaves_an_identifier(words: list[str]) -> None:
    once = cleaned(" ".join(words), SUBJECT).text
    assert cleaned(once, SUBJECT).text == once
    assert "kowalczyk" not in once.lower()
    assert "00471177" not in once


@given(st.text(max_size=60))
def test_every_word_that_stays_is_in_the_vocabulary_or_is_a_measure(text: str) -> None:
    for word in cleaned(text, Identifiers()).text.split():
        letters = "".join(c for c in word if c.isalpha())
        assert len(letters) <= 3 or any(part in vocabulary() for part in _parts(word)), word


def _parts(word: str) -> list[str]:
    spaced = "".join(c if c.isalpha() else " " for c in word.casefold())
    return spaced.split()


@pytest.mark.parametrize("unit", ["a", "1", "1 ", "(", "a1", "a.", "-", "1.1", "Dr ", "a@", "ž", "12 x "])
def test_a_long_hostile_text_is_cleaned_in_a_second(unit: str) -> None:
    text = (unit * 65536)[:65536]
    start = time.process_time()
    cleaned(text, SUBJECT)
    without_identifiers(text, SUBJECT)
    assert time.process_time() - start < 1
