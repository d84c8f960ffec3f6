"""A grid whose only authority is lost goes on when another one was certified before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.grid import GridNode
from tests.running import until

pytestmark = pytest.mark.slow


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[tuple[GridNode, GridNode, GridNode]]:
    """Alpha, who founded the grid, beta in it, and gamma in none."""
    alpha, beta, gamma = (GridNode(tmp_path / name, name) for name in ("alpha", "beta", "gamma"))
    nodes = alpha, beta, gamma
    for node in nodes:
        node.start(**node.env)
    alpha.admit(beta)
    yield nodes
    for node in nodes:
        if node.process is not None:
            node.stop()


def names(node: GridNode) -> set[str]:
    """Return the authorities that a node trusts."""
    return {each["name"] for each in node.told("authority")}


def is_authority(node: GridNode) -> bool:
    """Say whether a node takes itself for one, whoever is connected with it."""
    said = json.loads(node.answer("peers", "--json")[1])
    return bool(said["is_authority"])


def test_a_second_authority_takes_nodes_in_and_expels_while_the_first_is_away(
    trio: tuple[GridNode, GridNode, GridNode], tmp_path: Path
) -> None:
    """The root key lies outside of every node, as in a safe, and beta never sees it."""
    alpha, beta, gamma = trio
    root = alpha.home / "identity" / "root.pem"
    safe = root.rename(tmp_path / "root.pem")
    assert "no authority" in beta.say("invite", "--site", "HOSP-C", code=2)
    said = beta.say("authority", "ask")
    [key] = re.findall(r"pk1-\S+", said)
    assert key in beta.say("authority", "ask"), "one key waits, however often one asks"
    words = beta.told("authority", "ask")["words"]

    assert "safe" in alpha.say("authority", "add", key, "--name", "Brno", "--yes", code=1)
    assert "not a root" in alpha.say(
        "authority", "add", key, "--name", "Brno", "--root", str(_other_root(tmp_path)), "--yes", code=2
    )
    made = alpha.told("authority", "add", key, "--name", "Brno", "--root", str(safe), "--yes")
    assert made["words"] == words
    until(lambda: names(beta) == names(alpha) == {"alpha", "Brno"})
    until(lambda: is_authority(beta) and beta.is_connected(alpha))
    assert not (beta.home / "identity" / "authority-next.pem").exists()

    alpha.stop()
    beta.admit(gamma)
    alpha.start(**alpha.env)
    until(lambda: alpha.is_connected(beta) and alpha.is_connected(gamma))
    beta.say("revoke", "gamma", "--yes")
    until(lambda: not alpha.is_connected(gamma) and not beta.is_connected(gamma))

    [brno] = [each["id"] for each in alpha.told("authority") if each["name"] == "Brno"]
    alpha.say("authority", "remove", brno, "--root", str(safe), "--yes")
    until(lambda: names(beta) == {"alpha"})
    until(lambda: not is_authority(beta))
    assert "no authority" in beta.say("invite", "--site", "HOSP-D", code=2)
    assert not alpha.is_connected(gamma)


def test_the_root_key_is_changed_by_its_admins_while_the_grid_goes_on(
    trio: tuple[GridNode, GridNode, GridNode], tmp_path: Path
) -> None:
    """Both roots count until all certificates are from an authority below the new one."""
    alpha, beta, gamma = trio
    old, new = alpha.home / "identity" / "root.pem", tmp_path / "new.pem"
    alpha.say("authority", "new-root", "--into", str(new))
    assert "is there already" in alpha.say("authority", "new-root", "--into", str(new), code=2)
    assert "without an authority" in alpha.say("authority", "end-root", "--root", str(new), "--yes", code=2)
    before = {each["root"] for each in alpha.told("authority")}
    key = alpha.told("authority", "ask")["key"]
    alpha.say("authority", "add", key, "--name", "Praha", "--root", str(new), "--yes")
    until(lambda: {each["root"] for each in beta.told("authority")} > before)
    until(lambda: [each["name"] for each in alpha.told("authority") if each["is_own"]] == ["Praha"])
    until(lambda: alpha.is_connected(beta))
    assert "this node's own" in alpha.say("authority", "end-root", "--root", str(new), "--yes", code=2)

    for node in (alpha, beta):
        node.say("authority", "renew")
        assert [each["name"] for each in node.told("authority") if each["is_issuer"]] == ["Praha"]
    until(lambda: alpha.is_connected(beta))
    alpha.say("authority", "end-root", "--root", str(new), "--yes")
    old.unlink()
    until(lambda: names(beta) == {"Praha"})
    alpha.admit(gamma)
    until(lambda: alpha.is_connected(beta) and beta.is_connected(gamma))


def _other_root(folder: Path) -> Path:
    from federation.trust.authority import write_issuer
    from federation.trust.certificates import Issuer, make_root
    from federation.trust.keys import make_key

    key = make_key()
    write_issuer(folder / "other.pem", Issuer(make_root("OTHER", key, 1_800_000_000.0), key))
    return folder / "other.pem"
