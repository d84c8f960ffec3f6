"""DICOMweb's side of the servers under test, and the lean HTTP client that all of them are asked with."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import urlsplit

from .clients import ClientError
from .pdu import Address
from .ports import free_port
from .servers import Orthanc, PeerPACS, Server, orthanc_program
from .wire import Wire

ROOT: Final = "/dicom-web"
_BOUNDARY: Final = "0123456789abcdef"
RELATED: Final = f'multipart/related; type="application/dicom"; boundary="{_BOUNDARY}"'
"""The type of what `related` makes."""
AS_STORED: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_OPENING: Final = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
_CLOSING: Final = f"--{_BOUNDARY}--\r\n".encode()
_PLUGIN: Final = "orthanc-dicomweb"
_BUFFER: Final = 1 << 20


def related(files: Sequence[Sequence[bytes]]) -> tuple[Iterator[bytes], int]:
    """Return the body of a STOW-RS request, piece by piece, and its length; a file is its pieces."""
    pieces = [piece for file in files for piece in (_OPENING, *file, b"\r\n")]
    pieces.append(_CLOSING)
    return iter(pieces), sum(map(len, pieces))


_REMEDIES: Final = {
    401: " It wants to know who asks: --token-file or --password-file.",
    403: " Who asks may not do that there.",
    404: " Either it has not what was asked for, or that URL is not its DICOMweb root.",
    405: " That URL is not its DICOMweb root.",
}
"""Status → what a person can do."""


class HasWeb(Protocol):
    """A server that speaks DICOMweb at `web_port`, below /dicom-web."""

    web_port: int


class WebPeerPACS(PeerPACS):
    """Our node with its web server on."""

    def __init__(self, folder: Path, destination: Address) -> None:
        super().__init__(folder, destination)
        self.web_port = free_port()

    def command(self) -> list[str]:
        return ["env", f"PEERPACS__WEB__PLAIN_PORT={self.web_port}", *super().command()]


class WebOrthanc(Orthanc):
    """Orthanc with its DICOMweb plugin, both in their default configuration but for ports."""

    def __init__(self, folder: Path, destination: Address) -> None:
        self.web_port = free_port()
        super().__init__(folder, destination)

    def command(self) -> list[str]:
        return [orthanc_program(_PLUGIN), str(self.folder / "orthanc.json")]

    def settings(self) -> dict[str, Any]:
        plugins = Path(orthanc_program(_PLUGIN)).parent.parent / "root/usr/share/orthanc/plugins"
        web = {"Enable": True, "Root": f"{ROOT}/", "EnableWado": True}
        return {
            **super().settings(),
            "HttpPort": self.web_port,
            "Plugins": [str(plugins / "libOrthancDicomWeb.so")],
            "DicomWeb": web,
        }


def web_port(server: Server) -> int:
    """Return the port at which a server speaks DICOMweb."""
    assert isinstance(server, WebPeerPACS | WebOrthanc)
    return server.web_port


class Client:
    """One HTTP connection that stays open; bodies are read into one buffer and, unless wanted, dropped."""

    _buffer: ClassVar = memoryview(bytearray(_BUFFER))

    def __init__(
        self,
        where: int | str,
        timeout: float = 600.0,
        authorization: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare to speak to the URL of a DICOMweb root, or to a port of this machine.

        `authorization` is the header of that name; `tls` says whom to trust, if not whom this machine does.
        """
        url = urlsplit(where if isinstance(where, str) else f"http://127.0.0.1:{where}{ROOT}")
        self._connection = (
            http.client.HTTPSConnection(url.netloc, timeout=timeout, context=tls)
            if url.scheme == "https"
            else http.client.HTTPConnection(url.netloc, timeout=timeout)
        )
        self._timeout = timeout
        self._root = url.path.rstrip("/")
        self._headers = {"Authorization": authorization} if authorization else {}
        self._has_asked = False

    def __enter__(self) -> Client:
        self._connect()
        return self

    def _connect(self) -> None:
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wire = self._connection.sock = Wire(self._connection.sock, self._timeout)
        self._has_asked = False

    def _was_closed(self) -> bool:
        """Say whether the server closed the connection after an answer, as it may (RFC 9112 9.5)."""
        if not self._has_asked:
            return False
        return self._connection.sock is None or bool(select.select([self._connection.sock], [], [], 0)[0])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def get(self, path: str, accept: str, expected: int = 200) -> int:
        """Ask below the root and drop what comes; return its length in bytes.

        Raises:
            ClientError: the status was another one, or what came is of another type.
        """
        response = self._ask("GET", path, None, {"Accept": accept}, expected)
        kind = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
        if kind != accept.partition(";")[0]:
            raise ClientError(
                f"GET {path} was answered with {kind or 'no type'}, not {accept.partition(';')[0]}."
            )
        total = 0
        while count := response.readinto(self._buffer):
            total += count
        return total

    def read(self, path: str, accept: str = "application/dicom+json", empty: bytes = b"[]") -> bytes:
        """Ask below the root; return what came, `empty` for 204. Raises as `get`."""
        response = self._ask("GET", path, None, {"Accept": accept}, 200, 204)
        return response.read() or empty

    def post(self, path: str, body: bytes | Iterator[bytes], length: int, content_type: str) -> bytes:
        """Send a body of that length below the root; return the answer. Raises as `get`."""
        headers = {
            "Accept": "application/dicom+json",
            "Content-Type": content_type,
            "Content-Length": str(length),
        }
        return self._ask("POST", path, body, headers, 200).read()

    def _ask(
        self, method: str, path: str, body: Any, headers: dict[str, str], *expected: int
    ) -> http.client.HTTPResponse:
        if self._was_closed():
            self._connection.close()
            self._connect()
        self._has_asked = True
        self._wire.begin()
        self._connection.request(method, self._root + path, body, headers | self._headers)
        self._wire.begin()
        response = self._connection.getresponse()
        if response.status not in expected:
            words = " ".join(response.read()[:500].decode("utf-8", "replace").split())
            said = f"{method} {path} was answered with {response.status}"
            if there := response.getheader("Location"):
                said += f", that it is at {there}"
            said += f": {words[:200]}" if words else "."
            raise ClientError(said + _REMEDIES.get(response.status, ""))
        return response
