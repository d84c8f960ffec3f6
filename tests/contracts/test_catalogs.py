"""The catalogs there are, each held to what every catalog promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import Arrival, Attributes, Entry, Level, Matching, Query, Recorded, Selection
from node.audit import AuditLog
from node.roles.catalog import CatalogService
from node.roles.remote_catalog import RemoteCatalog
from node.state import State
from tests.catalog.samples import Ticking, index_all, open_catalog, query
from tests.contracts.catalogs import CatalogClaims, Reach, WriterClaims, three_studies, uids
from tests.federation.grids import Node
from tests.federation.unions import Seen
from tests.node.roles.serving import Served


class TestLmdbCatalog(WriterClaims):
    @pytest.fixture
    def reach(self, tmp_path: Path) -> Iterator[Reach]:
        clock = Ticking()
        catalog = open_catalog(tmp_path, clock=clock)

        def state() -> None:
            clock.now += 3
            catalog.publish(clock())

        yield Reach(catalog, catalog, state)
        catalog.close()


class TestCatalogOfAnotherHost(WriterClaims):
    """A catalog as a gateway elsewhere has it, over the network."""

    @pytest.fixture
    def reach(self, tmp_path: Path) -> Iterator[Reach]:
        clock = Ticking()
        catalog = open_catalog(tmp_path, clock=clock)
        state_of_node = State(tmp_path / "state")
        service = CatalogService(
            lambda: {"main": catalog}, state_of_node, AuditLog(tmp_path / "audit", clock), clock
        )
        served = Served(tmp_path, "catalog", service.answers())
        remote = RemoteCatalog(served.client, "main")

        def state() -> None:
            clock.now += 3
            catalog.publish(clock())

        yield Reach(remote, remote, state)
        served.close()
        catalog.close()
        state_of_node.close()


class TestLmdbCatalogBehindItsSearchIndex(WriterClaims):
    """The same, with the search index caught up before every question."""

    @pytest.fixture
    def reach(self, tmp_path: Path) -> Iterator[Reach]:
        clock = Ticking()
        catalog = open_catalog(tmp_path, clock=clock)
        find = catalog.find

        def find_indexed(query: object) -> object:
            index_all(catalog, clock)
            return find(query)  # type: ignore[arg-type]

        catalog.find = find_indexed  # type: ignore[method-assign, assignment]

        def state() -> None:
            clock.now += 3
            catalog.publish(clock())

        yield Reach(catalog, catalog, state)
        catalog.close()


class Spread:
    """Records every instance at one of several nodes, by its series: here, there, or at both."""

    def __init__(self, *nodes: Node) -> None:
        self._nodes = nodes

    def record(self, arrivals: list[Arrival]) -> list[Recorded]:
        for arrival in arrivals:
            place = sum(arrival.entry.SeriesInstanceUID.encode()) % (len(self._nodes) + 1)
            nodes = self._nodes if place == len(self._nodes) else (self._nodes[place],)
            for node in nodes:
                node.catalog.record([arrival])
        return []


class UnionClaims(CatalogClaims):
    """What every catalog promises, asked of the grid; the mirror is brought up to date before a question."""

    is_indexed = False

    def reach_of(self, seen: Seen, writer: object) -> Reach:
        find, select = seen.catalog.find, seen.catalog.select

        def find_synced(query: Query) -> Iterator[Attributes]:
            seen.sync()
            if self.is_indexed:
                seen.index()
            return find(query)

        def select_synced(selection: Selection) -> list[Entry]:
            seen.sync()
            return select(selection)

        seen.catalog.find = find_synced  # type: ignore[method-assign]
        seen.catalog.select = select_synced  # type: ignore[method-assign]
        return Reach(seen.catalog, writer, seen.sync)  # type: ignore[arg-type]


class TestAGridOfOne(UnionClaims, WriterClaims):
    @pytest.fixture
    def reach(self, tmp_path: Path) -> Iterator[Reach]:
        seen = Seen(Node(tmp_path / "alpha", Ticking()))
        yield self.reach_of(seen, seen.here.catalog)
        seen.close()


class SpreadClaims(UnionClaims):
    """Some claims hold only for what is here: mirrors know series, and the log is the node's own."""

    def test_relational_questions_need_no_keys_above(self, reach: Reach) -> None:
        three_studies(reach)
        relational = {"matching": Matching.RELATIONAL}
        assert uids(reach, Level.SERIES, SeriesInstanceUID="2.1", **relational) == ["2.1"]
        assert uids(reach, Level.IMAGE, SeriesInstanceUID="2.1", **relational) == ["2.1.1"]
        assert uids(reach, Level.SERIES, PatientID="8", **relational) == ["3.1", "2.1"]
        series = {"StudyInstanceUID": "1", "SeriesInstanceUID": "1.1"}
        assert uids(reach, Level.IMAGE, SOPInstanceUID="1.1.2", **series) == ["1.1.2"]

    def test_counts_and_lists_are_computed_when_asked_for(self, reach: Reach) -> None:
        three_studies(reach)
        wanted = ("00201200", "00201202", "00201204", "00201206", "00201208", "00080061", "00080056")
        asked = {tag: {"vr": "IS"} for tag in wanted}
        (match,) = reach.catalog.find(query(Level.STUDY, StudyInstanceUID="1", **asked))
        assert [match[tag]["Value"] for tag in wanted] == [
            [1],
            [2],
            [3],
            [2],
            [3],
            ["CT", "SR"],
            ["NEARLINE"],
        ]

    def test_unique_keys_select_instances_in_order(self, reach: Reach) -> None:
        three_studies(reach)

        def selected(**names: tuple[str, ...]) -> list[str]:
            return [entry.SOPInstanceUID for entry in reach.catalog.select(Selection(**names))]  # type: ignore[arg-type]

        assert selected(studies=("1",)) == ["1.1.1", "1.1.2", "1.2.1"]
        assert selected(series=("1.2",)) == ["1.2.1"]
        assert selected(studies=("1", "3"), instances=("3.1.1", "1.1.2")) == ["1.1.2", "3.1.1"]
        assert selected(patient=("8",), studies=("2",)) == ["2.1.1"]
        assert sorted(selected(patient=("8",))) == ["2.1.1", "3.1.1"]
        assert selected(studies=("1",), patient=("8",)) == []
        assert selected(studies=("1",), instances=("3.1.1",)) == []

    def test_the_log_tells_of_every_study_and_series_once(self, reach: Reach) -> None:
        three_studies(reach)
        reach.state()
        told = reach.catalog.changes(0, 100)
        assert [change.seq for change in told] == list(range(1, len(told) + 1))
        assert len(told) < 7
        assert reach.catalog.head().seq == len(told)


class TestAGridWhoseImagesAreAtAPeer(SpreadClaims):
    @pytest.fixture
    def reach(self, tmp_path: Path) -> Iterator[Reach]:
        clock = Ticking()
        alpha, beta = Node(tmp_path / "alpha", clock), Node(tmp_path / "beta", clock)
        seen = Seen(alpha, beta)
        yield self.reach_of(seen, beta.catalog)
        seen.close()


class TestAGridWithSeriesHereThereAndAtBoth(SpreadClaims):
    @pytest.fixture
    def reach(self, tmp_path: Path) -> Iterator[Reach]:
        clock = Ticking()
        nodes = [Node(tmp_path / name, clock) for name in ("alpha", "beta", "gamma")]
        seen = Seen(*nodes)
        yield self.reach_of(seen, Spread(*nodes))
        seen.close()


class TestAGridBehindItsSearchIndex(TestAGridWithSeriesHereThereAndAtBoth):
    is_indexed = True
