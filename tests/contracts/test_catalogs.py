"""The catalogs there are, each held to what every catalog promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.catalog.samples import Ticking, index_all, open_catalog
from tests.contracts.catalogs import CatalogClaims, Reach


class TestLmdbCatalog(CatalogClaims):
    @pytest.fixture
    def reach(self, tmp_path: Path) -> Iterator[Reach]:
        clock = Ticking()
        catalog = open_catalog(tmp_path, clock=clock)

        def state() -> None:
            clock.now += 3
            catalog.publish(clock())

        yield Reach(catalog, catalog, state)
        catalog.close()


class TestLmdbCatalogBehindItsSearchIndex(CatalogClaims):
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
