"""A node whose gateway, catalog and storage are processes of their own, each with a home folder and an address."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.running import RunningNode, free_port

GATEWAY, CATALOG, STORAGE = "127.0.0.1", "127.0.0.2", "127.0.0.3"


class Part(RunningNode):
    """One process of a split node, in a home of its own made from the catalog's configuration."""

    def __init__(self, home: Path, role: str, environment: dict[str, str], port: int = 0) -> None:
        self.home, self.ae_title, self.port, self.process = home, "ALPHA", port, None
        self._environment = {"PEERPACS__ROLES__RUN": role, "PEERPACS__DICOM__PORT": str(port), **environment}
        home.mkdir(exist_ok=True)

    def start(self, **environment: str) -> None:
        """Run the process until its `ready` line."""
        super().start(**self._environment, **environment)


class SplitNode:
    """The processes of one node; commands are given where the catalog is."""

    def __init__(self, folder: Path, *init: str, gateways: int = 1) -> None:
        urls = {
            "PEERPACS__ROLES__CATALOG": f"tcp://{CATALOG}:{free_port()}",
            "PEERPACS__ROLES__STORAGE": f"tcp://{STORAGE}:{free_port()}",
        }
        home = folder / "catalog"
        made = RunningNode(home, "ALPHA", *init)
        self.catalog = Part(home, "catalog", urls)
        self.storage = Part(folder / "storage", "storage", urls)
        ports = [made.port, *(free_port() for _ in range(gateways - 1))]
        self.gateways = [
            Part(folder / f"gateway{number}", "gateway", urls, port) for number, port in enumerate(ports)
        ]
        for part in (self.storage, *self.gateways):
            shutil.copy(home / "peerpacs.toml", part.home)

    @property
    def parts(self) -> list[Part]:
        """Every process, in the order in which they may be told to stop."""
        return [*self.gateways, self.catalog, self.storage]

    def start(self) -> None:
        """Make the keys, bring them to the other hosts, and run all processes."""
        for part in (self.storage, *self.gateways):
            self._bring_key(part)
        self.storage.start()
        self.catalog.start()
        for gateway in self.gateways:
            gateway.start()

    def stop(self) -> None:
        """Stop what runs."""
        for part in self.parts:
            if part.process is not None:
                part.stop()

    def _bring_key(self, part: Part) -> None:
        from node.roles.calls import GUEST_KEYS, SERVER_KEYS, server_keys

        server_keys(self.catalog.home, "tcp://", may_make=True)
        key = SERVER_KEYS if part is self.storage else GUEST_KEYS
        (part.home / "secrets").mkdir(mode=0o700, exist_ok=True)
        shutil.copy(self.catalog.home / key, part.home / key)


@contextlib.contextmanager
def running_split(folder: Path, *init: str, gateways: int = 1) -> Iterator[SplitNode]:
    """Yield a started node; stop it in the end, however the test went."""
    node = SplitNode(folder, *init, gateways=gateways)
    try:
        node.start()
        yield node
    finally:
        node.stop()
