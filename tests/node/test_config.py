"""A person who writes a wrong key or value reads a sentence that names it, and nothing is guessed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

import node.config
from catalog import BadRequest, NotFound
from node.config import check_ae_title, load_config, read_config, write_config
from node.sections import Config, UnknownSenders

OWN: dict[str, dict[str, Any]] = {
    "node": {"name": 'Brno "U" ě', "ae_title": "ALPHA", "node_id": "0123456789"}
}


def test_the_file_that_init_writes_reads_back_as_it_was_meant(tmp_path: Path) -> None:
    write_config(tmp_path, {**OWN, "dicom": {"port": 104}})
    config = load_config(tmp_path, {})
    assert (config.node.name, config.node.ae_title, config.dicom.port) == ('Brno "U" ě', "ALPHA", 104)
    assert (config.tls.port, config.web.port, config.grid.port) == (2762, 8443, 7443)
    assert config.senders.unknown_senders is UnknownSenders.HOLD


def test_every_key_has_a_default_and_stands_in_the_commented_file() -> None:
    table = tomllib.loads(Path(node.config.__file__).with_name("default.toml").read_text())
    structs = get_type_hints(Config)
    assert {section: [*keys] for section, keys in table.items()} == {
        section: [field.name for field in msgspec.structs.fields(struct)]
        for section, struct in structs.items()
    }


def test_a_file_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    path = write_config(tmp_path, OWN)
    before = path.read_bytes()
    with pytest.raises(BadRequest, match="never overwritten"):
        write_config(tmp_path, OWN)
    assert path.read_bytes() == before


def test_a_home_without_a_file_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="peerpacs init --home"):
        load_config(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[dicom]\nprot = 1", "dicom.prot in FILE is not a setting. Did you mean port?"),
        ("[dcom]\nport = 1", "[dcom] in FILE is not a section. Did you mean dicom?"),
        ("port = 1", "port in FILE is in no section."),
        ("[dicom]\nport = 70000", "dicom.port in FILE is 70000. It must be a whole number from 0 to 65535."),
        ("[dicom]\nport = '104'", "dicom.port in FILE is '104'."),
        ("[dicom]\naccept_unknown = 1", "It must be true or false."),
        ("[node]\nplaceholders = '0'", "It must be a list of texts."),
        ("[senders]\nunknown_senders = 'hld'", "It must be hold or accept or refuse."),
        ("[tls]\nkey = 'abc'", "Secrets are never written here"),
        ("[dicom]\nport = 8443", "dicom.port and web.port in FILE are both 8443."),
        ("[storage]\nresume_above_mb = 5", "lower than storage.stop_below_mb"),
        ("[storage]\nurl = 'ftp://x'", "It must be disk, or s3://bucket"),
        ("[dicom\n", "FILE is not valid TOML"),
        ("[node]\nae_title = 'ALPHALONGER12'", "It must be text of 1 to 11 characters."),
        ("[node]\nae_title = 'A\\\\B'", "an AE title must not have"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_its_remedy(text: str, sentence: str) -> None:
    node = "" if "[node]" in text else "[node]\nname = 'n'\nae_title = 'ALPHA'\nnode_id = 'i'\n"
    rest = (
        "" if node else "\nname = 'n'\nnode_id = 'i'\n" + ("" if "ae_title" in text else "ae_title = 'A'\n")
    )
    with pytest.raises(BadRequest) as caught:
        read_config(f"{text}\n{rest}{node}", "FILE", {})
    assert sentence in str(caught.value).replace("\\\\", "\\")


def test_the_environment_overrides_the_file_and_is_checked_as_strictly(tmp_path: Path) -> None:
    write_config(tmp_path, OWN)
    config = load_config(
        tmp_path,
        {
            "PEERPACS__DICOM__PORT": "104",
            "PEERPACS__DICOM__ACCEPT_UNKNOWN": "true",
            "PEERPACS__NODE__PLACEHOLDERS": "0, NOBODY",
            "PEERPACS_HOME": "not a setting",
        },
    )
    assert (config.dicom.port, config.dicom.accept_unknown) == (104, True)
    assert config.node.placeholders == ("0", "NOBODY")
    with pytest.raises(BadRequest, match=r"PEERPACS__DICOM__PORT\) is 'x'"):
        load_config(tmp_path, {"PEERPACS__DICOM__PORT": "x"})
    with pytest.raises(BadRequest, match="Did you mean port"):
        load_config(tmp_path, {"PEERPACS__DICOM__PROT": "1"})


@pytest.mark.parametrize("title", ["", "   ", "A" * 17, "A\\B", "A\nB", "Ä"])
def test_an_ae_title_that_the_standard_forbids_is_refused(title: str) -> None:
    with pytest.raises(BadRequest):
        check_ae_title(title)


def test_outer_spaces_of_an_ae_title_mean_nothing() -> None:
    assert check_ae_title("  CT 1 ") == "CT 1"
