"""The rows of a node's state for gateways elsewhere, where each table is used as if it were here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Final

from catalog import Busy
from node.state import Rows, State

from .answering import Answer
from .calls import Question, RoleClient

_AT_ONCE: Final = 500
_TRIES: Final = 100

ROW: Final = Question("row", bytes, bytes | None)
ROWS: Final = Question("rows", tuple[bytes, bytes], list[tuple[bytes, bytes]])
SWAP: Final = Question("swap rows", list[tuple[bytes, bytes | None, bytes | None]], bool)


class RowService:
    """Answers for the rows of the state."""

    def __init__(self, state: State) -> None:
        self._rows = state.rows

    def answers(self) -> dict[Question, Answer]:
        """Return what can be asked."""
        return {
            ROW: lambda archive, body: self._rows.get(body),
            ROWS: lambda archive, body: self._page(*body),
            SWAP: lambda archive, body: self._swap(body),
        }

    def _page(self, prefix: bytes, start: bytes) -> list[tuple[bytes, bytes]]:
        """Return the next rows; fewer than a page holds where they end."""
        return list(islice(self._rows.scan(prefix, start), _AT_ONCE))

    def _swap(self, swaps: list[tuple[bytes, bytes | None, bytes | None]]) -> bool:
        """Replace rows, if all of them are as they were thought to be."""

        def swapped(was: bytes | None, now: bytes | None, found: bytes | None) -> bytes | None:
            if found != was:
                raise _Changed
            return now

        try:
            self._rows.change({key: partial(swapped, was, now) for key, was, now in swaps})
        except _Changed:
            return False
        return True


class _Changed(Exception):
    """Somebody else changed a row in between."""


class RemoteRows:
    """Satisfies `Rows` by asking the role that has them."""

    def __init__(self, client: RoleClient) -> None:
        self._client = client

    def get(self, key: bytes) -> bytes | None:
        """See `Rows.get`."""
        row: bytes | None = self._client.ask(ROW, "", key)
        return row

    def scan(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `Rows.scan`; page by page, so what comes meanwhile may be among them."""
        while True:
            page: list[tuple[bytes, bytes]] = self._client.ask(ROWS, "", (prefix, start))
            yield from page
            if len(page) < _AT_ONCE:
                return
            start = page[-1][0] + b"\0"

    def change(self, changes: Mapping[bytes, Callable[[bytes | None], bytes | None]]) -> None:
        """See `Rows.change`: what somebody else changed in between is read and changed again.

        Raises:
            Uncertain: no answer came; whether the rows are changed is not known.
            Busy: others change them all the time.
        """
        for _ in range(_TRIES):
            found = {key: self.get(key) for key in changes}
            swaps = [(key, found[key], change(found[key])) for key, change in changes.items()]
            if self._client.ask(SWAP, "", swaps):
                return
        raise Busy("The rows of the state are changed by others all the time.", "Try again.")


class RemoteState(State):
    """The state of a node whose catalog runs elsewhere."""

    def __init__(self, client: RoleClient) -> None:
        self.rows: Rows = RemoteRows(client)

    def close(self) -> None:
        """Do nothing: who made the client closes it."""
