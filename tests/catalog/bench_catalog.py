"""How fast the catalog is: `python -m tests.catalog.bench_catalog [studies] [series] [instances]`.

Not a test. It fills a catalog in a temporary folder, and prints processor microseconds of record(), of the
index worker and of the change log per instance, and milliseconds of find() for the usual questions.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from catalog import Arrival, Attributes, Entry, Level, LmdbCatalog
from tests.catalog.samples import Shelf, arrival, data_set, query

FAMILY = ("MILLER", "SCHMIDT", "GARCIA", "YAMADA", "NOVAK", "ROSSI", "SILVA", "KOWALSKI", "DUBOIS", "JANSEN")
GIVEN = ("ANN", "OTTO", "JOSE", "TARO", "EVA", "LUCA", "ANA", "JAN", "MARIE", "PIET")
ROOT = "1.2.826.0.1.3680043.8.498"


def study(number: int, **more: Any) -> dict[str, Any]:
    """Return the facts of a study; 1 % share a name that is otherwise rare."""
    chance = random.Random(number)
    rare = "ZIMMERMANN" if number % 100 == 7 else chance.choice(FAMILY)
    return {
        "PatientID": f"P{number // 2:07}",
        "PatientName": f"{rare}{number % 977}^{chance.choice(GIVEN)}",
        "StudyDate": f"20{chance.randrange(10, 25)}{chance.randrange(1, 13):02}{chance.randrange(1, 29):02}",
        "StudyTime": f"{chance.randrange(24):02}{chance.randrange(60):02}{chance.randrange(60):02}",
        "AccessionNumber": f"A{number:07}",
        "StudyDescription": f"EXAM {number % 311} OF REGION {number % 17}",
        "Modality": chance.choice(("CT", "MR", "CR", "US")),
        "ReferringPhysicianName": f"REF{number % 50}^DR",
        "Manufacturer": "ACME",
        "StationName": f"ST{number % 40}",
        **more,
    }


def uids(number: int, series: int, instance: int) -> tuple[str, str, str]:
    """Return UIDs as modalities make them."""
    base = f"{ROOT}.{(number * 7919) % 1000003}.{number}"
    return base, f"{base}.{series}", f"{base}.{series}.{instance}"


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return wall and processor seconds of this thread, and the result."""
    wall, processor = time.perf_counter(), time.thread_time()
    result = work()
    return time.perf_counter() - wall, time.thread_time() - processor, result


def report(name: str, count: int, wall: float, processor: float) -> None:
    """Print one line."""
    print(f"{name:44} {wall / count * 1e6:9.1f} us wall {processor / count * 1e6:9.1f} us cpu", flush=True)


def record_alone(catalog: LmdbCatalog, name: str, arrivals: list[Arrival]) -> None:
    """Time record() for one sender."""
    wall, processor, _ = timed(lambda: [catalog.record([each]) for each in arrivals])
    report(name, len(arrivals), wall, processor)


def ask(catalog: LmdbCatalog, name: str, level: Level = Level.STUDY, **keys: Any) -> None:
    """Time find() for one question."""
    question = query(level, **keys)
    count = len(list(catalog.find(question)))
    times = []
    for _ in range(15):
        start = time.perf_counter()
        list(catalog.find(question))
        times.append(time.perf_counter() - start)
    print(f"{name:44} {count:6} matches {statistics.median(times) * 1e3:9.3f} ms", flush=True)


def fill(catalog: LmdbCatalog, studies: int, series: int, instances: int) -> None:
    """Record a whole archive in batches, as an import does."""
    batch: list[Arrival] = []
    start = time.perf_counter()
    for number in range(studies):
        facts = study(number)
        for each in range(series):
            batch += [arrival(*uids(number, each, instance), **facts) for instance in range(instances)]
        if len(batch) >= 200 or number == studies - 1:
            catalog.record(batch)
            batch.clear()
    total = studies * series * instances
    print(f"filled with {total} instances in {time.perf_counter() - start:.1f} s", flush=True)


def typical(number: int, instance: int, elements: int) -> Attributes:
    """Return a data set of about so many elements."""
    facts = study(number)
    more = {
        f"0018{0x1000 + each:04X}": {
            "vr": "LO",
            "Value": [f"VALUE {each} {number % 7 if each % 5 else instance}"],
        }
        for each in range(0, elements * 2, 2)
    }
    return data_set(*uids(number, 1, instance), **facts, InstanceNumber=instance, **more)


def index_and_publish(catalog: LmdbCatalog, clock: Callable[[], float], name: str, count: int) -> None:
    """Time the index worker, then the change log."""

    def work() -> None:
        now = time.monotonic()
        while catalog.index(now):
            now += 0.1

    wall, processor, _ = timed(work)
    report(f"index() {name}", count, wall, processor)
    wall, processor, rows = timed(lambda: catalog.publish(clock() + 10))
    report(f"publish() per row ({rows})", max(rows, 1), wall, processor)


def main() -> None:
    """Run it all."""
    studies, series, instances = (
        int(word) for word in (sys.argv[1:] + ["20000", "1", "1"][len(sys.argv) - 1 :])[:3]
    )
    with tempfile.TemporaryDirectory() as folder:
        home, shelf = Path(folder), Shelf()

        def read_header(entry: Entry, size: int) -> tuple[memoryview, int]:
            return shelf.read_header(entry, size) if entry.holding.where == b"shelf" else (memoryview(b""), 0)

        def open_it() -> LmdbCatalog:
            return LmdbCatalog(home / "catalog", home / "search", clock=time.time, read_header=read_header)

        catalog = open_it()
        new = [arrival(*uids(10**6 + n, 1, 1), **study(10**6 + n)) for n in range(1000)]
        growing = [arrival(*uids(2 * 10**6, 1, n), **study(2 * 10**6)) for n in range(1000)]
        record_alone(catalog, "record(), empty: new studies", new)
        record_alone(catalog, "record(), empty: growing series", growing)
        fill(catalog, studies, series, instances)
        index_and_publish(catalog, time.time, "rows only", studies * series * instances)
        new = [arrival(*uids(3 * 10**6 + n, 1, 1), **study(10**6 + n)) for n in range(1000)]
        growing = [arrival(*uids(4 * 10**6, 1, n), **study(4 * 10**6)) for n in range(1000)]
        record_alone(catalog, "record(), full: new studies", new)
        record_alone(catalog, "record(), full: growing series", growing)
        index_and_publish(catalog, time.time, "rows only", 2000)
        for elements in (40, 150):
            data = [shelf.arrival(typical(5 * 10**6 + elements * 1000 + n, 1, elements)) for n in range(500)]
            catalog.record(data)
            index_and_publish(catalog, time.time, f"new studies, {elements} elements more", 500)
            data = [shelf.arrival(typical(6 * 10**6 + elements, n, elements)) for n in range(500)]
            catalog.record(data)
            index_and_publish(catalog, time.time, f"one series, {elements} elements more", 500)
        catalog.close()
        wall, _, catalog = timed(open_it)
        print(f"opening took {wall * 1e3:.1f} ms", flush=True)
        print(catalog.totals())
        some = study(137)
        ask(catalog, "PatientID", PatientID=some["PatientID"])
        ask(catalog, "AccessionNumber", AccessionNumber=some["AccessionNumber"])
        ask(catalog, "StudyInstanceUID", StudyInstanceUID=uids(137, 0, 0)[0])
        ask(catalog, "StudyDate, one day", StudyDate=some["StudyDate"])
        ask(catalog, "StudyDate, a month", StudyDate="20150301-20150331")
        ask(catalog, "PatientName prefix, one", PatientName=some["PatientName"][:9] + "*")
        ask(catalog, "PatientName prefix, 1 %", PatientName="ZIMMER*")
        ask(catalog, "PatientName infix", PatientName="*MERMANN7^*")
        ask(catalog, "PatientName infix, 1 %", PatientName="*MMERMA*")
        ask(catalog, "StudyDescription infix", StudyDescription="*AM 77 OF*")
        ask(catalog, "accession prefix", AccessionNumber="A00001*")
        ask(
            catalog,
            "modality and date",
            StudyDate="20150301-20150331",
            **{"00080061": {"vr": "CS", "Value": ["CT"]}},
        )
        ask(catalog, "private attribute, none", **{"00091001": {"vr": "LO", "Value": ["X"]}})
        ask(catalog, "SERIES of a study", Level.SERIES, StudyInstanceUID=uids(137, 0, 0)[0])
        ask(
            catalog,
            "IMAGE of a series",
            Level.IMAGE,
            StudyInstanceUID=uids(137, 0, 0)[0],
            SeriesInstanceUID=uids(137, 0, 0)[1],
        )
        catalog.close()


if __name__ == "__main__":
    main()
