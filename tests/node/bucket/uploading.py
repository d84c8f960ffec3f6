"""A process that takes in a large object, sends two parts of it, says so, and waits to be killed."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from node.bucket import Endpoint, Spool
from tests.node.bucket.serving import ACCESS, SECRET, bucket_store
from tests.node.storage.filling import MB, keep


def main(folder: Path, port: int) -> None:
    """Take in, send, say so, wait."""
    endpoint = Endpoint("archive", f"http://127.0.0.1:{port}", access_key=ACCESS, secret_key=SECRET)
    store = bucket_store(folder, endpoint=endpoint, spool=Spool.PERSISTENT)
    keep(store, random.Random(20 * MB).randbytes(20 * MB))
    for _ in range(2):
        assert store.upload_step()
    print("two parts are sent", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
