"""A node as a process, its bucket, and what the people who run it read while things go wrong."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog import PacsError
from node.dimse import Requestor
from tests.homes import Peer, RawInstance, attribute, phantoms
from tests.node.bucket.proxy import Proxy
from tests.node.bucket.serving import ACCESS, SECRET, Server
from tests.running import RunningNode, until

pytestmark = pytest.mark.slow


class Site:
    """A node on a bucket, and a device that may do everything there."""

    def __init__(self, folder: Path, server: Server, url: str = "", secret: str = SECRET) -> None:
        keys = folder / "keys"
        keys.write_text(f"{ACCESS}\n{secret}\n")
        where = ["--storage", f"s3://{server.bucket}/n", "--s3-endpoint", url or server.endpoint().url]
        self.server = server
        self.node = RunningNode(folder / "home", "ALPHA", *where, "--s3-keys", str(keys))

    def start(self, **settings: str) -> None:
        """Run it, with a spool that counts as persistent unless said otherwise."""
        persistent = {"PEERPACS__S3__PERSISTENT_SPOOL": "true", "PEERPACS__STORAGE__STOP_BELOW_MB": "1"}
        self.node.start(**{**persistent, **settings})

    def store(self, sent: list[RawInstance]) -> list[int]:
        """Return the statuses of C-STORE."""
        requestor = Requestor("CT", "127.0.0.1", self.node.port, "ALPHA")
        return [answer.status for answer in requestor.store(sent)]

    def get(self, sent: list[RawInstance]) -> int:
        """Return how many of a study's instances come by C-GET just as they were sent."""
        peer = Peer.at(self.node.port)
        study = str(attribute(sent[0], "StudyInstanceUID"))
        came = {one.SOPInstanceUID: one.data for one in peer.get(study)}
        wanted = {one.SOPInstanceUID: one.data for one in sent}
        assert all(wanted[uid] == data for uid, data in came.items())
        return len(came)

    def bucket(self) -> dict[str, Any]:
        """Return what `archives list` says of the bucket."""
        [archive] = self.node.json("archives", "list")
        told: dict[str, Any] = archive["bucket"]
        return told

    def has_everything(self, count: int) -> bool:
        """Say whether the bucket has so many objects, and nothing waits."""
        return len(self.server.files("n/o")) >= count and not self.bucket()["waiting"]


@pytest.fixture
def site(tmp_path: Path, server: Server) -> Iterator[Site]:
    site = Site(tmp_path, server)
    yield site
    if site.node.process is not None:
        site.node.stop()


def test_a_bucket_that_dies_while_it_is_sent_to_and_read_from_costs_nobody_anything(site: Site) -> None:
    """Killed in the middle of uploads, and then in the middle of a retrieve; both go on when it is back."""
    site.start()
    sent = phantoms(1, series=1, instances=60, size=400_000)
    killer = threading.Timer(0.3, site.server.stop)
    killer.start()
    assert set(site.store(sent)) == {0}
    killer.join()
    until(lambda: site.bucket()["trouble"])
    assert "does not answer" in site.node.cli("status")
    assert "check the network and the server" in site.node.cli("archives", "list")
    assert "✗ main: " in site.node.cli("check", exit_code=1)
    assert site.get(sent) == 60
    site.server.start()
    until(lambda: site.has_everything(60), seconds=120)
    # The cache is emptied, and the server killed again while the study leaves it.
    site.node.stop()
    site.start(PEERPACS__S3__CACHE_MB="1")
    until(lambda: _cached(site) < 5, seconds=60)
    killer = threading.Timer(0.2, site.server.stop)
    killer.start()
    assert site.get(sent) < 60
    killer.join()
    site.server.start()
    until(lambda: site.get(sent) == 60, seconds=60)


def _cached(site: Site) -> int:
    """Return how many MB the objects take on the node's own disk."""
    objects = site.node.home / "archives" / "main" / "objects"
    return sum(path.stat().st_blocks * 512 for path in objects.rglob("*.tar")) >> 20


def test_wrong_keys_are_told_everywhere_and_right_ones_count_without_a_restart(
    tmp_path: Path, server: Server
) -> None:
    site = Site(tmp_path, server, secret="wrongsecretkey0000000001")
    site.start()
    sent = phantoms(2, series=1, instances=5)
    try:
        assert set(site.store(sent)) == {0}
        until(lambda: site.bucket()["trouble"])
        for told in (site.node.cli("status"), site.node.cli("archives", "list"), site.node.log()):
            assert "refuses this node's credentials" in told
            assert "Correct access key and secret" in told
        assert "Correct access key" in site.node.cli("check", exit_code=1)
        (site.node.home / "secrets" / "s3-secret-key").write_text(SECRET + "\n")
        until(lambda: site.has_everything(5), seconds=90)
        assert not site.bucket()["trouble"]
        lines = site.node.cli("check").splitlines()
        for said in ("takes the credentials", "lets them be deleted", "may read its key", "the clock is"):
            assert any(line.startswith("✓ main: ") and said in line for line in lines), (said, lines)
    finally:
        site.node.stop()


def test_a_spool_wiped_before_the_upload_is_listed_and_healed_by_sending_again(site: Site) -> None:
    site.start()
    safe, lost = (phantoms(seed, series=1, instances=4) for seed in (3, 4))
    assert set(site.store(safe)) == {0}
    until(lambda: site.has_everything(4))
    site.server.stop()
    assert set(site.store(lost)) == {0}
    until(lambda: site.bucket()["waiting"] == 4)
    # The rows of the queue follow the spool once a second.
    until(lambda: site.bucket()["trouble"])
    site.node.stop()
    shutil.rmtree(site.node.home / "archives" / "main" / "objects")
    site.server.start()
    site.start()
    until(lambda: site.node.json("status")["storage"]["damaged"] == 4, seconds=60)
    damaged = site.node.json("verify", "--list", exit_code=1)
    assert {row["SOPInstanceUID"] for row in damaged} == {one.SOPInstanceUID for one in lost}
    assert "4 objects damaged and not sent any more" in site.node.cli("status")
    assert "Send it again" in site.node.log()
    assert (site.get(safe), site.get(lost)) == (4, 0)
    assert set(site.store(lost)) == {0}
    until(lambda: site.has_everything(8))
    assert site.node.json("verify", "--list") == []
    assert site.get(lost) == 4


def test_a_passing_spool_loses_nothing_that_was_acknowledged(site: Site) -> None:
    site.start(PEERPACS__S3__PERSISTENT_SPOOL="false")
    sent = phantoms(5, series=1, instances=6)
    assert set(site.store(sent)) == {0}
    site.node.kill()
    shutil.rmtree(site.node.home / "archives" / "main" / "objects")
    site.start(PEERPACS__S3__PERSISTENT_SPOOL="false")
    assert site.get(sent) == 6
    assert site.node.json("verify", exit_code=0)["damaged"] == 0


def test_a_byte_flipped_on_disk_and_one_in_the_bucket_are_found_and_never_sent(site: Site) -> None:
    site.start()
    sent = phantoms(6, series=1, instances=4, size=40_000)
    assert set(site.store(sent)) == {0}
    until(lambda: site.has_everything(4))
    site.node.stop()
    [segment] = (site.node.home / "archives" / "main" / "objects").rglob("*.tar")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    site.start()
    # The cache's copy is bad, the bucket's is whole: after a verification everything comes from there.
    assert site.node.json("verify")["damaged"] == 0
    assert site.get(sent) == 4
    site.node.stop()
    shutil.rmtree(site.node.home / "archives" / "main" / "objects")
    path = site.server.files("n/o")[0]
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    site.server.replace(path, content)
    site.start()
    found = site.node.json("verify", exit_code=1)
    assert found["damaged"] == 1
    # Whoever is first tells: the verification, or who lists what is nowhere whole any more.
    told = site.node.cli("verify", "--list", exit_code=1)
    assert "is not what was written" in told or "Neither the spool nor the bucket" in told
    assert site.get(sent) == 3


def test_a_bucket_that_is_busy_or_slow_delays_uploads_and_loses_nothing(
    tmp_path: Path, server: Server
) -> None:
    with Proxy(server.port) as proxy:
        site = Site(tmp_path, server, url=proxy.url)
        proxy.refuses = True
        site.start()
        try:
            sent = phantoms(7, series=1, instances=8, size=100_000)
            assert set(site.store(sent)) == {0}
            until(lambda: "503 SlowDown" in site.bucket()["trouble"], seconds=60)
            assert "ask who runs it" in site.node.cli("status")
            proxy.refuses, proxy.delay = False, 0.3
            until(lambda: site.has_everything(8), seconds=120)
            assert site.get(sent) == 8
        finally:
            site.node.stop()


def test_without_a_persistent_spool_a_busy_bucket_is_told_to_the_sender(
    tmp_path: Path, server: Server
) -> None:
    with Proxy(server.port) as proxy:
        site = Site(tmp_path, server, url=proxy.url)
        proxy.refuses = True
        site.start(PEERPACS__S3__PERSISTENT_SPOOL="false")
        try:
            sent = phantoms(8, series=1, instances=2)
            assert set(site.store(sent)) == {0xA700}
            proxy.refuses = False
            until(lambda: _try(site, sent) == {0}, seconds=60)
            assert site.get(sent) == 2
        finally:
            site.node.stop()


def _try(site: Site, sent: list[RawInstance]) -> set[int]:
    try:
        return set(site.store(sent))
    except PacsError:
        return set()
