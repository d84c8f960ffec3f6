"""A real S3 server, `rclone serve s3`, on a folder, and stores that use it."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3

from catalog import PacsError
from node.bucket import BucketSettings, BucketStore, Endpoint
from node.state import State
from node.storage import StorageSettings
from sim.ports import free_port
from tests.node.storage.filling import MB, SMALL, Stopped, segment_store

ACCESS, SECRET = "pacsaccesskey0001", "pacssecretkey000000000001"
KB = 1 << 10
RCLONE = shutil.which("rclone", path=str(Path(sys.executable).parent)) or "rclone"


class Server:
    """One server with one bucket; what it keeps are files in `folder`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bucket = "archive"
        self.folder = root / self.bucket
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Serve; return when it answers."""
        address = f"127.0.0.1:{self.port}"
        command = [RCLONE, "serve", "s3", "--addr", address, "--auth-key", f"{ACCESS},{SECRET}"]
        command += ["--vfs-cache-mode", "off", str(self.root)]
        environment = {**os.environ, "RCLONE_CONFIG": os.devnull}
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None:
                # Somebody took the port meanwhile.
                self.port = free_port()
                self.start()
                return
            assert time.monotonic() < deadline, "rclone did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it as a power cut does."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def endpoint(self, **changed: Any) -> Endpoint:
        """Return how to reach it."""
        url = f"http://127.0.0.1:{self.port}"
        endpoint = Endpoint(self.bucket, url, access_key=ACCESS, secret_key=SECRET, connect_timeout=2)
        return replace(endpoint, **changed)

    def files(self, under: str = "o") -> list[Path]:
        """Return what lies in the bucket."""
        return sorted(path for path in (self.folder / under).rglob("*") if path.is_file())

    def replace(self, path: Path, content: bytes | bytearray) -> None:
        """Change an object behind the server's back, which remembers sizes as long as it runs."""
        self.stop()
        path.write_bytes(content)
        self.start()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            return False
        return True


_shared: list[Server] = []


def bucket_store(
    folder: Path,
    server: Server | None = None,
    clock: Stopped | None = None,
    storage: StorageSettings = SMALL,
    **changed: Any,
) -> BucketStore:
    """Open a store with small chunks in `folder`; the same folder opens the same store again."""
    clock = clock or Stopped()
    endpoint = changed.pop("endpoint", None) or (server or shared_server(folder)).endpoint()
    settings = BucketSettings(endpoint, chunk=64 * KB, multipart_above=6 * MB, part=5 * MB, whole_below=MB)
    settings = replace(settings, **changed)
    spool = segment_store(folder / "spool", storage, clock)
    store = BucketStore(settings, spool, _state(folder), folder / "bucket.key", clock)
    _open.append(store)
    return store


def shared_server(folder: Path) -> Server:
    """Return one server for all stores of this process; each gets a bucket of its own."""
    if not _shared:
        _shared.append(Server(folder.parent / "s3"))
        atexit.register(_shared[0].stop)
    server = _shared[0]
    server.bucket = f"bucket-{abs(hash(str(folder))):x}"
    server.folder = server.root / server.bucket
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint().url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket=server.bucket)
    client.close()
    return server


def work_off(store: BucketStore) -> None:
    """Do everything that is due."""
    while store.step():
        pass


_open: list[BucketStore] = []
_states: dict[Path, State] = {}


def close_all() -> None:
    """Close every store that was opened here; what a test broke need not close well."""
    while _open:
        with contextlib.suppress(OSError, PacsError):
            _open.pop().close()
    for folder in list(_states):
        forget_state(folder)


def _state(folder: Path) -> State:
    """Return the state of a folder; a process may open it only once."""
    return _states.setdefault(folder, State(folder / "state")) if folder not in _states else _states[folder]


def forget_state(folder: Path) -> None:
    """Close the state of a folder, if it was opened."""
    if state := _states.pop(folder, None):
        state.close()
