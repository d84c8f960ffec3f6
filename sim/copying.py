"""The cases of copies at another node: durable there how fast, commitment, and who overtakes whom."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from node.control import ask

from . import clients
from .association import COMMITMENT, STUDY_ROOT_FIND, STUDY_ROOT_MOVE, Association
from .cases import CT_512_KB, Case, Contestant, Figures
from .clients import ClientError
from .committing import request_of
from .links import Link, Weather
from .pdu import Address, identifier
from .phantoms import Study, instances, study
from .ports import free_port
from .report import Goal, Row
from .servers import PeerPACS, StoreSCP

_SEED: Final = 71
_MB: Final = 1 << 20
_RULE: Final = "bench"
_DEADLINE: Final = 300.0
_LINK: Final = 12_500_000
"""Bytes per second of a link of 100 Mbit/s."""


class Hospital(PeerPACS):
    """Our node with the ports of the grid; with a link, peers come over that."""

    def __init__(self, folder: Path, destination: Address, link: Link | None = None) -> None:
        super().__init__(folder, destination)
        self._join = free_port()
        self._grid = link.target if link and link.target else free_port()
        self._link = link
        self._set_up("devices", "add", "BENCHSCU", "--services", "echo,store,find,move,commit",
                     "--called", "*", "--move-to", "*")  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Return what its environment has besides what all servers' have."""
        found = {
            "PEERPACS__GRID__HOST": "127.0.0.1",
            "PEERPACS__GRID__PORT": str(self._grid),
            "PEERPACS__GRID__JOIN_PORT": str(self._join),
            "PEERPACS__GRID__JOIN_ADDRESS": f"127.0.0.1:{self._join}",
        }
        if self._link is not None:
            found["PEERPACS__GRID__ADDRESSES"] = self._link.address
        return found

    def say(self, *words: str) -> Any:
        """Run a command at the node; return what it says."""
        command = [str(self._program), "--home", str(self.home), *words, "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True).stdout or "null")


class Pair(Hospital):
    """Two of our nodes in one grid, each of which may keep copies for the other; asked at the first."""

    def __init__(self, folder: Path, destination: Address, link: Link | None = None) -> None:
        super().__init__(folder, destination, link)
        self.other = Hospital(folder / "other", destination)

    def start(self) -> float:
        """Start both, and have the second join."""
        seconds = super().start() + self.other.start()
        ticket = self.say("invite", "--site", "other", "--template", "replica-peer")["ticket"]
        asked = self.other.say("join", ticket, "--no-wait")
        self.say("approve", asked["request"])
        self.other.say("join")
        _until(lambda: all(row["state"] != "away" for row in self.say("peers")["peers"]))
        return seconds

    def stop(self) -> None:
        """Stop both."""
        self.other.stop()
        super().stop()

    def kept(self) -> dict[str, Any]:
        """Return what the second keeps for the first."""
        kept: dict[str, Any] = ask(self.other.home, "copies")["kept_for_others"]
        return kept

    def rule(self, *keys: str, **said: Any) -> None:
        """Have copies made."""
        ask(self.home, "put_copy_rule", name=_RULE, keys=list(keys), who="bench", **said)

    def forget(self) -> None:
        """Have no copies any more, and wait until they are gone."""
        self.rule(copies=1, min_sites=1)
        _until(lambda: self.kept()["objects"] == 0)


def _until(claim: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not claim():
        if time.monotonic() > deadline:
            raise ClientError("What was to become so did not.")
        time.sleep(0.02)


@dataclass(slots=True)
class Copying(Case):
    """Copies of 512 KB objects at another node, each hashed and synced there before it counts."""

    count: int = 400
    name: str = "copies"
    is_fresh_each_run: bool = False
    _folders: list[Path] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"Copies of {self.count} x 512 KB at another node"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("for each 100 MiB, durable there", "s", more_is_better=False, goal=Goal(at_most=1.0)),
            Row("durable there", "MiB/s", more_is_better=True),
            Row("raw TLS", "MiB/s", more_is_better=True),
            Row("raw TLS / copies", "x", more_is_better=False, goal=Goal(at_most=1 / 0.3)),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": Pair}

    def prepare(self, scratch: Path, destination: Address) -> None:
        described = study(_SEED, 0, instances=self.count, size=CT_512_KB)
        self._folders = clients.write([described], scratch / "files", 1)

    def load(self, server: Any) -> None:
        clients.store(server.address, self._folders)
        time.sleep(5)

    def measure(self, server: Any, run: int) -> Figures:
        size = sum(path.stat().st_size for path in self._folders[0].iterdir())
        server.rule()
        began = time.perf_counter()
        while not server.kept()["objects"]:
            began = time.perf_counter()
            time.sleep(0.01)
        _until(lambda: server.kept()["objects"] == self.count)
        seconds = time.perf_counter() - began
        server.forget()
        raw, ours = raw_tls(server.folder, 256 * _MB), size / seconds / _MB
        return {
            "for each 100 MiB, durable there": 100 / ours,
            "durable there": ours,
            "raw TLS": raw,
            "raw TLS / copies": raw / ours,
        }


_SENDER: Final = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
piece, left = bytes(1 << 20), int(sys.argv[2])
with context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])))) as line:
    while left > 0:
        line.sendall(piece)
        left -= len(piece)
    line.recv(1)
"""


def raw_tls(folder: Path, size: int) -> float:
    """Return the MiB/s at which bytes come from another process over TLS 1.3 and are only hashed."""
    certificate, key = folder / "tls.pem", folder / "tls.key"
    if not certificate.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/CN=bench", "-days", "2", "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", _SENDER, str(server.getsockname()[1]), str(size)]
        with subprocess.Popen(command) as sender, context.wrap_socket(server.accept()[0], True) as line:
            buffer, left, digest = memoryview(bytearray(_MB)), size, hashlib.sha256()
            began = time.perf_counter()
            while left > 0:
                count = line.recv_into(buffer)
                digest.update(buffer[:count])
                left -= count
            seconds = time.perf_counter() - began
            line.sendall(b"!")
            sender.wait()
    return size / seconds / _MB


@dataclass(slots=True)
class CopiedCommitment(Case):
    """From the last C-STORE response to the result, where a rule asks for two sites."""

    count: int = 100
    name: str = "copies-commit"
    is_fresh_each_run: bool = False

    @property
    def title(self) -> str:
        return f"Commitment of {self.count} x 512 KB at two sites"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (Row("last C-STORE to result", "s", more_is_better=False, goal=Goal(at_most=3.0)),)

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": Pair}

    def load(self, server: Any) -> None:
        server.rule(commit_sites=2)

    def measure(self, server: Any, run: int) -> Figures:
        made = [*instances(study(_SEED + 1, run, instances=self.count, size=CT_512_KB))]
        asked = [(one.SOPClassUID, one.SOPInstanceUID) for one in made]
        classes = sorted({one.SOPClassUID for one in made})
        with Association(server.address, [COMMITMENT], classes) as association:
            for one in made:
                if status := association.store(one):
                    raise ClientError(f"C-STORE ended with {status:04X}.")
            began = time.perf_counter()
            kind, _ = association.commit(request_of(f"2.25.{time.time_ns()}", asked))
            seconds = time.perf_counter() - began
        if kind != 1:
            raise ClientError("Not all instances were committed to.")
        return {"last C-STORE to result": seconds}


@dataclass(slots=True)
class Overtaking(Case):
    """C-MOVE of what lies at the other node over 100 Mbit/s, alone and while copies fill the same link."""

    count: int = 64
    bulk: int = 900
    name: str = "copies-urgent"
    is_fresh_each_run: bool = True
    _files: list[Path] = field(default_factory=list)
    _link: Link | None = None
    _sink: StoreSCP | None = None

    @property
    def title(self) -> str:
        return f"Urgent C-MOVE of {self.count} x 512 KB beside copies, 100 Mbit/s"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("idle link", "s", more_is_better=False),
            Row("beside copies", "s", more_is_better=False),
            Row("beside copies / idle", "x", more_is_better=False, goal=Goal(at_most=1.5)),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": self._pair}

    def _pair(self, folder: Path, destination: Address) -> Pair:
        self._link = Link(free_port())
        return Pair(folder, destination, self._link)

    def prepare(self, scratch: Path, destination: Address) -> None:
        self._sink = StoreSCP(scratch / "sink", destination, forks=False)
        self._sink.start()
        described = [*self._moved(), self._copied()]
        self._files = clients.write(described, scratch / "files", 1)

    def _moved(self) -> list[Study]:
        return [study(_SEED + 2, n, instances=self.count, size=CT_512_KB) for n in range(4)]

    def _copied(self) -> Study:
        return study(_SEED + 3, 0, instances=self.bulk, size=CT_512_KB)

    def finish(self) -> None:
        if self._sink is not None:
            self._sink.stop()
        if self._link is not None:
            self._link.close()

    def measure(self, server: Any, run: int) -> Figures:
        assert self._link is not None
        clients.store(server.address, self._files)
        grid = server.other.address._replace(ae_title=f"{server.other.address.ae_title}_GRID")
        moved = [each.StudyInstanceUID for each in self._moved()]
        for uid in moved:
            _until(partial(_is_found, grid, uid))
        time.sleep(5)
        slow = Weather(rate=_LINK)
        self._link.be(slow, slow)
        idle = min(self._move(grid, uid) for uid in moved[:2])
        server.rule(f"StudyInstanceUID={self._copied().StudyInstanceUID}")
        _until(lambda: server.kept()["objects"] > 8)
        busy = [self._move(grid, uid) for uid in moved[2:]]
        if server.kept()["objects"] >= self.bulk:
            raise ClientError("The copies were there before the urgent study was.")
        self._link.be()
        return {"idle link": idle, "beside copies": max(busy), "beside copies / idle": max(busy) / idle}

    def _move(self, grid: Address, uid: str) -> float:
        assert self._sink is not None
        with Association(grid, [STUDY_ROOT_MOVE]) as association:
            began = time.perf_counter()
            wanted = identifier("STUDY", StudyInstanceUID=uid)
            moved = association.move(wanted, self._sink.address.ae_title)
            seconds = time.perf_counter() - began
        if moved.status or moved.completed != self.count:
            raise ClientError(f"C-MOVE ended with {moved.status:04X} after {moved.completed}.")
        return seconds


def _is_found(address: Address, uid: str) -> bool:
    with Association(address, [STUDY_ROOT_FIND]) as association:
        return bool(association.find(identifier("STUDY", StudyInstanceUID=uid)))


def copying(share: float) -> list[Case]:
    """Return the cases, smaller by `share`."""
    return [
        Copying(count=max(100, round(400 * share))),
        CopiedCommitment(),
        Overtaking(count=max(32, round(64 * share))),
    ]
