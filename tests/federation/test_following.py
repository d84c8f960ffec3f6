"""A mirror follows its owner's log, whatever happens to the link, to the owner and to the mirror."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from catalog import Change, Decision, Head, Share, Unavailable, Verb
from catalog.statements import LEFT_SHARE
from federation import following, serving
from federation.following import HELD, NEW_EPOCH, REPAIRED, Follower, exchange
from federation.messages import Delta, PullRequest
from federation.mirror_rows import ROW, part_of
from federation.mirror_writing import OutOfStep
from tests.catalog.samples import Ticking, arrival
from tests.federation.grids import Cut, Node, known, live


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def pair(tmp_path: Path, clock: Ticking) -> Iterator[tuple[Node, Node]]:
    alpha, beta = Node(tmp_path / "alpha", clock), Node(tmp_path / "beta", clock)
    yield alpha, beta
    alpha.stop()
    beta.stop()


def fill(node: Node, count: int, start: int = 0) -> None:
    node.catalog.record([arrival(f"{n}", f"{n}.1", f"{n}.1.1") for n in range(start, start + count)])
    node.clock.now += 3
    node.publish()


def reject(node: Node, *studies: int) -> None:
    for n in studies:
        node.catalog.decide(
            Decision(id=f"r{n}", verb=Verb.REJECT, target=(f"{n}",), reason="", who="", when=n)
        )
    node.clock.now += 3
    node.publish()


def assert_equal(alpha: Node, beta: Node, share: int = 0) -> None:
    """Beta's mirror of alpha is as alpha's log, row for row and bucket for bucket."""
    source = beta.mirror.source(alpha.name, share)
    assert beta.mirrored(alpha.name, share) == live(alpha.catalog, share)
    assert known(beta.mirror.digests(source)) == known(alpha.catalog.digests(share))
    assert beta.mirror.state(source).studies == sum(b"\0" not in key for key in live(alpha.catalog, share))


def test_a_new_follower_takes_a_snapshot_and_then_only_what_changes(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    fill(alpha, 30)
    beta.sync(alpha)
    assert_equal(alpha, beta)
    fill(alpha, 5, 30)
    reject(alpha, 3)
    seen = beta.follower(b"alpha").state.seen
    assert [type(reply) for reply in alpha.owner.pull(PullRequest(0, seen, seen))] == [Delta]
    beta.sync(alpha)
    assert_equal(alpha, beta)


def test_a_pull_follows_a_notification_after_a_tenth_of_a_second(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    fill(alpha, 1)
    beta.sync(alpha)
    follower, now = beta.follower(b"alpha"), beta.clock()
    fill(alpha, 1, 1)
    follower.told(alpha.owner.head(0), now)
    follower.told(alpha.owner.head(0), now + 0.08)
    assert follower.wants(now + 0.09) is None
    assert isinstance(follower.wants(now + 0.1), PullRequest)


def test_freshness_is_the_moment_of_the_last_heartbeat_that_found_the_mirror_level(
    pair: tuple[Node, Node],
) -> None:
    alpha, beta = pair
    fill(alpha, 1)
    beta.sync(alpha)
    follower = beta.follower(b"alpha")
    now = beta.clock()
    follower.told(alpha.owner.head(0), now + 5)
    assert follower.in_sync_at == now + 5
    fill(alpha, 1, 1)
    follower.told(alpha.owner.head(0), now + 10)
    assert follower.in_sync_at == now + 5
    assert exchange(follower, alpha.owner, now + 11)
    assert follower.in_sync_at == now + 10
    assert follower.age(now + 12, 0.0) == 2
    beta.restart()
    assert beta.follower(b"alpha").age(5.0, beta.clock() + 90) == pytest.approx(90, abs=5)


def test_a_snapshot_goes_on_behind_the_last_key_wherever_the_link_breaks(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PART_ROWS", 7)
    alpha, beta = pair
    fill(alpha, 40)
    reject(alpha, 10, 20)
    follower = beta.follower(b"alpha")
    links = []
    for _ in range(100):
        link = Cut(alpha.owner, after=2)
        links.append(link)
        follower.connected(beta.clock())
        follower.told(alpha.owner.head(0), beta.clock())
        beta.clock.now += 0.3
        try:
            exchange(follower, link, beta.clock())
        except Unavailable:
            fill(alpha, 1, 100 + len(links))
        if len(links) == 3:
            beta.restart()
            follower = beta.follower(b"alpha")
        if follower.state.seen == alpha.owner.head(0) and follower.state.is_whole:
            break
    begins = [reply for link in links for reply in link.said if "Begin" in type(reply).__name__]
    assert len(begins) == 1
    assert_equal(alpha, beta)


def test_what_the_owner_lost_to_an_old_backup_is_found_out_even_when_it_wrote_past_it(
    pair: tuple[Node, Node], tmp_path: Path
) -> None:
    alpha, beta = pair
    fill(alpha, 10)
    backup = alpha.copy("catalog", tmp_path / "backup")
    fill(alpha, 10, 10)
    beta.sync(alpha)
    epoch, before = alpha.owner.head(0).epoch, beta.mirrored(b"alpha")
    alpha.restart(catalog=backup)
    fill(alpha, 40, 100)
    assert alpha.owner.head(0).epoch == epoch
    assert alpha.owner.head(0).seq > beta.follower(b"alpha").state.applied
    follower = beta.follower(b"alpha")
    follower.told(alpha.owner.head(0), beta.clock())
    beta.clock.now += 1
    with pytest.raises(Unavailable):
        exchange(follower, Cut(alpha.owner, after=1), beta.clock())
    assert follower.findings == [(NEW_EPOCH, 1)]
    assert beta.mirrored(b"alpha") == before, "old rows stay until the snapshot has settled them"
    beta.sync(alpha)
    assert alpha.owner.head(0).epoch > epoch
    assert_equal(alpha, beta)


def test_rows_of_an_ended_history_are_unconfirmed_until_the_snapshot_settles_them(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, beta = pair
    fill(alpha, 20)
    beta.sync(alpha)
    alpha.catalog.renew_epoch()
    monkeypatch.setattr(serving, "PART_ROWS", 10)
    follower = beta.follower(b"alpha")
    follower.told(alpha.owner.head(0), beta.clock())
    with pytest.raises(Unavailable):
        exchange(follower, Cut(alpha.owner, after=2), beta.clock() + 1)
    source = beta.mirror.source(b"alpha", 0)
    state = beta.mirror.state(source)
    with beta.mirror.reading() as reading:
        generations = {
            key: int.from_bytes((reading.get(ROW + part_of(source) + key) or b"")[:4], "big")
            for key in live(alpha.catalog)
        }
    assert sum(generation >= state.confirmed for generation in generations.values()) == 10
    beta.sync(alpha)
    assert beta.mirror.state(source).confirmed == 0


def test_answers_that_come_late_or_twice_change_nothing(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    fill(alpha, 5)
    beta.sync(alpha)
    first = beta.follower(b"alpha").state.seen
    fill(alpha, 1, 5)
    (early,) = alpha.owner.pull(PullRequest(0, first, first))
    reject(alpha, 5)
    beta.sync(alpha)
    source = beta.mirror.source(b"alpha", 0)
    for stale in (early, early._replace(head=Head(1, 9999, bytes(8)))):
        with pytest.raises(OutOfStep):
            beta.mirror.apply(source, stale)
    beta.follower(b"alpha").received(early, beta.clock())
    assert_equal(alpha, beta)


def test_who_missed_forgotten_tombstones_takes_a_snapshot_and_nothing_rises_again(
    pair: tuple[Node, Node],
) -> None:
    alpha, beta = pair
    fill(alpha, 10)
    beta.sync(alpha)
    reject(alpha, 4)
    assert alpha.catalog.forget_tombstones({0: 10_000}) == 2
    fill(alpha, 1, 10)
    beta.sync(alpha)
    assert_equal(alpha, beta)
    assert b"4" not in beta.mirrored(b"alpha")


def test_digests_find_and_mend_whatever_is_wrong_in_a_mirror(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    fill(alpha, 50)
    beta.sync(alpha)
    source = beta.mirror.source(b"alpha", 0)
    seen = beta.mirror.state(source).seen
    with beta.mirror._writing(source) as writing:
        wrong = [Change(1, b"7", b""), Change(1, b"8", b"changed"), Change(1, b"ghost", b"row")]
        writing.take(wrong, is_repair=True)
    follower = beta.follower(b"alpha")
    beta.sync(alpha)
    assert (REPAIRED, 3) in follower.findings
    assert follower.state.seen == seen
    assert_equal(alpha, beta)
    with beta.mirror._environment.changing() as txn:
        txn.put(ROW + part_of(source) + b"9", bytes(12) + b"rotten")
    beta.mirror.recount(source)
    beta.sync(alpha)
    assert_equal(alpha, beta)


def test_digests_are_compared_at_an_equal_head_only(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    fill(alpha, 5)
    beta.sync(alpha)
    follower = beta.follower(b"alpha")
    follower.connected(beta.clock())
    assert isinstance(follower.wants(beta.clock()), following.DigestRequest)
    fill(alpha, 5, 5)
    follower.received(alpha.owner.digests(0), beta.clock())
    assert isinstance(follower.wants(beta.clock() + 1), PullRequest)
    assert follower.findings == []
    beta.sync(alpha)
    assert_equal(alpha, beta)


def test_more_than_a_person_would_delete_waits_for_a_person(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    fill(alpha, 60)
    beta.sync(alpha)
    reject(alpha, *range(10))
    beta.sync(alpha)
    assert_equal(alpha, beta)
    reject(alpha, 20, 21)
    follower = beta.follower(b"alpha")
    with pytest.raises(AssertionError):
        beta.sync(alpha)
    assert (HELD, 2) in follower.findings
    assert follower.wants(beta.clock() + 100) is None
    assert b"20" in beta.mirrored(b"alpha")
    beta.mirror.allow(beta.mirror.source(b"alpha", 0))
    beta.sync(alpha)
    assert_equal(alpha, beta)


def test_an_owner_that_comes_back_empty_does_not_empty_the_mirror(
    pair: tuple[Node, Node], tmp_path: Path
) -> None:
    alpha, beta = pair
    empty = alpha.copy("catalog", tmp_path / "empty")
    fill(alpha, 60)
    beta.sync(alpha)
    alpha.restart(catalog=empty)
    with pytest.raises(AssertionError):
        beta.sync(alpha)
    assert len(beta.mirrored(b"alpha")) == 120
    beta.restart()
    with pytest.raises(AssertionError):
        beta.sync(alpha)
    assert len(beta.mirrored(b"alpha")) == 120
    beta.mirror.allow(beta.mirror.source(b"alpha", 0))
    beta.sync(alpha)
    assert_equal(alpha, beta)


def test_a_share_is_followed_like_everything(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    alpha.catalog.share(
        [Share(3, "odd", lambda study, rows: dict(rows) if int(study) % 2 else {})],
    )
    fill(alpha, 20)
    beta.sync(alpha, 3)
    assert len(beta.mirrored(b"alpha", 3)) == 20
    assert_equal(alpha, beta, 3)
    alpha.catalog.share([Share(3, "five", lambda study, rows: dict(rows) if int(study) % 10 else {})])
    alpha.publish()
    assert LEFT_SHARE not in {row.row for row in alpha.catalog.changes(0, 1000, 3)}
    beta.sync(alpha, 3)
    assert_equal(alpha, beta, 3)


def test_a_revoked_peer_leaves_nothing_behind(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    fill(alpha, 30)
    beta.sync(alpha)
    beta.mirror.drop(beta.mirror.source(b"alpha", 0))
    assert beta.mirrored(b"alpha") == {}
    with beta.mirror.reading() as reading:
        left = {bytes(key[:1]) for key in reading.cursor().iternext(keys=True, values=False)}
    assert left <= {b"n", b"p", b"o", b"g"}
    beta.followers.clear()
    beta.sync(alpha)
    assert_equal(alpha, beta)


def test_a_commit_larger_than_a_message_is_never_cut_in_two(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "ROWS_AT_ONCE", 5)
    alpha, beta = pair
    fill(alpha, 2)
    beta.sync(alpha)
    seen = beta.follower(b"alpha").state.seen
    fill(alpha, 12, 2)
    fill(alpha, 1, 14)
    fill(alpha, 1, 15)
    deltas = list(alpha.owner.pull(PullRequest(0, seen, seen)))
    assert [len(delta.rows) for delta in deltas if isinstance(delta, Delta)] == [24, 4]
    beta.sync(alpha)
    assert_equal(alpha, beta)


def test_what_no_log_says_is_refused_and_changes_nothing(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    fill(alpha, 2)
    beta.sync(alpha)
    source = beta.mirror.source(b"alpha", 0)
    seen = beta.mirror.state(source).seen
    at = Head(seen.epoch, seen.seq + 10, bytes(8))
    for rows in (
        [Change(5, b"", b"row")],
        [Change(5, b"k" * 200, b"row")],
        [Change(5, b"k", b"row"), Change(6, b"k", b"other")],
    ):
        with pytest.raises(Exception, match="cannot be"):
            beta.mirror.apply(source, Delta(seen.seq, at, at, rows))
    for head in (Head(2**64 - 1, 0, bytes(8)), Head(1, 1, b"")):
        with pytest.raises(Exception, match="cannot be"):
            list(alpha.owner.pull(PullRequest(0, head, head)))
    assert_equal(alpha, beta)


def test_retries_wait_longer_each_time_up_to_a_minute(pair: tuple[Node, Node]) -> None:
    _, beta = pair
    follower = Follower(beta.mirror, beta.mirror.source(b"alpha", 0), now=0.0, chance=Random(1))
    now, waits = 0.0, []
    for _ in range(9):
        follower.failed(now)
        start = now
        while follower.wants(now) is None:
            now += 0.1
        waits.append(now - start)
    assert 0.8 <= waits[0] <= 1.5
    assert 48 <= waits[-1] <= 84.1
