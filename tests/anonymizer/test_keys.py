"""Keyed UIDs, pseudonyms and date shifts: two sites agree, everybody else learns nothing."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymizer import ProjectKey, make_key, read_key
from anonymizer.dates import is_date, is_time, shifted
from anonymizer.keys import identity_of
from tests.anonymizer.conftest import SECRET, deidentified, sample

OTHER = bytes(range(1, 33))


def test_two_sites_with_one_key_agree_and_a_third_project_shares_nothing() -> None:
    alpha, beta = (deidentified(sample(), key=ProjectKey("TRIAL", SECRET)) for _ in range(2))
    stranger = deidentified(sample(), key=ProjectKey("TRIAL", OTHER))
    for keyword in ("PatientID", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert alpha[keyword].value == beta[keyword].value
        assert alpha[keyword].value != stranger[keyword].value


def test_a_subject_is_who_issuer_and_number_say_however_they_are_written() -> None:
    assert identity_of(" General ", "AB12 ") == identity_of("general", "ab12\0")
    assert identity_of("General", "0012") != identity_of("General", "12")
    assert identity_of("General", "0012", strips_zeros=True) == identity_of("General", "12")
    assert identity_of("General", "12") != identity_of("City", "12")
    assert identity_of("General", "  ") == ""


def test_without_the_key_a_guessed_number_cannot_be_confirmed() -> None:
    new = ProjectKey("TRIAL", SECRET).uid("1.2.3")
    guesses = {hashlib.new(name, b"1.2.3").hexdigest() for name in ("md5", "sha1", "sha256")}
    assert not any(str(int(guess, 16))[:12] in new for guess in guesses)
    assert ProjectKey("TRIAL", OTHER).uid("1.2.3") != new


@given(st.from_regex(r"1(\.(0|[1-9]\d{0,8})){2,10}", fullmatch=True))
def test_a_new_uid_is_valid_short_and_the_same_for_padded_values(uid: str) -> None:
    key = ProjectKey("TRIAL", SECRET)
    new = key.uid(uid)
    assert new.startswith("2.25.")
    assert len(new) <= 44
    assert not new[5:].startswith("0")
    assert key.uid(uid + "\0") == new


@given(st.text(min_size=1), st.integers(1, 100), st.integers(0, 400))
def test_a_shift_is_whole_weeks_backwards_and_within_its_bounds(who: str, low: int, more: int) -> None:
    days = ProjectKey("TRIAL", SECRET).shift_days(who, low, low + more)
    assert days % 7 == 0
    assert -7 * (low + more) <= days <= -7 * low


def test_a_key_is_long_named_readable_by_its_owner_only_and_never_pickled(tmp_path: Path) -> None:
    made = make_key(tmp_path / "key", "trial-7")
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert read_key(tmp_path / "key").key_id == made.key_id
    with pytest.raises(FileExistsError):
        make_key(tmp_path / "key", "trial-7")
    with pytest.raises(ValueError, match="256 bits"):
        ProjectKey("TRIAL", b"short")
    with pytest.raises(ValueError, match="letters, digits and hyphens"):
        ProjectKey("John Doe", SECRET)
    with pytest.raises(TypeError):
        pickle.dumps(made)


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("DA", "20040119", "20040112"),
        ("DA", "2004.01.19", "20040112"),
        ("DA", "20040119\\20040126", "20040112\\20040119"),
        ("DA", "200401", ""),
        ("DA", "20040230", ""),
        ("DA", "20040119\\soon", "20040112\\19000101"),
        ("DT", "20040119235959.123456+0100", "20040112235959.123456+0100"),
        ("DT", "20040119", "20040112"),
        ("DT", "2004", ""),
        ("DA", "00010101", ""),
    ],
)
def test_dates_move_and_times_stay(vr: str, value: str, expected: str) -> None:
    assert shifted(vr, value, -7, must_have_value=False) == expected


def test_a_date_that_cannot_move_becomes_a_dummy_where_a_value_is_demanded() -> None:
    assert shifted("DA", "2004", -7, must_have_value=True) == "19000101"
    assert [is_time(text) for text in ("235959.5\\12", "Bartholomew", "99:99")] == [True, False, False]
    assert [is_date("DA", text) for text in ("20040119", "Mr Doe", "20040119 Doe")] == [True, False, False]
