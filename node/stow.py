"""STOW-RS as a client, PS3.18 10.5: one instance a request, as it leaves the one door out.

An instance a request costs little on a connection that stays open, and its answer is about nothing else.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from catalog import BadRequest, Busy, NotPermitted, PacsError, Unavailable
from node.contracts import Outgoing, StoreResult
from node.dimse.delivery import Pair
from node.storage import file_meta

_PIECE: Final = 1 << 18
_PATIENCE: Final = 120.0
_LONGEST_ANSWER: Final = 1 << 20
_OUT_OF_RESOURCES: Final = 0xA700
_REFUSED: Final = 0xC000
_WARNING: Final = 0xB000
_REASON: Final = "00081197"
"""Failure Reason."""
_FAILED: Final = "00081198"
"""Failed SOP Sequence."""
_NOT_NOW: Final = frozenset({408, 413, 425, 429, 500, 502, 503, 504, 507})
Secure = Callable[[], ssl.SSLContext]


class Root(NamedTuple):
    """A web server's root, as https://host/dicom-web, and how it is reached."""

    url: str
    token: str = ""
    secure: Secure = ssl.create_default_context

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, which opens with its first request.

        Raises:
            BadRequest: the URL names no host.
        """
        parts = urlsplit(self.url)
        if not parts.hostname:
            raise BadRequest(f"{self.url} names no host.", "Write https://host/dicom-web.")
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=_PATIENCE, context=self.secure()
            )
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=_PATIENCE)

    def path(self, below: str) -> str:
        """Return the path of something below the root."""
        return urlsplit(self.url).path.rstrip("/").removesuffix("/studies") + below

    def headers(self, accept: str = "application/dicom+json") -> dict[str, str]:
        """Return what every request says."""
        return {"Accept": accept} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})


class StowDelivery:
    """Satisfies `Sending` for one web server."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._connection: http.client.HTTPConnection | None = None
        self._outgoing: Outgoing | None = None
        self.last_word: PacsError | None = None
        """Why nothing more can be sent."""

    def expect(self, pairs: Iterable[Pair]) -> None:
        """There is nothing to negotiate."""

    def prepare(self, outgoing: Outgoing) -> None:
        """It is read when it goes."""

    def begin(self, outgoing: Outgoing) -> None:
        """Send an instance.

        Raises:
            Damaged, NotFound: its bytes cannot be read.
        """
        self._outgoing = outgoing
        try:
            self._post(outgoing)
        except (OSError, http.client.HTTPException):
            # It is sent once more, and told if that breaks too, where the answer is awaited.
            self.close()

    def _post(self, outgoing: Outgoing) -> None:
        if self._connection is None:
            self._connection = self._root.connect()
        boundary = uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        head += file_meta(outgoing.SOPClassUID, outgoing.SOPInstanceUID, outgoing.TransferSyntaxUID)
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = self._root.headers() | {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(len(head) + outgoing.size + len(tail)),
        }
        body = _body(head, outgoing, tail)
        self._connection.request("POST", self._root.path("/studies"), body=body, headers=headers)

    def end(self, is_unwanted: Callable[[], bool] = bool) -> StoreResult:
        """Return what the server answered, in the statuses of C-STORE.

        Raises:
            Unavailable: it did not.
            Busy: it does not know the token, which a person can mend.
        """
        try:
            response, said = self._answer()
        except (OSError, http.client.HTTPException):
            # A server closes a connection that rested; a second one that breaks says more.
            self.close()
            try:
                assert self._outgoing is not None
                self._post(self._outgoing)
                response, said = self._answer()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                self.last_word = silent(self._root.url, error)
                raise self.last_word from None
        if response.will_close:
            self.close()
        if response.status in (401, 403):
            what = f"{self._root.url} answered {response.status}: it does not let this node store."
            self.last_word = Busy(what, "Correct the token in the rule's token_file.")
            raise self.last_word
        return meaning(response.status, said)

    def _answer(self) -> tuple[http.client.HTTPResponse, bytes]:
        if self._connection is None:
            raise http.client.NotConnected
        response = self._connection.getresponse()
        return response, response.read(_LONGEST_ANSWER)

    def close(self, *, release: bool = True) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _body(head: bytes, outgoing: Outgoing, tail: bytes) -> Iterator[bytes]:
    yield head
    buffer, offset = memoryview(bytearray(_PIECE)), 0
    while length := outgoing.read_into(buffer, offset):
        yield bytes(buffer[:length])
        offset += length
    yield tail


def silent(url: str, error: Exception) -> Unavailable:
    """Return the sentence about a server that does not answer."""
    why = getattr(error, "strerror", "") or type(error).__name__
    return Unavailable(f"{url} does not answer: {why}.", "Check the address and the network.")


def meaning(status: int, said: bytes) -> StoreResult:
    """Return an answer to one instance (PS3.18 Table 10.5.3-1) as C-STORE would give it."""
    if status == 200:
        return StoreResult(0)
    if status == 202:
        return StoreResult(_WARNING, "HTTP 202")
    reason = 0
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
        reason = int(json.loads(said)[_FAILED]["Value"][0][_REASON]["Value"][0])
    if reason:
        return StoreResult(reason, f"HTTP {status}")
    return StoreResult(_OUT_OF_RESOURCES if status in _NOT_NOW else _REFUSED, f"HTTP {status}")


def instances_there(root: Root, StudyInstanceUID: str) -> set[str]:
    """Return the SOP Instance UIDs that a server has of a study, by QIDO-RS (PS3.18 10.6).

    Raises:
        Unavailable: it does not answer, or not as it should.
        NotPermitted: it does not let us ask.
    """
    found: set[str] = set()
    with contextlib.closing(root.connect()) as connection:
        while True:
            path = root.path(f"/studies/{StudyInstanceUID}/instances?limit=1000&offset={len(found)}")
            page = _page(root, connection, path)
            uids = {each["00080018"]["Value"][0] for each in page if "00080018" in each}
            if not uids - found:
                return found
            found |= uids


def _page(root: Root, connection: http.client.HTTPConnection, path: str) -> list[dict[str, Any]]:
    try:
        connection.request("GET", path, headers=root.headers())
        response = connection.getresponse()
        said = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise silent(root.url, error) from None
    if response.status in (204, 404):
        return []
    if response.status in (401, 403):
        raise NotPermitted(f"{root.url} answered {response.status} to a question.", "Correct the token.")
    try:
        page = json.loads(said) if response.status == 200 else None
    except ValueError:
        page = None
    if not isinstance(page, list):
        raise Unavailable(f"{root.url} answered a question with {response.status} and no list.")
    return page
