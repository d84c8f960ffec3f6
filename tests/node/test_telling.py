"""Who is told beside the audit: a syslog server over TLS gets ATNA messages, an address signed alarms."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest

from catalog import BadRequest
from node.atna import KINDS, Sender, is_told, message
from node.audit import Line
from node.certificates import make_certificate
from node.syslog import parse_target
from node.webhook import SIGNATURE
from sim.ports import free_port
from tests.homes import Peer, attribute, phantoms, serving
from tests.running import until

SENDER = Sender("alpha", "HOSP-A", "00000000-0000-4000-8000-000000000001")
ORDER = (
    "EventIdentification",
    "ActiveParticipant",
    "AuditSourceIdentification",
    "ParticipantObjectIdentification",
)
"""PS3.15 A.5.1: the elements of an audit message come in this order."""
REQUIRED = {
    "EventIdentification": {"EventDateTime", "EventOutcomeIndicator"},
    "ActiveParticipant": {"UserID", "UserIsRequestor"},
    "AuditSourceIdentification": {"AuditSourceID"},
    "ParticipantObjectIdentification": {"ParticipantObjectID"},
    "EventID": {"csd-code", "codeSystemName", "originalText"},
    "EventTypeCode": {"csd-code", "codeSystemName", "originalText"},
    "RoleIDCode": {"csd-code", "codeSystemName", "originalText"},
    "ParticipantObjectIDTypeCode": {"csd-code", "codeSystemName", "originalText"},
}


class Collector:
    """A syslog server: takes frames of RFC 5425, keeps what was in them; TLS if it has a certificate."""

    def __init__(self, certificate: Path | None, key: Path | None, port: int = 0) -> None:
        self.texts: list[bytes] = []
        self._context = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", port), reuse_port=False)
        self.port = self._listener.getsockname()[1]
        self._lines: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                if self._context is not None:
                    line = self._context.wrap_socket(line, server_side=True)
                self._lines.append(line)
                threading.Thread(target=self._take, args=(line,), daemon=True).start()

    def _take(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            stream = line.makefile("rb")
            while True:
                length = b""
                while (byte := stream.read(1)) not in (b" ", b""):
                    length += byte
                text = stream.read(int(length))
                self.texts.append(text)

    def messages(self) -> list[ElementTree.Element]:
        """Return the XML of what came."""
        return [ElementTree.fromstring(text.partition(b"\xef\xbb\xbf")[2]) for text in list(self.texts)]

    def events(self) -> list[str]:
        """Return the codes of what came."""
        return [root.find("EventIdentification/EventID").get("csd-code", "") for root in self.messages()]  # type: ignore[union-attr]

    def close(self) -> None:
        """End it, and every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()


def check_message(xml: bytes) -> ElementTree.Element:
    """Check what PS3.15 A.5.1 demands of every message."""
    root = ElementTree.fromstring(xml)
    assert root.tag == "AuditMessage"
    places = [ORDER.index(child.tag) for child in root]
    assert places == sorted(places)
    assert {0, 1, 2} <= set(places)
    for element in root.iter():
        assert REQUIRED.get(element.tag, set()) <= set(element.attrib), element.tag
    assert root[0][0].tag == "EventID"
    for each in root.findall("ParticipantObjectIdentification"):
        assert each[0].tag == "ParticipantObjectIDTypeCode"
        assert each[1].tag in ("ParticipantObjectName", "ParticipantObjectQuery")
    return root


@pytest.mark.parametrize("event", KINDS)
def test_every_kind_of_line_becomes_a_message_of_the_standards_form(event: str) -> None:
    line = Line(
        sequence=7,
        time="2026-11-26T05:00:00.000Z",
        event=event,
        outcome="refused",
        ae="CT1",
        address="10.0.0.9",
        user="novák & <syn>",
        detail={"StudyInstanceUID": ["1.2.3", "1.2.4"], "who": "svoboda"},
        previous="0" * 64,
    )
    assert is_told(line)
    root = check_message(message(line, SENDER))
    who = root.findall("ActiveParticipant")
    assert who[0].get("UserID") == "novák & <syn>"
    assert who[0].get("NetworkAccessPointID") == "10.0.0.9"
    assert [each.get("UserIsRequestor") for each in who] == ["true", "false"]
    objects = {each.get("ParticipantObjectID") for each in root.findall("ParticipantObjectIdentification")}
    assert {"1.2.3", "1.2.4"} <= objects
    assert root[0].get("EventOutcomeIndicator") == ("8" if event == "alarm" else "4")


def test_what_is_stored_and_asked_reaches_a_syslog_server_over_tls_and_waits_while_it_is_away(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    made = tmp_path / "syslog.crt", tmp_path / "syslog.key"
    make_certificate(*made, "syslog", ("localhost",), time.time())
    collector = Collector(*made)
    tell = {"syslog": f"tls://localhost:{collector.port}", "syslog_ca_file": str(made[0])}
    with serving(home, tell=tell) as node:
        sent = phantoms(1, instances=2)
        assert set(Peer(node).store(*sent)) == {0}
        Peer(node).find(PatientID="", PatientName="NOBODY*")
        until(lambda: {"110104", "110112"} <= set(collector.events()))
        for root in collector.messages():
            check_message(ElementTree.tostring(root))
        uid = str(attribute(sent[0], "StudyInstanceUID"))
        assert any(uid.encode() in text for text in collector.texts)
        everything = b"".join(collector.texts)
        assert str(attribute(sent[0], "PatientID")).encode() not in everything
        assert b"NOBODY" not in everything
        first = collector.texts[0]
        assert first.startswith(b"<85>1 20")
        assert b" peerpacs - DICOM+RFC3881 - \xef\xbb\xbf<?xml" in first
        collector.close()
        known = len(collector.texts)
        node.audit.record("alarm", None, "catalog", {"what": "away"})
    # The node ended while the server was away; what it could not tell is told by the next run.
    again = Collector(*made, port=collector.port)
    with serving(home):
        until(lambda: "110113" in again.events())
        until(lambda: "110100" in again.events())
    again.close()
    assert known


def test_an_alarm_is_posted_signed_and_again_until_it_is_taken(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("four-plain-orange-words\n")
    taken: list[tuple[str, bytes]] = []

    class Taker(BaseHTTPRequestHandler):
        """Refuses the first, takes the others."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.headers[SIGNATURE], body))
            self.send_response(503 if len(taken) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with _listening(Taker) as port:
        tell = {"webhook": f"http://127.0.0.1:{port}/alarms", "webhook_secret_file": str(secret)}
        with serving(tmp_path / "home", tell=tell) as node:
            node.audit.record("start", None, "ok", {})
            node.audit.record("alarm", None, "disk", {"what": "The disk is full."})
            until(lambda: len(taken) >= 2)
    (_, refused), (signed, body) = taken[:2]
    assert refused == body
    told = json.loads(body)
    assert (told["alarm"], told["what"]) == ("disk", "The disk is full.")
    stamp, _, mac = signed.removeprefix("t=").partition(",v1=")
    expected = hmac.new(b"four-plain-orange-words", f"{stamp}.".encode() + body, hashlib.sha256)
    assert mac == expected.hexdigest()


def test_addresses_that_cannot_be_are_told_at_start(tmp_path: Path) -> None:
    for bad in ("udp://host", "tls://", "tls://host:0", "tls://host:99999", "tls://host/path", "host:6514"):
        with pytest.raises(BadRequest):
            parse_target(bad)
    assert parse_target("tls://[::1]") == ("tls", "::1", 6514)
    with pytest.raises(BadRequest, match="secret"), serving(tmp_path / "home", tell={"webhook": "http://x/"}):
        pass


@contextlib.contextmanager
def _listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", free_port()), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
