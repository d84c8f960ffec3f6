"""The command line starts at once, explains every command, and says what went wrong in two sentences."""

from __future__ import annotations

import errno
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from node.cli import Session, columns, peerpacs, plural, readable

from .commandline import CommandLine


def commands(group: click.Group = peerpacs, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command and subcommand under its whole name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{before}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")


COMMANDS = dict(commands())


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path / "home", capsys)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    text = COMMANDS[name].help or ""
    assert "Example: peerpacs " in text
    assert text.splitlines()[0].endswith((".", "?"))
    assert f"peerpacs {name.split()[0]}" in text


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "bench"])
def test_every_command_takes_a_home_and_speaks_json(name: str) -> None:
    options = {word for parameter in COMMANDS[name].params for word in parameter.opts}
    assert {"--home", "--json", "--debug"} <= options


def test_the_commands_are_those_of_the_design() -> None:
    wanted = (
        "init run status drain check health config devices archives users tokens invite join "
        "approve peers revoke authority leave retire grants book copies old-pacs link unlink import migrate "
        "echo find send get move commit forward transfers worker routes prefetch conflicts held "
        "rejected correct move-series join-studies reject delete erase hold confirm deletions "
        "retention undo trace projects export quarantine anonymize backup restore rebuild verify "
        "storage viewer audit conformance bench completion"
    )
    assert wanted.split() == peerpacs.list_commands(click.Context(peerpacs))


def test_the_list_of_commands_says_whole_sentences() -> None:
    said = peerpacs.get_help(click.Context(peerpacs, info_name="peerpacs"))
    assert "..." not in said.replace("[ARGS]...", "")
    assert "the first one founds the grid." in " ".join(said.split())


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom node.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pydicom', 'pynetdicom', 'lmdb', 'tantivy', 'zmq', 'rich', 'catalog', 'msgspec'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "[]"


def test_a_command_that_asks_a_running_node_does_not_read_the_tables_of_the_standard() -> None:
    code = "import sys, node.control; print(sorted({'pydicom', 'numpy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_command_is_misuse_with_a_suggestion(cli: CommandLine) -> None:
    cli("dveices", code=2)
    assert "Did you mean devices?" in cli.complaint


def test_a_group_without_a_verb_ends_as_its_list_does(cli: CommandLine, tmp_path: Path) -> None:
    cli.init()
    disk = tmp_path / "disk"
    disk.mkdir()
    cli("storage", "add", str(disk))
    for words in (("storage",), ("storage", "list")):
        assert str(disk) in cli(*words)
    disk.rename(tmp_path / "elsewhere")
    for words in (("storage",), ("storage", "list")):
        assert "missing" in cli(*words, code=1)


def test_an_error_is_two_sentences_and_no_traceback(cli: CommandLine) -> None:
    cli("status", code=1)
    what, remedy = cli.complaint.splitlines()
    assert what.startswith("There is no node in ")
    assert remedy.startswith("Make one with: peerpacs init ")


def test_a_home_of_another_user_is_told_with_whose_it_is(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "homes"
    home.mkdir()
    owner = pwd.getpwuid(os.getuid()).pw_name

    def refused(code: int) -> str:
        def refuse(*_: object) -> None:
            raise OSError(code, os.strerror(code), str(home / "run" / "lock"))

        monkeypatch.setattr("node.config.load_config", refuse)
        cli("config", "check", code=1)
        return cli.complaint

    assert "Check the path and its rights." in refused(errno.EACCES)
    assert "Free some space there" in refused(errno.ENOSPC)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    assert f"{home} belongs to {owner}; give the command as that user: sudo -u {owner}" in refused(
        errno.EACCES
    )


def test_an_error_is_json_where_json_was_asked_for(cli: CommandLine) -> None:
    cli("status", "--json", code=1)
    assert json.loads(cli.complaint)["error"] == "NotFound"


def test_a_command_without_a_home_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PEERPACS_HOME", raising=False)
    from node.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["status"])
    assert ended.value.code == 2
    assert "--home DIR or PEERPACS_HOME" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_be_taught_to_complete(cli: CommandLine, shell: str) -> None:
    assert "_PEERPACS_COMPLETE" in cli("completion", shell)


def test_tables_are_aligned_and_nothing_is_cut_off() -> None:
    rows = [("a", "1" * 100), ("bbb", 2)]
    assert list(columns(rows, ("X", "NUMBER"))) == ["X    NUMBER", "a    " + "1" * 100, "bbb  2"]


def test_numbers_are_said_as_people_say_them() -> None:
    assert [plural(1, "study"), plural(12345, "study"), plural(2, "file")] == [
        "1 study",
        "12 345 studies",
        "2 files",
    ]
    assert [readable(0), readable(1500), readable(412e6), readable(1.2e12)] == [
        "0 bytes",
        "1.5 kB",
        "412 MB",
        "1.2 TB",
    ]


def test_only_a_command_for_this_node_is_given_its_home(tmp_path: Path) -> None:
    session = Session()
    session.named_home = str(tmp_path)
    assert session.pasteable("See: peerpacs peers") == f"See: peerpacs peers --home {tmp_path}"
    for line in ("There: peerpacs grants add ALPHA", "Name one: peerpacs peers address, or open a door."):
        assert session.pasteable(line) == line
