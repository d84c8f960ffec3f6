"""A process that takes in a large object, sends two parts of it, says so, and waits to be killed."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from node.bucket import Endpoint, Spool
from tests.node.bucket.serving import bucket_store
from tests.node.storage.filling import MB, keep


def main(folder: Path, endpoint: Endpoint) -> None:
    """Take in, send, say so, wait."""
    store = bucket_store(folder, endpoint=endpoint, spool=Spool.PERSISTENT)
    keep(store, random.Random(20 * MB).randbytes(20 * MB))
    for _ in range(2):
        assert store.upload_step()
    print("two parts are sent", flush=True)
    while True:
        time.sleep(60)


def command(folder: Path, endpoint: Endpoint) -> list[str]:
    """Return how to run it."""
    where = [endpoint.bucket, endpoint.url, endpoint.access_key, endpoint.secret_key]
    return [sys.executable, "-m", "tests.node.bucket.uploading", str(folder), *where]


if __name__ == "__main__":
    bucket, url, access_key, secret_key = sys.argv[2:]
    main(Path(sys.argv[1]), Endpoint(bucket, url, access_key=access_key, secret_key=secret_key))
