"""A node whose spool is a disk of 60 MB: it makes room by dropping what is confirmed, and else says A700."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.homes import Peer, attribute, phantoms, serving
from tests.node.bucket.serving import Server
from tests.node.bucket.test_node import bucket_home
from tests.running import until

_SIZE = 400_000


def main(folder: Path) -> None:
    """Fill the spool with the bucket there, and without it; say what became of everything."""
    server = Server(folder / "s3")
    home = bucket_home(folder / "home", server, persistent_spool=True)
    (home / "archives" / "main" / "objects").mkdir(parents=True)
    mounted = home / "archives" / "main"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(mounted)], check=True)
    with serving(home) as node:
        peer, bucket, acknowledged = Peer(node), node.main.bucket, {}
        assert bucket is not None
        for number in range(4):
            sent = phantoms(number, series=1, instances=40, size=_SIZE)
            assert set(peer.store(*sent)) == {0}, "what is confirmed was not dropped"
            acknowledged[str(attribute(sent[0], "StudyInstanceUID"))] = len(sent)
            until(lambda: bucket.waiting() == 0, seconds=120)
        server.stop()
        sent = phantoms(9, series=1, instances=160, size=_SIZE)
        statuses = peer.store(*sent)
        assert set(statuses) == {0, 0xA700}, set(statuses)
        acknowledged[str(attribute(sent[0], "StudyInstanceUID"))] = statuses.count(0)
        assert "main" in str(node.desk.verbs()["archives"]())
        server.start()
        until(lambda: bucket.waiting() == 0, seconds=120)
        until(lambda: set(peer.store(*sent[-3:])) == {0}, seconds=30)
        acknowledged[str(attribute(sent[0], "StudyInstanceUID"))] += sum(map(bool, statuses[-3:]))
        for study, count in acknowledged.items():
            assert len(peer.get(study)) == count, study
    server.stop()
    print("lost nothing")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
