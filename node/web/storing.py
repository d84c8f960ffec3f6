"""STOW-RS, PS3.18 10.5: every part of a body goes through the one door in, and is accounted for.

While one part is made durable by a thread of its own, the next ones come in; a body of any length takes the
memory of a few instances. The answer lists each part, Annex I.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

import msgspec

from catalog import BadRequest, Header, OutOfSpace, PacsError, Unreadable
from node.contracts import Reception, StoreResult
from node.importer import identify
from node.storage import Meta

from .assembling import Assembly, Made
from .body import Body
from .exchange import Exchange
from .gateway import BODY
from .media import DICOM, JSON, RELATED, accepted, content_type, one_of
from .parts import Part, Parts
from .problems import Malformed, TooLarge, UnsupportedType

MOST_PARTS: Final = 5000
_HEAD: Final = 1 << 16
_LONGEST_HEAD: Final = 1 << 22
_UNDERWAY: Final = 8
"""Received instances of one request that are being made durable at a time."""
_CANNOT_UNDERSTAND: Final = 0xC000
_MISMATCH: Final = 0xA900
_OUT_OF_RESOURCES: Final = 0xA700
"""Failure Reasons, PS3.18 Table I.2-2 and PS3.4 Table B.2-1."""
_UNKNOWN: Final = Meta("", "", "", 0)


class Fate(NamedTuple):
    """What became of one part."""

    SOPClassUID: str
    SOPInstanceUID: str
    result: StoreResult
    SeriesInstanceUID: str = ""


def store(exchange: Exchange) -> None:
    """Answer POST /studies and /studies/{study}."""
    media_type = one_of(accepted(exchange.request, default=JSON), (JSON, "application/json"))
    kind, parameters = content_type(exchange.request.get_header("Content-Type", default=""))
    coding = exchange.request.get_header("Content-Encoding", default="identity").lower()
    root = parameters.get("type", DICOM).lower() if kind == RELATED else kind
    if coding != "identity":
        raise UnsupportedType("A body in a Content-Encoding is not taken.", "Send it without.")
    if root not in (DICOM, JSON) or (root == JSON and kind != RELATED):
        raise UnsupportedType(
            "Only DICOM files, and metadata in JSON with bulk data, can be stored.",
            'Send multipart/related; type="application/dicom".',
        )
    body: Body = exchange.request.env[BODY]
    if body.length is None or body.length:
        intake = _Intake(exchange)
        if kind == RELATED:
            _take_parts(exchange, intake, Parts(body, parameters.get("boundary", "")), root)
        else:
            intake.take(_pieces(body))
        _tell(exchange, intake.finish(), media_type)
    else:
        raise Malformed("The request has no body.", "Send what is to be stored.")


def store_one(exchange: Exchange) -> None:
    """Answer a POST whose body is one DICOM file, whatever its Content-Type says."""
    intake = _Intake(exchange)
    intake.take(_pieces(exchange.request.env[BODY]))
    _tell(exchange, intake.finish(), JSON)


def _take_parts(exchange: Exchange, intake: _Intake, parts: Parts, root: str) -> None:
    assembly = Assembly(exchange.services.folder) if root == JSON else None
    try:
        for number, part in enumerate(parts):
            if number >= MOST_PARTS:
                raise TooLarge(f"The body has more than {MOST_PARTS} parts.", "Send them in portions.")
            if assembly:
                assembly.take(part)
            else:
                intake.take_file(part)
        if assembly:
            for made in assembly.made():
                intake.take_made(made)
    except BaseException:
        intake.abandon()
        raise
    finally:
        if assembly:
            assembly.close()


def _pieces(body: Body) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(1 << 18))
    while count := body.read_into(buffer):
        yield buffer[:count]


class _Intake:
    """What one request brings, and what became of it so far, in the order of its parts."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._is_held = exchange.request.context.verdict.is_held
        self._fates: list[Fate | Future[Fate]] = []
        self._underway: deque[Future[Fate]] = deque()

    def take_file(self, part: Part) -> None:
        """Take in one part if it says that it is a DICOM file."""
        kind, _ = content_type(part.headers.get("content-type", DICOM))
        if kind == DICOM:
            self.take(part)
        else:
            self._fail(_UNKNOWN, _CANNOT_UNDERSTAND, f"A part is {kind or 'of no type'}, not DICOM")

    def take_made(self, made: Made) -> None:
        """Take in an instance that was put together from its parts."""
        if made.pieces is None:
            meta = Meta(made.SOPClassUID, made.SOPInstanceUID, "", 0)
            self._fail(meta, _CANNOT_UNDERSTAND, made.why)
        else:
            self.take(made.pieces)

    def take(self, pieces: Iterable[memoryview | bytes]) -> None:
        """Take in one file."""
        content = iter(pieces)
        head, meta, header = _beginning(content)
        if meta is None:
            self._fail(_UNKNOWN, _CANNOT_UNDERSTAND, "A part is not a DICOM file")
            return
        study = self._exchange.named.get("study", "")
        if study and (header is None or header.StudyInstanceUID != study):
            self._fail(meta, _MISMATCH, "It is of another study than the address names")
            return
        try:
            reception = self._exchange.scope.ingest.begin(
                self._exchange.caller,
                meta.SOPClassUID,
                meta.SOPInstanceUID,
                meta.TransferSyntaxUID,
                is_held=self._is_held,
            )
        except (BadRequest, Unreadable) as error:
            self._fail(meta, _CANNOT_UNDERSTAND, error.what)
            return
        except PacsError as error:
            self._fail(meta, _OUT_OF_RESOURCES, error.what)
            return
        self._receive(reception, head[meta.offset :], content, meta, header)

    def _receive(
        self,
        reception: Reception,
        first: memoryview,
        rest: Iterator[memoryview | bytes],
        meta: Meta,
        header: Header | None,
    ) -> None:
        try:
            _feed(reception, first)
            for piece in rest:
                _feed(reception, piece)
        except OutOfSpace as error:
            reception.abandon()
            self._fail(meta, _OUT_OF_RESOURCES, error.what)
            return
        except BaseException:
            reception.abandon()
            raise
        while len(self._underway) >= _UNDERWAY:
            self._underway.popleft().exception()
        series = header.SeriesInstanceUID if header else ""
        future = self._exchange.services.finishers.submit(_finish, reception, meta, series)
        self._underway.append(future)
        self._fates.append(future)

    def _fail(self, meta: Meta, reason: int, why: str) -> None:
        self._fates.append(Fate(meta.SOPClassUID, meta.SOPInstanceUID, StoreResult(reason, why[:64])))

    def abandon(self) -> None:
        """Wait for what is under way: a body that broke off takes nothing back."""
        for future in self._underway:
            future.exception()

    def finish(self) -> list[Fate]:
        """Return what became of each part, when all of it is durable."""
        return [each.result() if isinstance(each, Future) else each for each in self._fates]


def _finish(reception: Reception, meta: Meta, series: str) -> Fate:
    return Fate(meta.SOPClassUID, meta.SOPInstanceUID, reception.finish(), series)


def _feed(reception: Reception, piece: memoryview | bytes) -> None:
    if len(piece):
        reception.space(len(piece))[:] = piece
        reception.filled(len(piece))


def _beginning(
    content: Iterator[memoryview | bytes],
) -> tuple[memoryview, Meta | None, Header | None]:
    """Return the beginning of a file, what it is, and its header if that is not too far; None if no file."""
    head = memoryview(next(content, b""))
    wanted, is_whole = _HEAD, False
    while True:
        if len(head) < wanted:
            gathered = bytearray(head)
            while len(gathered) < wanted and not is_whole:
                piece = next(content, None)
                is_whole = piece is None
                gathered += piece or b""
            head = memoryview(gathered)
        try:
            is_all = is_whole and len(head) <= wanted
            meta, header = identify(bytes(head[:wanted]), is_whole=is_all)
        except Unreadable:
            return head, None, None
        if header or is_all or wanted >= _LONGEST_HEAD:
            return head, meta, header
        wanted *= 8


def _tell(exchange: Exchange, fates: list[Fate], media_type: str) -> None:
    """Answer with what became of each part: 200, 202 or 409, PS3.18 Table 10.5.3-1."""
    if not fates:
        raise Malformed("The body has no parts.", "Send what is to be stored.")
    failed = [fate for fate in fates if _is_failure(fate.result)]
    odd = [fate for fate in fates if fate.result.status >> 12 == 0xB]
    if len(failed) == len(fates):
        status, outcome = 409, "failure"
    else:
        status, outcome = (202, "partial") if failed or odd else (200, "success")
    studies = sorted({fate.result.StudyInstanceUID for fate in fates if fate.result.StudyInstanceUID})
    answer: dict[str, Any] = {}
    if len(studies) == 1:
        answer["00081190"] = {"vr": "UR", "Value": [exchange.url(studies[0])]}
    if failed:
        answer["00081198"] = {"vr": "SQ", "Value": [_failed(fate) for fate in failed]}
    if len(failed) < len(fates):
        stored = (_stored(exchange, fate) for fate in fates if not _is_failure(fate.result))
        answer["00081199"] = {"vr": "SQ", "Value": list(stored)}
    exchange.record("store", outcome, instances=len(fates), failed=len(failed), studies=studies[:100])
    exchange.response.status = status
    exchange.reply(msgspec.json.encode(answer), media_type)


def _is_failure(result: StoreResult) -> bool:
    return result.status != 0 and result.status >> 12 != 0xB


def _referenced(fate: Fate) -> dict[str, Any]:
    return {
        tag: {"vr": "UI", "Value": [uid]} if uid else {"vr": "UI"}
        for tag, uid in (("00081150", fate.SOPClassUID), ("00081155", fate.SOPInstanceUID))
    }


def _failed(fate: Fate) -> dict[str, Any]:
    told = {"00081197": {"vr": "US", "Value": [fate.result.status]}}
    comment = {"00000902": {"vr": "LO", "Value": [fate.result.comment]}} if fate.result.comment else {}
    return {**comment, **_referenced(fate), **told}


def _stored(exchange: Exchange, fate: Fate) -> dict[str, Any]:
    uids = (fate.result.StudyInstanceUID, fate.SeriesInstanceUID)
    url = exchange.url(*uids, fate.SOPInstanceUID) if all(uids) else exchange.url(uids[0])
    item = {**_referenced(fate), "00081190": {"vr": "UR", "Value": [url]}}
    if fate.result.status:
        item["00081196"] = {"vr": "US", "Value": [fate.result.status]}
    return item
