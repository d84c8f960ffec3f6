"""`init` makes everything a node needs and nothing twice; `check` says what is wrong and how to right it."""

from __future__ import annotations

import io
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from node.audit import verify
from node.config import load_config
from sim.ports import free_port

from .commandline import CommandLine


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path / "home", capsys)


def test_init_makes_a_node_and_says_what_to_do_next(cli: CommandLine) -> None:
    said = cli.init("--issuer", "BRNO", "--dicom-port", "11199")
    config = load_config(cli.home, {})
    assert (config.node.name, config.node.issuer, config.dicom.port, config.web.port) == (
        "alpha",
        "BRNO",
        11199,
        0,
    )
    assert len(config.node.node_id) == 36
    assert f"Next:  peerpacs run --home {cli.home}" in said
    assert verify(cli.home / "audit").lines == 1


def test_init_asks_for_what_was_not_said(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("St Anne\n\n"))
    cli("init")
    config = load_config(cli.home, {})
    assert (config.node.name, config.node.ae_title) == ("St Anne", "ST_ANNE")


def test_two_nodes_have_two_ids(cli: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = CommandLine(tmp_path / "other", capsys)
    cli.init()
    other.init()
    assert load_config(cli.home, {}).node.node_id != load_config(other.home, {}).node.node_id


def test_init_overwrites_nothing(cli: CommandLine) -> None:
    cli.init()
    before = (cli.home / "peerpacs.toml").read_bytes()
    cli.init(code=2)
    assert "never overwrites" in cli.complaint
    assert (cli.home / "peerpacs.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--ae", "ALPHALONGER1"), "twin with _GRID"),
        (("--ae", "A\\B"), "must not have"),
        (("--dicom-port", "70000"), "from 0 to 65535"),
        (("--dicom-port", "8443", "--web-port", "8443"), "are both 8443"),
        (("--storage", "s3://q"), "a bucket's name has 3 to 63"),
    ],
)
def test_init_refuses_what_cannot_be_and_leaves_nothing(
    cli: CommandLine, words: tuple[str, ...], why: str
) -> None:
    cli("init", *words, "--yes", code=2)
    assert why in cli.complaint
    assert not (cli.home / "peerpacs.toml").exists()


def test_without_dev_the_book_is_empty_and_with_it_one_row_trusts_this_machine(
    cli: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.init()
    assert cli.json("devices") == []
    trusting = CommandLine(tmp_path / "dev", capsys)
    trusting.init("--dev")
    [rule] = trusting.json("devices")
    assert (rule["ae_title"], rule["address"]) == ("*", "loopback")


def test_init_says_when_there_is_too_little_room_for_any_image(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "free for images\n" in cli.init()
    (cli.home / "peerpacs.toml").unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=6_300_000))
    said = cli.init("--dicom-port", str(free_port()))
    assert "! 6.3 MB free for images: too little, C-STORE is answered A700 until 2.1 GB are" in said


def test_check_warns_while_the_dev_rule_stands_beside_an_open_listener(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.init("--dev", "--dicom-port", str(free_port()))
    assert "! the device book trusts every AE title" in cli("check")
    monkeypatch.setenv("PEERPACS__DICOM__HOST", "127.0.0.1")
    assert "✓ the device book trusts every AE title" in cli("check")


def test_check_names_the_process_that_has_the_port(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cli.init("--dicom-port", str(taken.getsockname()[1]))
        said = cli("check", code=1)
    assert "cannot be opened" in said
    assert "has it; stop that" in said


def test_check_says_whether_the_port_of_the_web_is_free(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cli.init("--web-port", str(port))
        assert f"port {port} cannot be opened" in cli("check", code=1)
    assert f"port {port} is free for the web" in cli("check")


def test_check_says_what_is_wrong_with_the_file(cli: CommandLine) -> None:
    cli.init()
    path = cli.home / "peerpacs.toml"
    path.write_text(path.read_text().replace("max_pdu", "maxpdu"))
    assert "Did you mean max_pdu?" in cli("check", code=1)


@pytest.fixture
def book(cli: CommandLine) -> CommandLine:
    cli.init()
    return cli


def test_a_device_is_added_changed_and_removed_and_each_is_in_the_audit(book: CommandLine) -> None:
    book("devices", "add", "CT1", "--address", "10.1.7.20", "--port", "104", "--services", "echo,store")
    book("devices", "edit", "CT1", "--services", "echo,store,find", "--lenient", "--move-to", "WS1,WS2")
    [device] = book.json("devices", "list")
    assert (device["port"], device["services"]) == (104, ["echo", "store", "find"])
    assert (device["is_lenient"], device["move_destinations"]) == (True, ["WS1", "WS2"])
    assert "CT1 was removed; from now on it is a stranger." in book("devices", "remove", "CT1")
    assert book.json("devices", "list") == []
    assert verify(book.home / "audit").lines == 4


@pytest.mark.parametrize(
    "words",
    [
        ("add", "CT1", "--services", "print"),
        ("add", "CT1", "--port", "104"),
        ("add", "A" * 17),
        ("add", "*", "--services", "store"),
    ],
)
def test_a_device_that_makes_no_sense_is_misuse(book: CommandLine, words: tuple[str, ...]) -> None:
    book("devices", *words, code=2)
    assert len(book.complaint.splitlines()) in (1, 2)
    assert book.json("devices") == []


def test_a_device_is_not_added_twice_nor_edited_before_it_is_added(book: CommandLine) -> None:
    book("devices", "edit", "CT1", "--note", "x", code=1)
    book("devices", "add", "CT1")
    book("devices", "add", "CT1", code=2)
    assert "peerpacs devices edit" in book.complaint


def test_a_touched_audit_is_found_out(book: CommandLine) -> None:
    book("devices", "add", "CT1")
    last = book.json("audit", "verify")["last"]
    book("audit", "verify", "--anchor", last)
    [path] = (book.home / "audit").glob("*.jsonl")
    written = path.read_bytes()
    path.write_bytes(written.replace(b"node made", b"node mad3"))
    assert "not as it was written" in book("audit", "verify", code=1)
    path.write_bytes(written.splitlines(keepends=True)[0])
    book("audit", "verify")
    assert "not there any more" in book("audit", "verify", "--anchor", last, code=1)
