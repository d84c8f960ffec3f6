"""One request and its answer, as the handlers see them: who asks, in which scope, for what."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import falcon

from catalog import Clock, Entry, NotFound, Selection, Unavailable
from node.contracts import Audit, Caller, Outgoing, Scope
from node.pixels import Codecs

from .crowding import Crowd
from .gate import LOCAL_NAMES, Gate
from .problems import Gone

Convert = Callable[[Outgoing, Collection[str]], Outgoing | None]
_IMMUTABLE: Final = "private, max-age=31536000, immutable"
_CHANGEABLE: Final = "private, no-cache"


class Stream(Protocol):
    """A body that is made while it is sent; `size` is None where nobody knows it beforehand."""

    @property
    def size(self) -> int | None:
        """Length in bytes."""

    def __iter__(self) -> Any:
        """Yield pieces, each good until the next one is asked for."""

    def close(self) -> None:
        """Give back what making it took, however it ended."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all requests of a server share."""

    gate: Gate
    audit: Audit
    clock: Clock
    convert: Convert
    codecs: Codecs
    finishers: Executor
    """Makes received instances durable while the next ones come in."""
    folder: Path | None
    """Where large things lie for the time of one request; None for the system's place."""
    crowd: Crowd
    """How much of the server each caller takes."""
    closed: Callable[[], str] = str
    """Says why nobody is answered for the moment, if so."""


class Exchange:
    """One request in its scope; `named` holds the UIDs of the path by `study`, `series` and `instance`."""

    def __init__(
        self,
        request: falcon.Request,
        response: falcon.Response,
        scope: Scope,
        caller: Caller,
        root: str,
        named: dict[str, str],
        services: Services,
    ) -> None:
        self.request = request
        self.response = response
        self.scope = scope
        self.caller = caller
        self.root = root
        """Path of the scope's DICOMweb service."""
        self.named = named
        self.services = services
        self.missing = 0
        """Instances of those that `entries` was asked for, which nobody who can be reached has."""

    @property
    def service(self) -> str:
        """The URL of the scope's DICOMweb service, as the client knows it."""
        request = self.request
        name, port = request.netloc, str(request.env.get("SERVER_PORT", ""))
        # dicomweb-client leaves the port out of its Host header. Whoever asks this machine by such a name
        # came without a proxy, so the port is the one listened on.
        if name.lower() in LOCAL_NAMES and port not in ("", "80"):
            name = f"{name}:{port}"
        return f"{request.scheme}://{name}{self.root}"

    def url(self, study: str, series: str = "", instance: str = "") -> str:
        """Return the URL of a study, series or instance."""
        url = f"{self.service}/studies/{study}"
        if series:
            url += f"/series/{series}"
        return f"{url}/instances/{instance}" if instance else url

    def warn(self, text: str) -> None:
        """Tell the client something beside the answer: Warning 299, PS3.18 8.3.4."""
        self.response.append_header("Warning", f'299 {self.service}: "{text}"')

    def record(self, event: str, outcome: str = "ok", **detail: Any) -> None:
        """Put what was done on record."""
        self.services.audit.record(event, self.caller, outcome, {**detail, "via": "web", **self.named})

    def reply(self, data: bytes, media_type: str) -> None:
        """Answer with these bytes."""
        self.response.data = data
        self.response.content_type = media_type

    def stream(self, body: Stream, media_type: str) -> None:
        """Answer with what a stream makes while it is sent."""
        self.response.stream = body
        self.response.content_type = media_type
        if (size := body.size) is not None:
            self.response.content_length = size

    def entries(self) -> list[Entry]:
        """Return the instances that the path names, in series and instance order.

        Raises:
            NotFound: there are none.
            Gone: there were.
            Unavailable: nobody who holds any of them can be reached.
        """
        target = tuple(self.named[word] for word in ("study", "series", "instance") if word in self.named)
        study, series, instance = (*target, "", "", "")[:3]
        entries = self.scope.catalog.select(
            Selection(
                studies=(study,),
                series=(series,) if series else (),
                instances=(instance,) if instance else (),
            )
        )
        if entries:
            return self._reachable(entries)
        what = ("study", "series", "instance")[len(target) - 1]
        insight = self.scope.insight
        if insight is not None and insight.was_here(target):
            raise Gone(f"This {what} was here, and a person removed it.", "Ask who may tell you why.")
        raise NotFound(f"There is no such {what} here.", "Search for it: it may be known elsewhere.")

    def _reachable(self, entries: list[Entry]) -> list[Entry]:
        """Return those that can be had; what only a site has that cannot be reached has no UID here."""
        found = [entry for entry in entries if entry.SOPInstanceUID]
        self.missing = len(entries) - len(found)
        sites = sorted({entry.source for entry in entries if not entry.SOPInstanceUID})
        if not found:
            what = f"It is held by {', '.join(sites)}, which cannot be reached now."
            raise Unavailable(what, "Try again when it can.")
        if self.missing:
            self.warn(f"{self.missing} of {len(entries)} instances are missing: {', '.join(sites)} has them")
        return found

    def is_known(self, etag: str, *, is_immutable: bool) -> bool:
        """Set the caching headers; say whether the client has it already, so that 304 is the answer."""
        self.response.set_header("ETag", f'"{etag}"')
        self.response.set_header("Cache-Control", _IMMUTABLE if is_immutable else _CHANGEABLE)
        known = self.request.if_none_match or []
        if any(each == "*" or str(each) == etag for each in known):
            self.response.status = 304
            return True
        return False
