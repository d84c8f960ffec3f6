"""What is on its way in while its owner erases it: no receipt before it is gone, and it never comes later."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catalog import Decision, NotPermitted, Verb
from federation.copying import CopyItem
from federation.erasing import Erasure
from federation.owners import Owner
from federation.trust.assertion import Asker
from node.copies.rows import row_of
from node.copies.store import RESUMED_ABOVE, Arrived, CopyStore
from node.erasures import Obedience
from node.nearline_copy import Part, Said
from node.nearline_way import Wish
from node.state import State
from node.storage import Damage
from node.storage.places import place_of
from node.storage.replay import items
from tests.federation.nodes import wait_for
from tests.homes import Peer, phantoms, serving
from tests.node.keepers import SMALL, keepers
from tests.node.nearlines import pair
from tests.node.test_erasures import Heard, Kept
from tests.running import until

MB = 1 << 20
OWNER = b"a/main"
NAMED = "VERY^SECRET"


class Copies(Kept):
    """What a node keeps of copies, as an erasure meets it."""

    def __init__(self, store: CopyStore) -> None:
        super().__init__()
        self._store = store

    def drop_copies(self, owner: tuple[str, str], target: tuple[str, ...]) -> int:
        return self._store.erase("/".join(owner).encode(), target)

    def still(self, owner: tuple[str, str], target: tuple[str, ...]) -> str:
        return "coming" if self._store.erased.is_coming(target[0]) else ""


class Node:
    """A node that keeps copies, and obeys when owners erase."""

    def __init__(self, folder: Path, store: CopyStore, state: State) -> None:
        self.folder, self.store = folder, store
        self._obedience = Obedience(state, Copies(store), Heard(), time.time)
        store.erased.known = self._obedience.erased

    def erase(self, *target: str, owner: str = "a") -> bool:
        """Erase something for an owner; say whether it has its receipt."""
        [receipt] = self._obedience.erase(owner, "main", [Erasure("e1", target, 7)])
        return receipt.done > 0

    def keep(self, study: str, series: str, instance: str) -> dict[int, Any]:
        """Take in an object of the first owner's that names somebody; return why it is not kept."""
        data = f"{NAMED} {series} {instance}".encode() * 500
        incoming = self.store.incoming(OWNER, study, sha256(data).digest(), len(data))
        incoming.space(len(data))[:] = data
        incoming.filled(len(data))
        item = CopyItem(series, instance, "1.4", "1.5", sha256(data).digest(), len(data), "CT", 1)
        refused = self.store.keep(OWNER, study, [Arrived(incoming, row_of(item))])
        incoming.discard()
        return refused

    def holding(self, word: str) -> list[str]:
        """Return the files of objects that hold a word."""
        files = [path for name in ("objects", "incoming") for path in (self.folder / name).rglob("*")]
        return [path.name for path in files if path.is_file() and word.encode() in path.read_bytes()]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    store = CopyStore(tmp_path / "copies", time.time, SMALL)
    with State(tmp_path / "state") as state:
        yield Node(tmp_path / "copies", store, state)
    store.close()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_study_series_or_instance_that_was_erased_is_never_kept_again(node: Node, depth: int) -> None:
    first, *others = [("1.2", "1.2.1", "1"), ("1.2", "1.2.1", "2"), ("1.2", "1.2.2", "3")]
    for each in (first, *others):
        assert node.keep(*each) == {}
    assert node.erase(*first[:depth])
    left = len(node.store.study(OWNER, "1.2"))
    assert left == {1: 0, 2: 1, 3: 2}[depth]
    assert isinstance(node.keep(*first)[0], NotPermitted)
    assert len(node.store.study(OWNER, "1.2")) == left
    assert node.holding(f"{NAMED} 1.2.1 1") == []
    assert not node.store.erased.refusals(b"b/main", "1.2", [("1.2.1", "1")]), "another owner may have it"


def test_what_came_of_a_large_object_before_a_break_goes_with_its_study(node: Node) -> None:
    for study in ("1.2", "1.3"):
        incoming = node.store.incoming(OWNER, study, b"\1" * 32, RESUMED_ABOVE + 3 * MB)
        for _ in range(2):
            incoming.space(MB)[:] = f"{NAMED:64}".encode() * (MB // 64)
            incoming.filled(MB)
        incoming.discard()
    assert len(node.holding(NAMED)) == 2
    assert node.erase("1.2")
    assert len(node.holding(NAMED)) == 1, "another study's goes on"


def test_what_an_owner_said_of_an_erased_series_is_forgotten_until_it_says_something_else(node: Node) -> None:
    corrected = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": NAMED}]}}
    gone, stays = (
        msgspec.msgpack.encode(
            Decision(
                id=series,
                verb=Verb.CORRECT,
                target=("1.2", series),
                reason="",
                who="ann",
                when=1,
                attributes=corrected,
            )
        )
        for series in ("1.2.1", "1.2.2")
    )
    node.keep("1.2", "1.2.2", "3")
    node.store.note(OWNER, "1.2", [gone, stays], b"")
    assert node.erase("1.2", "1.2.1")
    assert not node.store.is_told(OWNER, "1.2"), "its owner is asked to say anew what it is"
    with pytest.raises(NotPermitted):
        node.store.note(OWNER, "1.2", [gone, stays], b"")
    assert not node.store.is_told(OWNER, "1.2")
    node.store.note(OWNER, "1.2", [stays], b"")
    assert node.store.is_told(OWNER, "1.2")


def test_a_receipt_waits_for_what_is_being_taken_in(node: Node) -> None:
    with node.store.erased.coming("1.2"):
        assert node.keep("1.2", "1.2.1", "1") == {}
        assert not node.erase("1.2")
        assert node.holding(NAMED) == [], "what is there goes at once"
        assert [*node.keep("1.2", "1.2.1", "2")] == [0]
        assert not node.erase("1.2")
    assert node.erase("1.2")
    assert node.holding(NAMED) == []


@pytest.mark.slow
def test_a_receipt_waits_for_a_copy_that_is_written_and_has_no_row_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        alpha, beta = keepers(tmp_path, stack)
        node = Node(beta.folder, beta.copies, stack.enter_context(State(tmp_path / "state")))
        sent = phantoms(31, instances=2, size=20_000)
        uid = alpha.store(sent)
        is_written, may_go_on = threading.Event(), threading.Event()
        put = beta.copies._put

        def slowly(*row: Any) -> None:
            is_written.set()
            may_go_on.wait(10)
            put(*row)

        monkeypatch.setattr(beta.copies, "_put", slowly)
        told: list[Any] = []
        thread = threading.Thread(target=lambda: told.append(alpha.copied(beta, uid)))
        thread.start()
        assert is_written.wait(10)
        owner = alpha.peer.node_id
        assert not node.erase(uid, owner=owner), "its bytes are there"
        may_go_on.set()
        thread.join(60)
        wait_for(lambda: node.erase(uid, owner=owner))
        assert [(kept, {type(error) for error in failed}) for kept, failed in told] == [(0, {NotPermitted})]
        assert [word for each in sent for word in node.holding(each.SOPInstanceUID)] == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [200_000, 9 * MB])
def test_a_fetch_under_way_during_an_erasure_leaves_nothing(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        alpha, beta = next(pair(tmp_path, stack))
        [entry] = alpha.entries(alpha.store(phantoms(34, instances=1, size=size)))
        gone: set[str] = set()
        beta.cache.is_erased = lambda owner, each: each.StudyInstanceUID in gone
        seen: list[bool] = []
        finish = Part.finish

        def erased_first(part: Part, said: Any) -> None:
            seen.append(beta.cache.is_coming(entry.StudyInstanceUID))
            gone.add(entry.StudyInstanceUID)
            beta.cache.sweep(lambda owner, each: False)
            finish(part, said)

        monkeypatch.setattr(Part, "finish", erased_first)
        with pytest.raises(NotPermitted):
            beta.fetches.get(entry, Wish(Asker()))
        assert set(seen) == {True}
        assert not beta.cache.is_coming(entry.StudyInstanceUID)
        beta.cache.close()
        assert [path for path in (beta.home / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_what_a_node_fetched_of_its_own_study_goes_with_it_and_is_not_fetched_again(tmp_path: Path) -> None:
    with serving(tmp_path / "node") as node:
        assert set(Peer(node).store(*phantoms(35, instances=1))) == {0}
        [entry] = [entry for _, entry in node.main.care.inspector.entries()]
        cache, owner = node.neighbourhood.fetching.cache, Owner(node.config.node.node_id, "main").name

        data, reader = bytearray(entry.holding.size), node.main.store.open(entry.holding)
        assert reader.read_into(memoryview(data), 0) == len(data)
        reader.close()
        early, late = cache.part(entry), cache.part(entry)
        for part in (early, late):
            part.write(bytes(data))
        said = Said(owner, entry, (), "", b"own")
        early.finish(said)
        assert cache.has(owner, entry)
        node.desk.verbs()["erase"](target=entry.StudyInstanceUID, reason="a test", who="ann")
        until(lambda: [each["outcome"] for each in node.desk.verbs()["deletions"]()["orders"]] == ["erased"])
        assert not cache.has(owner, entry)
        with pytest.raises(NotPermitted):
            late.finish(said)
        late.discard()
        assert not cache.has(owner, entry)


@pytest.mark.parametrize("is_found_before", [False, True])
@pytest.mark.parametrize("damaged", [0, 1])
def test_a_copy_whose_header_is_damaged_is_erased_too(
    node: Node, damaged: int, is_found_before: bool
) -> None:
    """Also if a proof found that it cannot be read, and its row went before the order came."""
    for number in range(3):
        node.keep("1.2", "1.2.1", str(number))
    rows = sorted(node.store.study(OWNER, "1.2"), key=lambda row: place_of(row.holding.where).offset)
    [segment] = (node.folder / "objects").rglob("*.tar")
    with segment.open("r+b") as file:
        file.seek(place_of(rows[damaged].holding.where).offset + 10)
        file.write(b"\xff" * 20)
    if is_found_before:
        assert node.store.prove(OWNER, "1.2", rows[damaged].holding.sha256, b"") == b""
    others = [row.holding.sha256 for row in rows if row is not rows[damaged]]
    assert all(node.store.prove(OWNER, "1.2", each, b"") for each in others)
    assert node.erase("1.2")
    assert node.holding(NAMED) == []
    assert [each for each in items(segment, 1) if isinstance(each, Damage)] == []
