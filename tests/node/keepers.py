"""Two hospitals for tests of copies: beta keeps those of alpha; between them real mutual TLS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from catalog import Entry, PacsError
from federation.copying import CopyLink, CopyService, Order, Told
from federation.links.gate import Gate
from federation.links.rpc import letters
from federation.objects import PeerLink
from federation.owners import Owner
from federation.trust.policy import ALL, Grant, Op
from node.copies.carrier import study_of
from node.copies.keeping import Keeping
from node.copies.ledger import Ledger
from node.copies.proofs import Proofs
from node.copies.pulling import Fetch
from node.copies.rows import item_of
from node.copies.store import CopyStore
from node.storage import StorageSettings
from tests.node.nearlines import Hospital, connected

MB = 1 << 20
SMALL = StorageSettings(full_below=MB, resume_above=MB)


def spawn(name: str, run: Callable[[], None]) -> None:
    """Run something in a thread of its own."""
    threading.Thread(target=run, name=name, daemon=True).start()


class Keeper(Hospital):
    """A hospital that keeps copies for others, and asks others to keep its own."""

    def __init__(self, home: Path, name: str, stack: ExitStack) -> None:
        self.folder = home / "copies"
        self.copies = CopyStore(self.folder, time.time, SMALL)
        super().__init__(home, name, stack)
        self.ledger = Ledger(home / "ledger", time.time)
        stack.callback(self.ledger.close)
        stack.callback(lambda: self.copies.close())
        self.link = CopyLink(self._channel, str, spawn, time.monotonic)
        self.alarms: list[str] = []
        archive = self.node.archive("main")
        self.proofs = Proofs(
            self.ledger,
            self.link,
            lambda name: archive.catalog,
            lambda name, entry: archive.store.open(entry.holding),
            time.time,
            lambda node_id, what, remedy: self.alarms.append(what),
        )

    def _channel(self, node_id: str) -> Any:
        return self.peer.member.links.channel(node_id)

    def _serve(self, gate: Gate) -> Callable[[grpc.Server], None]:
        objects = super()._serve(gate)
        self.gate = gate
        fetch = Fetch(PeerLink(self._channel, str).fetch, letters, spawn, time.monotonic)
        self.keeping = Keeping(self.copies, fetch, lambda visitor: None, time.time)

        def register(server: grpc.Server) -> None:
            objects(server)
            CopyService(gate, self.keeping).register(server)

        return register

    def reopen(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Open the copies again, as a start does; something happens to them meanwhile."""
        self.copies.close()
        meanwhile()
        self.copies = CopyStore(self.folder, time.time, SMALL)
        self.keeping._store = self.copies

    def let_keep(self, other: Keeper, rate: int = 0) -> None:
        """Let another one keep copies of everything."""
        peer = f"node:{other.peer.node_id}"
        self.grants.append(Grant(peer=peer, share=ALL.name, ops=(Op.HOST_REPLICAS,), rate=rate))

    def order(self, study: str) -> Order:
        """Return what is to be kept of a study."""
        found = study_of(self.node.catalog, study)
        owner = Owner(self.peer.node_id, "main")
        return Order(owner, study, tuple(map(item_of, found.entries)), found.decisions, found.statement)

    def copied(self, other: Keeper, study: str) -> tuple[int, list[PacsError]]:
        """Have another one keep a study, and note its receipts; return how many, and what failed."""
        order = self.order(study)
        told: list[Told] = list(self.link.keep(other.peer.node_id, order))
        kept = [at for each in told for at in each.kept]
        self.ledger.received(study, other.peer.node_id, [order.items[at].sha256 for at in kept])
        return len(kept), [error for each in told for _, error in each.failed]

    def whole(self, entry: Entry) -> bytes:
        """Return a stored file."""
        return _read(self.node.archive("main").store.open(entry.holding))

    def copy(self, owner: Keeper, study: str, sha256: bytes) -> bytes:
        """Return a copy that is kept for another one."""
        return _read(self.copies.open(owner.owner, study, sha256))


def _read(reader: Any) -> bytes:
    data = bytearray(reader.size)
    assert reader.read_into(memoryview(data), 0) == len(data)
    reader.close()
    return bytes(data)


def keepers(home: Path, stack: ExitStack) -> tuple[Keeper, Keeper]:
    """Return alpha, and beta that may keep its studies."""
    alpha, beta = Keeper(home / "alpha", "alpha", stack), Keeper(home / "beta", "beta", stack)
    connected(alpha, beta)
    alpha.let_keep(beta)
    return alpha, beta


def pair(home: Path) -> Iterator[tuple[Keeper, Keeper]]:
    """Yield them, and close them."""
    with ExitStack() as stack:
        yield keepers(home, stack)


def flip(folder: Path, content: bytes) -> None:
    """Change one byte in the middle of some content, wherever it lies below a folder."""
    for path in sorted(folder.rglob("*.tar")):
        data = path.read_bytes()
        at = data.find(content)
        if at >= 0:
            with path.open("r+b") as file:
                file.seek(at + len(content) // 2)
                file.write(bytes([data[at + len(content) // 2] ^ 1]))
            return
    raise AssertionError("nowhere")
