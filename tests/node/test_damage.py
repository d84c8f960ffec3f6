"""Damage: found, written down, never served, and healed by whole bytes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import BadRequest, Damaged, Entry, Move, Selection, Unavailable
from node.damage import DamageBook, Mender
from node.inspection import Findings, Inspector
from node.intake import Intake
from node.retriever import NodeRetriever
from node.scrub import Scrub
from node.state import State
from node.verification import Verification, Wish
from tests.node.storage.filling import Came, Stopped, keep
from tests.node.storage.test_draining import Site, content, flip, open_site
from tests.node.storage.test_volumes import with_disk

DAY = 86400.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = open_site(tmp_path)
    yield site
    site.close()


def inspector(site: Site) -> Inspector:
    book = DamageBook(site.state, site.clock)
    return Inspector(site.store, site.store, site.catalog, site.held, book)


def verify(site: Site, **wish: float) -> dict[str, object]:
    """Verify as a person asks for it; return what was found."""
    job = Verification(inspector(site), Wish(**wish), site.clock)  # type: ignore[arg-type]
    while not job.is_over:
        job.step()
    return job.progress()


def entry_of(site: Site, number: int) -> Entry:
    (entry,) = site.catalog.select(Selection(instances=(f"1.{number}.1.1",)))
    return entry


def test_what_is_whole_is_found_good(site: Site) -> None:
    for number in range(5):
        site.put(number, is_held=number == 4)
    found = verify(site)
    assert (found["objects"], found["is_good"], found["troubles"]) == (5, True, [])


@pytest.mark.parametrize("at", [2000, 3, 515], ids=["bytes", "header", "file meta"])
def test_a_flipped_byte_is_found_written_down_and_not_served(site: Site, at: int) -> None:
    kept = [site.put(number) for number in range(5)]
    flip(site, kept[3], at)
    found = verify(site)
    assert (found["damaged"], found["is_good"]) == (1, False)
    book = DamageBook(site.state, site.clock)
    assert [row.SOPInstanceUID for row in book] == ["1.3.1.1"]
    retriever = NodeRetriever(site.store, site.catalog, "ALPHA", book)
    with pytest.raises(Damaged, match="damaged"):
        retriever.open(entry_of(site, 3))
    retriever.open(entry_of(site, 2)).close()


def test_equal_bytes_that_come_again_heal_it_and_the_bad_ones_go(site: Site) -> None:
    kept = [site.put(number) for number in range(3)]
    flip(site, kept[1])
    verify(site)
    book = DamageBook(site.state, site.clock)
    again = keep(site.store, content(1, 3000), Came(received=1))
    assert Mender(site.store, site.rows, book).mend("1.1.1.1", again)
    assert [*book] == []
    assert site.where(1, kept[1]) == again
    NodeRetriever(site.store, site.catalog, "ALPHA", book).open(entry_of(site, 1)).close()
    assert verify(site)["is_good"]


def test_a_whole_copy_that_lies_about_in_the_store_heals_it(site: Site) -> None:
    kept = [site.put(number) for number in range(3)]
    spare = keep(site.store, content(1, 3000), Came(received=1))
    site.store.store(0).retire()
    site.store.store(0).retire()
    flip(site, kept[1])
    found = verify(site)
    assert (found["damaged"], found["healed"]) == (1, 1)
    assert site.where(1, kept[1]) == spare
    assert verify(site)["is_good"]


def test_a_missing_disk_is_not_damage(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    disk = with_disk(tmp_path, site.store)
    site.store.list.mark(0, is_read_only=True)
    site.store.states()
    was = site.put(1)
    disk.rename(tmp_path / "unplugged")
    site.clock.now += 2
    found = verify(site)
    assert (found["damaged"], found["unavailable"], found["is_good"]) == (0, 1, False)
    assert [*DamageBook(site.state, site.clock)] == []
    with pytest.raises(Unavailable):
        site.store.open(was)
    site.close()


def test_what_lies_in_the_segments_without_a_row_is_told(site: Site) -> None:
    site.put(1)
    keep(site.store, content(2, 3000), Came(received=1))
    for _ in range(2):
        site.store.store(0).retire()
    found = verify(site)
    assert (found["unrecorded"], found["is_good"]) == (1, False)
    assert "rebuild" in str(found["troubles"])


def test_a_damaged_decision_is_told(site: Site) -> None:
    site.put(1)
    site.store.keep_decision("d1", b'{"reason": "a long enough text"}')
    for _ in range(2):
        site.store.store(0).retire()
    (segment,) = (site.folder / "a/objects/00").iterdir()
    data = segment.read_bytes()
    at = data.index(b"long enough")
    segment.write_bytes(data[:at] + b"L" + data[at + 1 :])
    assert "a damaged decision" in str(verify(site)["troubles"])


def test_a_sample_is_a_share_and_since_names_the_newest(site: Site) -> None:
    for number in range(200):
        site.put(number, 100)
        site.clock.now += 1
    objects = verify(site, share=0.1)["objects"]
    assert isinstance(objects, int)
    assert 3 < objects < 50
    assert verify(site, since=int((site.clock.now - 10) * 1000))["objects"] in (9, 10)
    for share in (0, 1.1):
        with pytest.raises(BadRequest):
            verify(site, share=share)


def test_a_rate_is_kept_to(site: Site) -> None:
    for number in range(10):
        site.put(number, 9_000)
    job = Verification(inspector(site), Wish(bytes_per_second=1000), site.clock)
    started = site.clock.now
    while not job.is_over:
        site.clock.now += job.step()
    assert 90 <= site.clock.now - started <= 100


def test_a_scrub_reads_everything_in_25_to_35_days_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    kept = {number: site.put(number, 1000 + 100 * number) for number in range(40)}
    flip(site, kept[39], 700)
    started, passes = site.clock.now, []
    for _ in range(3):
        scrub = Scrub(inspector(site), site.state, site.clock, lambda: site.catalog.totals().stored)
        while site.clock.now < started + 100 * DAY:
            before = scrub.progress.findings.objects
            scrub.step()
            assert scrub.progress.findings.objects - before <= 1, "it never runs ahead"
            if scrub.progress.finished and scrub.progress.finished not in passes:
                passes.append(scrub.progress.finished)
            site.clock.now += 3600
            if random.Random(site.clock.now).random() < 0.05:
                scrub.note()
                scrub = Scrub(inspector(site), site.state, site.clock, lambda: site.catalog.totals().stored)
    assert 2 <= len(passes) <= 4
    assert all(25 * DAY <= one <= 36 * DAY for one in _gaps([started, *passes]))
    assert scrub.progress.last
    assert (scrub.progress.last.objects, scrub.progress.last.damaged) == (40, 1)
    site.close()


def _gaps(moments: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


def test_a_scrub_gives_way_while_others_need_the_disk(site: Site) -> None:
    for number in range(10):
        site.put(number)
    is_busy = True
    scrub = Scrub(inspector(site), site.state, site.clock, lambda: 1, lambda: is_busy)
    for _ in range(50):
        scrub.step()
        site.clock.now += 1
    assert scrub.progress.findings.objects == 0
    is_busy = False
    for _ in range(50):
        scrub.step()
        site.clock.now += 1
    assert scrub.progress.findings.objects > 0


def test_what_was_moved_while_it_was_sent_is_found_where_it_is(site: Site) -> None:
    was = site.put(1)
    entry = entry_of(site, 1)
    now = keep(site.store, content(1, 3000), Came(received=1))
    site.rows.relocate([Move("1.1.1.1", was, now)])
    site.store.remove(was)
    NodeRetriever(site.store, site.catalog, "ALPHA").open(entry).close()


def test_reads_that_verify_send_no_flipped_byte_and_write_it_down(site: Site) -> None:
    kept = site.put(1)
    flip(site, kept)
    book = DamageBook(site.state, site.clock)
    NodeRetriever(site.store, site.catalog, "ALPHA", book).open(entry_of(site, 1)).close()
    with pytest.raises(Damaged):
        NodeRetriever(site.store, site.catalog, "ALPHA", book, is_verifying=True).open(entry_of(site, 1))
    assert kept.sha256 in book


def test_findings_name_a_few_troubles_and_count_all() -> None:
    findings = Findings()
    for number in range(100):
        findings.tell(f"{number}")
    assert len(findings.troubles) == 20


def test_days_are_left_as_the_last_two_weeks_tell(tmp_path: Path) -> None:
    clock = Stopped()
    with State(tmp_path / "state") as state:
        intake = Intake(state, clock)
        assert intake.days_left(1000) is None
        for day in range(40):
            intake.add(100 if day > 20 else 1_000_000)
            intake.step()
            if day < 3:
                assert intake.days_left(1000) is None
            clock.now += DAY
            intake = Intake(state, clock)
        assert intake.per_day() == 100
        assert intake.days_left(1000) == 10
        clock.now += 200 * DAY
        intake.step()
        assert intake.days_left(1000) is None, "nothing comes"
