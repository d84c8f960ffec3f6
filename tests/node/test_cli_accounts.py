"""`peerpacs users` and `tokens`: who may come over the web, as an administrator decides it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from node.accounts import Accounts
from node.audit import read
from node.cli import who
from node.passwords import hashed, is_right
from sim.ports import free_port
from tests.homes import serving
from tests.node.commandline import CommandLine


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path / "home", capsys)


def test_init_prints_a_one_time_password_that_is_kept_nowhere_and_never_the_same(
    cli: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = cli.init("--web-port", str(free_port()))
    [password] = [
        line.split("one-time password ")[1].split()[0] for line in said.splitlines() if "one-time" in line
    ]
    assert len(password.split("-")) == 5
    other = CommandLine(tmp_path / "other", capsys)
    assert password not in other.init("--web-port", str(free_port()))
    [admin] = cli.json("users")
    assert (admin["grants"], admin["state"]) == (["admin@*"], "has a one-time password")
    assert not [
        path for path in cli.home.rglob("*") if path.is_file() and password.encode() in path.read_bytes()
    ]


def test_of_a_password_a_hash_is_kept_that_costs_whoever_guesses_32_mb_and_three_rounds() -> None:
    kept = hashed("four-plain-orange-words")
    name, log_n, r, p, *_ = kept.split("$")
    assert (name, 128 * 2 ** int(log_n) * int(r), int(p)) == ("scrypt", 32 << 20, 3)
    assert is_right("four-plain-orange-words", kept)


def test_an_account_says_who_it_is_at_the_command_line(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.init()
    for name in ("anna", "bob"):
        cli("users", "add", name, "--role", "admin")
    assert cli.json("users", "edit", "anna", "--os-user", "novakova")["os_user"] == "novakova"
    cli("users", "edit", "bob", "--os-user", "Novakova", code=2)
    assert "novakova is anna already" in cli.complaint.lower()
    cli("users", "edit", "anna", "--os-user", "")
    cli("users", "edit", "bob", "--os-user", "novakova")
    monkeypatch.setenv("SUDO_USER", "novakova")
    assert who() == "novakova"


def test_users_have_roles_for_archives(cli: CommandLine) -> None:
    cli.init()
    made = cli.json("users", "add", "anna", "--role", "viewer", "--role", "sender@trial-7")
    assert made["grants"] == ["viewer@main", "sender@trial-7"]
    assert made["one_time_password"]
    assert cli.json("users", "edit", "anna", "--role", "+admin")["grants"][-1] == "admin@*"
    assert cli.json("users", "edit", "anna", "--role", "-admin", "--disable")["state"] == "disabled"
    cli("users", "add", "anna", "--role", "viewer", code=2)
    cli("users", "add", "rita", "--role", "researcher", code=2)
    assert "must be named" in cli.complaint
    cli("users", "add", "Eve!", "--role", "king", code=2)
    assert cli.json("users", "remove", "anna")["name"] == "anna"
    assert cli.json("users") == []
    assert [line.outcome for line in read(cli.home / "audit", "anna")][-1] == "user anna removed"


def test_a_token_is_shown_once_and_may_no_more_than_its_user(cli: CommandLine) -> None:
    cli.init()
    cli("users", "add", "anna", "--role", "viewer")
    text = cli("tokens", "make", "anna", "--days", "30").splitlines()[-1]
    [token] = cli.json("tokens")
    assert text.startswith(f"pp_{token['id']}_")
    assert text not in cli("tokens", "list")
    cli("tokens", "make", "anna", "--rights", "store", code=2)
    assert "may not store in main" in cli.complaint
    cli("tokens", "make", "anna", "--days", "9999", code=2)
    cli("tokens", "revoke", token["id"])
    assert cli.json("tokens") == []
    audit = (cli.home / "audit").glob("*.jsonl")
    assert all(text not in path.read_text() for path in audit)


def test_a_home_from_before_there_were_users_lets_its_administrator_in(cli: CommandLine) -> None:
    cli.init()
    for row in cli.json("users"):
        cli("users", "remove", row["name"])
    file = cli.home / "peerpacs.toml"
    text = file.read_text()
    sections = [part for part in re.split(r"(?m)^(?=\[)", text) if not part.startswith(("[web]", "[tell]"))]
    file.write_text("".join(sections))
    shutil.rmtree(cli.home / "state")
    password = cli.json("users", "add", "boss", "--role", "admin")["one_time_password"]
    with serving(cli.home) as node:
        accounts = Accounts(node.state, node.clock)
        user = accounts.check_password("boss", password)
        assert user is not None
        assert user.grants == ("admin@*",)
    assert [row["name"] for row in cli.json("users")] == ["boss"]
