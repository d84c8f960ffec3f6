"""How much may be deleted or erased in a day without a second person, and what waits for one.

More than 100 studies of a node, or one percent of an archive's, within 24 hours is no slip that one person
may make; up to ten are nobody's business, however small the archive. A person is one whichever way it comes,
as far as that is known: with a password, with tokens, or as a user of this machine whom an account names.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from msgspec import Struct

from catalog import Clock, NotFound, NotPermitted, Verb
from node.disposal import Orders
from node.state import Tables

_MOST: Final = 100
_SHARE: Final = 0.01
_FREE: Final = 10
_DAY: Final = 86_400_000


class Wish(Struct, frozen=True, array_like=True):
    """What a person wants to have deleted or erased."""

    verb: Verb
    target: tuple[str, ...]
    reason: str
    who: str
    second: str = ""
    """Who confirmed it."""
    when: int = 0
    """Milliseconds since 1970."""


class SecondPerson:
    """Counts what was ordered within a day, and keeps what goes beyond until somebody else confirms it."""

    def __init__(
        self,
        state: Tables,
        orders: Orders,
        studies: Callable[[], int],
        person: Callable[[str], str],
        clock: Clock,
    ) -> None:
        """`studies` counts what there is; `person` returns who is meant by a name that decisions carry."""
        self._table = state.table("wishes", Wish)
        self._orders = orders
        self._studies = studies
        self._person = person
        self._clock = clock
        self._ordering = Lock()
        self.others: Callable[[], Iterable[SecondPerson]] = lambda: ()
        """Those of the node's other archives."""

    def gone(self) -> int:
        """Return how many studies were ordered to go within a day."""
        now = int(self._clock() * 1000)
        return len({row.target[0] for _, row in self._orders.rows() if now - row.when < _DAY})

    def left(self) -> int:
        """Return how many more studies may go today."""
        gone = self.gone()
        # What went already was there this morning.
        share = max(_FREE, int((self._studies() + gone) * _SHARE))
        return min(share - gone, _MOST - gone - sum(each.gone() for each in self.others()))

    @contextmanager
    def ordering(self, wish: Wish) -> Iterator[None]:
        """Let a wish be done in the block, no other one meanwhile, or keep it for a second person.

        Raises:
            NotPermitted: somebody else has to confirm it first.
        """
        with self._ordering:
            self._check(wish)
            yield

    def _check(self, wish: Wish) -> None:
        if wish.second or self.left() > 0:
            return
        id = secrets.token_hex(8)
        when = int(self._clock() * 1000)
        self._table.put(id.encode(), Wish(wish.verb, wish.target, wish.reason, wish.who, "", when))
        what = "That is more than one person may have go in a day; nothing was done yet."
        raise NotPermitted(what, f"Another person can do it: peerpacs confirm {id[:8]}")

    def confirm(self, beginning: str, who: str) -> Wish:
        """Take the one wish whose id begins so; it is not kept any more.

        Raises:
            NotFound: no wish, or more than one, begins so.
            NotPermitted: it is the same person who wished it.
        """
        found = list(self._table.scan(beginning.encode())) if beginning else []
        if len(found) != 1:
            what = f"{len(found) or 'No'} wishes have an id that begins with {beginning!r}."
            raise NotFound(what, "See: peerpacs deletions")
        [(id, wish)] = found
        if self._person(wish.who) == self._person(who):
            known = f"; {who} is the same person" if wish.who != who else ""
            what = f"{wish.who} wished it, and cannot be the second person{known}."
            raise NotPermitted(what, "Ask somebody else.")
        self._table.delete(id)
        return wish

    def waiting(self) -> list[tuple[str, Wish]]:
        """Return what waits for a second person, with its id."""
        return [(id.decode(), wish) for id, wish in self._table.scan()]
