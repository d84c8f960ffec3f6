"""A node of several processes answers for the grid too, by the one of them that knows its peers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.grid import GridNode
from tests.running import dcmtk, until
from tests.workstation import ask, get, object_of, rows, seen, send


@pytest.mark.slow
def test_gateways_relay_the_grids_title_to_the_process_that_knows_the_peers(tmp_path: Path) -> None:
    alpha, beta = GridNode(tmp_path / "alpha", "alpha"), GridNode(tmp_path / "beta", "beta")
    files = tmp_path / "files"
    files.mkdir()
    alpha.start(**alpha.env)
    beta.start(**beta.env, PEERPACS__PROCESSES__COUNT="3")
    try:
        alpha.admit(beta)
        send(alpha, *(object_of(files, "1.2.1", number=number) for number in (1, 2, 3)))
        send(beta, object_of(files, "1.2.2"))
        seen(beta, [("1.2.1", "NEARLINE"), ("1.2.2", "ONLINE")])
        got, final, _, _ = get(beta, "1.2.1", as_ae="WS")
        assert (final.Status, len(got)) == (0, 3)
        assert rows(ask(beta, called="BETA")) == [("1.2.2", "ONLINE")]
        said = dcmtk("echoscu", "-v", "-aec", "NOWHERE", "127.0.0.1", str(beta.port), exit_code=None)
        assert "Called AE Title Not Recognized" in said
        # The device's own address is what counts.
        until(lambda: "WS at 127.0.0.1 spoke to BETA_GRID" in beta.log())
        for _ in range(20):
            assert len(rows(ask(beta))) == 2
        assert beta.process is not None
        beta.stop()
        beta.start(**beta.env, PEERPACS__PROCESSES__COUNT="3")
        until(lambda: len(rows(ask(beta))) == 2)
    finally:
        alpha.stop()
        if beta.process is not None:
            beta.stop()
