"""TLS on its own: versions, suites, certificates, handshakes that do not end, and bytes that are no TLS."""

from __future__ import annotations

import random
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE

from catalog import NotPermitted, Unavailable
from node.dimse import Limits, Requestor, Security
from node.dimse.secure import SecureConnection, TlsLayer
from node.dimse.tls import SUITES, VERSIONS, client_context, fingerprint
from tests.node.dimse import archive
from tests.node.dimse.archive import Node, serving
from tests.node.dimse.keys import Pair
from tests.node.dimse.peers import until
from tests.node.dimse.wire import RELEASE_RQ, VERIFICATION, associate

LOOPBACK = "127.0.0.1"


@contextmanager
def secured(
    context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, limits: Limits | None = None
) -> Iterator[Node]:
    monkeypatch.setattr(archive.Node, "tls", staticmethod(lambda: context))
    with serving(limits) as node:
        yield node


@pytest.fixture
def alpha(own_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    with secured(own_pair.server(), monkeypatch) as node:
        yield node


def s_client(node: Node, *options: str, said: str = "") -> str:
    """Return what `openssl s_client` prints."""
    command = ["openssl", "s_client", "-connect", f"{LOOPBACK}:{node.port}", *options]
    done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def echo(node: Node, context: ssl.SSLContext, pinned: str = "") -> float:
    return Requestor("VIEWER", LOOPBACK, node.port, "ALPHA", security=Security(context, pinned)).echo()


def why(node: Node) -> str:
    """Return why the last connection was turned away."""
    until(lambda: node.book.turned)
    return node.book.turned[-1][1]


def test_the_contexts_offer_the_table_and_nothing_else(own_pair: Pair) -> None:
    for context in (own_pair.server(), own_pair.client()):
        assert {suite["name"] for suite in context.get_ciphers()} == {suite.openssl for suite in SUITES}
        assert (context.minimum_version, context.maximum_version) == VERSIONS
        assert context.options & ssl.OP_NO_COMPRESSION
        assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("suite", [suite for suite in SUITES if "RSA_WITH" not in suite.name])
def test_openssl_agrees_on_each_suite_that_fits_the_certificate(alpha: Node, suite: object) -> None:
    assert_suite(alpha, suite)


def assert_suite(node: Node, suite: object) -> None:
    _, openssl, version = suite  # type: ignore[misc]
    is_13 = version is ssl.TLSVersion.TLSv1_3
    chosen = ["-tls1_3", "-ciphersuites", openssl] if is_13 else ["-tls1_2", "-cipher", openssl]
    assert re.search(rf"Cipher is {openssl}$", s_client(node, *chosen), re.M)


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused_and_the_log_says_why(
    alpha: Node, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = s_client(alpha, version, "-cipher", "DEFAULT@SECLEVEL=0")
    assert "alert protocol version" in said
    assert why(alpha) == "it offers no TLS version above 1.1"
    until(lambda: "allow TLS 1.2 or 1.3 at the device" in caplog.text)


def test_other_suites_are_refused(alpha: Node) -> None:
    assert "alert handshake failure" in s_client(alpha, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA")
    assert "no cipher suite" in why(alpha)


def test_a_client_cannot_renegotiate(alpha: Node) -> None:
    said = s_client(alpha, "-tls1_2", said="R\n")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


@pytest.mark.parametrize("version", VERSIONS)
def test_required_certificates_are_verified(
    version: ssl.TLSVersion, own_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, stranger = Pair(tmp_path, "authority"), Pair(tmp_path, "stranger")
    context = own_pair.server(ssl.CERT_REQUIRED, authority.certificate)
    with secured(context, monkeypatch) as node:
        for own, reason in ((None, "it shows no certificate"), (stranger, "its certificate is not accepted")):
            client = own_pair.client(own)
            client.maximum_version = version
            with pytest.raises(Unavailable):
                echo(node, client)
            until(lambda reason=reason: node.book.turned and node.book.turned[-1][1].startswith(reason))
            assert "tls.authorities_file" in node.book.turned[-1][2]
        client = own_pair.client(authority)
        client.maximum_version = version
        assert echo(node, client) < 5
        assert node.server.counters()["refused"] == 2


def test_optional_certificates_may_be_absent_but_not_bad(
    own_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, stranger = Pair(tmp_path, "authority"), Pair(tmp_path, "stranger")
    with secured(own_pair.server(ssl.CERT_OPTIONAL, authority.certificate), monkeypatch) as node:
        assert echo(node, own_pair.client()) < 5
        assert echo(node, own_pair.client(authority)) < 5
        with pytest.raises(Unavailable):
            echo(node, own_pair.client(stranger))


def test_a_pinned_certificate_is_the_only_one_accepted(alpha: Node, own_pair: Pair) -> None:
    shown = fingerprint(ssl.PEM_cert_to_DER_cert(own_pair.certificate.read_text()))
    assert echo(alpha, client_context(), shown) < 5
    with pytest.raises(NotPermitted, match=shown):
        echo(alpha, client_context(), "0" * 64)


def test_an_unknown_authority_is_refused_by_us_and_the_node_says_what_to_do(
    alpha: Node, tmp_path: Path
) -> None:
    with pytest.raises(NotPermitted, match="self-signed certificate") as refused:
        echo(alpha, Pair(tmp_path, "other").client())
    assert "--tls pin" in refused.value.next
    assert why(alpha) == "it does not trust this node's certificate"


def test_bare_and_half_sent_handshakes_cost_no_thread_and_end_with_artim(
    own_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = TlsLayer(own_pair.client(), server_name=LOOPBACK)
    layer.shake()
    hello = layer.output()
    with secured(own_pair.server(), monkeypatch) as node:
        before = threading.active_count()
        socks = [socket.create_connection((LOOPBACK, node.port)) for _ in range(300)]
        for number, sock in enumerate(socks):
            sock.sendall(hello[: (0, 1, 5, len(hello) - 1, len(hello))[number % 5]])
        until(lambda: node.server.counters()["requested"] == 300)
        assert threading.active_count() <= before
        assert echo(node, own_pair.client()) < 5
        assert node.server.counters()["requested"] == 300
        node.let_artim_expire(monkeypatch)
        until(lambda: node.server.counters()["requested"] == 0)
        for sock in socks:
            sock.close()


def test_a_handshake_may_come_byte_by_byte(alpha: Node, own_pair: Pair) -> None:
    layer = TlsLayer(own_pair.client(), server_name=LOOPBACK)
    with socket.create_connection((LOOPBACK, alpha.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not layer.shake():
            for byte in layer.output():
                sock.sendall(bytes((byte,)))
            layer.feed(sock.recv(65536))
        for byte in layer.output() + layer.encrypt(associate()):
            sock.sendall(bytes((byte,)))
        answer = memoryview(bytearray(4096))
        while layer.decrypt(answer) is None:
            layer.feed(sock.recv(65536))
        assert answer[0] == 2


@pytest.mark.parametrize(
    "hostile", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\0\x46" + b"\xff" * 70]
)
def test_what_is_no_tls_is_turned_away_with_a_sentence(alpha: Node, own_pair: Pair, hostile: bytes) -> None:
    with socket.create_connection((LOOPBACK, alpha.port), 60) as sock:
        sock.sendall(hostile)
        assert why(alpha)
    assert echo(alpha, own_pair.client()) < 5


def test_plain_dicom_on_the_tls_port_is_aborted_and_told(
    alpha: Node, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Unavailable, match="aborted"):
        Requestor("VIEWER", LOOPBACK, alpha.port, "ALPHA").echo()
    until(lambda: "it began DICOM without TLS on the TLS port" in caplog.text)


def test_tls_on_the_plain_port_is_answered_with_an_alert_and_told(
    own_pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as node:
        with pytest.raises(Unavailable, match="refuses the TLS handshake"):
            echo(node, own_pair.client())
        until(lambda: "it began TLS on the port for plain DICOM" in caplog.text)


def test_flipped_and_cut_records_end_one_association_only(alpha: Node, own_pair: Pair) -> None:
    chance = random.Random(7)
    for _ in range(60):
        layer = TlsLayer(own_pair.client(), server_name=LOOPBACK)
        with socket.create_connection((LOOPBACK, alpha.port), 60) as sock:
            while not layer.shake():
                sock.sendall(layer.output())
                layer.feed(sock.recv(65536))
            records = bytearray(layer.output() + layer.encrypt(associate()) + layer.encrypt(RELEASE_RQ))
            records[chance.randrange(len(records))] ^= 1 << chance.randrange(8)
            sock.sendall(records[: chance.randrange(1, len(records) + 1)])
    assert echo(alpha, own_pair.client()) < 5
    until(lambda: alpha.server.counters()["open"] == 0)


def test_the_end_is_said_so_that_nothing_can_be_cut_off(
    own_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secured(own_pair.server(), monkeypatch) as node:
        raw = socket.create_connection((LOOPBACK, node.port), 60)
        with own_pair.client().wrap_socket(raw, server_hostname=LOOPBACK, suppress_ragged_eofs=False) as sock:
            sock.sendall(associate())
            assert sock.recv(4096)[0] == 2
            sock.sendall(RELEASE_RQ)
            assert sock.recv(4096)[0] == 6
            until(lambda: node.server.counters()["ending"] == 1)
            node.let_artim_expire(monkeypatch)
            assert sock.recv(4096) == b""


def test_half_a_record_is_no_input_and_decrypted_bytes_are(own_pair: Pair) -> None:
    ours, theirs = TlsLayer(own_pair.server()), TlsLayer(own_pair.client(), server_name=LOOPBACK)
    while not (ours.is_established and theirs.is_established):
        theirs.shake()
        if records := theirs.output():
            ours.feed(records)
            ours.shake()
            theirs.feed(ours.output())
    with socket.create_server((LOOPBACK, 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        connection = SecureConnection(listener.accept()[0], 5, ours)
    record = theirs.encrypt(b"x" * 12000)
    far.sendall(record[:7000])
    assert not connection.has_input(0.1)
    far.sendall(record[7000:])
    assert connection.has_input(5)
    assert connection.read(12) == b"x" * 12
    assert connection.has_input()
    connection.skip(11988)
    assert not connection.has_input()
    far.sendall(theirs.farewell())
    assert connection.has_input(5)
    far.close()
    connection.close()


def test_pynetdicom_speaks_to_us_and_we_to_it_over_tls(alpha: Node, own_pair: Pair) -> None:
    ae = AE("PYNETDICOM")
    ae.add_requested_context(VERIFICATION)
    ae.add_supported_context(VERIFICATION)
    association = ae.associate(LOOPBACK, alpha.port, ae_title="ALPHA", tls_args=(own_pair.client(), LOOPBACK))
    assert association.is_established
    assert association.send_c_echo().Status == 0
    association.release()
    server = ae.start_server((LOOPBACK, 0), block=False, ssl_context=own_pair.server())
    try:
        port = server.server_address[1]
        security = Security(own_pair.client())
        assert Requestor("OURS", LOOPBACK, port, "PYNETDICOM", security=security).echo() < 5
    finally:
        server.shutdown()


def test_a_stopping_node_aborts_what_idles_over_tls(own_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with secured(own_pair.server(), monkeypatch) as node:
        raw = socket.create_connection((LOOPBACK, node.port), 60)
        with own_pair.client().wrap_socket(raw, server_hostname=LOOPBACK) as sock:
            sock.sendall(associate())
            assert sock.recv(4096)[0] == 2
            started = time.monotonic()
            node.server.stop(5.0)
            assert sock.recv(4096)[0] == 7
            assert time.monotonic() - started < 3


def test_the_audit_says_how_an_association_was_protected(alpha: Node, own_pair: Pair) -> None:
    echo(alpha, own_pair.client())
    until(lambda: alpha.trail.of("association"))
    assert alpha.trail.of("association")[0][1]["security"].startswith("TLSv1.3 TLS_AES_")


def test_a_port_may_be_opened_while_others_serve(own_pair: Pair) -> None:
    with serving() as node:
        context = own_pair.server()
        node.port = node.server.listen(LOOPBACK, 0, tls=lambda: context)
        assert echo(node, own_pair.client()) < 5
