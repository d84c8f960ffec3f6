"""A profile says what py-spy sampled."""

from __future__ import annotations

from sim.profile import summary


def test_the_busiest_function_comes_first() -> None:
    text = summary("main (a.py);hash (a.py) 75\nmain (a.py);sync (a.py) 25\n")
    assert text.splitlines()[3].split() == ["75.0", "%", "hash", "(a.py)"]
    assert "100.0 %  main (a.py)" in text


def test_no_samples_are_told_instead_of_an_empty_table() -> None:
    assert "0 samples" in summary("")
