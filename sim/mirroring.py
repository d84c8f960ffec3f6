"""`python -m sim.mirroring`: how fast a grid's catalogs are taken in, followed, compared, and asked.

One process, no network: what is measured is the mirror, the merge and the search, with as many synthetic
sites as asked for and their series shared out among them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec

from catalog import Change, Head, Level, LmdbCatalog, PatientKey, Query
from catalog.statements import SeriesStatement, StudyStatement, wire_form
from federation.identities import Asker
from federation.messages import Delta, SnapshotBegin, SnapshotEnd, SnapshotPart
from federation.mirror import Mirror
from federation.mirror_search import MirrorSearch
from federation.proposing import MirrorPlanner
from federation.serving import PART_ROWS
from federation.sight import Grid, Standing
from federation.union import UnionCatalog

SERIES_IN_STUDY: Final = 5
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_NOW: Final = 1_700_000_000_000


class Figure(NamedTuple):
    """One thing measured."""

    name: str
    value: float
    unit: str


def _json(**elements: tuple[str, Any]) -> bytes:
    return msgspec.json.encode(
        {tag.lstrip("t"): {"vr": vr, "Value": [value]} for tag, (vr, value) in elements.items()}
    )


def site_rows(site: int, studies: int) -> list[Change]:
    """Return what a site states, in key order: patients of three studies, twenty studies a day."""
    chance = Random(site)
    rows: list[tuple[bytes, bytes]] = []
    for n in range(studies):
        uid = f"1.2.826.0.1.3680043.{site}.{chance.randrange(10**14)}.{n}"
        id = f"S{site:02d}P{n // 3:07d}"
        day = time.strftime("%Y%m%d", time.gmtime((10_000 + (n * 37) % 9_000) * 86_400))
        study = _json(
            t00100010=("PN", {"Alphabetic": f"NAME{site:02d}{n // 3:06d}^GIVEN{n % 97}"}),
            t00100020=("LO", id),
            t00100030=("DA", "19700101"),
            t00100040=("CS", "F"),
            t0020000D=("UI", uid),
            t00080020=("DA", day),
            t00080030=("TM", f"{n % 24:02d}1500"),
            t00080050=("SH", f"A{site:02d}{n:08d}"),
            t00081030=("LO", ("CHEST PA", "HEAD ROUTINE", "ABDOMEN 3 PHASES")[n % 3]),
        )
        patient = PatientKey(f"SITE{site}", id)
        rows.append((uid.encode(), wire_form(StudyStatement(1, uid, patient, study, _NOW, False))))
        rows.extend(_series_rows(uid, n, chance))
    rows.sort()
    return [Change(seq, key, row) for seq, (key, row) in enumerate(rows, 1)]


def _series_attributes(n: int, k: int) -> tuple[bytes, bytes]:
    """Return what stands in front of a series' UID, and behind it: few kinds for a million series."""
    attributes = _json(
        t0020000E=("UI", "@"),
        t00080060=("CS", ("CT", "MR", "US", "DX")[n]),
        t0008103E=("LO", f"AXIAL {k} MM"),
        t00200011=("IS", k + 1),
    )
    before, _, behind = attributes.partition(b"@")
    return before, behind


_AROUND: Final = [[_series_attributes(n, k) for k in range(SERIES_IN_STUDY)] for n in range(4)]


def _series_rows(study: str, n: int, chance: Random) -> Iterator[tuple[bytes, bytes]]:
    for k, (before, behind) in enumerate(_AROUND[n % 4]):
        uid = f"{study}.{k}"
        attributes = before + uid.encode() + behind
        digest = chance.randbytes(32)
        row = SeriesStatement(1, study, uid, attributes, 120, 60 << 20, digest, (_CT,), _NOW, True, False)
        yield f"{study}\0{uid}".encode(), wire_form(row)


def bootstrap(mirror: Mirror, source: int, rows: list[Change]) -> tuple[float, float]:
    """Take a site's snapshot in; return the seconds until its rows were here, and until they were indexed."""
    at = Head(1, len(rows), b"x" * 8)
    start = time.perf_counter()
    mirror.begin(source, SnapshotBegin(at))
    after = b""
    for begin in range(0, len(rows), PART_ROWS):
        part = rows[begin : begin + PART_ROWS]
        mirror.extend(source, SnapshotPart(at, at, after, part[-1].key, part))
        after = part[-1].key
    written = time.perf_counter()
    mirror.finish(source, SnapshotEnd(at, after))
    return written - start, time.perf_counter() - start


def follow(mirror: Mirror, source: int, rows: list[Change], batches: int = 20) -> float:
    """Change random rows in batches of a thousand; return rows per second."""
    chance = Random(4)
    head = mirror.state(source).applied
    start = time.perf_counter()
    for _ in range(batches):
        changed = [
            Change(head + 1 + n, row.key, row.row[:-2] + b"\xc3\xc3")
            for n, row in enumerate(chance.sample(rows, 1000))
        ]
        at = Head(1, head + 1000, b"y" * 8)
        mirror.apply(source, Delta(head, at, at, changed))
        head += 1000
    return batches * 1000 / (time.perf_counter() - start)


class Questions:
    """Questions with at most fifty matches over all sites, drawn by chance."""

    def __init__(self, sites: int, studies: int) -> None:
        self._chance = Random(9)
        self._sites = sites
        self._studies = studies

    def draw(self) -> dict[str, dict[str, Any]]:
        """Return question → keys."""
        site = self._chance.randrange(1, self._sites + 1)
        n = self._chance.randrange(self._studies)
        return {
            "patient id": {"00100020": {"vr": "LO", "Value": [f"S{site:02d}P{n // 3:07d}"]}},
            "accession": {"00080050": {"vr": "SH", "Value": [f"A{site:02d}{n:08d}"]}},
            "accession*": {"00080050": {"vr": "SH", "Value": [f"A{site:02d}{n // 40:07d}*"]}},
            "name*": {"00100010": {"vr": "PN", "Value": [f"NAME{site:02d}{n // 30:05d}*"]}},
            "*name*": {"00100010": {"vr": "PN", "Value": [f"*{site:02d}{n // 3:06d}^GIVEN{n % 97}*"]}},
        }


_RETURNED: Final = (
    "00100010",
    "00100020",
    "0020000D",
    "00080020",
    "00080061",
    "00201206",
    "00201208",
    "00080056",
)


def ask(catalog: UnionCatalog, questions: Questions, rounds: int) -> dict[str, tuple[list[float], int]]:
    """Return question → milliseconds of each round, and most matches."""
    found: dict[str, tuple[list[float], int]] = {}
    for _ in range(rounds):
        for name, keys in questions.draw().items():
            asked: dict[str, dict[str, Any]] = {tag: {"vr": "LO"} for tag in _RETURNED}
            query = Query(level=Level.STUDY, keys={**asked, **keys})
            start = time.perf_counter()
            matches = sum(1 for _ in catalog.find(query))
            times, most = found.get(name, ([], 0))
            times.append(1000 * (time.perf_counter() - start))
            found[name] = times, max(most, matches)
    return found


def united(home: Path, mirror: Mirror, search: MirrorSearch, sources: list[int]) -> UnionCatalog:
    """Return the grid of these sources and an empty own catalog."""
    own = LmdbCatalog(
        home / "catalog",
        home / "search",
        clock=time.time,
        read_header=lambda entry, size: (memoryview(b""), 0),
    )
    standing: Mapping[int, Standing] = {
        source: Standing(f"site {source}", f"site {source}".encode(), True, 1.0) for source in sources
    }
    grid = Grid(own, mirror, MirrorPlanner(mirror, search), lambda: standing, lambda owner, series: [])
    return UnionCatalog(grid, Asker("SITE1", all_issuers=True))


class Filled:
    """A mirror of so many sites that share so many series, indexed, and what answers from it."""

    def __init__(self, home: Path, sites: int, series: int) -> None:
        """Fill it, as followers do; `figures` says how fast that went."""
        home.mkdir(parents=True, exist_ok=True)
        self._mirror = Mirror(home / "mirror", clock=time.time)
        self._search = MirrorSearch(self._mirror, home / "mirror.search")
        studies = series // sites // SERIES_IN_STUDY
        self.figures = self._fill(sites, studies)
        sources = list(self._mirror.sources())
        self._catalog = united(home, self._mirror, self._search, sources)
        self._questions = Questions(sites, studies)

    def _fill(self, sites: int, studies: int) -> list[Figure]:
        mirror, search = self._mirror, self._search
        written = indexed = rows_taken = 0.0
        for site in range(1, sites + 1):
            rows = site_rows(site, studies)
            source = mirror.source(f"site {site}".encode(), 0)
            first, both = bootstrap(mirror, source, rows)
            written, indexed, rows_taken = written + first, indexed + both, rows_taken + len(rows)
        searchable = _seconds(lambda: _catch_up(search))
        followed = follow(mirror, source, rows)
        # As it does in a node, within seconds: questions are put to an index that knows the rows.
        _catch_up(search)
        return [
            Figure("snapshot rows into LMDB", rows_taken / written, "rows/s"),
            Figure("the same, with digests and indexes", rows_taken / indexed, "rows/s"),
            Figure("search index", sites * studies / searchable, "studies/s"),
            Figure("delta rows applied", followed, "rows/s"),
            Figure("digests of one site read", 1000 * _seconds(lambda: mirror.digests(source)), "ms"),
        ]

    def ask(self, rounds: int) -> list[Figure]:
        """Ask each question so often; return median and p95 of each."""
        figures = []
        for name, (times, most) in ask(self._catalog, self._questions, rounds).items():
            times.sort()
            label = f"find {name}, at most {most} matches"
            figures.append(Figure(f"{label}, median", median(times), "ms"))
            figures.append(Figure(f"{label}, p95", times[int(len(times) * 0.95)], "ms"))
        return figures

    def close(self) -> None:
        """Give it back."""
        self._search.close()
        self._mirror.close()


def _catch_up(search: MirrorSearch) -> None:
    while search.step(time.perf_counter()):
        pass


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(prog="python -m sim.mirroring", description=__doc__)
    parser.add_argument("--sites", type=int, default=31)
    parser.add_argument("--series", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--home", type=Path, default=None, help="a folder for the mirror; else a temporary one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.home) as folder:
        filled = Filled(Path(folder), options.sites, options.series)
        for figure in (*filled.figures, *filled.ask(options.rounds)):
            print(f"{figure.name:60} {figure.value:12.1f} {figure.unit}")
        filled.close()


if __name__ == "__main__":
    main()
