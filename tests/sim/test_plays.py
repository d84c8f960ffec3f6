"""Plays are read strictly, acted by real nodes, and give the same transcript for the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from catalog import BadRequest
from sim.plays.__main__ import PLAYS, act, main
from sim.plays.script import VERBS, parse, written

FILES = sorted(PLAYS.glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
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
        ("node Beta", "small letters"),
        ("node beta quota=1", "storage.quota_mb=1"),
        ("settle alpha", "Write: settle"),
    ],
)
def test_a_play_with_an_error_is_refused_with_the_line_and_what_was_meant(line: str, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(f"node alpha\n# a remark\n{line}\n", "play.txt")
    assert "play.txt, line 3: " in refused.value.what
    assert said in f"{refused.value.what} {refused.value.next}"
