"""WADO-RS instances, PS3.18 10.4.1.1.1: DICOM files, as they are stored if that will do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from catalog import Entry, NotFound, PacsError, Unavailable
from node.contracts import Outgoing
from node.pixels import NotConvertible
from node.transcoding import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

from .exchange import Exchange
from .media import DICOM, MediaRange, accepted
from .metadata import version_of
from .problems import NotAcceptable
from .ranges import send_single
from .streams import Owned, Part, Part10, Readable, Related

ANY: Final = "*"
NOT_ON_THE_WEB: Final = frozenset((IMPLICIT_LITTLE, EXPLICIT_BIG))
"""Transfer syntaxes that shall not be used here, PS3.18 8.7.3.5.2."""
_OPENED_AT_ONCE: Final = 4000
"""Instances that are opened before the first byte goes out, so that the status tells of those that cannot."""
_CONVERTED_AT_ONCE: Final = 256 << 20
"""Bytes of instances that are converted before the first byte goes out; they are in files meanwhile."""


class Wish(NamedTuple):
    """What a client takes: transfer syntaxes in its order, `*` for what is stored, in one part or more."""

    syntaxes: tuple[str, ...]
    is_multipart: bool

    def fits(self, stored: str) -> str:
        """Return the syntax an instance is to be sent in, its own or another; "" if none will do."""
        for syntax in self.syntaxes:
            if syntax == ANY:
                return EXPLICIT_LITTLE if stored in NOT_ON_THE_WEB else stored
            if syntax in (stored, EXPLICIT_LITTLE) and syntax not in NOT_ON_THE_WEB:
                return syntax
        return ""


def wish(ranges: Sequence[MediaRange], *, is_one: bool) -> Wish:
    """Return what the client takes.

    Raises:
        NotAcceptable: no DICOM file, or several and in a single part.
    """
    fitting = [
        each for each in ranges if each.covers(DICOM) and (each.is_multipart or is_one or _is_any(each))
    ]
    if not fitting:
        raise NotAcceptable(
            "Nothing of what the Accept header allows can be given.",
            'There is multipart/related; type="application/dicom", with transfer-syntax=* as it is stored.',
        )
    is_multipart = fitting[0].is_multipart or _is_any(fitting[0])
    alike = [each for each in fitting if each.is_multipart == is_multipart or _is_any(each)]
    return Wish(tuple(dict.fromkeys(syntax for each in alike for syntax in _syntaxes(each))), is_multipart)


def _is_any(asked: MediaRange) -> bool:
    return asked.kind in ("*/*", "application/*")


def _syntaxes(asked: MediaRange) -> tuple[str, ...]:
    if asked.transfer_syntax:
        return (asked.transfer_syntax,)
    return (EXPLICIT_LITTLE, ANY) if asked.wanted == "*/*" else (EXPLICIT_LITTLE,)


class Taken:
    """Instances opened for one answer, in the syntax they go out in, and why others were not."""

    def __init__(self, exchange: Exchange, wished: Wish) -> None:
        self._exchange = exchange
        self._wished = wished
        self._budget = _CONVERTED_AT_ONCE
        self._opened: list[Outgoing] = []
        self.parts: list[Part] = []
        self.failures: list[PacsError] = []

    def take(self, entries: Iterable[Entry]) -> None:
        """Make a part of each instance that can be sent."""
        for number, entry in enumerate(entries):
            try:
                self._add(entry, self._opened_now(entry, number < _OPENED_AT_ONCE))
            except PacsError as error:
                self.failures.append(error)

    def _opened_now(self, entry: Entry, is_due: bool) -> Outgoing | None:
        """Return the instance as it is to be sent; None where that is better made when its turn comes."""
        syntax = self._wished.fits(entry.TransferSyntaxUID)
        if not syntax:
            raise NotConvertible("It is stored in a syntax that the Accept header does not allow.")
        if not is_due:
            return None
        outgoing = self._exchange.scope.retriever.open(entry)
        self._opened.append(outgoing)
        if syntax == entry.TransferSyntaxUID:
            return outgoing
        if entry.holding.size > self._budget:
            return None
        self._budget -= entry.holding.size
        return self._converted(entry, outgoing, syntax)

    def _converted(self, entry: Entry, outgoing: Outgoing, syntax: str) -> Outgoing:
        try:
            made = self._exchange.services.convert(outgoing, (syntax,))
        except NotConvertible:
            if ANY in self._wished.syntaxes and entry.TransferSyntaxUID not in NOT_ON_THE_WEB:
                return outgoing
            raise
        if made is None:
            raise NotConvertible("It is stored in a syntax that cannot be made into one the client takes.")
        self._opened.append(made)
        return made

    def _add(self, entry: Entry, outgoing: Outgoing | None) -> None:
        syntax = outgoing.TransferSyntaxUID if outgoing else self._wished.fits(entry.TransferSyntaxUID)
        file = Part10(outgoing) if outgoing else None

        def open_now() -> Readable:
            return file or self._late(entry)

        url = self._exchange.url(entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID)
        self.parts.append(
            Part(f"{DICOM}; transfer-syntax={syntax}", url, open_now, file.size if file else None)
        )

    def _late(self, entry: Entry) -> Readable:
        outgoing = self._exchange.scope.retriever.open(entry)
        self._opened.append(outgoing)
        syntax = self._wished.fits(entry.TransferSyntaxUID)
        if syntax != entry.TransferSyntaxUID:
            outgoing = self._converted(entry, outgoing, syntax)
        return Part10(outgoing)

    def close(self) -> None:
        """Close every instance."""
        while self._opened:
            self._opened.pop().close()


def retrieve_instances(exchange: Exchange) -> None:
    """Answer a study, series or instance."""
    ranges = accepted(exchange.request)
    entries = exchange.entries()
    _send(exchange, entries, wish(ranges, is_one=len(entries) == 1))


def send_one(exchange: Exchange, entry: Entry, wished: Wish) -> None:
    """Answer with one instance. Raises NotConvertible if it cannot be had as it is wished."""
    _send(exchange, [entry], wished)


def _send(exchange: Exchange, entries: Sequence[Entry], wished: Wish) -> None:
    exchange.scope.retriever.expect(entries)
    etag = hashlib.sha256(f"{version_of(exchange, entries)}{wished}".encode()).hexdigest()[:40]
    if exchange.is_known(etag, is_immutable=False):
        return
    taken = Taken(exchange, wished)
    try:
        taken.take(entries)
        _judge(exchange, taken, exchange.missing)
        if wished.is_multipart:
            body = Related(DICOM, taken.parts, taken.close)
            exchange.stream(body, body.media_type)
        else:
            [part] = taken.parts
            send_single(exchange, Owned(part.open(), taken.close), part.media_type, etag)
    except BaseException:
        taken.close()
        raise
    sent = len(taken.parts)
    outcome = "partial" if taken.failures else "ok"
    exchange.record("retrieve", outcome, what="instances", instances=sent, failed=len(taken.failures))


def _judge(exchange: Exchange, taken: Taken, missing: int) -> None:
    """Set the status: all, some (206), or none, whose reason is raised."""
    if not taken.parts:
        kinds = (Unavailable, NotConvertible, NotFound)
        raise next((e for kind in kinds for e in taken.failures if isinstance(e, kind)), taken.failures[0])
    if taken.failures or missing:
        exchange.response.status = 206
        exchange.response.set_header("Cache-Control", "no-store")
    if taken.failures:
        count = len(taken.failures)
        exchange.warn(
            f"{count} of {count + len(taken.parts)} instances are missing: {taken.failures[0].what}"
        )
