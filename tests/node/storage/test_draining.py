"""Volumes are emptied while the archive is in use; at every moment every row has its bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from catalog import Damaged, Holding, LmdbCatalog, Move, NotFound, PacsError
from node.damage import DamageBook
from node.held import HeldShelf
from node.inspection import Findings, Inspector
from node.state import State
from node.storage import Kept, KeptDecision, VolumeStore, file_meta
from node.storage.draining import Drain
from node.storage.elsewhere import place_elsewhere
from node.storage.places import Place, place_of, segment_path
from node.verification import Verification, Wish
from node.whereabouts import Whereabouts
from tests.catalog.samples import CT, EXPLICIT, arrival, open_catalog
from tests.node.storage.filling import MB, SMALL, Came, Stopped, keep, read
from tests.node.storage.test_volumes import OWNER, with_disk


class Site(NamedTuple):
    """An archive of two volumes, its rows, and what empties a volume."""

    folder: Path
    store: VolumeStore
    catalog: LmdbCatalog
    held: HeldShelf
    rows: Whereabouts
    drain: Drain
    clock: Stopped
    state: State

    def put(self, number: int, size: int = 3000, *, is_held: bool = False) -> Holding:
        """Store and record an instance."""
        self.clock.now += 0.01
        came = Came(received=int(self.clock.now * 1000), is_held=is_held)
        holding = keep(self.store, content(number, size), came)
        made = arrival(f"1.{number}", f"1.{number}.1", f"1.{number}.1.1")
        made = replace(made, entry=replace(made.entry, holding=holding, received=came.received))
        if is_held:
            self.held.put(made)
        else:
            self.catalog.record([made])
        return holding

    def where(self, number: int, holding: Holding) -> Holding:
        """Return where an instance lies now."""
        found = self.rows.whereabouts(f"1.{number}.1.1", holding.sha256)
        assert found
        return found

    def drain_out(self, volume: int) -> None:
        """Drain a volume to its end."""
        self.store.list.mark(volume, is_draining=True)
        self.work()

    def work(self) -> None:
        """Do all that is due, and what will be in an hour."""
        for _ in range(4):
            while self.drain.step():
                pass
            self.clock.now += 40

    def close(self) -> None:
        self.catalog.close()
        self.store.close()
        self.state.close()


def content(number: int, size: int) -> bytes:
    """Return a stored file of an instance of that number."""
    return file_meta(CT, f"1.{number}.1.1", EXPLICIT) + random.Random(number).randbytes(size)


def open_site(folder: Path, clock: Stopped | None = None) -> Site:
    """Open the archive in a folder, as a start does."""
    clock = clock or Stopped()
    store = VolumeStore(folder / "a/objects", folder / "a/incoming", clock, SMALL, OWNER)
    list(store.recover())
    catalog = open_catalog(folder / "catalog", clock=clock)
    state = State(folder / "state")
    held = HeldShelf(state, lambda: 1 << 40)
    rows = Whereabouts(catalog, held)
    return Site(folder, store, catalog, held, rows, Drain(store, rows, clock), clock, state)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = open_site(tmp_path)
    with_disk(tmp_path, site.store)
    yield site
    site.close()


def test_a_drained_volume_is_empty_and_everything_is_read_from_the_others(site: Site) -> None:
    site.store.list.mark(1, is_read_only=True)
    site.store.states()
    sizes = {number: 3000 + 100_000 * (number % 7) for number in range(40)} | {40: 2 * MB, 41: 3000}
    kept = {number: site.put(number, size, is_held=number == 41) for number, size in sizes.items()}
    site.store.keep_decision("d1", b"{}")
    site.store.list.mark(1, is_read_only=False)
    site.drain_out(0)
    assert site.store.store(0).is_empty()
    for number, was in kept.items():
        now = site.where(number, was)
        assert (place_of(was.where).volume, place_of(now.where).volume) == (0, 1)
        assert read(site.store, now) == content(number, sizes[number])
    found = list(site.store.scan())
    assert sum(isinstance(item, Kept) for item in found) == 42
    assert [item.id for item in found if isinstance(item, KeptDecision)] == ["d1"]
    assert [item.origin.is_held for item in found if isinstance(item, Kept)].count(True) == 1


def test_a_rebuild_after_a_drain_hears_everything_in_the_order_it_happened(site: Site) -> None:
    names: dict[bytes | str, int] = {}
    for number in range(60):
        site.store.list.mark(number % 2, is_read_only=True)
        site.store.list.mark(1 - number % 2, is_read_only=False)
        site.store.states()
        names[site.put(number, 40_000).sha256] = number * 2
        site.clock.now += 0.01
        site.store.keep_decision(f"d{number}", b"{}")
        names[f"d{number}"] = number * 2 + 1
    site.store.list.mark(0, is_read_only=False)
    site.store.list.mark(1, is_read_only=False)
    site.drain_out(1)
    heard = [
        names[item.holding.sha256 if isinstance(item, Kept) else item.id]
        for item in site.store.scan()
        if isinstance(item, Kept | KeptDecision)
    ]
    assert heard == list(range(120))


def test_who_looked_a_row_up_before_the_drain_still_reads_and_nothing_is_freed_too_early(site: Site) -> None:
    site.store.list.mark(1, is_read_only=True)
    site.store.states()
    was = site.put(1)
    site.store.list.mark(1, is_read_only=False)
    site.store.list.mark(0, is_draining=True)
    reader = site.store.open(was)
    for _ in range(3):
        while site.drain.step():
            pass
    assert site.where(1, was) != was
    assert len(read(site.store, was)) == was.size
    site.clock.now += 40
    site.work()
    with closing(reader), pytest.raises(NotFound):
        site.store.open(was)


def test_an_object_that_is_removed_while_it_is_copied_stays_removed(site: Site) -> None:
    site.store.list.mark(1, is_read_only=True)
    site.store.states()
    held, other = site.put(1, is_held=True), site.put(2)
    site.store.list.mark(1, is_read_only=False)
    site.store.list.mark(0, is_draining=True)
    (waiting,) = site.held.list()
    for _ in range(3):
        while site.drain.step():
            pass
    assert site.where(1, held) != held
    site.held.take(waiting)
    site.store.remove(waiting.entry.holding, erase=True)
    site.work()
    assert site.store.store(0).is_empty()
    assert [item.holding.sha256 for item in site.store.scan() if isinstance(item, Kept)] == [other.sha256]
    (segment,) = (site.folder / "disk" / "objects" / "00").iterdir()
    assert content(1, 3000)[-500:] not in segment.read_bytes()


def flip(site: Site, holding: Holding, at: int = 2000) -> None:
    """Change a byte of an object on the disk."""
    place = place_of(holding.where)
    path = segment_path(site.store.store(place.volume).objects, place.segment)
    with path.open("r+b") as file:
        file.seek(place.offset + at)
        (byte,) = file.read(1)
        file.seek(place.offset + at)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("at", [2000, 10], ids=["bytes", "header"])
def test_what_is_damaged_stays_and_is_told_until_it_was_sent_again(site: Site, at: int) -> None:
    site.store.list.mark(1, is_read_only=True)
    site.store.states()
    kept = [site.put(number) for number in range(5)]
    site.store.keep_decision("d1", b"{}")
    site.store.list.mark(1, is_read_only=False)
    flip(site, kept[2], at)
    site.drain_out(0)
    assert not site.store.store(0).is_empty()
    assert site.drain.remaining == {0: ["1.2.1.1"]}
    assert site.where(2, kept[2]) == kept[2]
    for number in (0, 1, 3, 4):
        assert read(site.store, site.where(number, kept[number])) == content(number, 3000)
    again = keep(site.store, content(2, 3000), Came(received=int(site.clock.now * 1000)))
    site.rows.relocate([Move("1.2.1.1", kept[2], again)])
    site.drain.again()
    site.work()
    assert site.store.store(0).is_empty()
    assert [item.id for item in site.store.scan() if isinstance(item, KeptDecision)] == ["d1"]


def test_without_room_elsewhere_the_drain_waits_and_says_so(tmp_path: Path) -> None:
    with closing(open_site(tmp_path)) as site:
        was = site.put(1)
        site.drain_out(0)
        assert "Add a disk" in site.drain.problem
        assert read(site.store, was) == content(1, 3000)
        with_disk(tmp_path, site.store)
        site.clock.now += 61
        site.work()
        assert site.drain.problem == ""
        assert site.store.store(0).is_empty()
        assert read(site.store, site.where(1, was)) == content(1, 3000)


@pytest.mark.parametrize("seed", range(3))
def test_a_drain_that_is_cut_short_anywhere_goes_on_and_leaves_one_copy_of_each(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    site = open_site(tmp_path)
    with_disk(tmp_path, site.store)
    site.store.list.mark(1, is_read_only=True)
    site.store.states()
    kept = {number: site.put(number, 100_000) for number in range(30)}
    site.store.list.mark(1, is_read_only=False)
    site.store.list.mark(0, is_draining=True)
    for _ in range(12):
        for _ in range(chance.randrange(12)):
            site.drain.step()
        site.clock.now += chance.choice((0, 40))
        clock = site.clock
        site.close()
        site = open_site(tmp_path, clock)
        for number, was in kept.items():
            assert len(read(site.store, site.where(number, was))) == was.size
    with closing(site):
        site.work()
        assert site.store.store(0).is_empty()
        told = [item.holding.sha256 for item in site.store.scan() if isinstance(item, Kept)]
        assert sorted(told) == sorted(each.sha256 for each in kept.values())


def test_errors_are_letters(site: Site) -> None:
    with pytest.raises(PacsError):
        site.store.list.mark(9, is_draining=True)
    (site.folder / "a/objects/volumes.json").write_text("{")
    with pytest.raises(Damaged):
        site.store.list.read()


def half_drained(site: Site, *, is_held: bool, steps: int = 40) -> tuple[Holding, Holding]:
    """Return two instances of a segment of the first volume, whose drain has taken so many steps."""
    site.store.list.mark(1, is_read_only=True)
    site.store.states()
    kept = site.put(1, is_held=is_held), site.put(2, is_held=is_held)
    site.store.list.mark(1, is_read_only=False)
    site.store.list.mark(0, is_draining=True)
    site.store.states()
    for _ in range(steps):
        site.drain.step()
    return kept


def start_again(site: Site) -> Site:
    """Stop and start the node."""
    site.close()
    return open_site(site.folder, site.clock)


def verified(site: Site) -> Findings:
    """Return what a verification of everything finds."""
    book = DamageBook(site.state, site.clock)
    inspector = Inspector(site.store, site.store, site.catalog, site.held, book)
    job = Verification(inspector, Wish(), site.clock)
    while not job.is_over:
        job.step()
    found = job.progress()
    return Findings(healed=found["healed"], unrecorded=found["unrecorded"], objects=found["objects"])


def test_what_was_healed_from_a_segment_that_is_about_to_go_is_not_lost_with_it(tmp_path: Path) -> None:
    with closing(open_site(tmp_path)) as site:
        with_disk(tmp_path, site.store)
        kept = half_drained(site, is_held=False)
    site = open_site(tmp_path, site.clock)
    with closing(site):
        flip(site, site.where(1, kept[0]))
        assert verified(site).healed == 1
        assert site.where(1, kept[0]) == kept[0], "the segment that is drained had it whole"
        site.store.list.mark(0, is_draining=False)
        site.work()
        assert read(site.store, site.where(1, kept[0])) == content(1, 3000)
        assert read(site.store, site.where(2, kept[1])) == content(2, 3000)
        site.drain_out(0)
        assert site.store.store(0).is_empty()
        for number, was in enumerate(kept, 1):
            assert read(site.store, site.where(number, was)) == content(number, 3000)


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("is_started_again", [False, True])
def test_what_is_discarded_at_any_moment_of_a_drain_is_gone_wherever_it_was_copied(
    tmp_path: Path, steps: int, is_started_again: bool
) -> None:
    site = open_site(tmp_path)
    with_disk(tmp_path, site.store)
    _, other = half_drained(site, is_held=True, steps=steps)
    if is_started_again:
        site = start_again(site)
    with closing(site):
        waiting = next(each for each in site.held.list() if each.entry.SOPInstanceUID == "1.1.1.1")
        site.held.take(waiting)
        site.store.remove(waiting.entry.holding, erase=True)
        told = {item.holding.sha256 for item in site.store.scan() if isinstance(item, Kept)}
        assert told == {other.sha256}, "a rebuild would bring it back"
        for segment in tmp_path.rglob("*.tar"):
            assert content(1, 3000)[-500:] not in segment.read_bytes()
        site.work()
        assert verified(site).unrecorded == 0
        assert site.store.store(0).is_empty()
        assert read(site.store, site.where(2, other)) == content(2, 3000)
        for segment in tmp_path.rglob("*.tar"):
            assert content(1, 3000)[-500:] not in segment.read_bytes()


def test_a_copy_that_rotted_before_the_rows_name_it_is_not_taken(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    with_disk(tmp_path, site.store)
    was, _ = half_drained(site, is_held=False, steps=4)
    assert site.where(1, was) != was
    site.rows.relocate([Move("1.1.1.1", site.where(1, was), was)])
    flip(site, Holding(was.sha256, Place(1, 1, 0).pack(), was.size))
    with closing(start_again(site)) as site:
        site.work()
        assert site.store.store(0).is_empty()
        assert read(site.store, site.where(1, was)) == content(1, 3000)


def test_a_row_that_names_other_sites_does_not_hold_up_a_drain(site: Site) -> None:
    was, _ = half_drained(site, is_held=False, steps=0)
    (entry,) = (each for each in site.rows.everything() if each.SOPInstanceUID == "1.1.1.1")
    site.rows.relocate([Move("1.1.1.1", was, Holding(was.sha256, place_elsewhere(entry), was.size))])
    site.work()
    assert site.drain.problem == ""
    assert site.store.store(0).is_empty()


def test_a_copy_that_was_drained_on_meanwhile_does_not_hold_up_the_drain(site: Site) -> None:
    kept = half_drained(site, is_held=False, steps=6)
    for number, was in enumerate(kept, 1):
        third = keep(site.store, content(number, 3000), Came(received=1))
        site.rows.relocate([Move(f"1.{number}.1.1", site.where(number, was), third)])
    (site.folder / "disk/objects/00/000001.tar").unlink()
    site.clock.now += 7
    for _ in range(4):
        site.drain.step()
        assert site.drain.problem == ""
    assert site.store.store(0).is_empty()


@pytest.mark.parametrize("steps", range(7))
@pytest.mark.parametrize("between", [0, 1, 9])
def test_what_is_erased_before_its_row_goes_is_erased_from_both_sides(
    site: Site, steps: int, between: int
) -> None:
    _, other = half_drained(site, is_held=False, steps=steps)
    (entry,) = (each for each in site.rows.everything() if each.SOPInstanceUID == "1.1.1.1")
    site.store.remove(entry.holding, erase=True)
    for _ in range(between):
        site.drain.step()
    site.catalog.purge("1.1", [entry])
    told = {item.holding.sha256 for item in site.store.scan() if isinstance(item, Kept)}
    assert told == {other.sha256}
    site.work()
    assert site.store.store(0).is_empty()
    found = verified(site)
    assert (found.objects, found.unrecorded) == (1, 0)
    for segment in site.folder.rglob("*.tar"):
        assert content(1, 3000)[-500:] not in segment.read_bytes()
