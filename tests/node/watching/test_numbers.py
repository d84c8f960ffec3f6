"""What is counted shows under the names that dashboards rely on, and a number that fails hides no other."""

from __future__ import annotations

import re
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from node.measures import Distribution, Level, Measures, Sample
from node.watching import MEASURES, Kind
from node.watching.exposition import Exposition


def read(*samples: Sample) -> dict[str, dict[tuple[str, ...], float]]:
    """Return what a Prometheus server would read: values by sample name and label values."""
    measures = Measures()
    measures.add(lambda: samples)
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(Exposition(measures).text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_names_follow_the_conventions_of_prometheus_and_say_nothing_of_patients() -> None:
    for row in MEASURES.values():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", row.name)
        assert row.name.endswith("_total") == (row.kind is Kind.COUNTER)
        assert not re.search(r"_(ms|mb|kb|minutes|percent)\b", row.name), "base units only"
        assert not {"uid", "study", "patient", "name", "description"} & {*row.labels}


def test_a_prometheus_server_reads_counters_gauges_and_histograms() -> None:
    seconds = Distribution((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        seconds.add(value)
    found = read(
        Sample("instances_received_total", 3, ("dimse",)),
        Sample("associations", 2, ("scp",)),
        Sample("store_seconds", seconds.spread()),
    )
    assert found["peerpacs_instances_received_total"] == {("dimse",): 3}
    assert found["peerpacs_associations"] == {("scp",): 2}
    assert found["peerpacs_store_seconds_bucket"] == {("0.1",): 2, ("1.0",): 3, ("+Inf",): 4}
    assert found["peerpacs_store_seconds_count"] == {(): 4}
    assert found["peerpacs_store_seconds_sum"][()] == pytest.approx(7.65)
    assert found["process_open_fds"][()] > 0


def test_the_same_number_of_several_parts_is_their_sum() -> None:
    found = read(Sample("holdings", 3, ("ONLINE",)), Sample("holdings", 4, ("ONLINE",)))
    assert found["peerpacs_holdings"] == {("ONLINE",): 7}


def test_a_source_that_fails_is_told_once_and_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    measures = Measures()
    measures.add(lambda: [Sample("store_free_bytes", 1 // 0)])
    measures.add(lambda: [Sample("holdings", 1, ("ONLINE",))])
    exposition = Exposition(measures)
    for _ in range(3):
        assert b'peerpacs_holdings{availability="ONLINE"} 1.0' in exposition.text()
    assert len(caplog.records) == 1


def test_no_count_is_lost_between_threads() -> None:
    seconds, level = Distribution(), Level()

    def work() -> None:
        for _ in range(5000):
            seconds.add(0.003)
            level.change(+1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seconds.spread().number, level.now()) == (20_000, 20_000)
