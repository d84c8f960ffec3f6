"""The order of answers has one shape, whatever a file says."""

from __future__ import annotations

import pytest

from catalog.order import study_order


def _order(date: str, time: str) -> bytes:
    return study_order({"00080020": {"vr": "DA", "Value": [date]}, "00080030": {"vr": "TM", "Value": [time]}})


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ("20260102", "101500"),
        ("2026.01.02", "10:15"),
        ("٢٠٢٦٠١٠٢", "١٠١٥"),
        ("２０２６０１０２", "1015"),
        ("", ""),
    ],
)
def test_an_order_has_twenty_bytes_whatever_digits_a_date_is_written_in(date: str, time: str) -> None:
    assert len(_order(date, time)) == 20


def test_a_date_in_digits_of_another_script_is_no_date_and_comes_last() -> None:
    assert _order("٢٠٢٦٠١٠٢", "1015") > _order("18991231", "1015")
