"""A PACS to be measured, whichever it is: what is asked of it, and why it did not answer.

Nothing here knows what it speaks to. Where both ways are there, DICOM stores, queries and moves, and DICOMweb
answers flat questions and single instances, as the cloud PACS paper's clients did.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPException
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from pydicom.datadict import tag_for_keyword

from .association import (
    COMMITMENT,
    EXPLICIT,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
    Association,
)
from .clients import ClientError
from .headers import KINDS
from .pdu import Address, Closed, ProtocolError, identifier, value
from .phantoms import Instance
from .pictures import SYNTAXES
from .secure import Secure
from .web import AS_STORED, RELATED, Client, related
from .wire import Overdue

REFUSALS: Final = (OSError, ProtocolError, ClientError, HTTPException)
"""What comes of a target that refuses, hangs or dies."""
_SUCCESS: Final = 0
_LEAST: Final = 132
"""Bytes of a preamble and its prefix (PS3.10 7.1), with which every instance begins."""


class Stored(NamedTuple):
    """One instance as it was answered."""

    SOPInstanceUID: str
    size: int
    seconds: float


class Fetched(NamedTuple):
    """What a retrieve brought."""

    instances: int
    size: int
    """Bytes, 0 where they went elsewhere."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a PACS is; at least one of `address` and `web` is given."""

    name: str
    address: Address | None = None
    web: str = ""
    """The root of its DICOMweb services, a URL."""
    authorization: str = ""
    """The header of that name for them."""
    tls: ssl.SSLContext | None = None
    """Whom to trust when they are encrypted; whom this machine trusts if it is not said."""
    destination: Address | None = None
    """Where it may C-MOVE to; whoever runs the experiments listens there."""
    elsewhere: Address | None = None
    """Another site, at which what this one takes is to be found."""
    secure: Secure | None = None
    """How associations with it, and with the other site, are encrypted; not at all if it is not said."""
    calling: str = "BENCHSCU"
    loaders: int = 4
    """How many associations at once bring an experiment's studies to it."""
    timeout: float = 60.0
    """Seconds of silence, or of next to nothing, after which it is said to hang."""

    @property
    def way(self) -> str:
        """How studies are retrieved from it."""
        if not self.address:
            return "WADO-RS"
        return "C-MOVE" if self.destination else "C-GET"

    def at_elsewhere(self) -> Target:
        """Return the other site, as a target.

        Raises:
            ClientError: there is none.
        """
        if not self.elsewhere:
            raise ClientError(
                f"No other site of {self.name} was given. Say where what it takes is to be found: "
                "--elsewhere AE@host:port."
            )
        return replace(self, name=f"elsewhere of {self.name}", address=self.elsewhere, web="", elsewhere=None)

    def check(self) -> None:
        """Ask for a sign of life. Raises one of `REFUSALS`."""
        if self.address:
            with self._associated([VERIFICATION]) as association:
                association.echo()
        if self.web:
            with self.client() as client:
                client.read("/studies?limit=1")

    def store(self, instances: Sequence[Instance], calling: str = "") -> Iterator[Stored]:
        """Send instances over one association, or in a request each; yield each as it is acknowledged.

        Raises:
            ProtocolError: an instance was refused; those before are acknowledged. And `REFUSALS`.
        """
        if not self.address:
            yield from self.stow([instance] for instance in instances)
            return
        pairs = list(dict.fromkeys((each.SOPClassUID, each.TransferSyntaxUID) for each in instances))
        with self._associated([], sends=pairs, calling=calling) as association:
            for instance in instances:
                began = time.perf_counter()
                status = association.store(instance)
                # Warnings (Bxxx) keep the instance, PS3.4 Table B.2-1.
                if status != _SUCCESS and status >> 12 != 0xB:
                    raise ProtocolError(f"A C-STORE was answered with status {status:04X}.")
                yield Stored(instance.SOPInstanceUID, instance.size, time.perf_counter() - began)

    def stow(self, requests: Iterable[Sequence[Instance]]) -> Iterator[Stored]:
        """Send each list of instances as one STOW-RS request. Raises as `store`."""
        with self.client() as client:
            for instances in requests:
                began = time.perf_counter()
                body, length = related([list(each.chunks()) for each in instances])
                client.post("/studies", body, length, RELATED)
                seconds = (time.perf_counter() - began) / len(instances)
                for each in instances:
                    yield Stored(each.SOPInstanceUID, each.size, seconds)

    def commit(self, request: bytes, calling: str = "") -> int:
        """Ask for Storage Commitment; return the Event Type ID of the result. Raises `REFUSALS`."""
        with self._associated([COMMITMENT], calling=calling) as association:
            return association.commit(request)[0]

    @contextmanager
    def finder(self, is_relational: bool = False) -> Iterator[Finder]:
        """Yield what asks questions over one association or connection. Raises `REFUSALS`."""
        if self.address and not (is_relational and self.web):
            with self._associated([STUDY_ROOT_FIND], is_relational=is_relational) as association:
                yield _ByDimse(association)
        else:
            with self.client() as client:
                yield _ByWeb(client)

    @contextmanager
    def retriever(self, way: str = "") -> Iterator[Retriever]:
        """Yield what fetches by the way named, or the usual one. Raises `REFUSALS`."""
        way = way or self.way
        if way == "WADO-RS":
            with self.client() as client:
                yield _Wado(client)
        elif way == "C-MOVE":
            assert self.destination
            with self._associated([STUDY_ROOT_MOVE]) as association:
                yield _Mover(association, self.destination)
        else:
            with self._associated([STUDY_ROOT_GET], receives=RECEIVED) as association:
                yield _Getter(association)

    def client(self) -> Client:
        """Return a connection to the web services.

        Raises:
            ClientError: it has none.
        """
        if not self.web:
            raise ClientError(f"No DICOMweb root of {self.name} was given.")
        return Client(self.web, self.timeout, self.authorization, self.tls)

    def _associated(
        self,
        services: Sequence[str],
        *,
        sends: Sequence[str | tuple[str, str]] = (),
        receives: Sequence[str | tuple[str, str]] = (),
        calling: str = "",
        is_relational: bool = False,
    ) -> Association:
        if not self.address:
            raise ClientError(f"No AE title of {self.name} was given.")
        return Association(
            self.address, services, sends, receives, calling or self.calling, self.timeout, is_relational,
            self.secure,
        )  # fmt: skip


RECEIVED: Final = [
    (kind.SOPClassUID, syntax)
    for kind in KINDS.values()
    for syntax in (SYNTAXES.values() if kind.bits else (EXPLICIT,))
]
"""What a C-GET may bring: every kind in every syntax that phantoms have."""


class Finder:
    """Asks questions at a level; every keyword asked is answered, empty where nothing is said."""

    def find(self, level: str, **keys: str) -> list[dict[str, str]]:
        """Return the matches. Raises `REFUSALS`."""
        raise NotImplementedError


class _ByDimse(Finder):
    def __init__(self, association: Association) -> None:
        self._association = association

    def find(self, level: str, **keys: str) -> list[dict[str, str]]:
        answers = self._association.find(identifier(level, **keys))
        return [{keyword: value(answer, keyword) for keyword in keys} for answer in answers]


class _ByWeb(Finder):
    def __init__(self, client: Client) -> None:
        self._client = client

    def find(self, level: str, **keys: str) -> list[dict[str, str]]:
        place = {"STUDY": "studies", "SERIES": "series", "IMAGE": "instances"}[level]
        asked = [f"{key}={quote(text)}" for key, text in keys.items() if text]
        asked += [f"includefield={key}" for key, text in keys.items() if not text]
        answered = self._client.read(f"/{place}?{'&'.join(asked)}")
        try:
            found = json.loads(answered)
            return [{keyword: _first(answer, keyword) for keyword in keys} for answer in found]
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise ClientError(f"It answered a query with something else than DICOM JSON: {error}.") from error


def _first(answer: dict[str, Any], keyword: str) -> str:
    values = answer.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value", [""])
    return str(values[0]) if values else ""


class Retriever:
    """Fetches studies and instances and keeps nothing of them."""

    def study(self, StudyInstanceUID: str, expected: int = 0) -> Fetched:
        """Fetch a study, of about as many bytes as are expected, which may take their time.

        Raises `REFUSALS`, ProtocolError also when not all of it came, or nothing.
        """
        raise NotImplementedError

    def instance(self, study: str, series: str, instance: str) -> Fetched:
        """Fetch one instance. Raises as `study`."""
        raise NotImplementedError


class _Getter(Retriever):
    def __init__(self, association: Association) -> None:
        self._association = association

    def study(self, StudyInstanceUID: str, expected: int = 0) -> Fetched:
        return self._fetch(identifier("STUDY", StudyInstanceUID=StudyInstanceUID))

    def instance(self, study: str, series: str, instance: str) -> Fetched:
        return self._fetch(_unique(study, series, instance))

    def _fetch(self, asked: bytes) -> Fetched:
        began = time.perf_counter()
        got = self._association.get(asked)
        if got.status:
            raise ProtocolError(
                f"A C-GET ended with status {got.status:04X} after {got.instances} instances."
            )
        if not got.instances:
            raise ProtocolError("A C-GET ended well and brought nothing: what was asked for is not there.")
        return Fetched(got.instances, got.size, time.perf_counter() - began)


def _unique(study: str, series: str, instance: str) -> bytes:
    keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": instance}
    return identifier("IMAGE", **keys)


class _Mover(Retriever):
    def __init__(self, association: Association, destination: Address) -> None:
        self._association = association
        self._destination = destination

    def study(self, StudyInstanceUID: str, expected: int = 0) -> Fetched:
        return self._fetch(identifier("STUDY", StudyInstanceUID=StudyInstanceUID), expected)

    def instance(self, study: str, series: str, instance: str) -> Fetched:
        return self._fetch(_unique(study, series, instance))

    def _fetch(self, asked: bytes, expected: int = 0) -> Fetched:
        began = time.perf_counter()
        title, port = self._destination.ae_title, self._destination.port
        moved = self._association.move(asked, title, expected)
        if moved.status or moved.failed:
            raise ProtocolError(
                f"A C-MOVE to {title} ended with {moved.status:04X}, {moved.failed} failed. See whether it "
                f"knows {title}, with this machine and port {port}, can reach it, and has what was asked for."
            )
        if moved.is_counted and not moved.completed + moved.warning:
            raise ProtocolError("A C-MOVE ended well and sent nothing: what was asked for is not there.")
        return Fetched(moved.completed + moved.warning, 0, time.perf_counter() - began)


class _Wado(Retriever):
    def __init__(self, client: Client) -> None:
        self._client = client

    def study(self, StudyInstanceUID: str, expected: int = 0) -> Fetched:
        return self._fetch(f"/studies/{StudyInstanceUID}")

    def instance(self, study: str, series: str, instance: str) -> Fetched:
        return self._fetch(f"/studies/{study}/series/{series}/instances/{instance}")

    def _fetch(self, path: str) -> Fetched:
        began = time.perf_counter()
        size = self._client.get(path, AS_STORED)
        if size < _LEAST:
            raise ClientError(f"GET {path} was answered with {size} bytes, in which no instance can be.")
        return Fetched(0, size, time.perf_counter() - began)


def reason(error: BaseException) -> str:
    """Say in a sentence what a target did that ended something."""
    match error:
        case ConnectionRefusedError():
            return "It refused the connection: nobody listens there."
        case Overdue():
            return f"It did not answer in time: {error}. It hangs, or the way to it is nearly cut."
        case TimeoutError():
            return "It did not answer in time: it hangs, or the way to it is cut."
        case ConnectionError() | HTTPException() | Closed():
            return "It closed the connection in the middle."
        case ssl.SSLCertVerificationError():
            why = error.verify_message
            return f"Its certificate is not trusted: {why}. Name the CA that signed it: --ca-file."
        case ssl.SSLError():
            why = (error.reason or str(error)).lower().replace("_", " ")
            return f"It does not speak TLS with us there: {why}."
        case OSError():
            return f"It could not be reached: {error.strerror or error}."
        case ProtocolError() | ClientError():
            return str(error)
        case _:
            return f"It could not be measured. {type(error).__name__}: {error}"
