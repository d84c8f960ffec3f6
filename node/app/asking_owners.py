"""Questions put to owners, on behalf of whoever asks here: many at once, each on a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final

import grpc

from catalog import PacsError, Query, Unavailable
from federation.catalog_service import find_request, read_find
from federation.links.rpc import letters
from federation.live import Done
from federation.neighbours import Followed
from protos import catalog_pb2_grpc as services

logger = logging.getLogger(__name__)
_AT_ONCE: Final = 64


class AskingOwners:
    """`source` says whom a number of the mirror means, `channel` reaches a node, `name` is for sentences."""

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
        context = copy_context()

        def ask() -> None:
            try:
                row = self._source(source)
                if row is None:
                    raise Unavailable("It is no node, and answers from what is known of it.")
                stub = services.QueryStub(self._channel(row.node_id))
                with letters(self._name(row.node_id)):
                    request = find_request(row.archive, row.share, query, limit)
                    replies = list(stub.Find(request, timeout=seconds))
                matches, is_cut = read_find(replies)
                call_back(Done(source, matches, is_cut))
            except PacsError as error:
                call_back(Done(source, [], error=error.what))
            except Exception:
                logger.exception("A peer could not be asked")
                call_back(Done(source, [], error="it could not be asked"))

        self._pool.submit(context.run, ask)
