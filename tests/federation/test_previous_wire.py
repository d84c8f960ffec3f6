"""The wire before this one, version 1: what it said means the same still, and a node of it converses.

`wire_1/` has its messages as they were; its nodes know nothing of what came since.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from federation.asking import read_manifest
from federation.links.channels import ASSERTION, INSTANCE
from federation.links.roll import PROTOCOL
from federation.links.rpc import channel_options
from federation.trust.assertion import Asker, make_assertion
from federation.trust.credentials import Credentials
from federation.trust.names import server_name
from federation.trust.rows import Tables
from federation.trust.trust import Trust
from node.state import State
from tests.grid import GridNode
from tests.running import until
from tests.workstation import object_of, send

ROOT = Path(__file__).parents[2]
BEFORE = Path(__file__).parent / "wire_1"
PREVIOUS = 1


def _compiled(folder: Path, into: Path) -> FileDescriptorSet:
    sources = sorted(f"protos/{path.name}" for path in (folder / "protos").glob("*.proto"))
    made = into / "set"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"--descriptor_set_out={made}"]
    subprocess.run([*command, *sources], check=True)
    return FileDescriptorSet.FromString(made.read_bytes())


def _messages(files: FileDescriptorSet) -> dict[str, dict[int, tuple[Any, ...]]]:
    found: dict[str, dict[int, tuple[Any, ...]]] = {}

    def walk(message: DescriptorProto, above: str) -> None:
        name = f"{above}.{message.name}"
        found[name] = {
            field.number: (field.name, field.type, field.label, field.type_name) for field in message.field
        }
        for inner in message.nested_type:
            walk(inner, name)

    for file in files.file:
        for message in file.message_type:
            walk(message, file.package)
    return found


def _calls(files: FileDescriptorSet) -> dict[str, tuple[Any, ...]]:
    return {
        f"{service.name}/{call.name}": (
            call.input_type,
            call.output_type,
            call.client_streaming,
            call.server_streaming,
        )
        for file in files.file
        for service in file.service
        for call in service.method
    }


def test_what_the_wire_before_said_means_the_same_still(tmp_path: Path) -> None:
    before, now = _compiled(BEFORE, tmp_path), _compiled(ROOT, tmp_path)
    assert PROTOCOL == PREVIOUS + 1, "another wire: keep its messages as wire_N, and compare with those"
    assert _calls(before).items() <= _calls(now).items()
    messages = _messages(now)
    for name, fields in _messages(before).items():
        assert fields.items() <= messages[name].items(), f"{name} says something else by a number it had"


class OldNode:
    """A node of the wire before; it acts for a home whose own node is stopped."""

    def __init__(self, home: Path, files: FileDescriptorSet, address: str, peer: str) -> None:
        pool = DescriptorPool()
        for file in files.file:
            pool.Add(FileDescriptorProto.FromString(file.SerializeToString()))
        self._pool, self._peer, self._instance = pool, peer, 4711
        self.pair = Credentials(home / "identity", time.time).pair
        with State(home / "state") as state:
            roots = Trust(Tables(state.table).documents, self.pair.identity.grid_id, time.time).roots_pem()
        tls = grpc.ssl_channel_credentials(roots, self.pair.key_pem, self.pair.chain_pem)
        self.channel = grpc.secure_channel(address, tls, channel_options(server_name(peer)))

    def make(self, name: str, **values: Any) -> Any:
        """Return a message of the wire before."""
        return GetMessageClass(self._pool.FindMessageTypeByName(f"peerpacs.v1.{name}"))(**values)

    def call(self, method: str, request: Any, answer: str) -> list[Any]:
        """Make a call whose answers are a stream."""
        assertion = make_assertion(self.pair, Asker(request_id="r1"), self._peer, time.time())
        read = type(self.make(answer)).FromString
        made = self.channel.unary_stream(f"/peerpacs.v1.{method}", type(request).SerializeToString, read)
        metadata = ((INSTANCE, str(self._instance)), (ASSERTION, assertion))
        return list(made(request, metadata=metadata, timeout=20))

    def session(self) -> tuple[queue.SimpleQueue[Any], Iterator[Any]]:
        """Begin a session; return where to put what is said, and what is heard."""
        said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        link = self.make("LinkMessage")
        identity = self.pair.identity
        hello = self.make(
            "Hello",
            node_id=identity.node_id,
            grid_id=identity.grid_id,
            site=identity.site,
            instance=self._instance,
            now_ms=int(time.time() * 1000),
            features=7,
            protocol=PREVIOUS,
            nonce=b"n" * 16,
        )
        said.put(self.make("LinkMessage", hello=hello))
        begun = self.channel.stream_stream(
            "/peerpacs.v1.Link/Session", type(link).SerializeToString, type(link).FromString
        )
        return said, begun(iter(said.get, None))


@pytest.mark.slow
def test_a_node_of_the_wire_before_converses(tmp_path: Path) -> None:
    alpha, beta = GridNode(tmp_path / "alpha", "alpha"), GridNode(tmp_path / "beta", "beta")
    for node in (alpha, beta):
        node.start(**node.env)
    try:
        alpha.admit(beta)
        files = tmp_path / "files"
        files.mkdir()
        send(alpha, object_of(files, "1.2.1"))
        node_id = alpha.node_id
        beta.stop()
        until(lambda: not alpha.is_connected(beta))
        address = f"127.0.0.1:{alpha.env['PEERPACS__GRID__PORT']}"
        old = OldNode(beta.home, _compiled(BEFORE, tmp_path), address, node_id)
        said, heard = old.session()
        assert next(heard).hello.protocol == PROTOCOL
        said.put(old.make("LinkMessage", heartbeat=old.make("Heartbeat", now_ms=int(time.time() * 1000))))
        beat = next(each.heartbeat for each in heard if each.WhichOneof("kind") == "heartbeat")
        assert [(head.archive, head.share) for head in beat.heads] == [("main", 0)]
        assert alpha.is_connected(beta)
        assert "did not say yet" in alpha.answer("peers", "beta")[1]

        nothing = old.make("Position", chain=bytes(8))
        first = old.make("PullRequest", archive="main", share=0, seen=nothing, reached=nothing)

        def is_stated() -> bool:
            pulled = old.call("Catalog/Pull", first, "PullReply")
            return b"1.2.1.1" in b"".join(each.SerializeToString() for each in pulled)

        until(is_stated)
        wanted = old.make("ManifestRequest", archive="main", share=0, study="1.2.1", series="1.2.1.1")
        [listed] = old.call("Catalog/Manifest", wanted, "ManifestReply")
        [entry] = read_manifest(list(listed.entries), lambda entry: b"")
        item = old.make(
            "ObjectItem", study="1.2.1", series="1.2.1.1", instance="1.2.1.1.1", sha256=entry.holding.sha256
        )
        got = old.call("Objects/Fetch", old.make("FetchRequest", archive="main", items=[item]), "FetchReply")
        assert sum(len(each.data) for each in got) == got[0].begin.size > 30_000
        assert got[-1].is_end
        said.put(None)
        old.channel.close()
    finally:
        alpha.stop()
        if beta.process is not None:
            beta.stop()
