"""A command reaches the running node and nobody else's; without an answer it says so."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from catalog import BadRequest, Busy, NotFound, PacsError, Unavailable
from node.control import ControlServer, HomeLock, ask, is_running
from tests.node.commandline import CommandLine


def fail(kind: type[PacsError]) -> None:
    raise kind("It went wrong.", "Do this.")


def crash() -> None:
    raise RuntimeError("with a secret in it")


HANDLERS: dict[str, Any] = {
    "double": lambda number: 2 * number,
    "fail": lambda: fail(NotFound),
    "crash": crash,
    "tell": lambda: {"studies": [{"name": "one"}], "more": {"kept": {}}},
    # Of a version before deletions were shared with peers.
    "deletions": lambda: {"wishes": [], "orders": [{"decision": "3f2a91c0", "verb": "delete"}]},
}


@contextmanager
def serving(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with HomeLock(home, "node"):
        server, stop = ControlServer(home, HANDLERS), threading.Event()
        thread = threading.Thread(target=server.serve, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            server.close()


@pytest.mark.parametrize("name", ["home", "h" * 120])
def test_a_verb_is_answered_however_long_the_path_of_the_home(tmp_path: Path, name: str) -> None:
    with serving(tmp_path / name):
        assert ask(tmp_path / name, "double", number=21) == 42
        folder = tmp_path / name / "run"
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        socket = (folder / "endpoint").read_text().removeprefix("ipc://")
        assert stat.S_IMODE(os.stat(Path(socket).parent).st_mode) == 0o700
    assert not Path(socket).exists()


def test_what_the_node_refuses_is_raised_here_as_the_same_class(tmp_path: Path) -> None:
    with serving(tmp_path), pytest.raises(NotFound) as caught:
        ask(tmp_path, "fail")
    assert (caught.value.what, caught.value.next) == ("It went wrong.", "Do this.")


def test_a_wrong_verb_or_argument_is_a_bad_request(tmp_path: Path) -> None:
    with serving(tmp_path):
        for verb, arguments in (("dobule", {}), ("double", {"nmber": 1})):
            with pytest.raises(BadRequest):
                ask(tmp_path, verb, **arguments)


def test_what_an_older_node_does_not_tell_is_a_sentence_and_no_key_error(tmp_path: Path) -> None:
    with serving(tmp_path):
        told = ask(tmp_path, "tell")
        assert told == {"studies": [{"name": "one"}], "more": {"kept": {}}}
        assert told.get("other", 5) == 5
        for part, field in ((told, "other"), (told["studies"][0], "age"), (told["more"]["kept"], "size")):
            with pytest.raises(PacsError, match=f"older version .* does not tell '{field}'") as caught:
                part[field]
            assert caught.value.next.startswith("Restart the node")
        with pytest.raises(BadRequest) as refused:
            ask(tmp_path, "double", number=1, twice=True)
        assert refused.value.next.startswith("Restart the node")


def test_a_command_says_that_the_running_node_is_older(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = CommandLine(tmp_path / "home", capsys)
    cli.init()
    with serving(tmp_path / "home"):
        cli("deletions", code=1)
    assert cli.complaint.startswith("This node runs an older version than this command")
    assert "foresaw" not in cli.complaint


def test_a_crash_is_told_without_its_words_and_the_node_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path):
        with pytest.raises(PacsError, match="RuntimeError") as caught:
            ask(tmp_path, "crash")
        assert "secret" not in str(caught.value)
        assert ask(tmp_path, "double", number=1) == 2


def test_a_node_that_does_not_answer_is_said_to_be_silent(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        ask(tmp_path, "double", number=1)
    with HomeLock(tmp_path, "node"):
        server = ControlServer(tmp_path, HANDLERS)
        with pytest.raises(Unavailable, match="does not answer for 0 s"):
            ask(tmp_path, "double", timeout=0.1, number=1)
        server.close()


def test_a_node_that_ends_before_it_answers_is_not_waited_for(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, HANDLERS)
    with pytest.raises(Unavailable, match="ended before it answered"):
        ask(tmp_path, "double", timeout=100.0, number=1)
    server.close()


def test_what_a_killed_node_left_does_not_make_a_command_wait(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "endpoint").write_text(f"ipc://{tmp_path}/gone")
    with HomeLock(tmp_path, "node"), pytest.raises(Unavailable, match="does not answer yet"):
        ask(tmp_path, "double", number=1)


def test_a_home_is_worked_on_by_one_process_at_a_time(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with HomeLock(tmp_path, "node"):
        assert is_running(tmp_path)
        with pytest.raises(Busy, match=rf"A node \(process {os.getpid()}\) works on"):
            HomeLock(tmp_path, "import")
    assert not is_running(tmp_path)
    with HomeLock(tmp_path, "import"):
        assert not is_running(tmp_path)


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from node.control import HomeLock\n"
    code += "lock = HomeLock(Path(sys.argv[1]), 'node'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    assert not is_running(tmp_path)
    HomeLock(tmp_path, "node").close()
