"""A node whose gateway, catalog and storage are apart: processes with homes and addresses of their own.

Both ways of running a node in tests have a twin here, so that any suite can be held over a split one.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from node.app import Node, open_node
from node.app.gateway_role import GatewayRole
from node.app.storage_role import StorageRole
from node.devices import DEV_RULE
from node.roles.calls import GUEST_KEYS, SERVER_KEYS, server_keys
from sim.ports import free_port
from tests.homes import new_home
from tests.running import RunningNode

CATALOG, STORAGE = "127.0.0.2", "127.0.0.3"


def _urls() -> dict[str, str]:
    return {"catalog": f"tcp://{CATALOG}:{free_port()}", "storage": f"tcp://{STORAGE}:{free_port()}"}


def _write_urls(path: Path, urls: dict[str, str]) -> None:
    """Write into a configuration where catalog and storage are, as a person does."""
    text = path.read_text()
    for role, url in urls.items():
        assert f'\n{role} = ""\n' in text
        text = text.replace(f'\n{role} = ""\n', f'\n{role} = "{url}"\n')
    path.write_text(text)


def bring_key(catalog: Path, home: Path, key: str) -> None:
    """Copy a key of the catalog's home to that of another role, as a person does."""
    server_keys(catalog, "tcp://", may_make=True)
    (home / "secrets").mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy(catalog / key, home / key)


class Part(RunningNode):
    """One process of a split node, in a home of its own with the catalog's configuration."""

    def __init__(self, home: Path, role: str, port: int = 0) -> None:
        self.home, self.ae_title, self.port, self.process = home, "ALPHA", port, None
        self._environment = {"PEERPACS__ROLES__RUN": role, "PEERPACS__DICOM__PORT": str(port)}
        home.mkdir(exist_ok=True)

    def start(self, **environment: str) -> None:
        """Run the process until its `ready` line."""
        super().start(**self._environment, **environment)


class SplitNode(RunningNode):
    """The processes of one node: devices talk to the gateways, commands are given where the catalog is."""

    def __init__(
        self, folder: Path, *init: str, gateways: int = 1, urls: dict[str, str] | None = None
    ) -> None:
        super().__init__(folder / "catalog", "ALPHA", *init)
        _write_urls(self.home / "peerpacs.toml", urls or _urls())
        self.catalog = Part(self.home, "catalog")
        self.storage = Part(folder / "storage", "storage")
        ports = [self.port, *(free_port() for _ in range(gateways - 1))]
        self.gateways = [
            Part(folder / f"gateway{number}", "gateway", port) for number, port in enumerate(ports)
        ]
        for part in (self.storage, *self.gateways):
            shutil.copy(self.home / "peerpacs.toml", part.home)
            bring_key(self.home, part.home, SERVER_KEYS if part is self.storage else GUEST_KEYS)

    def start(self, **environment: str) -> None:
        """Run all processes."""
        for part in (self.storage, self.catalog, *self.gateways):
            part.start(**environment)

    def stop(self) -> int:
        """Stop what runs; return the worst exit code."""
        parts = (*self.gateways, self.catalog, self.storage)
        return max(part.stop() for part in parts)

    def kill(self) -> None:
        """kill -9 of all that run, and wait until they are gone."""
        for part in (*self.gateways, self.catalog, self.storage):
            part.kill()


@contextlib.contextmanager
def running_split(folder: Path, *init: str, gateways: int = 1, **environment: str) -> Iterator[SplitNode]:
    """Yield a started node of several processes; stop it in the end, however the test went."""
    node = SplitNode(folder, *init, gateways=gateways)
    try:
        node.start(**environment)
        yield node
    finally:
        node.stop()


@contextlib.contextmanager
def serving_split(home: Path, *, is_trusting: bool = True, **sections: dict[str, object]) -> Iterator[Node]:
    """Yield the catalog of a serving node, whose storage and gateway are apart; its DICOM port is theirs."""
    urls = _urls()
    homes = {role: home.with_name(f"{home.name}-{role}") for role in ("storage", "gateway")} | {
        "catalog": home
    }
    for role, folder in homes.items():
        if not (folder / "peerpacs.toml").exists():
            new_home(folder, **sections, roles={"run": [role], **urls})
    bring_key(home, homes["storage"], SERVER_KEYS)
    bring_key(home, homes["gateway"], GUEST_KEYS)
    with contextlib.ExitStack() as opened:
        storage = StorageRole(homes["storage"])
        opened.callback(storage.close)
        storage.start()
        node = opened.enter_context(open_node(home))
        if is_trusting:
            node.devices.put(DEV_RULE)
        node.start()
        gateway = GatewayRole(homes["gateway"])
        opened.callback(gateway.close)
        node.ports |= gateway.start()
        yield node


def objects_of(node: Node) -> Path:
    """Return the folder where the objects of a serving node's default archive lie."""
    home: Path = node.home
    apart = home.with_name(f"{home.name}-storage")
    return (home if "storage" in node.config.roles.run else apart) / "archives" / "main" / "objects"
