"""What several sites released becomes one release: one DICOMDIR, one manifest over all, theirs beside it.

What comes from another site is believed to be its word, not to be well made: signatures, digests and markers
are checked again before anything of it counts here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from anonymizer.markers import PRODUCT, VERSION
from catalog import Contradiction, Damaged

from .release import (
    MANIFEST,
    PROFILE,
    SIGNATURE,
    SITES,
    Made,
    begin_release,
    complaints,
    end_release,
)
from .sealing import Signer
from .volumes import arrange

_NAME: Final = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,80}(/(?!\.)[A-Za-z0-9._-]{1,80}){0,6}")


class Piece(NamedTuple):
    """A release of one site, as it was fetched."""

    site: str
    folder: Path


def check_name(name: str) -> str:
    """Return the name of a file in a release.

    Raises:
        Damaged: it could lie elsewhere than in the release.
    """
    if not _NAME.fullmatch(name) or len(name) > 400:
        raise Damaged("A site sends a file under a name that no release has.", "Tell that site's people.")
    return name


def check_piece(piece: Piece, project: str, key_id: str, manifest: str) -> None:
    """Make sure that a fetched release is whole, what its site signed, and of this project and key.

    Raises:
        Damaged: it is not what was signed.
        Contradiction: it is of another project or another key.
    """
    path = piece.folder / MANIFEST
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != manifest:
        raise Damaged(f"The manifest that came from {piece.site} is not the one it told.", "Try again.")
    try:
        header, *rows = _lines(piece)
        for row in rows:
            check_name(row["file"])
        found = next(iter(complaints(piece.folder)), "")
    except (ValueError, KeyError, TypeError, AttributeError):
        found = "it cannot be read."
    if found:
        raise Damaged(f"What came from {piece.site} is not what it signed: {found}", "Try again.")
    if (header.get("project"), header.get("key")) != (project, key_id):
        what = f"{piece.site} has another key of the project {project}: its pseudonyms fit nobody else's."
        raise Contradiction(what, f"Share the project once more: peerpacs projects share {project} PEER")


def combine(
    folder: Path,
    export: str,
    pieces: Sequence[Piece],
    project: str,
    key_id: str,
    signer: Signer,
    is_withdrawn: Callable[[str], bool],
) -> Made:
    """Make one release of checked pieces; subjects that were withdrawn meanwhile are left out.

    Raises:
        Contradiction: a file does not say that it was de-identified, or is of another subject than listed.
    """
    beside = begin_release(folder)
    rows: dict[str, tuple[Piece, dict[str, Any]]] = {}
    for piece in pieces:
        for row in _lines(piece)[1:]:
            if not is_withdrawn(row["subject"]):
                rows.setdefault(row["instance"], (piece, row))
    named = {_full_name(row): (piece, row) for piece, row in rows.values()}
    paths = [(name, piece.folder / check_name(row["file"])) for name, (piece, row) in sorted(named.items())]
    for (_, path), (piece, row) in zip(paths, (named[name] for name, _ in paths), strict=True):
        _check_markers(path, piece.site, row["subject"])
    names = arrange(paths, beside)
    lines = [
        {**row, "file": names[name], "site": piece.site} | {"previous": ""}
        for name, (piece, row) in sorted(named.items())
    ]
    header = {
        "export": export,
        "product": f"{PRODUCT} {VERSION}",
        "project": project,
        "key": key_id,
        "signer": signer.public,
        "released": len(lines),
        "sites": [_told(piece) for piece in pieces],
    }
    for at, piece in enumerate(pieces, 1):
        _keep_manifest(piece, beside / SITES / f"{at:02}-{_plain(piece.site)}")
    return end_release(beside, folder, header, lines, signer)


def _lines(piece: Piece) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (piece.folder / MANIFEST).read_bytes().splitlines()]


def _full_name(row: dict[str, Any]) -> str:
    return f"{row['subject']}/{row['study']}/{row['series']}/{row['instance']}.dcm"


def _check_markers(path: Path, site: str, subject: str) -> None:
    """Look at what a file says of itself; PS3.3 C.7.1.1, Patient Identity Removed (0012,0062)."""
    from pydicom import dcmread

    header = dcmread(path, specific_tags=["PatientID", "PatientIdentityRemoved"], stop_before_pixels=True)
    if header.get("PatientIdentityRemoved") != "YES" or header.get("PatientID") != subject:
        what = f"A file from {site} does not say that it was de-identified for this project."
        raise Contradiction(what, "Nothing of it was released; tell that site's people.")


def _told(piece: Piece) -> dict[str, Any]:
    content = (piece.folder / MANIFEST).read_bytes()
    header = json.loads(content.splitlines()[0])
    kept = ("export", "policy", "signer", "released", "quarantined")
    return {
        "site": piece.site,
        "manifest": hashlib.sha256(content).hexdigest(),
        **{key: header.get(key) for key in kept},
    }


def _keep_manifest(piece: Piece, into: Path) -> None:
    into.mkdir(parents=True)
    for name in _present(piece.folder, (MANIFEST, SIGNATURE, PROFILE)):
        shutil.copyfile(piece.folder / name, into / name)


def _present(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if (folder / name).is_file()]


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)[:40] or "site"
