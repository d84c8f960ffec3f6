"""What goes wrong between a node and OpenStack Swift, which is stricter than rclone in what it compares.

Named differences: Swift refuses a wrong SHA-256 itself, so nothing is read back; it answers 412 to a
conditional PUT on an object that is there, where rclone overwrites; it refuses a clock that is 15 minutes
off; and a HEAD that it refuses has no word of why.
"""

from __future__ import annotations

import datetime
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import botocore.auth
import pytest
from botocore.exceptions import ClientError

from catalog import Damaged, NotPermitted, Unavailable
from node.bucket import BucketStore, Spool
from node.bucket.client import Bucket
from node.bucket.reading import object_key
from tests.node.bucket.serving import bucket_store, work_off
from tests.node.bucket.swift import Swift, shared_swift
from tests.node.bucket.test_faults import some_bytes
from tests.node.bucket.uploading import command
from tests.node.storage.filling import MB, Stopped, keep, objects, read

pytestmark = pytest.mark.slow


@pytest.fixture
def swift(tmp_path: Path) -> Iterator[Swift]:
    swift = shared_swift().new_bucket(f"faults-{abs(hash(str(tmp_path))):x}")
    yield swift
    if not swift.is_running:
        swift.start()


def store_at(swift: Swift, folder: Path, clock: Stopped | None = None, **changed: object) -> BucketStore:
    return bucket_store(folder, clock=clock, **{"endpoint": swift.endpoint(), **changed})


def test_swift_compares_the_sha256_and_keeps_conditions(swift: Swift) -> None:
    bucket = Bucket(swift.endpoint(), time.time)
    assert bucket.verifies_sha256
    bucket.put("o/aa/x", b"first")
    with pytest.raises(ClientError, match=r"412|Precondition"):
        swift.client().put_object(Bucket=swift.bucket, Key="o/aa/x", Body=b"second", IfNoneMatch="*")
    assert bucket.whole("o/aa/x", 100) == b"first"
    assert bucket.head("o/aa/x")[0] == 5


def test_a_bucket_that_goes_away_and_comes_back_gets_everything(tmp_path: Path, swift: Swift) -> None:
    clock = Stopped()
    store = store_at(swift, tmp_path, clock, spool=Spool.PERSISTENT)
    first = keep(store, some_bytes(5000))
    work_off(store)
    assert store.is_safe(first)
    swift.stop()
    others = [keep(store, some_bytes(9000, seed)) for seed in range(3)]
    work_off(store)
    assert "does not answer" in store.trouble
    assert not any(store.is_safe(holding) for holding in others)
    swift.start()
    clock.now += 120
    work_off(store)
    assert all(store.is_safe(holding) for holding in others)


def test_wrong_credentials_are_named(tmp_path: Path, swift: Swift) -> None:
    store = store_at(swift, tmp_path, endpoint=swift.endpoint(secret_key="wrong"))
    with pytest.raises(NotPermitted, match="Correct access key and secret"):
        keep(store, b"object")
    assert store.waiting() == 1


@pytest.mark.parametrize("size", [3000, 2 * MB])
def test_a_byte_flipped_in_the_bucket_is_never_delivered(tmp_path: Path, swift: Swift, size: int) -> None:
    store = store_at(swift, tmp_path)
    holding = keep(store, some_bytes(size))
    while store.drop_one():
        pass
    client, key = swift.client(), object_key(holding.sha256)
    content = bytearray(client.get_object(Bucket=swift.bucket, Key=key)["Body"].read())
    content[-100] ^= 4
    client.put_object(Bucket=swift.bucket, Key=key, Body=bytes(content))
    with pytest.raises(Damaged, match="is not what was written"):
        read(store, holding)
    assert not store.is_safe(holding)


def test_a_node_killed_during_an_upload_goes_on_with_the_next_part(
    tmp_path: Path, swift: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen(command(tmp_path, swift.endpoint()), stdout=subprocess.PIPE, text=True)
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
    store = store_at(swift, tmp_path, spool=Spool.PERSISTENT)
    [kept] = objects(store.recover())
    work_off(store)
    assert sent == [3, 4]
    assert store.is_safe(kept.holding)
    while store.drop_one():
        pass
    assert read(store, kept.holding) == some_bytes(20 * MB)


def test_a_clock_that_is_wrong_is_named_with_its_remedy(
    tmp_path: Path, swift: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's clock goes 20 minutes ahead, for itself and for the signatures of its requests."""
    ahead = datetime.timedelta(minutes=20)
    now = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *words: now(*words) + ahead)
    bucket = Bucket(swift.endpoint(), lambda: time.time() + ahead.total_seconds())
    for ask in (bucket.probe, lambda: bucket.put("o/aa/y", b"late"), lambda: list(bucket.keys("o/"))):
        with pytest.raises(Unavailable, match=r"clocks differ.*timedatectl"):
            ask()
