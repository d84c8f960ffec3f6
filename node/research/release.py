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
    """Write manifest, signature and tables beside the instances; then the release is there, whole."""
    chain(beside / MANIFEST, [header, *rows])
    content = (beside / MANIFEST).read_bytes()
    signature = {"algorithm": "Ed25519", "key": signer.public, "signature": signer.sign(content)}
    (beside / SIGNATURE).write_text(json.dumps(signature, indent=2) + "\n")
    (beside / "manifest.csv").write_text(_table(rows), encoding="utf-8")
    sums = [f"{row['sha256']}  {row['file']}\n" for row in rows]
    (beside / "checksums.sha256").write_text("".join(sums), encoding="utf-8")
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
    """Yield what is not as it was released: for whoever received it, with no secret needed."""
    content = (folder / MANIFEST).read_bytes()
    signature = json.loads((folder / SIGNATURE).read_text())
    if not is_unbroken(folder / MANIFEST):
        yield "The manifest's chain is broken."
    if not is_signed(signature["key"], signature["signature"], content):
        yield "The manifest is not what was signed."
    released = set()
    for line in content.splitlines()[1:]:
        row = json.loads(line)
        released.add(row["sha256"])
        path = folder / row["file"]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
            yield f"{row['file']} is not what was released."
    signed = {digest for path in sorted(folder.glob(f"{SITES}/*")) for digest in _signed_at(path)}
    if (folder / SITES).is_dir() and not released <= signed:
        yield "Something in it was signed by none of the sites it came from."


def _signed_at(folder: Path) -> set[str]:
    """Return the SHA-256 of what a site released, as its manifest says if it is what the site signed."""
    content = (folder / MANIFEST).read_bytes()
    signature = json.loads((folder / SIGNATURE).read_text())
    if not (is_unbroken(folder / MANIFEST) and is_signed(signature["key"], signature["signature"], content)):
        return set()
    return {json.loads(line)["sha256"] for line in content.splitlines()[1:]}


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
