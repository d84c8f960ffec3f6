"""OpenStack Swift with its s3api on this machine: four servers, one disk, one user."""

from __future__ import annotations

import atexit
import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3

from node.bucket import BucketStore, Endpoint
from sim.ports import free_port
from tests.node.bucket.serving import bucket_store

ROOT = Path(__file__).parents[3]
ACCESS, SECRET = "test:tester", "testing"
_STORING = ("account", "container", "object")
_CLUSTER = """[swift-hash]
swift_hash_path_prefix = a
swift_hash_path_suffix = b
[storage-policy:0]
name = Policy-0
default = yes
"""
_STORAGE = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
devices = {root}/node
mount_check = false
user = {user}
workers = 1
swift_dir = {root}/etc
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_BEFORE = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk")
_BEHIND = ("slo", "versioned_writes", "symlink")
_PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
workers = 1
swift_dir = {root}/etc
[pipeline:main]
pipeline = {before} s3api tempauth {behind} proxy-server
{filters}
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
"""


class Swift:
    """One cluster with one bucket; its file system must know xattr, as ext4 does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bucket = "archive"
        self.port = free_port()
        done = subprocess.run([ROOT / "tools" / "swift.sh"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self._programs = Path(done.stdout.strip())
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {name: free_port() for name in _STORING} | {"proxy": self.port}
        self._configure()
        self.start()
        self.client().create_bucket(Bucket=self.bucket)

    def start(self) -> None:
        """Serve; return when it answers.

        The proxy is last: for a minute it asks none that refused it once, and answers 503 to everybody.
        """
        for names in (_STORING, ("proxy",)):
            for name in names:
                self._begin(name)
            for name in names:
                self._await(name)

    def stop(self) -> None:
        """End it as a power cut does."""
        for process in self._running.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._running.clear()

    @property
    def is_running(self) -> bool:
        """Whether it serves."""
        return bool(self._running)

    def endpoint(self, **changed: Any) -> Endpoint:
        """Return how to reach it."""
        url = f"http://127.0.0.1:{self.port}"
        endpoint = Endpoint(self.bucket, url, access_key=ACCESS, secret_key=SECRET, connect_timeout=2)
        return replace(endpoint, **changed)

    def client(self) -> Any:
        """Return a boto3 client of its own."""
        keys = {"aws_access_key_id": ACCESS, "aws_secret_access_key": SECRET}
        return boto3.client("s3", endpoint_url=self.endpoint().url, region_name="us-east-1", **keys)

    def new_bucket(self, name: str) -> Swift:
        """Make a bucket and use it from now on."""
        self.bucket = name
        self.client().create_bucket(Bucket=name)
        return self

    def _begin(self, name: str) -> None:
        command = [self._programs / f"swift-{name}-server", self.root / "etc" / f"{name}-server.conf"]
        with (self.root / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _await(self, name: str) -> None:
        deadline = time.monotonic() + 60
        while not _answers(self._ports[name]):
            is_late = time.monotonic() > deadline or self._running[name].poll() is not None
            assert not is_late, (self.root / f"{name}.log").read_text()[-3000:]
            time.sleep(0.1)

    def _configure(self) -> None:
        etc = self.root / "etc"
        etc.mkdir(parents=True)
        (self.root / "node" / "d1").mkdir(parents=True)
        (etc / "swift.conf").write_text(_CLUSTER)
        said = {"root": self.root, "user": getpass.getuser()}
        for name in _STORING:
            port = self._ports[name]
            ring = [str(self._programs / "swift-ring-builder"), f"{name}.builder"]
            device = ("add", f"r1z1-127.0.0.1:{port}/d1", "1")
            for words in (("create", "4", "1", "0"), device, ("rebalance",)):
                subprocess.run([*ring, *words], cwd=etc, check=True, capture_output=True)
            (etc / f"{name}-server.conf").write_text(_STORAGE.format(name=name, port=port, **said))
        filters = "\n".join(f"[filter:{name}]\nuse = egg:swift#{name}" for name in (*_BEFORE, *_BEHIND))
        parts = {"before": " ".join(_BEFORE), "behind": " ".join(_BEHIND), "filters": filters}
        (etc / "proxy-server.conf").write_text(_PROXY.format(port=self.port, **parts, **said))


def _answers(port: int) -> bool:
    """Tell whether a server answers whatever it is asked: one that stores has no health to tell."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False
    return True


_shared: list[Swift] = []


def shared_swift() -> Swift:
    """Return one cluster for all tests of this process."""
    if not _shared:
        _shared.append(Swift(Path(tempfile.mkdtemp(prefix="swift-"))))
        atexit.register(_end)
    return _shared[0]


def swift_store(folder: Path, **changed: Any) -> BucketStore:
    """Open a store in a bucket of its own at Swift."""
    swift = shared_swift().new_bucket(f"bucket-{abs(hash(str(folder))):x}")
    return bucket_store(folder, endpoint=swift.endpoint(), **changed)


def _end() -> None:
    swift = _shared.pop()
    swift.stop()
    shutil.rmtree(swift.root)
