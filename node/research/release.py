"""A release: de-identified files that passed the verifier, with what goes along and proves what they are.

The manifest names new identifiers, digests and counts only. Each line carries the SHA-256 of the line before,
and the node's key signs the whole, so that nothing can be changed, taken out or put in between.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from anonymizer import Policy, ProjectKey, describe
from anonymizer.manifest import chain, is_unbroken
from anonymizer.markers import PRODUCT, VERSION
from anonymizer.table import DATA, EDITION
from anonymizer.worker import Outcome

from .sealing import Signer, is_signed
from .volumes import arrange

MANIFEST: Final = "manifest.jsonl"
SIGNATURE: Final = "manifest.signature.json"
_COLUMNS: Final = ("file", "sha256", "bytes", "subject", "study", "series", "instance")
PROFILE: Final = "PROFILE.md"
SITES: Final = "sites"
"""Folder with the manifests of the sites that a release of several was gathered from."""


class Made(NamedTuple):
    """A release in its folder."""

    folder: Path
    files: tuple[str, ...]
    """Names of the instances in the folder."""
    subjects: tuple[str, ...]
    size: int
    manifest: str
    """SHA-256 of the manifest."""


class Source(NamedTuple):
    """One verified file and where it lies."""

    outcome: Outcome
    path: Path


def make_release(
    folder: Path, export: str, sources: Sequence[Source], held: dict[str, int], policy: Policy,
    key: ProjectKey, signer: Signer,
) -> Made:  # fmt: skip
    """Write a release into a folder, which becomes visible under its name when it is whole."""
    beside = begin_release(folder)
    sources = sorted(sources, key=lambda source: source.outcome.name)
    names = arrange([(source.outcome.name, source.path) for source in sources], beside)
    outcomes = [source.outcome for source in sources]
    rows = [_row(outcome, names[outcome.name]) for outcome in outcomes]
    header = {
        "export": export,
        "product": f"{PRODUCT} {VERSION}",
        "table": f"PS3.15-{EDITION}",
        "vocabulary": _digest_of_words(),
        "project": key.name,
        "key": key.key_id,
        "policy": policy.digest,
        "signer": signer.public,
        "released": len(rows),
        "quarantined": held,
    }
    (beside / PROFILE).write_text("\n".join(_profile(policy, key)), encoding="utf-8")
    return end_release(beside, folder, header, rows, signer)


def begin_release(folder: Path) -> Path:
    """Return an empty folder beside the one that the release will be."""
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    beside.mkdir(parents=True, mode=0o700)
    return beside


def end_release(
    beside: Path, folder: Path, header: dict[str, Any], rows: Sequence[dict[str, Any]], signer: Signer
) -> Made:
    """Write tables, manifest and signature beside the instances; then the release is there, whole."""
    (beside / "manifest.csv").write_text(_table(rows), encoding="utf-8")
    sums = [f"{row['sha256']}  {row['file']}\n" for row in rows]
    (beside / "checksums.sha256").write_text("".join(sums), encoding="utf-8")
    others = _files(beside) - {row["file"] for row in rows}
    digests = {name: _digest(beside / name) for name in sorted(others)}
    chain(beside / MANIFEST, [{**header, "beside": digests}, *rows])
    content = (beside / MANIFEST).read_bytes()
    (beside / SIGNATURE).write_bytes(_signature(signer.public, signer.sign(content)))
    beside.rename(folder)
    return read_release(folder)


def read_release(folder: Path) -> Made:
    """Return a release that was made before."""
    content = (folder / MANIFEST).read_bytes()
    rows = [json.loads(line) for line in content.splitlines()[1:]]
    return Made(
        folder,
        tuple(row["file"] for row in rows),
        tuple(sorted({row["subject"] for row in rows})),
        sum(row["bytes"] for row in rows),
        hashlib.sha256(content).hexdigest(),
    )


def complaints(folder: Path) -> Iterator[str]:
    """Yield what is not as it was released: for whoever received it, with no secret needed.

    Who replaces everything can also sign it anew with a key of their own: `signer_of` says whose it is.
    """
    rows = _rows(folder)
    if rows is None:
        yield "The manifest is not what was signed."
        return
    header, *rows = rows
    if header.get("released") != len(rows):
        yield "The manifest does not list as many files as it says."
    listed = {row["file"]: row["sha256"] for row in rows} | header.get("beside", {})
    for name, digest in listed.items():
        path = folder / name
        if not path.is_file() or _digest(path) != digest:
            yield f"{name} is not what was released."
    # Releases that were made before others than instances were listed say nothing about those.
    for name in sorted(_files(folder) - listed.keys() - {MANIFEST, SIGNATURE}) if "beside" in header else ():
        yield f"{name} was put in later."
    released = {row["sha256"] for row in rows}
    signed = {digest for path in sorted(folder.glob(f"{SITES}/*")) for digest in _signed_at(path)}
    if (folder / SITES).is_dir() and not released <= signed:
        yield "Something in it was signed by none of the sites it came from."


def _signed_at(folder: Path) -> set[str]:
    """Return the SHA-256 of what a site released, as its manifest says if it is what the site signed."""
    return {row["sha256"] for row in (_rows(folder) or [{}])[1:]}


def signer_of(folder: Path) -> str:
    """Return the public key that a release is signed with, to be compared with the one its sender tells."""
    return str(json.loads((folder / SIGNATURE).read_text())["key"])


def _rows(folder: Path) -> list[dict[str, Any]] | None:
    """Return the lines of a manifest; None if it is not what was signed."""
    content, written = (folder / MANIFEST).read_bytes(), (folder / SIGNATURE).read_bytes()
    try:
        signature = json.loads(written)
        key, signed = signature["key"], signature["signature"]
        is_whole = written == _signature(key, signed) and is_signed(key, signed, content)
        rows: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines()]
        return rows if is_whole and is_unbroken(folder / MANIFEST) and rows[0]["signer"] == key else None
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _signature(key: str, signature: str) -> bytes:
    content = {"algorithm": "Ed25519", "key": key, "signature": signature}
    return (json.dumps(content, indent=2) + "\n").encode()


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_words() -> str:
    """Tells vocabularies apart."""
    return hashlib.sha256((DATA / "vocabulary.txt").read_bytes()).hexdigest()[:16]


def _row(outcome: Outcome, file: str) -> dict[str, Any]:
    study, series, instance = outcome.uids
    return {
        "file": file,
        "sha256": outcome.digest,
        "bytes": outcome.size,
        "subject": outcome.subject,
        "study": study,
        "series": series,
        "instance": instance,
        "options": list(outcome.codes),
        "masks": [list(box) for box in outcome.boxes],
        "actions": outcome.counts,
        "verified": True,
    }


def _table(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _profile(policy: Policy, key: ProjectKey) -> Iterator[str]:
    yield f"# What was done to the images of {key.name}"
    yield ""
    yield f"De-identified by {PRODUCT} {VERSION} under PS3.15-{EDITION} Annex E. Each file was searched"
    yield "for what it was not to say before it was released. `manifest.jsonl` lists them; each of its lines"
    yield "carries the SHA-256 of the line before, and `manifest.signature.json` signs it (Ed25519)."
    yield ""
    yield "```"
    yield from describe(policy)
    yield "```"
    yield ""
