"""What the log says of sites that answers lack: enough to find out, and no more."""

from __future__ import annotations

import pytest

from federation.live import Mode
from node.grid_catalog import Tellings


def test_a_site_that_is_away_is_told_once_for_each_change_and_not_once_for_each_look(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    tellings = Tellings()
    for _ in range(3):
        tellings.tell("WEB", Mode.SYNCED, ["praha"], [])
    for _ in range(3):
        tellings.tell("WEB", Mode.SYNCED, ["praha", "olomouc"], [])
        tellings.tell("WEB", Mode.LIVE, [], [])
    for _ in range(3):
        tellings.tell("WEB", Mode.SYNCED, [], [])
    tellings.tell("WEB", Mode.SYNCED, ["praha"], [])
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in said] == ["WARNING", "WARNING", "INFO", "WARNING"]
    assert "praha, olomouc; from copies, because they did not answer: none" in said[1][1]
    assert "lack no site any more" in said[2][1]


def test_what_one_caller_was_told_says_nothing_to_another(caplog: pytest.LogCaptureFixture) -> None:
    tellings = Tellings()
    for caller in ("WS1", "WS2", "WS1", "WS2"):
        tellings.tell(caller, Mode.LIVE, [], ["praha"])
    assert [record.args[0] for record in caplog.records if record.args] == ["WS1", "WS2"]
