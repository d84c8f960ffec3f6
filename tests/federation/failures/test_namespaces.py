"""Hospitals on hosts of their own: lines that lose packets, carry little, or bring them one way only."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.grid import GridNode
from tests.hosts import Host, bridge, ip
from tests.running import until
from tests.workstation import object_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces"),
    pytest.mark.skipif(not shutil.which("nft"), reason="nft has packets get lost (Debian: nftables)"),
]
OUT, BACK = {"out": 100}, {"back": 100}
_roots = count(1)


class Hospital(GridNode):
    """A node on a host of its own, with its workstation beside it."""

    def __init__(self, home: Path, name: str, host: Host) -> None:
        super().__init__(home, name)
        self.host, self.prefix = host, host.prefix
        self.env |= {
            "PEERPACS__GRID__HOST": host.address,
            "PEERPACS__GRID__JOIN_ADDRESS": f"{host.address}:{self.join_port}",
        }

    def store(self, folder: Path, *uids: str) -> None:
        """Have its workstation store a study of two instances under each UID."""
        folder.mkdir(exist_ok=True)
        files = [object_of(folder, uid, "1", number) for uid in uids for number in (1, 2)]
        self.host.run("storescu", "-aec", self.ae_title, "127.0.0.1", str(self.port), *files)

    def found(self, root: str) -> dict[str, str]:
        """Return study → availability of what its grid has below a root; no study twice."""
        said = self.host.run("findscu", "-S", "-v", "-aec", f"{self.ae_title}_GRID",
                             "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID", "-k",
                             "InstanceAvailability", "127.0.0.1", str(self.port))  # fmt: skip
        text = said.stdout + said.stderr
        pattern = r"\(0008,0056\) CS \[(\w+) *\].*?\(0020,000d\) UI \[([\d.]+)"
        rows = re.findall(pattern, text, re.DOTALL)
        assert len({uid for _, uid in rows}) == len(rows)
        return {uid: where for where, uid in rows if uid.startswith(f"{root}.")}

    def seconds(self, root: str) -> float:
        """Return how long its grid's answer took."""
        started = time.monotonic()
        self.found(root)
        return time.monotonic() - started

    def got(self, folder: Path, uid: str) -> int:
        """Have its workstation get a study from the grid; return how many objects came."""
        folder.mkdir()
        self.host.is_well("getscu", "-S", "-aec", f"{self.ae_title}_GRID", "-od", str(folder),
                          "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}",
                          "127.0.0.1", str(self.port))  # fmt: skip
        return len(list(folder.iterdir()))


Pair = tuple[Hospital, Hospital]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Alpha and beta, each on its host; each grants the other all. This machine is at the bridge too."""
    home = tmp_path_factory.mktemp("grid")
    hosts: list[Host] = []
    nodes: list[Hospital] = []
    with bridge() as line:
        try:
            ip("address", "add", f"{line.address(254)}/24", "dev", line.name)
            for number, name in enumerate(("alpha", "beta"), 1):
                hosts.append(Host(line, name, number))
                nodes.append(Hospital(home / name, name, hosts[-1]))
                nodes[-1].start(**nodes[-1].env)
            alpha, beta = nodes
            alpha.admit(beta)
            beta.grant(alpha)
            yield alpha, beta
        finally:
            for node in nodes:
                node.stop()
            for host in hosts:
                host.close()


@pytest.fixture
def root(pair: Pair) -> Iterator[str]:
    """Yield a UID below which studies are made; the lines are well before and after."""
    until(lambda: pair[0].is_connected(pair[1]) and pair[1].is_connected(pair[0]))
    yield f"1.3.{next(_roots)}"
    for node in pair:
        node.host.mend()


def are_level(pair: Pair, root: str, studies: int) -> bool:
    """Say whether both find as many studies, each of which can be had."""
    found = [node.found(root) for node in pair]
    return all(len(each) == studies and "UNAVAILABLE" not in each.values() for each in found)


@pytest.mark.parametrize("lost", [OUT, BACK], ids=["out", "in"])
def test_packets_that_get_through_one_way_only_make_no_line_and_cost_nobody_time(
    pair: Pair, root: str, tmp_path: Path, lost: dict[str, int]
) -> None:
    alpha, beta = pair
    alpha.store(tmp_path / "sent", f"{root}.1")
    beta.store(tmp_path / "sent", f"{root}.2")
    until(lambda: are_level(pair, root, 2))
    alpha.host.lose(**lost)
    assert max(node.seconds(root) for node in pair) < 2
    until(lambda: alpha.found(root)[f"{root}.2"] == "UNAVAILABLE", 30)
    until(lambda: beta.found(root)[f"{root}.1"] == "UNAVAILABLE", 30)
    for number, node in enumerate(pair, 3):
        node.store(tmp_path / "more", f"{root}.{number}")
        assert node.found(root)[f"{root}.{number}"] == "ONLINE"
        assert node.seconds(root) < 2
        assert node.got(tmp_path / node.name, f"{root}.{number}") == 2
    alpha.host.mend()
    until(lambda: are_level(pair, root, 4))
    assert alpha.got(tmp_path / "later", f"{root}.4") == 2


def test_over_a_line_that_loses_one_packet_in_twenty_everything_comes_once(
    pair: Pair, root: str, tmp_path: Path
) -> None:
    alpha, beta = pair
    for node in pair:
        node.host.lose(out=5, back=5)
        node.host.slow("2mbit")
    alpha.store(tmp_path / "sent", *(f"{root}.{n}" for n in range(8)))
    beta.store(tmp_path / "sent", *(f"{root}.{n}" for n in range(8, 16)))
    until(lambda: are_level(pair, root, 16))
    assert max(node.seconds(root) for node in pair) < 2
    assert beta.got(tmp_path / "got", f"{root}.3") == 2


def test_a_line_that_is_taken_away_and_comes_back_needs_nobody(pair: Pair, root: str, tmp_path: Path) -> None:
    alpha, beta = pair
    alpha.store(tmp_path / "sent", f"{root}.1")
    until(lambda: beta.found(root) == {f"{root}.1": "NEARLINE"})
    alpha.host.cut()
    until(lambda: beta.found(root) == {f"{root}.1": "UNAVAILABLE"}, 30)
    beta.store(tmp_path / "sent", f"{root}.2")
    alpha.store(tmp_path / "sent", f"{root}.3")
    alpha.host.mend()
    until(lambda: are_level(pair, root, 3))


def test_a_far_hospital_is_asked_and_gives_in_a_few_round_trips(
    pair: Pair, root: str, tmp_path: Path
) -> None:
    """80 ms there and back, as between continents."""
    alpha, beta = pair
    if not all(node.host.delay(40) for node in pair):
        pytest.skip("this kernel has no netem")
    alpha.store(tmp_path / "sent", f"{root}.1")
    until(lambda: beta.found(root) == {f"{root}.1": "NEARLINE"})
    assert beta.seconds(root) < 1, "the catalog that is here answers"
    started = time.monotonic()
    assert beta.got(tmp_path / "got", f"{root}.1") == 2
    assert time.monotonic() - started < 3
