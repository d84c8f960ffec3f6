"""Disks that are too small: of the owner, which has ten times as much, or of the keeper, full in mid-copy."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from node.control import ask
from tests.grid import GridNode
from tests.homes import Peer, RawInstance, attribute, phantoms
from tests.node.copies import are_equal, hospitals, is_done, is_well, kept, sent, state
from tests.running import until

pytestmark = pytest.mark.slow

MB = 1_000_000
MARGINS = {
    "PEERPACS__STORAGE__STOP_BELOW_MB": "2",
    "PEERPACS__STORAGE__RESUME_ABOVE_MB": "4",
    "PEERPACS__COPIES__REFUSE_BELOW_PERCENT": "0",
}


@contextlib.contextmanager
def small(folder: Path, megabytes: int) -> Iterator[Path]:
    """Make a folder that is a file system of its own, of so many megabytes."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may make a small disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def running(nodes: list[GridNode]) -> Iterator[None]:
    """Stop nodes in the end, those that run."""
    try:
        yield
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


def test_a_node_of_64_mb_takes_ten_times_as_much_and_gives_all_of_it_back(tmp_path: Path) -> None:
    with small(tmp_path / "grid" / "alpha", 64):
        nodes = alpha, beta, gamma = hospitals(tmp_path / "grid", "alpha", "beta", "gamma", **MARGINS)
        with running(nodes):
            alpha.say("copies", "add", "all", "--copies", "3", "--min-sites", "3")
            alpha.stop()
            alpha.env |= {
                "PEERPACS__COPIES__NEARLINE_ABOVE_PERCENT": "40",
                "PEERPACS__COPIES__NEARLINE_AFTER_DAYS": "0",
            }
            alpha.start(**alpha.env)
            peer = Peer.at(alpha.port)
            acknowledged: dict[str, set[str]] = {}
            for number in range(80):
                left = phantoms(900, number, instances=16, size=500_000)
                acknowledged[str(attribute(left[0], "StudyInstanceUID"))] = digests(left)
                while left:
                    statuses = peer.store(*left)
                    assert set(statuses) <= {0, 0xA700}, "nothing but a full disk is in the way"
                    left = [each for each, status in zip(left, statuses, strict=True) if status]
                    if left:
                        until(lambda first=left[0]: peer.store(first) == [0], 120)  # type: ignore[misc]
                        del left[0]
            until(lambda: is_done(alpha), 120)
            for node in (beta, gamma):
                until(lambda node=node: kept(node) == 80 * 16)  # type: ignore[misc]
                until(lambda node=node: are_equal(alpha, node))  # type: ignore[misc]
            assert ask(alpha.home, "status")["archive"]["instances"] == 80 * 16
            for uid, expected in acknowledged.items():
                assert digests(peer.get(uid)) == expected
            assert state(alpha)["studies"]["all"] == {"met": 80, "lacking": 0}


def test_of_two_studies_above_the_mark_the_pinned_one_stays_and_one_pinned_late_comes_home(
    tmp_path: Path,
) -> None:
    mark = {"PEERPACS__COPIES__NEARLINE_ABOVE_MB": "1", "PEERPACS__COPIES__NEARLINE_AFTER_DAYS": "0"}
    nodes = alpha, _beta = hospitals(tmp_path / "grid", "alpha", "beta")
    with running(nodes):
        pinned, _ = sent(alpha, tmp_path / "pinned", 961, 4, 500_000)
        other, _ = sent(alpha, tmp_path / "other", 962, 4, 500_000)
        alpha.say("copies", "pin", pinned)
        alpha.say("copies", "add", "all", "--copies", "2")
        until(lambda: is_done(alpha))
        alpha.stop()
        alpha.start(**alpha.env, **mark)
        until(lambda: availability(alpha, other) == "NEARLINE", 60)
        assert availability(alpha, pinned) == "ONLINE"
        alpha.say("copies", "pin", other)
        until(lambda: availability(alpha, other) == "ONLINE", 120)
        until(lambda: [row["where"] for row in alpha.told("copies", "pins")] == ["here", "here"])
        alpha.say("copies", "unpin", pinned)
        until(lambda: availability(alpha, pinned) == "NEARLINE", 120)
        assert availability(alpha, other) == "ONLINE"


def availability(node: GridNode, uid: str) -> str:
    """Return where a node says that a study is."""
    [found] = Peer.at(node.port).find(StudyInstanceUID=uid, InstanceAvailability="")
    return str(found["InstanceAvailability"])


def digests(sent: list[RawInstance]) -> set[str]:
    """Return the SHA-256 of each data set."""
    return {sha256(each.data).hexdigest() for each in sent}


def test_a_keeper_whose_disk_is_full_in_mid_copy_says_so_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    with small(tmp_path / "small", 64) as disk:
        nodes = alpha, beta = hospitals(tmp_path / "grid", "alpha", "beta", **MARGINS)
        with running(nodes):
            beta.stop()
            beta.env |= {"PEERPACS__COPIES__FOLDER": str(disk / "copies")}
            beta.start(**beta.env)
            ops = ("catalog", "find_live", "retrieve", "host_replicas")
            alpha.say("grants", "add", "beta", "everything", *ops, "--rate", "20000000")
            alpha.say("copies", "add", "all", "--copies", "2")
            sent(alpha, tmp_path / "small studies", 951, 8, 200_000)
            until(lambda: is_done(alpha))
            had = kept(beta)
            assert had == 8
            sent(alpha, tmp_path / "large", 952, 2, 20_000_000)
            incoming = disk / "copies" / "incoming"
            until(lambda: any(path.stat().st_size > 5 * MB for path in incoming.glob("*.resumed")))
            with (disk / "brim").open("wb", buffering=0) as brim, contextlib.suppress(OSError):
                while brim.write(bytes(4096)):
                    pass
            until(lambda: "MB are free" in _waits(alpha) or "There is room for" in _waits(alpha))
            assert kept(beta) >= had, "what was kept stays"
            [lacking] = alpha.told("copies", "lacking", code=3)
            assert [each["name"] for each in lacking["nodes"]] == ["beta"]
            (disk / "brim").unlink()
            until(lambda: is_done(alpha), 120)
            assert kept(beta) == 10
            beta.stop()
            del beta.env["PEERPACS__COPIES__FOLDER"]
            shutil.rmtree(beta.home / "copies")
            subprocess.run(["cp", "-a", str(disk / "copies"), str(beta.home)], check=True)
            beta.start(**beta.env)
            is_well(alpha, beta, tmp_path / "proved")


def _waits(node: GridNode) -> str:
    """Return why transfers do not go on, or nothing while they do."""
    return " ".join(row["why"] for row in ask(node.home, "transfers"))
