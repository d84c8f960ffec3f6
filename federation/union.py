"""The grid as one catalog: the node's own and the mirrors of its peers, merged as they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from catalog import Attributes, Change, Entry, Head, Query, Selection

from .choosing import choose
from .identities import Asker
from .outcomes import Outcome, Part
from .sight import Grid, Sight


class UnionCatalog:
    """The grid as one device sees it; satisfies `Catalog`.

    The log is the node's own: peers are only ever told what is held here.
    """

    def __init__(self, grid: Grid, asker: Asker) -> None:
        self._grid = grid
        self._asker = asker

    def find(self, query: Query) -> Iterator[Attributes]:
        """See `Catalog.find`; merged by UID, series counted once, never across patients.

        Raises:
            BadRequest: a key has a value that its VR does not allow.
        """
        return self.ask(query)[0]

    def ask(self, query: Query) -> tuple[Iterator[Attributes], list[Outcome]]:
        """Return the matches, and how each site takes part in them."""
        sight = Sight(self._grid, self._asker, query)
        standing = sight.standing
        can_judge = sight.can_judge
        outcomes = [
            Outcome(each.site, Part.NONE if each.age is None else Part.MIRROR, each.age, can_judge=can_judge)
            for each in standing.values()
        ]
        return limited(sight.find(), query.limit), outcomes

    def select(self, selection: Selection) -> list[Entry]:
        """See `Catalog.select`; raises Unavailable when nobody who holds any of it can be reached."""
        return choose(self._grid, self._asker, selection).all_or_unavailable()

    def changes(self, after: int, limit: int, share: int = 0) -> list[Change]:
        """See `Catalog.changes`."""
        return self._grid.own.changes(after, limit, share)

    def head(self, share: int = 0) -> Head:
        """See `Catalog.head`."""
        return self._grid.own.head(share)


def limited(found: Iterator[Attributes], limit: int) -> Iterator[Attributes]:
    """Yield answers up to the asker's limit; all, if that is 0."""
    return islice(found, limit) if limit else found
