"""Catalogs are followed and asked over real gRPC as they are in one process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from catalog import Change, Decision, Head, Level, NotPermitted, PacsError, Share, Verb
from federation import serving
from federation.asking import answer, read_match, read_query
from federation.catalog_service import (
    CatalogService,
    Granted,
    QueryService,
    RemoteOwner,
    find_request,
    read_find,
)
from federation.links.rpc import abort, letters
from federation.messages import PullRequest
from protos import catalog_pb2 as pb
from protos import catalog_pb2_grpc as services
from tests.catalog.samples import Ticking, arrival, query
from tests.federation.grids import Node
from tests.federation.test_following import assert_equal, fill


class Grants:
    """Everything of the archive `main`, shares 0 and 1, to anybody."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def catalog(self, context: Any, archive: str, share: int) -> Granted:
        if (archive, share) not in (("main", 0), ("main", 1)):
            raise NotPermitted("This share is not granted.")
        return Granted(self._node.owner, self._node.catalog)

    live = catalog


class _Letters(grpc.ServerInterceptor):
    """Turns a handler's errors into statuses, as the gate does."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler.unary_stream is None:
            return handler

        def stream(request: Any, context: Any) -> Iterator[Any]:
            try:
                yield from handler.unary_stream(request, context)
            except PacsError as error:
                abort(context, error)

        return grpc.unary_stream_rpc_method_handler(
            stream, handler.request_deserializer, handler.response_serializer
        )


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    clock = Ticking()
    alpha, beta = Node(tmp_path / "alpha", clock), Node(tmp_path / "beta", clock)
    yield alpha, beta
    alpha.stop()
    beta.stop()


@pytest.fixture
def channel(pair: tuple[Node, Node]) -> Iterator[grpc.Channel]:
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[_Letters()])
    services.add_CatalogServicer_to_server(CatalogService(Grants(pair[0])), server)
    services.add_QueryServicer_to_server(QueryService(Grants(pair[0])), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(None).wait()


def remote(channel: grpc.Channel, archive: str = "main") -> RemoteOwner:
    return RemoteOwner(services.CatalogStub(channel), archive, partial(letters, "alpha"), 10.0)


def test_a_mirror_over_the_wire_becomes_equal_by_snapshot_delta_and_repair(
    pair: tuple[Node, Node], channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PART_ROWS", 7)
    alpha, beta = pair
    alpha.catalog.share([Share(1, "odd", lambda study, rows: dict(rows) if int(study) % 2 else {})])
    fill(alpha, 40)
    owner = remote(channel)
    for share in (0, 1):
        beta.sync(alpha, share, owner)
        assert_equal(alpha, beta, share)
    fill(alpha, 10, 40)
    alpha.catalog.decide(Decision(id="r", verb=Verb.REJECT, target=("7",), reason="", who="", when=1))
    fill(alpha, 1, 60)
    beta.sync(alpha, 0, owner)
    assert_equal(alpha, beta)
    with beta.mirror._writing(beta.mirror.source(b"alpha", 0)) as writing:
        writing.take([Change(1, b"8", b""), Change(1, b"ghost", b"row")], is_repair=True)
    beta.sync(alpha, 0, owner)
    assert_equal(alpha, beta)


def test_what_is_not_granted_or_nonsense_comes_back_as_a_letter(
    pair: tuple[Node, Node], channel: grpc.Channel
) -> None:
    nothing = Head(0, 0, bytes(8))
    with pytest.raises(NotPermitted, match="not granted"):
        list(remote(channel, "other").pull(PullRequest(0, nothing, nothing)))
    for request in (
        pb.PullRequest(archive="main"),
        pb.PullRequest(archive="main", seen=pb.Position(chain=b"1")),
    ):
        with pytest.raises(PacsError, match="cannot be read"), letters("alpha"):
            list(services.CatalogStub(channel).Pull(request, timeout=60))
    for junk in (b"", b"\x93", b"\xff" * 50):
        with pytest.raises(PacsError, match="cannot be read"):
            read_query(junk)
        with pytest.raises(PacsError, match="cannot be read"):
            read_match(junk)


def test_a_manifest_names_the_instances_of_a_granted_series_and_no_other(
    pair: tuple[Node, Node], channel: grpc.Channel
) -> None:
    alpha, _ = pair
    alpha.catalog.share([Share(1, "one", lambda study, rows: dict(rows) if study == "1" else {})])
    alpha.catalog.record([arrival("1", "1.1", f"1.1.{n}") for n in range(5)])
    alpha.catalog.record([arrival("2", "2.1", "2.1.1")])
    alpha.clock.now += 3
    alpha.publish()
    owner = remote(channel)
    entries = owner.manifest(1, "1", "1.1", lambda entry: b"peer", 5.0)
    assert [entry.SOPInstanceUID for entry in entries] == [f"1.1.{n}" for n in range(5)]
    assert {entry.holding.where for entry in entries} == {b"peer"}
    assert owner.manifest(1, "2", "2.1", lambda entry: b"peer", 5.0) == []
    assert len(owner.manifest(0, "2", "2.1", lambda entry: b"peer", 5.0)) == 1


def test_a_live_question_is_answered_with_what_the_share_states_of_the_matches(
    pair: tuple[Node, Node], channel: grpc.Channel
) -> None:
    alpha, _ = pair
    alpha.catalog.share([Share(1, "not 3", lambda study, rows: {} if study == "3" else dict(rows))])
    for n in range(6):
        alpha.catalog.record([arrival(f"{n}", f"{n}.1", f"{n}.1.1", StudyDate=f"2024010{n + 1}")])
    alpha.clock.now += 3
    alpha.publish()
    stub = services.QueryStub(channel)
    question = query(Level.STUDY, StudyDescription="CHEST")
    matches, is_cut = read_find(list(stub.Find(find_request("main", 1, question, 10), timeout=60)))
    assert [match.StudyInstanceUID for match in matches] == ["5", "4", "2", "1", "0"]
    assert not is_cut
    assert all(len(match.rows) == 2 and len(match.answers) == 1 for match in matches)
    matches, is_cut = read_find(list(stub.Find(find_request("main", 1, question, 3), timeout=60)))
    assert ([match.StudyInstanceUID for match in matches], is_cut) == (["5", "4", "2"], True)
    assert [m.StudyInstanceUID for m in answer(alpha.catalog, 0, question, 1)] == ["5", "4"]
