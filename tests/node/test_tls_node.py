"""A whole node with TLS, as its administrator and its devices meet it."""

from __future__ import annotations

import re
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from node.certificates import LASTS, describe, make_certificate
from sim.ports import free_port
from tests.node.dimse.keys import Pair
from tests.running import RunningNode, dcmtk, until

CT = str(get_testdata_file("CT_small.dcm"))
CT_STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"
STUDY = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={CT_STUDY}"]


class TlsNode(RunningNode):
    """A node with a TLS port, and what its devices need to call it."""

    def __init__(self, home: Path, ae_title: str = "ALPHA") -> None:
        self.tls_port = free_port()
        super().__init__(home, ae_title, "--tls-port", str(self.tls_port))
        self.certificate = home / "tls" / "node.crt"
        self.key = home / "tls" / "node.key"
        self.address = ("127.0.0.1", str(self.tls_port))
        self.trust = ("+cf", str(self.certificate))

    def shown(self) -> str:
        """Return the certificate that its port shows, PEM."""
        return ssl.get_server_certificate(("127.0.0.1", self.tls_port))


@pytest.fixture
def alpha(tmp_path: Path) -> Iterator[TlsNode]:
    node = TlsNode(tmp_path / "alpha")
    node.start()
    yield node
    if node.process is not None:
        node.stop()


def test_init_makes_a_certificate_of_this_machine_with_a_key_that_only_the_node_reads(tmp_path: Path) -> None:
    node = TlsNode(tmp_path)
    made = describe(node.certificate)
    assert {"localhost", "127.0.0.1"} <= set(made.names)
    assert LASTS - 1 < (made.ends - time.time()) / 86400 <= LASTS
    assert stat.S_IMODE(node.key.stat().st_mode) == 0o600
    assert "id-ecPublicKey" in subprocess.run(
        ["openssl", "x509", "-in", str(node.certificate), "-noout", "-text"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_dcmtk_stores_and_finds_over_tls_and_its_images_move_to_a_tls_port(
    alpha: TlsNode, tmp_path: Path
) -> None:
    own = Pair(tmp_path, "reader")
    call = ("+tla", *alpha.trust, "-aec", "ALPHA", *alpha.address)
    assert "Success" in dcmtk("echoscu", "-v", *call)
    dcmtk("storescu", *call, CT)
    assert CT_STUDY in dcmtk("findscu", "-v", "-S", *STUDY, *call)
    port = free_port()
    reader = ["--address", "127.0.0.1", "--port", str(port), "--services", "echo"]
    shown = ["+tls", str(own.key), str(own.certificate), *alpha.trust]
    with subprocess.Popen(["storescp", *shown, "-od", str(tmp_path), "-aet", "READER", str(port)]) as server:
        until(lambda: "Success" in dcmtk("echoscu", "-v", "+tls", str(alpha.key), str(alpha.certificate),
              "+cf", str(own.certificate), "127.0.0.1", str(port), exit_code=None))  # fmt: skip
        alpha.cli("devices", "add", "READER", *reader, "--tls", "pin")
        assert "answered" in alpha.cli("devices", "echo", "READER")
        move = ["-aec", "ALPHA", "-aem", "READER", *STUDY]
        assert "1 instance" in alpha.cli("move", *move, *alpha.trust, *alpha.address)
        server.terminate()
    received = [pydicom.dcmread(path) for path in tmp_path.glob("CT.*")]
    assert [one.StudyInstanceUID for one in received] == [CT_STUDY]


def test_our_commands_speak_tls_in_dcmtks_manner(alpha: TlsNode, tmp_path: Path) -> None:
    call = (*alpha.trust, "-aec", "ALPHA", *alpha.address)
    assert "answered" in alpha.cli("echo", *call)
    assert "1 instance sent" in alpha.cli("send", *call, CT)
    assert CT_STUDY in alpha.cli("find", *STUDY, "--json", *call)
    alpha.cli("get", *STUDY, "-od", str(tmp_path), *call)
    assert len(list(tmp_path.glob("*.dcm"))) == 1
    assert "answered" in alpha.cli("echo", "-ic", *call)
    assert "answered" in alpha.cli("echo", "ALPHA", *alpha.trust)
    alpha.cli("echo", "--tls", "-aec", "ALPHA", *alpha.address, exit_code=2)


def test_a_changed_certificate_counts_at_once_and_a_broken_one_is_told_once(
    alpha: TlsNode, tmp_path: Path
) -> None:
    before = alpha.shown()
    Pair(tmp_path, "new")
    (tmp_path / "new.key").rename(alpha.key)
    assert alpha.shown() == before
    (tmp_path / "new.crt").rename(alpha.certificate)
    after = alpha.shown()
    assert after != before
    assert after == alpha.certificate.read_text()
    alpha.certificate.write_text("no certificate")
    for _ in range(3):
        assert alpha.shown() == after
    assert "New TLS files are not in use" in alpha.cli("status")
    assert alpha.log().count("TLS goes on with the ones from before") == 2
    assert "node.crt" in alpha.cli("check", exit_code=1)


def test_a_client_without_the_certificate_it_needs_is_refused_and_status_says_what_to_do(
    tmp_path: Path,
) -> None:
    node, modality = TlsNode(tmp_path / "alpha"), Pair(tmp_path, "modality")
    node.start(PEERPACS__TLS__CLIENT_CERTIFICATES="required",
               PEERPACS__TLS__AUTHORITIES_FILE=str(modality.certificate))  # fmt: skip
    try:
        call = (*node.trust, "-aec", "ALPHA", *node.address)
        dcmtk("echoscu", "+tla", *call, exit_code=1)
        dcmtk("echoscu", "+tls", str(modality.key), str(modality.certificate), *call)
        status = node.cli("status")
        assert "127.0.0.1: it shows no certificate." in status
        assert "give the device a certificate of an authority in tls.authorities_file" in status
    finally:
        node.stop()


def test_required_certificates_without_an_authority_are_refused_at_the_start(tmp_path: Path) -> None:
    node = TlsNode(tmp_path)
    with pytest.raises(AssertionError, match=r"authorities.crt is missing"):
        node.start(PEERPACS__TLS__CLIENT_CERTIFICATES="required")
    assert node.process is not None
    node.process.wait(60)
    assert node.process.stdout is not None
    node.process.stdout.close()


@pytest.mark.parametrize(("age", "says", "code"), [(LASTS - 10, "ends on", 0), (LASTS + 1, "ended on", 1)])
def test_status_and_check_warn_before_the_certificate_ends(
    tmp_path: Path, age: int, says: str, code: int
) -> None:
    node = TlsNode(tmp_path)
    node.certificate.unlink()
    node.key.unlink()
    make_certificate(node.certificate, node.key, "alpha", ("localhost",), time.time() - age * 86400)
    assert f"The TLS certificate {says}" in node.cli("status", exit_code=1)
    assert re.search(rf"[!✗] the TLS certificate .* {says}", node.cli("check", exit_code=code))
