"""A PACS that has only a port for TLS is measured too, and what is wrong with a handshake is said."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from node.certificates import make_certificate
from sim.experiments import command
from sim.experiments.catalogue import carry_out
from sim.experiments.outcome import Plan
from sim.pdu import Address
from sim.phantoms import instances, study
from sim.ports import free_port
from sim.secure import Secure
from sim.servers import Orthanc, StoreSCP, answers_echo, dcmtk_program
from sim.targets import Target
from tests.homes import serving
from tests.node.dimse.keys import Pair

PLAN: Final = Plan(share=0.003, pause=0.0)
NOT_PLAIN: Final = re.compile(r"without TLS\?|Say --tls")
"""What is said of a port for TLS that was called without."""
_DAY: Final = 86_400.0


def quiet(line: str) -> None:
    """Say nothing."""


@dataclass
class Site:
    """Our node with a plain port, one for TLS, and one for TLS to which a certificate must be shown."""

    plain: Target
    tls: Target
    strict: Target
    server: Pair
    client: Pair


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    server, client = Pair(folder, "server"), Pair(folder, "client")
    files: dict[str, object] = {"certificate_file": str(server.certificate), "key_file": str(server.key)}
    strict = files | {"client_certificates": "required", "authorities_file": str(client.certificate)}
    with (
        serving(folder / "one", tls=files | {"port": free_port()}) as one,
        serving(folder / "two", tls=strict | {"port": free_port()}) as two,
    ):
        plain = Target(name="plain", address=Address("ALPHA", one.ports["dicom"]), timeout=20.0)
        tls = replace(plain, name="tls", address=Address("ALPHA", one.ports["tls"]))
        wants = replace(plain, name="strict", address=Address("ALPHA", two.ports["tls"]))
        trusts = Secure(server.certificate)
        yield Site(plain, replace(tls, secure=trusts), replace(wants, secure=trusts), server, client)


@pytest.mark.parametrize("name", ["fig8", "fig9", "find", "store", "get"])
def test_an_experiment_is_complete_over_tls(name: str, site: Site) -> None:
    outcome = carry_out(name, site.tls, PLAN, quiet)
    assert (outcome.stopped, outcome.done) == ("", outcome.of)


def test_the_command_measures_a_pacs_that_wants_to_know_who_calls(site: Site, tmp_path: Path) -> None:
    words = ["get", f"--target={site.strict.address}", "--share=0.003", "--tls", f"--out={tmp_path}"]
    words += [f"--tls-ca={site.server.certificate}"]
    own = [f"--tls-cert={site.client.certificate}", f"--tls-key={site.client.key}"]
    without = CliRunner().invoke(command.main, words)
    given = CliRunner().invoke(command.main, [*words, *own])
    assert without.exit_code == 3
    assert "give a certificate that it trusts: --tls-cert and --tls-key" in " ".join(without.output.split())
    assert given.exit_code == 0, given.output
    other = CliRunner().invoke(
        command.main, [*words, f"--tls-cert={site.server.certificate}", f"--tls-key={site.server.key}"]
    )
    assert "It does not accept our certificate" in " ".join(other.output.split())


def stopped(target: Target) -> str:
    return carry_out("get", target, PLAN, quiet).stopped


def test_what_is_wrong_with_a_certificate_is_said_and_what_to_do(site: Site, tmp_path: Path) -> None:
    assert "Name the CA that signed it, or the certificate itself" in stopped(
        replace(site.tls, secure=Secure(site.client.certificate))
    )
    assert "Name the CA that signed it" in stopped(replace(site.tls, secure=Secure()))
    old, key = tmp_path / "old.crt", tmp_path / "old.key"
    make_certificate(old, key, "old", ("localhost", "127.0.0.1"), time.time() - 800 * _DAY)
    tls = {"certificate_file": str(old), "key_file": str(key), "port": free_port()}
    with serving(tmp_path / "home", tls=tls) as node:
        there = replace(site.tls, address=Address("ALPHA", node.ports["tls"]))
        assert "the PACS needs a new certificate" in stopped(replace(there, secure=Secure(old)))


def test_the_name_in_a_certificate_counts_unless_it_is_trusted_itself(site: Site, tmp_path: Path) -> None:
    authority, signed = tmp_path / "ca.crt", tmp_path / "named"
    key = sign(authority, signed, "pacs.example")
    tls = {"certificate_file": str(signed), "key_file": str(key), "port": free_port()}
    with serving(tmp_path / "home", tls=tls) as node:
        there = replace(site.tls, address=Address("ALPHA", node.ports["tls"]))
        other = stopped(replace(there, secure=Secure(authority)))
        assert "Its certificate is for pacs.example, and not for 127.0.0.1" in other
        replace(there, secure=Secure(signed)).check()
    key = sign(authority, tmp_path / "right", "127.0.0.1")
    tls = {"certificate_file": str(tmp_path / "right"), "key_file": str(key), "port": free_port()}
    with serving(tmp_path / "other", tls=tls) as node:
        Target(name="a", address=Address("ALPHA", node.ports["tls"]), secure=Secure(authority)).check()


def sign(authority: Path, certificate: Path, host: str) -> Path:
    """Make a CA if there is none, and have it sign a certificate for a host; return its key."""

    def openssl(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    ca_key, key = authority.with_suffix(".key"), certificate.with_suffix(".key")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")
    if not authority.exists():
        openssl(*new, "-subj", "/CN=ca", "-keyout", ca_key, "-out", authority)
    name = f"subjectAltName={'IP' if host[0].isdigit() else 'DNS'}:{host}"
    names = ("-subj", "/CN=x", "-addext", name, "-addext", "basicConstraints=CA:FALSE")
    openssl(*new, *names, "-CA", authority, "-CAkey", ca_key, "-keyout", key, "-out", certificate)
    return key


def test_a_port_without_tls_and_one_with_it_are_told_apart(site: Site, tmp_path: Path) -> None:
    sink = StoreSCP(tmp_path / "sink", Address("SINK", free_port()))
    sink.start()
    try:
        dcmtk = Target(name="dcmtk", address=sink.address, timeout=20.0)
        for plain in (site.plain, dcmtk):
            assert "leave --tls and its like out" in stopped(replace(plain, secure=site.tls.secure))
    finally:
        sink.stop()
    assert NOT_PLAIN.search(stopped(replace(site.tls, secure=None)))


class SecureStoreSCP(StoreSCP):
    """DCMTK's storescp behind TLS, which wants to see a certificate that it trusts."""

    def __init__(self, folder: Path, address: Address, own: Pair, trusted: Pair) -> None:
        super().__init__(folder, address)
        self.secure = Secure(own.certificate, (trusted.certificate, trusted.key))
        self._tls = ["+tls", str(own.key), str(own.certificate), "+cf", str(trusted.certificate)]

    def command(self) -> list[str]:
        return [dcmtk_program("storescp"), *self._tls, *super().command()[1:]]

    def is_ready(self) -> bool:
        return answers_echo(self.address, self.secure)


def test_dcmtk_takes_studies_over_tls_from_whom_it_trusts(tmp_path: Path) -> None:
    own, trusted = Pair(tmp_path, "own"), Pair(tmp_path, "trusted")
    sink = SecureStoreSCP(tmp_path / "sink", Address("SINK", free_port()), own, trusted)
    sink.start()
    try:
        target = Target(name="dcmtk", address=sink.address, secure=sink.secure, timeout=20.0)
        target.check()
        made = list(instances(study(1, 1, instances=3, size=524_288)))
        assert len(list(target.store(made))) == 3
        assert sink.received() == 3
        unknown = replace(target, secure=Secure(own.certificate))
        plain = replace(target, secure=None)
        assert "--tls-cert" in stopped(unknown)
        assert NOT_PLAIN.search(stopped(plain))
    finally:
        sink.stop()


class SecureOrthanc(Orthanc):
    """Orthanc whose port for DICOM speaks TLS alone."""

    def __init__(self, folder: Path, destination: Address, own: Pair) -> None:
        self._own = own
        super().__init__(folder, destination)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(self._own.certificate),
            "DicomTlsPrivateKey": str(self._own.key),
            "DicomTlsTrustedCertificates": str(self._own.certificate),
            "DicomTlsRemoteCertificateRequired": False,
            "DicomModalities": {"SECURE": self._receiver("SECURE"), "PLAIN": self._receiver("PLAIN")},
        }

    def _receiver(self, ae_title: str) -> dict[str, Any]:
        where = {"AET": ae_title, "Host": "127.0.0.1", "Port": self._destination.port}
        return where | {"UseDicomTls": ae_title == "SECURE"}

    def is_ready(self) -> bool:
        return answers_echo(self.address, Secure(self._own.certificate))


def test_orthanc_with_tls_alone_is_measured_and_moves_to_us_with_tls_and_without(tmp_path: Path) -> None:
    own, port = Pair(tmp_path, "own"), free_port()
    orthanc = SecureOrthanc(tmp_path / "orthanc", Address("SECURE", port), own)
    orthanc.start()
    try:
        target = Target(name="Orthanc", address=orthanc.address, secure=Secure(own.certificate))
        for name in ("find", "get"):
            outcome = carry_out(name, target, PLAN, quiet)
            assert (outcome.stopped, outcome.done) == ("", outcome.of)
        assert NOT_PLAIN.search(stopped(replace(target, secure=None)))
        words = ["move", f"--target={orthanc.address}", f"--tls-ca={own.certificate}", "--share=0.003"]
        words += [f"--tls-cert={own.certificate}", f"--tls-key={own.key}"]
        for title, more in (("SECURE", ["--destination-tls"]), ("PLAIN", [])):
            there = [f"--destination={title}@{port}", f"--out={tmp_path / title}"]
            result = CliRunner().invoke(command.main, [*words, *there, *more])
            assert result.exit_code == 0, result.output
    finally:
        orthanc.stop()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--destination-tls"], "needs a certificate to show"),
        (["--tls-key=KEY"], "A key needs its certificate"),
        (["--tls-ca=KEY"], "has no certificate as PEM"),
        (["--tls-cert=CRT"], "are no certificate and key as PEM"),
        (["--tls-cert=CRT", "--tls-key=OTHER"], "is not the key of"),
    ],
)
def test_files_that_do_not_fit_are_refused_before_anything_is_measured(
    words: list[str], said: str, tmp_path: Path
) -> None:
    one, other = Pair(tmp_path, "one"), Pair(tmp_path, "other")
    files = {"KEY": one.key, "CRT": one.certificate, "OTHER": other.key}
    given = [word.replace(f"={name}", f"={files[name]}") for word in words for name in files if name in word]
    given += [word for word in words if "=" not in word]
    result = CliRunner().invoke(command.main, ["get", "--target=A@b:1", *given, f"--out={tmp_path / 'out'}"])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
