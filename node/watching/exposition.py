"""The Prometheus text format, through prometheus-client: the only room that knows it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from node.measures import Measures, Sample, Spread

from .names import MEASURES, PREFIX, Kind, Measure

logger = logging.getLogger(__name__)
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class Exposition(Collector):
    """Reads a node's measures when somebody asks; between two readings it costs nothing."""

    def __init__(self, measures: Measures, table: Mapping[str, Measure] = MEASURES) -> None:
        """Take the numbers, and the table that says what they may be called."""
        self._measures = measures
        self._table = table
        self._failing: set[object] = set()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return all measures with samples, and those of the process, in the text format 0.0.4."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is shows at each reading."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the measures in the order of the table; a source that fails leaves the others alone."""
        found: dict[str, list[Sample]] = defaultdict(list)
        for source in self._measures.sources():
            try:
                for sample in tuple(source()):
                    found[sample.name].append(sample)
                self._failing.discard(source)
            except Exception:
                if source not in self._failing:
                    logger.exception("Some numbers cannot be read; /metrics goes on without them")
                self._failing.add(source)
        for name, row in self._table.items():
            if samples := found.get(name):
                yield _family(row, samples)


def _family(row: Measure, samples: list[Sample]) -> Metric:
    name = PREFIX + row.name
    if row.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, row.help, labels=row.labels)
        for sample in samples:
            assert isinstance(sample.value, Spread)
            buckets = [(str(bound), float(count)) for bound, count in sample.value.up_to]
            buckets.append(("+Inf", float(sample.value.number)))
            histogram.add_metric(sample.labels, buckets, sample.value.total)
        return histogram
    kind = CounterMetricFamily if row.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(name, row.help, labels=row.labels)
    totals: dict[tuple[str, ...], float] = defaultdict(float)
    for sample in samples:
        assert not isinstance(sample.value, Spread)
        assert len(sample.labels) == len(row.labels)
        totals[sample.labels] += sample.value
    for labels, value in totals.items():
        family.add_metric(labels, value)
    return family
