"""What goes wrong between the node and its bucket, and what nobody loses by it."""

from __future__ import annotations

import logging
import random
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from catalog import Damaged, NotFound, NotPermitted, Unavailable
from node.bucket import Spool
from node.bucket.client import Bucket
from tests.node.bucket.serving import ACCESS, SECRET, Server, bucket_store, work_off
from tests.node.bucket.uploading import command
from tests.node.storage.filling import MB, Stopped, keep, objects, read


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(size + seed).randbytes(size)


def test_a_bucket_that_goes_away_and_comes_back_gets_everything(tmp_path: Path, server: Server) -> None:
    clock = Stopped()
    store = bucket_store(tmp_path, server, clock, spool=Spool.PERSISTENT)
    first = keep(store, some_bytes(5000))
    work_off(store)
    assert store.is_safe(first)
    server.stop()
    others = [keep(store, some_bytes(9000, seed)) for seed in range(5)]
    work_off(store)
    clock.now += 61
    assert not store.is_online(clock.now)
    assert not any(store.is_safe(holding) for holding in others)
    assert [read(store, holding) for holding in others] == [some_bytes(9000, seed) for seed in range(5)]
    server.start()
    clock.now += 120
    work_off(store)
    assert all(store.is_safe(holding) for holding in others)
    assert store.is_online(clock.now)
    assert store.waiting() == 0
    assert len(server.files()) == 6


def test_without_a_persistent_spool_nothing_is_acknowledged_that_the_bucket_lacks(
    tmp_path: Path, server: Server
) -> None:
    store = bucket_store(tmp_path, server)
    assert store.is_safe(keep(store, b"acknowledged"))
    server.stop()
    with pytest.raises(Unavailable, match="does not answer"):
        keep(store, b"refused")


def test_wrong_credentials_are_named_and_the_objects_stay(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = server.endpoint(secret_key="wrongsecretkey0000000001")
    store = bucket_store(tmp_path, server, endpoint=wrong)
    with pytest.raises(NotPermitted, match=r"refuses this node's credentials.*Correct access key"):
        keep(store, b"object")
    assert "credentials" in caplog.text
    assert store.waiting() == 1


def test_a_spool_wiped_before_the_upload_is_told_and_nothing_counts_as_safe(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    store = bucket_store(tmp_path, server, spool=Spool.PERSISTENT)
    safe = keep(store, some_bytes(4000))
    work_off(store)
    lost = keep(store, some_bytes(5000))
    store.close()
    shutil.rmtree(tmp_path / "spool")
    store = bucket_store(tmp_path, server, spool=Spool.PERSISTENT)
    assert [*store.recover()] == []
    with caplog.at_level(logging.ERROR):
        work_off(store)
    assert lost.sha256.hex() in caplog.text
    assert "Send it again" in caplog.text
    assert store.is_safe(safe)
    assert not store.is_safe(lost)
    with pytest.raises(NotFound, match="Send it again"):
        store.open(lost)
    assert read(store, safe) == some_bytes(4000)
    again = keep(store, some_bytes(5000))
    work_off(store)
    assert store.is_safe(again)
    assert read(store, again) == some_bytes(5000)


@pytest.mark.parametrize("size", [3000, 2 * MB])
def test_a_byte_flipped_in_the_bucket_is_never_delivered(tmp_path: Path, server: Server, size: int) -> None:
    store = bucket_store(tmp_path, server)
    holding = keep(store, some_bytes(size))
    store = _without_cache(store, tmp_path, server)
    [path] = server.files()
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    server.replace(path, content)
    with pytest.raises(Damaged, match=r"is not what was written"):
        read(store, holding)
    assert not store.is_safe(holding)


@pytest.mark.parametrize("cut", [1, 70_000])
def test_an_object_cut_short_in_the_bucket_is_never_delivered(
    tmp_path: Path, server: Server, cut: int
) -> None:
    store = bucket_store(tmp_path, server)
    holding = keep(store, some_bytes(300_000))
    store = _without_cache(store, tmp_path, server)
    [path] = server.files()
    server.replace(path, path.read_bytes()[:-cut])
    with pytest.raises(Damaged):
        read(store, holding)
    assert not store.is_safe(holding)


def test_a_byte_flipped_in_the_spool_is_never_uploaded(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    store = bucket_store(tmp_path, server, spool=Spool.PERSISTENT)
    holding = keep(store, some_bytes(5000))
    [segment] = (tmp_path / "spool").rglob("*.tar")
    content = bytearray(segment.read_bytes())
    content[2000] ^= 1
    segment.write_bytes(content)
    work_off(store)
    assert not store.is_safe(holding)
    assert server.files() == []
    assert "changed before it was uploaded" in caplog.text


def test_a_node_killed_during_an_upload_goes_on_with_the_next_part(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen(command(tmp_path, server.endpoint()), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "two parts are sent\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    sent: list[int] = []
    put_part = Bucket.put_part

    def noted(self: Bucket, key: str, upload: str, number: int, data: bytes) -> str:
        sent.append(number)
        return put_part(self, key, upload, number, data)

    monkeypatch.setattr(Bucket, "put_part", noted)
    store = bucket_store(tmp_path, server, spool=Spool.PERSISTENT)
    [kept] = objects(store.recover())
    before = store.waiting()
    deadline = time.monotonic() + 30
    while store.waiting():
        assert time.monotonic() < deadline
        store.step()
    assert before == 1
    assert sent == [3, 4]
    assert store.is_safe(kept.holding)
    store = _without_cache(store, tmp_path, server)
    assert read(store, kept.holding) == some_bytes(20 * MB)


def test_a_damaged_copy_is_not_safe_and_heals_when_the_object_comes_again(
    tmp_path: Path, server: Server
) -> None:
    store = bucket_store(tmp_path, server)
    holding = keep(store, some_bytes(3000))
    store = _without_cache(store, tmp_path, server)
    [path] = server.files()
    server.replace(path, bytes(len(path.read_bytes())))
    with pytest.raises(Damaged):
        store.open(holding)
    assert not store.is_safe(holding)
    again = keep(store, some_bytes(3000))
    assert store.is_safe(again)
    assert store.is_safe(holding)


def _without_cache(store: object, folder: Path, server: Server) -> object:
    """Drop everything that is confirmed from the spool."""
    store.settings = replace(store.settings, cache_bytes=-1)  # type: ignore[attr-defined]
    while store.evict_step():  # type: ignore[attr-defined]
        pass
    return store


def test_verify_reads_the_bucket_and_a_whole_copy_in_the_cache_mends_it(
    tmp_path: Path, server: Server
) -> None:
    store = bucket_store(tmp_path, server)
    holding = keep(store, some_bytes(40_000))
    store.verify(holding)
    (path,) = server.files()
    flipped = bytearray(path.read_bytes())
    flipped[20_000] ^= 1
    path.write_bytes(flipped)
    store.verify(holding)
    assert not store.is_safe(holding)
    work_off(store)
    assert store.is_safe(holding)
    store.verify(holding)
    path.write_bytes(flipped)
    for segment in (tmp_path / "spool").rglob("*.tar"):
        flipped = bytearray(segment.read_bytes())
        flipped[20_000] ^= 1
        segment.write_bytes(flipped)
    with pytest.raises(Damaged):
        store.verify(holding)


def test_the_bucket_is_asked_about_what_it_confirmed_without_reading_it(
    tmp_path: Path, server: Server
) -> None:
    store = bucket_store(tmp_path, server)
    cached, gone, cut = (keep(store, some_bytes(40_000, seed)) for seed in range(3))
    for holding in (cached, gone, cut):
        store.glance(holding)
    while store.drop_one():
        pass
    read(store, cached)
    server.stop()
    for path in server.files():
        if path.name != cut.sha256.hex():
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1])
    server.start()
    store.glance(cached)
    for holding in (gone, cut):
        with pytest.raises(Damaged, match=r"does not have it|bytes of"):
            store.glance(holding)
        assert not store.is_safe(holding)
    assert not store.is_safe(cached)
    assert store.lost() == {gone.sha256, cut.sha256}
    work_off(store)
    assert store.is_safe(cached)
    store.glance(cached)


def test_new_credentials_are_read_when_the_old_ones_are_refused(tmp_path: Path, server: Server) -> None:
    keys = [(ACCESS, "wrongsecretkey0000000001"), (ACCESS, SECRET)]
    endpoint = server.endpoint(secret_key="wrongsecretkey0000000001", reread=lambda: keys[0])
    store = bucket_store(tmp_path, server, endpoint=endpoint)
    with pytest.raises(NotPermitted, match="reads them again by itself"):
        keep(store, b"object")
    del keys[0]
    assert store.is_safe(keep(store, b"object"))
