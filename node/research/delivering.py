"""Where a release goes: a folder, a zip file, a bucket, a STOW-RS server, an archive of this node, a device,
or the outbox, from where another site fetches it.

Each may be begun again after a crash and ends the same: folders and zip files appear by a rename, whatever is
sent is told by its SOP Instance UID and may come twice, and a bucket gets its manifest last.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from catalog import BadRequest, Busy, Unavailable
from node.contracts import Caller, Ingest
from node.storage import read_meta
from node.stow import Root, StowDelivery

from .release import MANIFEST, Made

OUTBOX: Final = "outbox:"
"""The target of what another site ordered."""
DOWNLOAD: Final = "download:"
"""The target of what is taken over the web: it lies in the outbox too."""
_PIECE: Final = 1 << 20
_PART: Final = 16 << 20
"""Bytes of one part of an upload; what has no more goes in one request."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_HEAD: Final = 1 << 16
"""Bytes at the beginning of a file that hold its File Meta Information."""


class Bucket(Protocol):
    """As much of a bucket as a release needs."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object, whole."""

    def begin(self, key: str) -> str:
        """Begin an upload in parts and return its id."""

    def put_part(self, key: str, upload: str, number: int, data: bytes | bytearray) -> str:
        """Upload part `number`, from 1, and return its tag."""

    def complete(self, key: str, upload: str, parts: Sequence[tuple[str, bytes]]) -> None:
        """Make the parts, of which tag and SHA-256 are given, one object."""

    def abort(self, key: str, upload: str) -> None:
        """Give up an upload in parts."""


class Ways(NamedTuple):
    """How to reach what is not a path."""

    bucket: Callable[[str], Bucket]
    """Opens s3://bucket/prefix."""
    ingest: Callable[[str], Ingest]
    """The door of a project's archive, which only de-identified instances may pass."""
    forward: Callable[[str, str, str], None]
    """Has a project's archive send a study to a device: project, StudyInstanceUID, AE title."""
    outbox: Path
    """Where releases lie that other sites fetch, each in a folder that its export's id names."""


def check_target(target: str) -> str:
    """Return a target as exports keep it.

    Raises:
        BadRequest: it is none, or there is something already.
    """
    scheme, _, rest = target.partition(":")
    if scheme in ("s3", "http", "https"):
        if not rest.removeprefix("//").partition("/")[0]:
            raise BadRequest(
                f"{target} names no place.", "Write s3://bucket/prefix or https://host/dicom-web."
            )
        return target
    if scheme == "ae" or target in ("archive:", DOWNLOAD):
        if target == "ae:":
            raise BadRequest("ae: names no device.", "Write ae:READER1; list them: peerpacs devices list")
        return target
    path = Path(target)
    if not path.is_absolute():
        raise BadRequest(f"{target} is not a whole path.", "Name it from / on.")
    if path.exists() and (path.is_file() or any(path.iterdir())):
        raise BadRequest(f"{target} exists already.", "Name a folder or a .zip file that does not exist yet.")
    if not path.parent.is_dir():
        raise BadRequest(f"{path.parent} is not a folder.", "Make it first.")
    return target


def deliver(target: str, project: str, release: Made, ways: Ways) -> None:
    """Bring a release to its target.

    Raises:
        PacsError: it could not be brought there, or not all of it; it may be tried again.
    """
    if target in (OUTBOX, DOWNLOAD):
        _to_outbox(release, ways.outbox)
    elif target.startswith("s3://"):
        _to_bucket(release, ways.bucket(target))
    elif target.startswith(("http://", "https://")):
        _to_web(release, target)
    elif target == "archive:":
        _to_archive(release, ways.ingest(project))
    elif target.startswith("ae:"):
        for study in _to_archive(release, ways.ingest(project)):
            ways.forward(project, study, target.removeprefix("ae:"))
    elif target.lower().endswith(".zip"):
        _to_zip(release, Path(target))
    else:
        _to_folder(release, Path(target))


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.staging")


def _is_that(manifest: bytes, release: Made) -> bool:
    """Say whether a release is at its target already: a crash came before that was written down."""
    return hashlib.sha256(manifest).hexdigest() == release.manifest


def _to_folder(release: Made, target: Path) -> None:
    if (target / MANIFEST).is_file() and _is_that((target / MANIFEST).read_bytes(), release):
        return
    staging = _beside(target)
    shutil.rmtree(staging, ignore_errors=True)
    staging.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(release.folder, staging)
    staging.chmod(0o750)
    _sync(staging)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.replace(target)
    _sync(target.parent)


def _to_zip(release: Made, target: Path) -> None:
    if target.is_file():
        with zipfile.ZipFile(target) as known:
            if MANIFEST in known.namelist() and _is_that(known.read(MANIFEST), release):
                return
        raise BadRequest(f"{target} exists already.", "Order the export to another file.")
    staging = _beside(target)
    with zipfile.ZipFile(staging, "w", zipfile.ZIP_STORED) as archive:
        for name in _everything(release):
            entry = zipfile.ZipInfo(name, _EPOCH)
            into = archive.open(entry, "w", force_zip64=True)
            with (release.folder / name).open("rb") as source, into:
                shutil.copyfileobj(source, into, _PIECE)
    with staging.open("rb") as written:
        os.fsync(written.fileno())
    staging.rename(target)
    _sync(target.parent)


def _to_outbox(release: Made, outbox: Path) -> None:
    """Move the release; whoever may fetch it is asked for its export's id, which its folder lies in."""
    target = outbox / release.folder.parent.name
    outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    release.folder.rename(target)
    _sync(outbox)


def _to_bucket(release: Made, bucket: Bucket) -> None:
    for name in _everything(release):
        path = release.folder / name
        if path.stat().st_size <= _PART:
            bucket.put(name, path.read_bytes())
        else:
            _put_in_parts(bucket, name, path)


def _put_in_parts(bucket: Bucket, name: str, path: Path) -> None:
    """Upload a large file in parts, of which never more than one is in memory."""
    upload = bucket.begin(name)
    try:
        parts: list[tuple[str, bytes]] = []
        with path.open("rb") as file:
            while data := file.read(_PART):
                tag = bucket.put_part(name, upload, len(parts) + 1, data)
                parts.append((tag, hashlib.sha256(data).digest()))
        bucket.complete(name, upload, parts)
    except BaseException:
        bucket.abort(name, upload)
        raise


def _to_archive(release: Made, ingest: Ingest) -> list[str]:
    """Give every instance to an archive; return the studies."""
    caller = Caller("PEERPACS", "127.0.0.1", "EXPORT")
    studies: dict[str, None] = {}
    for name in release.files:
        studies[take_in(ingest, caller, (release.folder / name).read_bytes())] = None
    return list(studies)


def take_in(ingest: Ingest, caller: Caller, content: bytes) -> str:
    """Give one Part 10 file to an archive; return its study.

    Raises:
        Unavailable: it was not taken.
    """
    meta = read_meta(content[:_HEAD])
    uids = (meta.SOPClassUID, meta.SOPInstanceUID, meta.TransferSyntaxUID)
    reception = ingest.begin(caller, *uids, is_held=False)
    try:
        view = memoryview(content)[meta.offset :]
        for at in range(0, len(view), _PIECE):
            piece = view[at : at + _PIECE]
            reception.space(len(piece))[:] = piece
            reception.filled(len(piece))
    except BaseException:
        reception.abandon()
        raise
    result = reception.finish()
    if result.status:
        what = f"The project's archive did not take {meta.SOPInstanceUID}: {result.comment}."
        raise Unavailable(what, "See the node's log.")
    return result.StudyInstanceUID


class _Filed:
    """A file of the release on its way out; satisfies `Outgoing`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        meta = read_meta(self._file.read(_HEAD))
        self.SOPClassUID, self.SOPInstanceUID = meta.SOPClassUID, meta.SOPInstanceUID
        self.TransferSyntaxUID = meta.TransferSyntaxUID
        self._begin = meta.offset
        self.size = path.stat().st_size - meta.offset

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """See `Outgoing.read_into`."""
        self._file.seek(self._begin + offset)
        return self._file.readinto(buffer)

    def close(self) -> None:
        """See `Outgoing.close`."""
        self._file.close()


def _to_web(release: Made, root: str) -> None:
    delivery = StowDelivery(Root(root))
    try:
        for name in release.files:
            _store(delivery, root, release.folder / name)
    finally:
        delivery.close()


def _store(delivery: StowDelivery, root: str, path: Path) -> None:
    with contextlib.closing(_Filed(path)) as outgoing:
        delivery.begin(outgoing)
        try:
            result = delivery.end()
        except Busy as error:
            raise Unavailable(
                error.what, "Have it let this node store; then: peerpacs export retry ID"
            ) from None
    if result.status:
        what = (
            f"{root} did not store {outgoing.SOPInstanceUID}: {result.comment} (status {result.status:04X})."
        )
        raise Unavailable(what, "Look at its log; then: peerpacs export retry ID")


def _everything(release: Made) -> list[str]:
    """Return the instances, what lies beside them, and last the manifest: who finds it finds all."""
    folder = release.folder
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    known = {*release.files, MANIFEST}
    return [*release.files, *(name for name in names if name not in known), MANIFEST]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
