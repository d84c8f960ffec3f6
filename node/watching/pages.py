"""What is answered to a watcher's request, whoever carries it: the plain server here, or a web server."""

from __future__ import annotations

from threading import Lock
from typing import Final, NamedTuple

from catalog import Clock

from .exposition import CONTENT_TYPE, Exposition
from .readiness import Readiness

_TEXT: Final = "text/plain; charset=utf-8"
_FRESH: Final = 0.2
"""Seconds for which a page is given again, so that asking in a circle costs the node nothing."""


class Page(NamedTuple):
    """An HTTP status, what the body is, and the body."""

    status: int
    content_type: str
    body: bytes


class Pages:
    """`/metrics`, `/livez` and `/readyz`; `clock` only ever measures how old a page is."""

    def __init__(self, exposition: Exposition, readiness: Readiness, clock: Clock) -> None:
        self._makers = {"/metrics": self._metrics, "/livez": self._live, "/readyz": self._ready}
        self._exposition = exposition
        self._readiness = readiness
        self._clock = clock
        self._kept: dict[tuple[str, bool], tuple[float, Page]] = {}
        self._lock = Lock()

    def page(self, target: str) -> Page:
        """Return the page at a request target, `/readyz?verbose` for one; 404 where there is none."""
        path, _, query = target.partition("?")
        maker = self._makers.get(path)
        if maker is None:
            return Page(404, _TEXT, b"Here are /metrics, /livez and /readyz.\n")
        is_verbose = "verbose" in (part.partition("=")[0] for part in query.split("&"))
        with self._lock:
            made, kept = self._kept.get((path, is_verbose), (0.0, None))
            if kept is None or not 0 <= self._clock() - made < _FRESH:
                kept = maker(is_verbose)
                self._kept[path, is_verbose] = (self._clock(), kept)
            return kept

    def _metrics(self, is_verbose: bool) -> Page:
        return Page(200, CONTENT_TYPE, self._exposition.text())

    def _live(self, is_verbose: bool) -> Page:
        """The process answers: that is all this says."""
        return Page(200, _TEXT, b"[+]process ok\nlivez check passed\n" if is_verbose else b"ok\n")

    def _ready(self, is_verbose: bool) -> Page:
        findings = self._readiness.findings()
        is_well = not any(found.why for found in findings)
        lines = [
            f"[-]{found.name} failed: {found.why}" if found.why else f"[+]{found.name} ok"
            for found in findings
        ]
        if is_verbose:
            lines += [f"[!]{notice}" for notice in self._readiness.notices()]
        verdict = f"readyz check {'passed' if is_well else 'failed'}"
        text = "\n".join((*lines, verdict)) if is_verbose or not is_well else "ok"
        return Page(200 if is_well else 503, _TEXT, f"{text}\n".encode())
