"""A node with its web server, and somebody who asks it."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pydicom

from node.app import Node
from node.storage import file_meta
from sim.ports import free_port
from tests.homes import Peer, RawInstance, serving

JSON = "application/dicom+json"


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def parts(self) -> list[tuple[dict[str, str], bytes]]:
        """The parts of a multipart/related body: headers in lower case, and content."""
        boundary = self.headers["content-type"].split("boundary=")[1].split(";")[0].strip('"').encode()
        assert self.body.endswith(b"\r\n--" + boundary + b"--\r\n")
        found = []
        for piece in (b"\r\n" + self.body).split(b"\r\n--" + boundary)[1:-1]:
            head, _, content = piece.partition(b"\r\n\r\n")
            lines = [line.partition(":") for line in head.decode().strip().splitlines()]
            found.append(({name.lower(): value.strip() for name, _, value in lines}, content))
        return found


class Remote:
    """A web server somewhere on this machine; `get` asks below /dicom-web."""

    root = "/dicom-web"

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def address(self) -> str:
        """The URL of the server, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the service."""
        return f"{self.address}{self.root}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request; headers are given as `Content_Type`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            told = {name.replace("_", "-"): value for name, value in headers.items()}
            is_chunked = "Transfer-Encoding" in told
            connection.request(method, path, body=body, headers=told, encode_chunked=is_chunked)
            response = connection.getresponse()
            fields: dict[str, str] = {}
            for name, value in response.getheaders():
                fields[name.lower()] = f"{fields[name.lower()]}, {value}" if name.lower() in fields else value
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()

    def get(self, path: str, accept: str = JSON, **headers: str) -> Answer:
        """GET below the service; no Accept header if `accept` is empty."""
        return self.ask("GET", self.root + path, **({"Accept": accept} if accept else {}), **headers)


class Web(Remote):
    """A web server with the node behind it."""

    def __init__(self, node: Node, port: int) -> None:
        super().__init__(port)
        self.node = node
        self.peer = Peer(node)

    def store(self, *instances: RawInstance) -> None:
        """Have the node take instances in by C-STORE."""
        assert set(self.peer.store(*instances)) <= {0}


@contextlib.contextmanager
def web(home: Path, **sections: dict[str, object]) -> Iterator[Web]:
    """Yield a serving node whose web server listens on a free port."""
    with serving(home, web={"plain_port": free_port(), "port": 0}, **sections) as node:
        yield Web(node, node.ports["web"])


def file_of(instance: RawInstance) -> bytes:
    """Return the instance as the node writes files."""
    uids = (instance.SOPClassUID, instance.SOPInstanceUID, instance.TransferSyntaxUID)
    return file_meta(*uids) + instance.data


def path_of(instance: RawInstance, *, levels: int = 3) -> str:
    """Return the path of the instance, its series (2) or its study (1) below the service."""
    dataset = pydicom.dcmread(BytesIO(file_of(instance)), force=True, stop_before_pixels=True)
    path = f"/studies/{dataset.StudyInstanceUID}"
    if levels > 1:
        path += f"/series/{dataset.SeriesInstanceUID}"
    return path + f"/instances/{dataset.SOPInstanceUID}" if levels > 2 else path
