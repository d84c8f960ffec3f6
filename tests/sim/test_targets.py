"""What a target only says that it did is no figure; who must be known or trusted can be named."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from click import UsageError
from click.testing import CliRunner

from node.certificates import make_certificate
from sim.experiments import addressing, command, results
from sim.experiments.catalogue import EXPERIMENTS, carry_out
from sim.experiments.outcome import Outcome, Plan, Say
from sim.experiments.paper import DcmQRSCP
from sim.experiments.retrieving import refuse_part
from sim.pdu import Address, ProtocolError
from sim.phantoms import Instance, study
from sim.ports import free_port
from sim.servers import StoreSCP, wait
from sim.targets import Fetched, Finder, Stored, Target
from tests.homes import serving

LOADED = Plan(share=0.01, pause=0.0, is_loaded=True)


def quiet(line: str) -> None:
    """Say nothing."""


class Answering(BaseHTTPRequestHandler):
    """Answers who is known by `secret`, and closes without a word; a study is a page to log in."""

    protocol_version = "HTTP/1.1"
    secret = ""

    def do_GET(self) -> None:
        is_known = self.headers.get("Authorization", "") == self.secret
        is_study = "/studies/" in self.path
        kind, body = ("text/html", b"Log in" * 100) if is_study else ("application/json", b"[]")
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def web(secret: str = "", tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Yield the root of a web server that knows one secret."""
    known = type("Knowing", (Answering,), {"secret": secret})
    with ThreadingHTTPServer(("127.0.0.1", 0), known) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://localhost:{server.server_port}/dicom-web"
        finally:
            server.shutdown()
            thread.join()


def test_a_study_that_is_not_there_is_no_figure_at_an_archive_that_calls_it_a_success(tmp_path: Path) -> None:
    sink = StoreSCP(tmp_path / "sink", Address("SINK", free_port()))
    archive = DcmQRSCP(tmp_path / "archive", sink.address)
    sink.start()
    archive.start()
    try:
        target = Target(name="dcmqrscp", address=archive.address, destination=sink.address, timeout=5.0)
        got, moved = (carry_out(name, target, LOADED, quiet) for name in ("get", "move"))
    finally:
        archive.stop()
        sink.stop()
    assert "C-GET ended well and brought nothing" in got.stopped
    assert "C-MOVE" in moved.stopped
    assert (got.summary, moved.summary) == ({}, {})


def test_what_was_moved_to_somebody_else_is_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Moved:
        name, title, paper = "move", "C-MOVE", ""

        def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
            outcome.way, outcome.done, outcome.summary = "C-MOVE", 5, {"instances/s": 1000.0}

    monkeypatch.setitem(EXPERIMENTS, "move", Moved())
    words = ["move", f"--target=A@{free_port()}", f"--destination=SINK@{free_port()}", f"--out={tmp_path}"]
    result = CliRunner().invoke(command.main, words)
    assert result.exit_code == 3
    assert "nothing came to us" in " ".join(result.output.split())
    assert "1000" not in result.output


def test_a_connection_that_the_server_closed_in_between_is_made_anew() -> None:
    with web() as root, Target(name="pacs", web=root).client() as client:
        answers = []
        for _ in range(3):
            answers.append(client.read("/studies?limit=1"))
            wait(client._was_closed)
    assert answers == [b"[]"] * 3


def test_who_takes_no_request_for_commitment_is_told_of_with_what_to_look_for(tmp_path: Path) -> None:
    archive = DcmQRSCP(tmp_path / "archive", Address("SINK", free_port()))
    archive.start()
    try:
        there = archive.address
        target = Target(name="dcmqrscp", address=there, elsewhere=there, timeout=20.0, loaders=1)
        outcome = carry_out("replicate", target, Plan(share=0.001), quiet)
    finally:
        archive.stop()
    assert "It took no request for Storage Commitment: DCMQRSCP accepted none of" in outcome.stopped
    assert "whether it offers that to BENCHSCU" in outcome.stopped


class Watched(Target):
    """A target that counts who asks it while it is loaded."""

    asking: ClassVar[list[str]] = []
    asked_meanwhile: ClassVar[int] = 0

    @contextmanager
    def finder(self, is_relational: bool = False) -> Iterator[Finder]:
        with super().finder(is_relational) as finder:
            self.asking.append(self.name)
            try:
                yield finder
            finally:
                self.asking.pop()

    def store(self, instances: Sequence[Instance], calling: str = "") -> Iterator[Stored]:
        if threading.current_thread() is not threading.main_thread():
            Watched.asked_meanwhile += len(self.asking)
        yield from super().store(instances, calling)


@pytest.mark.parametrize("name", ["sync", "replicate"])
def test_nobody_keeps_an_association_that_says_nothing_while_a_target_is_loaded(
    name: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "home") as node:
        address = Address("ALPHA", node.ports["dicom"])
        target = Watched(name="watched", address=address, elsewhere=address)
        outcome = carry_out(name, target, Plan(share=0.001), quiet)
    assert (outcome.stopped, Watched.asked_meanwhile) == ("", 0)


def test_a_part_of_a_study_is_no_figure() -> None:
    made = study(1, 1, series=2, instances=4, size=518 * 1024)
    for whole in (Fetched(8, 0, 0.1), Fetched(0, 8 * 300_000, 0.1), Fetched(0, 0, 0.1)):
        refuse_part(whole, made)
    for part, said in ((Fetched(7, 0, 0.1), "7 instances"), (Fetched(0, 530_000, 0.1), "530000 bytes")):
        with pytest.raises(ProtocolError, match=f"{said} came of a study of"):
            refuse_part(part, made)


def test_a_page_to_log_in_is_no_study() -> None:
    with web() as root:
        outcome = carry_out("wado", Target(name="portal", web=root), LOADED, quiet)
    assert "answered with text/html, not multipart/related" in outcome.stopped
    assert outcome.done == 0


@pytest.mark.parametrize(
    ("option", "words", "secret"),
    [("token", "abc\n", "Bearer abc"), ("password", "eva:se:cret\n", "Basic ZXZhOnNlOmNyZXQ=")],
)
def test_a_token_or_a_password_opens_a_target_and_is_in_no_report(
    option: str, words: str, secret: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(words)
    with web(secret) as root:
        run = ["wado", "--loaded", f"--dicomweb={root}", f"--out={tmp_path / 'out'}"]
        without = CliRunner().invoke(command.main, run)
        given = CliRunner().invoke(command.main, [*run, f"--{option}-file={file}"])
    assert "401" in without.output
    assert "--password-file" in " ".join(without.output.split())
    assert "text/html" in given.output
    told = "".join(each.read_text() for each in (tmp_path / "out").iterdir())
    assert secret.split()[1] not in told + given.output
    assert words.strip() not in told + given.output


def test_a_certificate_is_trusted_when_its_ca_is_named(tmp_path: Path) -> None:
    files = tmp_path / "node.pem", tmp_path / "node.key"
    make_certificate(*files, "pacs", ("localhost",), time.time())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*files)
    with web(tls=tls) as root:
        strange = carry_out("wado", Target(name="pacs", web=root), LOADED, quiet)
        trusted = Target(name="pacs", web=root, tls=addressing.trusting(files[0]))
        trusted.check()
        plain = carry_out("wado", Target(name="pacs", web=root.replace("https", "http")), LOADED, quiet)
    assert "Name the CA that signed it: --ca-file" in strange.stopped
    assert "It closed the connection" in plain.stopped
    with web() as root:
        none = carry_out("wado", Target(name="pacs", web=root.replace("http", "https")), LOADED, quiet)
    assert "does not speak TLS" in none.stopped
    with pytest.raises(UsageError, match="no certificate"):
        addressing.trusting(files[1])


def test_a_run_is_compared_with_earlier_ones_of_the_same_target_whatever_it_is_called(tmp_path: Path) -> None:
    name = "A/B: C"
    bursts = [[1.0, "CT-01", "s1", 1, 1000, "CT", 1, ""]]
    made = [
        Outcome("week", name, summary={"series stored": n}, samples={"bursts": bursts}) for n in (1.0, 2.0)
    ]
    for each, folder in zip(made, ("one", "two"), strict=True):
        results.write(tmp_path / folder, [each], {"date": f"2024-01-0{each.summary['series stored']:.0f}"})
    both = results.earlier([tmp_path / folder / "results.json" for folder in ("one", "two")], [name])
    assert [each.target for each in both] == [f"{name}, 2024-01-01", f"{name}, 2024-01-02"]
    results.write(tmp_path / "three", [*both, Outcome("week", name, summary={"series stored": 3.0})], {})
    html = (tmp_path / "three" / "report.html").read_text()
    assert f"<th>{name}, 2024-01-01</th><th>{name}, 2024-01-02</th><th>{name}</th>" in html
    assert "<td>1</td><td>2</td><td>3</td>" in html
    assert (tmp_path / "one" / "traffic-A_B_C.csv").exists()


def test_what_programs_read_of_a_run_keeps_its_form(tmp_path: Path) -> None:
    results.write(tmp_path, [Outcome("get", "A")], {"date": "2024-01-01"})
    told = json.loads((tmp_path / "results.json").read_text())
    assert list(told) == ["format", "facts", "outcomes"]
    assert told["format"] == 1
    assert list(told["outcomes"][0]) == [
        "experiment", "target", "way", "columns", "rows", "samples", "summary", "notes", "done", "of", "unit",
        "stopped", "seconds",
    ]  # fmt: skip
    for change in ({"format": 2}, {"outcomes": [{"experiment": "fig99", "target": "A"}]}):
        (tmp_path / "results.json").write_text(json.dumps(told | change))
        with pytest.raises(UsageError, match="another version"):
            results.earlier([tmp_path / "results.json"], [])
