"""Nobody can take the node from the others: limits, half-open connections, many senders, the end."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import Attributes, Busy, Query
from node.dimse import Limits, Requestor
from node.dimse.dialing import Peer, dial, hang_up
from tests.node.dimse.archive import Node, identifier, instances, serving
from tests.node.dimse.peers import until
from tests.node.dimse.wire import IMPLICIT, VERIFICATION, Raw, associate


def scu(node: Node, title: str = "VIEWER") -> Requestor:
    return Requestor(title, "127.0.0.1", node.port, "ALPHA")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_five_hundred_bare_and_half_open_connections_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as node:
        gc.collect()
        before, threads = descriptors(), threading.active_count()
        half = associate()[:50]
        socks = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(500)]
        for sock in socks[::2]:
            sock.send(half)
        until(lambda: node.server.counters()["requested"] == 500)
        assert threading.active_count() <= threads
        assert scu(node).echo() < 5
        node.let_artim_expire(monkeypatch)
        until(lambda: node.server.counters()["requested"] == 0)
        for sock in socks:
            assert sock.recv(1) == b""
            sock.close()
        until(lambda: descriptors() <= before and threading.active_count() <= threads)


def test_when_too_many_wait_the_oldest_is_dropped_for_the_newest() -> None:
    with serving(Limits(waiting=20)) as node:
        socks = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(50)]
        assert scu(node).echo() < 5
        assert socks[0].recv(1) == b""
        for sock in socks:
            sock.close()


def test_one_hundred_and_twenty_eight_associations_store_at_once_and_none_starves() -> None:
    count, each = 128, 10
    progress = [0] * count
    longest = [0.0] * count
    with serving() as node:
        start = threading.Barrier(count)

        def send(number: int) -> None:
            start.wait(60)
            last = time.monotonic()
            for sent in scu(node, f"AE{number}").store(instances(each, 20_000, f"1.2.{number}")):
                assert sent.status == 0
                progress[number] += 1
                last, waited = time.monotonic(), time.monotonic() - last
                longest[number] = max(longest[number], waited)

        senders = [threading.Thread(target=send, args=(number,)) for number in range(count)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(60)
        assert progress == [each] * count
        assert max(longest) < 10
        assert len(node.archive.instances) == count * each
        until(lambda: node.server.counters()["open"] == 0)
        assert node.server.counters()["accepted"] == count


@pytest.mark.parametrize(
    ("limits", "same"),
    [
        (Limits(associations=2), False),
        (Limits(associations_per_ae=2), True),
        (Limits(associations_per_address=2), False),
    ],
)
def test_a_limit_rejects_transiently_and_lets_in_again_later(limits: Limits, same: bool) -> None:
    with serving(limits) as node:
        peers = [Peer("ALPHA", "127.0.0.1", node.port, "X" if same else f"X{number}") for number in range(3)]
        proposed = [(VERIFICATION, (IMPLICIT,))]
        held = [dial(peer, proposed, Limits()) for peer in peers[:2]]
        with Raw(node.port) as raw:
            raw.send(associate(calling=peers[2].calling_ae.encode()))
            assert raw.pdu() == (3, bytes((0, 2, 3, 2)))
        with pytest.raises(Busy, match="limit of associations"):
            dial(peers[2], proposed, Limits())
        hang_up(held[0], release=True)
        until(lambda: node.server.counters()["open"] == 1)
        for association in (held[1], dial(peers[2], proposed, Limits())):
            hang_up(association, release=True)


def test_a_limit_per_ae_does_not_keep_others_out() -> None:
    with serving(Limits(associations_per_ae=1)) as node:
        held = dial(Peer("ALPHA", "127.0.0.1", node.port, "GREEDY"), [(VERIFICATION, (IMPLICIT,))], Limits())
        assert scu(node).echo() < 5
        hang_up(held, release=True)


def test_associations_that_come_too_fast_are_told_to_wait() -> None:
    with serving(Limits(associations_per_second=2, burst=5)) as node:
        answers = []
        for _ in range(20):
            with Raw(node.port) as raw:
                raw.send(associate())
                kind, body = raw.pdu()
                answers.append((kind, tuple(body[1:]) if kind == 3 else ()))
        assert answers[:5] == [(2, ())] * 5
        assert (3, (2, 3, 1)) in answers
        until(lambda: scu_echoes(node))


def scu_echoes(node: Node) -> bool:
    try:
        scu(node).echo()
    except Busy:
        return False
    return True


def stalled(node: Node) -> Iterator[Attributes]:
    """Begin to read answers without end, and read the first alone."""

    def many(query: Query) -> Iterator[Attributes]:
        long = {"vr": "LT", "Value": ["x" * 10_000]}
        for number in range(200_000):
            yield {"0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}, "00104000": long}

    node.archive.answers = many
    find = iter(scu(node).find(identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="")))
    next(find)
    return find


def test_an_endless_find_reader_that_stalls_does_not_hold_the_others_up() -> None:
    with serving() as node:
        find = stalled(node)
        for _ in range(20):
            assert scu(node).echo() < 5
        assert node.server.counters()["open"], "all that while it was waited for"
        del find
        until(lambda: node.server.counters()["open"] == 0)


def test_a_find_reader_that_stalls_is_given_up() -> None:
    with serving(Limits(message=1.0)) as node:
        find = stalled(node)
        until(lambda: node.server.counters()["open"] == 0)
        del find


def test_stop_lets_what_is_in_flight_finish() -> None:
    with serving() as node:
        go_on = threading.Event()

        def slow(query: Query) -> Iterator[Attributes]:
            go_on.wait(60)
            yield {"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}

        node.archive.answers = slow
        found: list[Attributes] = []
        keys = identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="")
        asking = threading.Thread(target=lambda: found.extend(scu(node).find(keys)))
        asking.start()
        until(lambda: node.server.counters()["serving"] == 1)
        idle = Raw(node.port, ask=associate())
        stopping = threading.Thread(target=node.server.stop, args=(60.0,))
        stopping.start()
        assert idle.pdu()[0] == 7
        idle.sock.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", node.port))
        go_on.set()
        asking.join(60)
        stopping.join(60)
        assert len(found) == 1
        assert not stopping.is_alive()


def test_stop_aborts_what_does_not_end_by_the_deadline_and_leaves_no_thread() -> None:
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    with serving() as node:
        raw = Raw(node.port, ask=associate())
        raw.send(b"\4\0\0\0\0\x20")
        waiting = socket.create_connection(("127.0.0.1", node.port))
        until(lambda: node.server.counters()["requested"] == 1)
        started = time.monotonic()
        node.server.stop(0.3)
        assert time.monotonic() - started < 3
        assert node.server.counters()["open"] == 0
        raw.sock.close()
        waiting.close()
    gc.collect()
    until(lambda: descriptors() <= before and threading.active_count() <= threads)


def test_memory_does_not_grow_with_associations() -> None:
    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    with serving(Limits(associations_per_second=1e6)) as node:
        for _ in range(200):
            scu(node).echo()
        gc.collect()
        before = resident()
        for _ in range(600):
            scu(node).echo()
        gc.collect()
        assert resident() - before < 4096


def test_one_connection_that_fails_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no such socket")

    with serving() as node:
        with monkeypatch.context() as patch:
            patch.setattr("node.dimse.acceptor.Acceptance", fail)
            with Raw(node.port) as raw:
                raw.send(associate())
                assert raw.pdu()[0] == 0
        assert scu(node).echo() < 5
        assert node.server.counters()["requested"] == 0


def test_two_servers_share_a_port() -> None:
    with serving() as node, serving() as other:
        port = node.server.listen("127.0.0.1", 0, shares_port=True)
        assert other.server.listen("127.0.0.1", port, shares_port=True) == port
        for _ in range(40):
            Requestor("VIEWER", "127.0.0.1", port, "ALPHA").echo()
        until(lambda: len(node.trail.events) + len(other.trail.events) == 40)
        assert node.trail.events
        assert other.trail.events
