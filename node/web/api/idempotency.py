"""Idempotency-Key: a POST that comes again, because its answer was lost, is done once and answered again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from threading import Lock
from typing import Final

import falcon
import msgspec

from catalog import BadRequest, Busy, Clock
from node.state import State

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
_KEPT: Final = 86400.0
"""Seconds that an answer is remembered."""
_LARGEST: Final = 1 << 20


class Answered(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """An answer, and what was asked, as a hash."""

    asked: bytes
    status: int
    data: bytes
    content_type: str
    location: str
    when: float


class OtherRequest(falcon.HTTPUnprocessableEntity):
    """The key was used for another request."""

    def __init__(self) -> None:
        super().__init__(
            title="This Idempotency-Key was used for another request.",
            description="Use a new key for each new request.",
        )


class Remembered:
    """Answers of a day, by who asked, what and under which key."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._rows = state.table("web-answered", Answered)
        self._clock = clock
        self._under_way: set[bytes] = set()
        self._lock = Lock()
        self._tidied = clock()

    def once(
        self, who: str, key: str, request: falcon.Request, body: bytes, response: falcon.Response,
        work: Callable[[], None],
    ) -> None:  # fmt: skip
        """Answer as before, or do the work and remember how it was answered.

        Raises:
            BadRequest: the key cannot be.
            OtherRequest: it was used for another request.
            Busy: the same is under way just now.
        """
        if not _KEY.fullmatch(key):
            raise BadRequest("An Idempotency-Key has 1 to 200 visible ASCII characters.", "A UUID is one.")
        name = hashlib.sha256(f"{who}\0{request.method}\0{request.path}\0{key}".encode()).digest()
        asked = hashlib.sha256(request.query_string.encode() + b"\0" + body).digest()
        with self._lock:
            known = self._rows.get(name)
            if known is not None and self._clock() - known.when > _KEPT:
                known = None
            if known is None and name in self._under_way:
                raise Busy("The same request is under way.", "Ask again in a moment.")
            if known is None:
                self._under_way.add(name)
        if known is not None:
            self._repeat(known, asked, response)
            return
        try:
            work()
            self._keep(name, asked, response)
        finally:
            self._under_way.discard(name)

    def _repeat(self, known: Answered, asked: bytes, response: falcon.Response) -> None:
        if known.asked != asked:
            raise OtherRequest
        response.status = known.status
        response.data = known.data or None
        response.content_type = known.content_type
        if known.location:
            response.location = known.location
        response.set_header(REPLAYED, "true")

    def _keep(self, name: bytes, asked: bytes, response: falcon.Response) -> None:
        data = bytes(response.data or b"")
        if response.status_code >= 500 or response.stream is not None or len(data) > _LARGEST:
            return
        row = Answered(
            asked=asked,
            status=response.status_code,
            data=data,
            content_type=response.content_type or "",
            location=response.get_header("Location") or "",
            when=self._clock(),
        )
        self._rows.put(name, row)
        self._tidy()

    def _tidy(self) -> None:
        now = self._clock()
        if now - self._tidied < 3600:
            return
        self._tidied = now
        for key, row in list(self._rows.scan()):
            if now - row.when > _KEPT:
                self._rows.delete(key)
