"""Plays are read strictly, acted by real nodes, and give the same transcript for the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from click.testing import CliRunner

from catalog import BadRequest
from sim.links import CALM, SILENT, Weather
from sim.plays.__main__ import act, main
from sim.plays.actors import Actor
from sim.plays.agreement import Standing, differing
from sim.plays.script import SCENARIOS, VERBS, parse, weather_of, written
from sim.plays.stage import Stage
from sim.servers import ServerError
from tests.running import until

FILES = sorted(SCENARIOS.glob("*.txt"))
LONG = {
    "bad-lines",
    "busy-grid",
    "changed-hospitals",
    "full-hospital",
    "killed-hospital",
    "set-back-hospital",
    "silent-owner",
    "wrong-clock",
}


def _played(file: Path) -> ParameterSet:
    return pytest.param(file, id=file.stem, marks=[pytest.mark.slow] if file.stem in LONG else [])


@pytest.mark.parametrize("file", [_played(file) for file in FILES])
def test_a_play_goes_as_it_is_written(file: Path) -> None:
    text = file.read_text()
    assert act(text, file.name) == text


def test_the_same_play_and_seed_give_the_same_transcript_twice_and_it_can_be_recorded(tmp_path: Path) -> None:
    file = tmp_path / "play.txt"
    play = "# A remark.\nnode alpha\nsend alpha CT-1x2\nfind ALPHA StudyDate PatientID\n----\n"
    file.write_text(f"{play}alpha took 1 of 2 of CT-1x2\n")
    shown = CliRunner().invoke(main, [str(file), "--seed=5"])
    assert shown.exit_code == 1
    assert "-alpha took 1 of 2 of CT-1x2\n+alpha took 2 of 2 of CT-1x2\n+1 study: CT-1x2" in shown.output
    assert CliRunner().invoke(main, [str(file), "--seed=5", "--rewrite"]).exit_code == 0
    told = "".join(line[1:] for line in shown.output.splitlines(keepends=True) if line[0] == "+")
    assert file.read_text() == play + told.partition("acted\n")[2]


@pytest.mark.slow
def test_what_a_play_says_of_copies_and_digests_is_true_of_its_nodes() -> None:
    play = "grid alpha beta\ncopies 2\nsend alpha CT-1x3\nlevel\nkept\ndigests\n"
    play += "line beta cut\nsend alpha MR-1x2\nline beta\nlevel\nkept\ndigests\n"
    commands = [command for scene in parse(play, "play") for command in scene.commands]
    even = "alpha and beta hold each other's catalogs with equal digests"
    with Stage() as stage:
        told = [line for command in commands[:6] for line in stage.act(command)]
        assert told[2:] == ["each of 1 studies is at 2 sites", even]
        for command in commands[6:8]:
            stage.act(command)
        # What beta was not told of is seen by both.
        until(lambda: differing(stage.members) == ["beta of alpha"], 30)
        assert not Standing(stage.members).is_met
        told = [line for command in commands[8:] for line in stage.act(command)]
        assert told[1:] == ["each of 2 studies is at 2 sites", even]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_week_of_117_devices_at_four_hospitals_loses_nothing(tmp_path: Path) -> None:
    file = SCENARIOS / "long" / "week.txt"
    assert act(file.read_text(), file.name, report=tmp_path) == file.read_text()
    assert {"figure6.svg", "figure7.svg", "report.html"} <= {each.name for each in tmp_path.iterdir()}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_parsed_is_written_as_it_was(file: Path) -> None:
    text = file.read_text()
    assert written(parse(text, file.name)) == text


def test_the_grammar_has_the_words_of_the_grid() -> None:
    scenes = parse("grid alpha beta gamma\ncut beta\nfind ALPHA_GRID\n----\nx\n\nheal beta\nsettle\n", "play")
    assert [command.verb for scene in scenes for command in scene.commands] == [
        "grid", "cut", "find", "heal", "settle",
    ]  # fmt: skip
    assert set(VERBS) >= {"grid", "cut", "heal", "settle", "kill"}


def test_weather_is_for_both_ways_of_a_line_or_for_one() -> None:
    bad = Weather(delay=0.1, rate=1e6, loss=0.05)
    assert weather_of(["delay=0.1", "rate=1000000", "loss=0.05"]) == (bad, bad)
    assert weather_of(["silent", "sent"]) == (SILENT, CALM)
    assert weather_of(["silent", "got"]) == (CALM, SILENT)
    assert weather_of([]) == (CALM, CALM)
    assert weather_of(["cut"]) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("snd alpha CT-1x1", "Did you mean send?"),
        ("send aplha CT-1x1", "did you mean alpha"),
        ("send alpha CT-1", "write for example CT-3x10"),
        ("send alpha XX-1x1", "write for example CT-3x10"),
        ("send alpha SR", "needs its series and instances"),
        ("send alpha", "Write: send NODE STUDY..."),
        ("find alpha", "write ALPHA"),
        ("find ALPHA StudyDat=1", "not the keyword"),
        ("kill alpha soon CT-1x1", "no number"),
        ("node alpha", "there is a node alpha already"),
        ("node Delta", "small letters"),
        ("node delta quota=1", "storage.quota_mb=1"),
        ("settle alpha", "Write: settle"),
        ("line alpha cut", "alpha is in no grid"),
        ("line beta cut sent", "silent sent"),
        ("line beta delay=much", "delay=0.2"),
        ("line beta got", "silent sent"),
        ("await BETA_GRID CT-1x1", "CT-1x1=ONLINE or NEARLINE"),
        ("await BETA_GRID CT-1x1=HERE", "CT-1x1=ONLINE or NEARLINE"),
        ("await beta_GRID CT-1x1=ONLINE", "write BETA_GRID"),
        ("clock beta late", "+2h"),
        ("check BETTA_GRID", "did you mean beta"),
        ("over", "traffic four-hospitals"),
        ("traffic weeek", "paper-week"),
        ("traffic four-hospitals", "no node 'delta'"),
        ("grid beta delta", "there is a node beta already"),
        ("copies many", "no number"),
        ("digest", "Did you mean digests?"),
    ],
)
def test_a_play_with_an_error_is_refused_with_the_line_and_what_was_meant(line: str, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(f"node alpha\ngrid beta gamma\n{line}\n", "play.txt")
    assert "play.txt, line 3: " in refused.value.what
    assert said in f"{refused.value.what} {refused.value.next}"


def test_copies_without_a_grid_are_refused() -> None:
    with pytest.raises(BadRequest) as refused:
        parse("node alpha\nkept\n", "play.txt")
    assert refused.value.what == "play.txt, line 2: there is no grid for 'kept'."
    assert refused.value.next == "Write before: grid alpha beta"


def test_every_node_of_a_play_ends_though_one_does_not_end_well() -> None:
    ended: list[str] = []

    class Unwilling(Actor):
        def stop(self) -> None:
            super().stop()
            ended.append(self.called)
            raise ServerError(f"{self.called} did not end.")

    with pytest.raises(ServerError):
        act("node alpha\nnode beta\n", "play", kind=Unwilling)
    assert sorted(ended) == ["alpha", "beta"]
