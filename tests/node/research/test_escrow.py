"""Who the pseudonyms are: sealed at the site, opened by two persons together, never by one."""

from __future__ import annotations

import base64
from itertools import combinations
from pathlib import Path

import pytest

from catalog import Damaged, NotPermitted
from node.research.sealing import Signer, Vault, is_signed, make_holder, open_escrow, read_holder, seal_escrow
from tests.homes import attribute

from .site import Site


def test_any_two_holders_open_an_escrow_and_no_single_one(tmp_path: Path) -> None:
    public = {name: make_holder(tmp_path / name, f"word of {name}") for name in ("a", "b", "c")}
    escrow = seal_escrow("T", b"who is who", public)
    keys = {name: read_holder((tmp_path / name).read_bytes(), f"word of {name}") for name in public}
    for pair in combinations(keys, 2):
        assert open_escrow(escrow, {name: keys[name] for name in pair}) == b"who is who"
    for name, key in keys.items():
        with pytest.raises(NotPermitted):
            open_escrow(escrow, {name: key})
        with pytest.raises(NotPermitted):
            open_escrow(escrow, {"a": key, "b": key})
    with pytest.raises(NotPermitted):
        read_holder((tmp_path / "a").read_bytes(), "another word")


def test_an_exports_escrow_names_its_subjects_to_two_and_the_audit_knows(site: Site, tmp_path: Path) -> None:
    sent = site.store(1)
    public = {name: make_holder(tmp_path / name, name) for name in ("novak", "dvorak")}
    site.project(holders=public)
    export = site.export(tmp_path / "cohort")
    keys = {name: (base64.b64encode((tmp_path / name).read_bytes()).decode(), name) for name in public}
    with pytest.raises(NotPermitted):
        site.ask("open_escrow", id=export["id"], keys={"novak": keys["novak"]}, who="novak", reason="finding")
    [row] = site.ask("open_escrow", id=export["id"], keys=keys, who="novak", reason="finding")
    assert row["patient"] == str(attribute(sent[0], "PatientID"))
    assert row["pseudonym"] in export["subjects"]
    site.node.audit.step()
    lines = "".join(path.read_text() for path in (site.node.home / "audit").glob("*.jsonl"))
    assert '"escrow","outcome":"refused"' in lines
    assert '"escrow","outcome":"opened"' in lines
    records = site.node.home / "research" / "records"
    on_disk = b"".join(path.read_bytes() for path in records.rglob("*") if path.is_file())
    assert row["patient"].encode() not in on_disk


def test_sealed_files_open_only_here_and_only_whole(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "secret")
    sealed = vault.seal(b"content", "file 1")
    assert vault.open(sealed, "file 1") == b"content"
    for broken, about in (
        (sealed, "file 2"),
        (sealed[:-1], "file 1"),
        (sealed[:30] + b"x" + sealed[31:], "file 1"),
    ):
        with pytest.raises(Damaged):
            vault.open(broken, about)
    with pytest.raises(Damaged):
        Vault(tmp_path / "other").open(sealed, "file 1")
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0


def test_a_signature_is_that_of_its_content_alone(tmp_path: Path) -> None:
    signer = Signer(tmp_path / "key")
    signature = signer.sign(b"manifest")
    assert is_signed(signer.public, signature, b"manifest")
    assert not is_signed(signer.public, signature, b"manifesto")
    assert not is_signed(Signer(tmp_path / "other").public, signature, b"manifest")
