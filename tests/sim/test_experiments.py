"""The experiments measure any PACS by DICOM alone, and tell how far they came when it refuses or dies."""

from __future__ import annotations

import json
import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from node.cli import main
from node.control import ask
from sim.drawing import Scale
from sim.experiments import chapter, command, figures, findings, paper, results
from sim.experiments.catalogue import EXPERIMENTS, carry_out
from sim.experiments.comparison import page
from sim.experiments.curve import Curve
from sim.experiments.outcome import Outcome, Plan
from sim.filling import grow
from sim.grids import pair
from sim.pdu import Address
from sim.phantoms import Instance
from sim.plays.actors import ALL
from sim.ports import free_port
from sim.servers import PeerPACS, StoreSCP, wait
from sim.targets import Stored, Target
from sim.web import WebOrthanc
from tests.homes import serving
from tests.running import running

from .listening import listening

PLAN = Plan(share=0.004, pause=0.01)


def quiet(line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("ours")
    with serving(folder / "home", web={"plain_port": free_port()}) as node:
        address = Address("ALPHA", node.ports["dicom"])
        web = f"http://127.0.0.1:{node.ports['web']}/dicom-web"
        # A site has at once what it took itself.
        yield Target(name="ours", address=address, web=web, elsewhere=address)


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in ("move", "week", "table4")])
def test_an_experiment_is_complete_on_our_node(name: str, ours: Target) -> None:
    outcome = carry_out(name, ours, PLAN, quiet)
    assert outcome.stopped == ""
    assert outcome.done == outcome.of > 0
    assert outcome.summary
    assert all(len(row) == len(outcome.columns) for row in outcome.rows)


def test_a_target_with_dicomweb_alone_is_measured_too(ours: Target) -> None:
    web = replace(ours, address=None)
    for name in ("fig9", "wado"):
        outcome = carry_out(name, web, Plan(share=0.003, seed=2, pause=0.01), quiet)
        assert (outcome.stopped, outcome.way) == ("", "WADO-RS")


@pytest.mark.slow
def test_a_filled_archive_is_asked_while_it_grows(tmp_path: Path) -> None:
    server = PeerPACS(tmp_path / "server", Address("SINK", free_port()))
    try:
        server.start()
        target = Target(name="ours", address=server.address)
        outcome = carry_out(Curve(partial(grow, server)), target, Plan(share=0.01), quiet)
    finally:
        server.stop()
    assert outcome.stopped == ""
    assert [row[0] for row in outcome.rows] == [1000] * 7 + [10_000] * 7
    assert "10 000" in figures.draw([outcome])["curve"]
    assert "largest to smallest: patient ID" in outcome.summary


@pytest.mark.slow
def test_another_site_finds_what_the_target_took(tmp_path: Path) -> None:
    sites = pair(tmp_path / "sites", Address("SINK", free_port()))
    try:
        sites.start()
        [owner] = sites.others
        target = Target(name="owner", address=owner.address, elsewhere=sites.first.grid)
        found = carry_out("sync", target, Plan(share=0.01), quiet)
        again = carry_out("sync", target, Plan(share=0.01), quiet)
    finally:
        sites.stop()
    assert (found.stopped, found.done) == ("", 220)
    assert found.summary["found elsewhere, median ms"] > 0
    assert "Use another --seed" in again.stopped


@pytest.mark.slow
def test_the_target_commits_when_another_site_that_may_keep_copies_has_them(tmp_path: Path) -> None:
    sites = pair(tmp_path / "sites", Address("SINK", free_port()))
    try:
        sites.start()
        [owner] = sites.others
        owner.say("copies", "add", "all", "--copies", "2", "--min-sites", "2", "--commit-sites", "2")
        target = Target(name="owner", address=owner.address, elsewhere=sites.first.grid)
        # What the other site lets the target keep is another matter.
        sites.first.say("grants", "add", owner.called, "everything", *ALL, "host_replicas")
        waiting = carry_out("replicate", replace(target, timeout=5.0), Plan(share=0.01), quiet)
        before = kept_for_others(sites.first.home)
        owner.say("grants", "add", sites.first.called, "everything", *ALL, "host_replicas")
        kept = carry_out("replicate", target, Plan(share=0.05, seed=2), quiet)
        wait(lambda: kept_for_others(sites.first.home) == 8 * 16)
    finally:
        sites.stop()
    assert "copies lacking says why not" in waiting.stopped
    assert (waiting.done, before) == (0, 0)
    assert (kept.stopped, kept.done, kept.of) == ("", 6, 6)
    assert kept.summary["committed so long after the last was stored, s"] > 0


def kept_for_others(home: Path) -> int:
    """Return how many objects a node keeps for other owners."""
    return int(ask(home, "copies")["kept_for_others"]["objects"])


def test_orthanc_is_measured_with_the_same_words(tmp_path: Path) -> None:
    sink = StoreSCP(tmp_path / "sink", Address("STORESCP", free_port()))
    orthanc = WebOrthanc(tmp_path / "orthanc", sink.address)
    sink.start()
    orthanc.start()
    try:
        web = f"http://127.0.0.1:{orthanc.web_port}/dicom-web"
        target = Target(name="Orthanc", address=orthanc.address, web=web, destination=sink.address)
        for name in ("fig8", "fig9", "move"):
            outcome = carry_out(name, target, PLAN, quiet)
            assert outcome.stopped == ""
            assert outcome.done == outcome.of
    finally:
        orthanc.stop()
        sink.stop()


class Noting(Target):
    """A target that only notes what it is sent, and then cannot be asked."""

    sent: ClassVar[list[str]] = []

    def store(self, instances: Sequence[Instance], calling: str = "") -> Iterator[Stored]:
        for each in instances:
            self.sent.append(sha256(each.part10()).hexdigest())
            yield Stored(each.SOPInstanceUID, each.size, 0.0)


def test_the_same_seed_sends_the_same_bytes() -> None:
    def sent(seed: int) -> list[str]:
        Noting.sent = []
        for name in ("fig8", "fig9", "fig10"):
            carry_out(name, Noting(name="noting"), Plan(share=0.002, seed=seed), quiet)
        return sorted(Noting.sent)

    once, again, other = sent(1), sent(1), sent(2)
    assert once == again
    assert len(once) > 400
    assert not set(once) & set(other)


@contextmanager
def recording() -> Iterator[tuple[Target, list[bytes]]]:
    """A listener that notes what comes first and closes: it dies in the middle of the first association."""
    received: list[bytes] = []
    with listening(lambda connection: received.append(connection.recv(65536))) as port:
        yield Target(name="hurt", address=Address("HURT", port), timeout=0.5), received


def test_a_target_that_refuses_hangs_or_dies_is_told_of(ours: Target) -> None:
    gone = Target(name="gone", address=Address("GONE", free_port()))
    assert "nobody listens there" in carry_out("get", gone, PLAN, quiet).stopped
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        hanging = replace(gone, address=Address("DEAF", deaf.getsockname()[1]), timeout=0.3)
        assert "did not answer in time" in carry_out("get", hanging, PLAN, quiet).stopped
    with recording() as (dying, _):
        assert "closed the connection" in carry_out("find", dying, PLAN, quiet).stopped
    stranger = replace(ours, web="", calling="NOBODY", address=Address("WRONG", ours.address.port))  # type: ignore[union-attr]
    assert "rejected" in carry_out("find", stranger, PLAN, quiet).stopped


def test_what_was_measured_before_the_end_is_in_the_report(tmp_path: Path) -> None:
    with running(tmp_path / "home") as node:

        def kill(line: str) -> None:
            if "2 workers:" in line:
                node.kill()

        target = Target(name="mortal", address=Address("ALPHA", node.port))
        outcome = carry_out("fig10", target, Plan(share=0.004), kill)
    assert 160 <= outcome.done < outcome.of
    assert [row[0] for row in outcome.rows] == [1, 2]
    html = page([outcome], {})
    assert f"not complete, {outcome.done} of 400 studies done. It " in html


def outcomes() -> list[Outcome]:
    made = []
    for target in ("A & B", "Orthanc"):
        samples = {
            "fig8": {"days": [[0.1, 0.2]] * 7},
            "fig9": {"sizes": [1000, 200_000], "passes": [[0.1, 0.01], [0.02]]},
            "fig10": {"workers": {"1": [2.0], "8": [0.5, 0.6, 0.4]}},
            "table4": {"threads": {"4": [(2, 90.0), (4, 95.0)]}},
            "curve": {"archives": {"1000": {"a": [0.2, 0.3]}, "10000": {"a": [0.3], "b": [0.4]}}},
            "week": {
                "bursts": [(3600.0 * n, f"CT-0{n}", "s", 1, 10 ** (n + 4), "CT", 1, "") for n in range(4)]
            },
        }
        made += [
            Outcome(name, target, samples=each, summary={"x": 1.5}, columns=("a",), rows=[(1.0,)])
            for name, each in samples.items()
        ]
    return made


def test_figures_6_to_10_are_drawn_as_svg_for_several_targets() -> None:
    drawn = figures.draw(outcomes())
    assert {name.partition("-")[0] for name in drawn} == {
        "figure6", "figure7", "figure8", "figure9", "figure10", "table4", "curve",
    }  # fmt: skip
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert len(list(root)) > 10
    assert "A &amp; B" in drawn["figure10"]


def test_an_axis_has_more_than_one_number_however_near_its_ends_are() -> None:
    for low, high in ((1100.0, 4500.0), (1.0, 1e6), (3.0, 3.5)):
        assert len(Scale(low, high, 0, 100, is_log=True).ticks()) > 1


def test_whose_times_were_all_alike_is_told_by_the_colour_of_a_box_in_figure_10() -> None:
    alike = [Outcome("fig10", name, samples={"workers": {"1": [2.0]}}) for name in ("A", "B")]
    root = ElementTree.fromstring(figures.draw(alike)["figure10"])
    boxes = [each for each in root.iter() if each.tag.endswith("rect") and each.get("width") == "18.00"]
    assert [each.get("fill") for each in boxes] == ["#0072b2", "#e69f00"]
    assert all(float(each.get("height", "0")) > 4 for each in boxes)


def test_a_page_gets_the_papers_figures_beside_ours_in_the_place_of_an_earlier_session(
    tmp_path: Path,
) -> None:
    of_fig8 = [each for each in outcomes() if each.experiment == "fig8"]
    for each in of_fig8:
        each.summary = {"mean, s": 0.0123}
    of_fig8[1].stopped = "It refused the connection: nobody listens there."
    file = tmp_path / "benchmark.md"
    file.write_text("# What was measured\n\nBefore.\n")
    chapter.write(file, of_fig8, {"runs": 1, "machine": "one core"}, {"fig8": 0.5})
    file.write_text(file.read_text() + "\n## After\n")
    chapter.write(file, of_fig8, {"runs": 3, "machine": "two cores"}, {"fig8": 0.5})
    text = file.read_text()
    assert text.startswith("# What was measured\n\nBefore.\n\n")
    assert text.endswith("\n## After\n")
    assert (text.count("- machine: two"), text.count("- machine: one"), text.count("### Searching")) == (
        1,
        0,
        1,
    )
    assert "| mean, s | 0.0123 | 0.0123 | 0.099 |" in text
    assert "![figure8](benchmark-paper/figure8.svg)" in text
    assert "Orthanc, fig8: not complete" in text
    assert (tmp_path / "benchmark-paper" / "figure8.svg").exists()


def test_ratios_of_workers_sizes_and_archives_are_said_in_words() -> None:
    size = "series, median of the questions, ms"
    told = {
        "fig10": ({"8 workers to 1": 3.2}, {"8 workers to 1": 0.9}),
        "table4": (
            {"4 threads, largest to smallest": 1.5, "8 threads, largest to smallest": 0.95},
            {"4 threads, largest to smallest": 1.2, "8 threads, largest to smallest": 0.6},
        ),
        "curve": (
            {f"1000 {size}": 1.0, f"1000000 {size}": 1.4},
            {f"1000 {size}": 2.0, f"100000 {size}": 80.0},
        ),
    }
    said = {
        name: " ".join(
            findings.said([Outcome(name, "ours", summary=one), Outcome(name, "Orthanc", summary=two)])
        )
        for name, (one, two) in told.items()
    }
    assert said["fig10"] == (
        "Throughput with 8 workers to that with 1: ours 3.2 and Orthanc 0.9. "
        "It grows with the workers at ours, and not at Orthanc."
    )
    assert "ours 1.5 and 0.95 with 4 and 8 threads; Orthanc 1.2 and 0.6 with" in said["table4"]
    assert said["table4"].endswith("It falls with the size at Orthanc, and not at ours.")
    assert "ours 1.4 from 1 000 to 1 000 000 series; Orthanc 40 from 1 000 to 100 000 series" in said["curve"]
    assert said["curve"].endswith("It stays flat, at most 1.5 times as long, at ours, and not at Orthanc.")
    assert findings.said([Outcome("fig10", "gone", stopped="It died.")]) == []


@pytest.mark.slow
def test_a_session_tells_of_who_does_not_start_and_measures_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(paper.DcmQRSCP):
        name = "broken"

        def command(self) -> list[str]:
            return ["sh", "-c", "echo the disk is missing >&2; exit 1"]

    monkeypatch.setattr(paper, "_CONTESTANTS", (paper.DcmQRSCP, Broken))
    words = ["--only=fig9", "--scale=0.02", "--runs=2", "--minutes=0", f"--storage={tmp_path}"]
    result = CliRunner().invoke(paper.main, [*words, f"--page={tmp_path / 'page.md'}"])
    assert result.exit_code == 3, result.output
    text = (tmp_path / "page.md").read_text()
    assert "| asked by | C-GET |  | |" in text
    assert "broken, fig9: not complete, nothing done. It did not start." in text
    assert "the disk is missing" in text
    assert "dcmqrscp: 1 of 2 runs; for more there was no time." in text


def test_a_picture_of_what_was_not_finished_is_drawn_all_the_same() -> None:
    for samples in ({"days": [[], [0.1]]}, {"sizes": [1], "passes": [[], []]}, {"workers": {"1": [1.0]}}):
        name = {"days": "fig8", "sizes": "fig9", "workers": "fig10"}[next(iter(samples))]
        [svg] = figures.draw([Outcome(name, "A", samples=dict(samples))]).values()
        ElementTree.fromstring(svg)


def test_the_command_writes_report_figures_and_pictures_and_compares(ours: Target, tmp_path: Path) -> None:
    assert ours.address
    words = [
        "fig9",
        "get",
        f"--target=A={ours.address}",
        f"--dicomweb=A={ours.web}",
        "--share=0.003",
        "--seed=7",
    ]
    first = CliRunner().invoke(command.main, [*words, "--pause=0", f"--out={tmp_path / 'one'}"])
    assert first.exit_code == 0, first.output
    assert "second pass is shorter by" in first.output
    told = json.loads((tmp_path / "one" / "results.json").read_text())
    assert [each["experiment"] for each in told["outcomes"]] == ["fig9", "get"]
    assert (tmp_path / "one" / "figure9.svg").exists()
    again = [
        f"--target=B=ALPHA@{ours.address.port}",
        "--loaded",
        f"--compare={tmp_path / 'one' / 'results.json'}",
    ]
    second = CliRunner().invoke(
        command.main, ["fig9", *again, "--share=0.003", "--seed=7", "--pause=0", f"--out={tmp_path / 'two'}"]
    )
    assert second.exit_code == 0, second.output
    html = (tmp_path / "two" / "report.html").read_text()
    assert "<th>A</th><th>B</th>" in html
    assert "B, pass 2" in html
    assert "not comparable" not in html


def test_an_earlier_run_of_another_size_is_said_to_be_so_where_it_is_compared(tmp_path: Path) -> None:
    facts = {"date": "2024-01-01", "share": 0.5, "seed": 1}
    results.write(tmp_path / "one", [Outcome("get", "A", summary={"instances/s": 5.0})], facts)
    there = ["get", f"--target=B@{free_port()}", f"--compare={tmp_path / 'one' / 'results.json'}"]
    shown = CliRunner().invoke(command.main, [*there, "--share=0.01", f"--out={tmp_path / 'two'}"])
    words = "the run of 2024-01-01 had share 0.5, not 0.01."
    assert words in " ".join(shown.output.split())
    assert words in (tmp_path / "two" / "report.html").read_text()


def test_a_partial_report_ends_with_3(tmp_path: Path) -> None:
    words = ["get", f"--target=GONE@127.0.0.1:{free_port()}", f"--out={tmp_path / 'out'}"]
    result = CliRunner().invoke(command.main, words)
    assert result.exit_code == 3
    assert "nobody listens there" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fgi9", "--target=A@b:1"], "Did you mean fig9?"),
        (["fig9", "--target=A"], "Write AE@host:port"),
        (["fig9", "--dicomweb=pacs:80"], "Write for example http://"),
        (["fig9"], "Name a target"),
        (["fig9", "--target=A@b:1", "--target=A@b:2"], "a second target of that name"),
        (["fig9", "--target=A@b:1", "--share=0"], "--share"),
        (["fig9", "--dicomweb=https://eva:secret@pacs/dicom-web"], "Write it in a file: --password-file"),
        (["fig9", "--target=A@b:1", f"--token-file={__file__}", f"--password-file={__file__}"], "are two"),
        (["fig9", "--target=A@b:1", "--loaders=0"], "--loaders"),
        (["fig9", "--target=A@b:1", f"--compare={__file__}"], "not the results.json of an earlier run"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_what_was_meant(words: list[str], said: str) -> None:
    result = CliRunner().invoke(command.main, words)
    assert result.exit_code == 2
    assert said in result.output


def test_a_destination_that_is_taken_is_told_of_before_anything_is_measured(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["move", f"--target=A@{free_port()}", f"--destination=SINK@{port}", f"--out={tmp_path}"]
        result = CliRunner().invoke(command.main, words)
    assert result.exit_code == 2
    assert f"We cannot receive at port {port}" in result.output


def test_the_help_names_every_experiment_and_a_wrong_name_is_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["bench", "--help"], ["bench", "fig8", "--help"]):
        with pytest.raises(SystemExit):
            main(words)
        shown = capsys.readouterr().out
        assert [name for name in EXPERIMENTS if name not in shown] == []
        assert "stay" in shown
    with pytest.raises(SystemExit):
        main(["bench", "fgi9"])
    assert "Did you mean fig9?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["bench", "week", "--target=A@b:1", f"--scenario={__file__}"])
    assert "line 1: this is not TOML" in capsys.readouterr().err
