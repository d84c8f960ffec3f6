"""What an admin is told of the grid: one peer looked at from all sides, and what is wrong with any."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from tests.grid import GridNode
from tests.running import until


def test_an_admin_sees_of_one_peer_what_works_and_what_to_do(tmp_path: Path) -> None:
    alpha, beta = GridNode(tmp_path / "alpha", "alpha"), GridNode(tmp_path / "beta", "beta")
    for node in (alpha, beta):
        node.start(**node.env)
    try:
        alpha.admit(beta)
        beta.say("grants", "add", "alpha", "everything", "catalog")
        until(lambda: alpha.answer("peers", "beta")[0] == 0)
        shown = alpha.say("peers", "beta")
        assert "beta of BETA, BETA, id" in shown
        assert "connected for" in shown
        assert "as it says: it answers there" in shown
        assert "29 more days" in shown or "30 more days" in shown
        assert "clock is" in shown
        assert "this node is level with its catalog" in shown
        assert "it is level with this node's catalog" in shown
        assert "it may here: catalog on everything, find_live on everything" in shown
        assert "this node may there: catalog on everything" in shown
        assert "Grid:" not in alpha.say("status")

        beta.say("grants", "remove", "alpha/everything")
        until(lambda: "this node may nothing at beta" in alpha.answer("peers", "beta")[1])
        alpha.say("peers", "address", "beta", f"127.0.0.1:{alpha.env['PEERPACS__GRID__PORT']}")
        assert "Another node answers there: alpha" in alpha.say("peers", "beta", code=3)
        alpha.say("peers", "address", "beta")

        beta.stop()
        until(lambda: "Connection refused" in alpha.answer("peers", "beta")[1])
        assert "Grid:" in alpha.say("status")
        assert "peerpacs peers beta" in alpha.say("status")
        assert "[!]grid: beta" in alpha.say("health"), "other sites never make a node unready"
        url = f"http://127.0.0.1:{alpha.env['PEERPACS__WATCH__PORT']}/readyz?verbose"
        with urllib.request.urlopen(url, timeout=60) as page:
            assert "[!]grid: beta" in page.read().decode()
        assert "No nodes are called" in alpha.say("peers", "nobody", code=1)
    finally:
        alpha.stop()
        beta.stop()
