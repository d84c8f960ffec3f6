"""Questions put to owners, on behalf of whoever asks here: to all at once, and each answer has its thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import grpc

from catalog import PacsError, Query, Unavailable
from federation.catalog_service import find_request, read_find
from federation.links.rpc import letters
from federation.live import Done
from federation.neighbours import Followed
from protos import catalog_pb2 as pb
from protos import catalog_pb2_grpc as services

logger = logging.getLogger(__name__)
_AT_ONCE: Final = 64


class AskingOwners:
    """`source` says whom a number of the mirror means, `name` is for sentences.

    `channel` reaches a node with questions; see `federation.links.channels`.
    """

    def __init__(
        self,
        source: Callable[[int], Followed | None],
        name: Callable[[str], str],
        channel: Callable[[str], grpc.Channel],
    ) -> None:
        self._source, self._name, self._channel = source, name, channel
        self._pool = ThreadPoolExecutor(_AT_ONCE, "grid find")

    def close(self) -> None:
        """Wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def ask(
        self, source: int, query: Query, limit: int, seconds: float, call_back: Callable[[Done], None]
    ) -> None:
        """Put a question to an owner, on behalf of whoever asks here."""
        with _told(source, call_back):
            row = self._source(source)
            if row is None:
                raise Unavailable("It is no node, and answers from what is known of it.")
            name, stub = self._name(row.node_id), services.QueryStub(self._channel(row.node_id))
            with letters(name):
                replies = stub.Find(find_request(row.archive, row.share, query, limit), timeout=seconds)
            # All are asked before the first answer is waited for, and only waiting takes a thread.
            self._pool.submit(_collect, source, name, replies, call_back)


def _collect(
    source: int, name: str, replies: Iterable[pb.FindReply], call_back: Callable[[Done], None]
) -> None:
    with _told(source, call_back):
        with letters(name):
            found = list(replies)
        call_back(Done(source, *read_find(found)))


@contextmanager
def _told(source: int, call_back: Callable[[Done], None]) -> Iterator[None]:
    """Call back with what went wrong inside."""
    try:
        yield
    except PacsError as error:
        call_back(Done(source, [], error=error.what))
    except Exception:
        logger.exception("A peer could not be asked")
        call_back(Done(source, [], error="it could not be asked"))
