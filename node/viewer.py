"""OHIF, the optional viewer: its npm package checked, trimmed, moved below /ohif, put into the home."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import shutil
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from catalog import BadRequest, NotFound, Unavailable

VERSION: Final = "3.13.2"
URL: Final = f"https://registry.npmjs.org/@ohif/app/-/app-{VERSION}.tgz"
SHA512: Final = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
"""Of the package, as the npm registry states it."""
FOLDER: Final = "viewer"
ROOT: Final = "/ohif/"
NOTICE: Final = "LICENSE"
_LEFT_OUT: Final = ("ort/", "dicom-microscopy-viewer/")
"""An engine for segmentation by AI (136 MB), and a viewer for pathology (20 MB)."""
_UNWANTED: Final = re.compile(r".*\.map|sw\.js|workbox-.*|_headers|_redirects|app-config\.js")
"""Also what would keep images and old versions in the browser beside its own cache: the service worker."""
_PRIORS: Final = (b"await getStudiesForPatientByMRN(qidoForStudyUID)", b"qidoForStudyUID")
"""OHIF looks for other studies by Patient ID alone (its issue 5318), and two hospitals give the same one
to different people; so here it shows the study that was opened, and no other."""
_WORKER: Final = "init-service-worker.js"
_ZIPPED: Final = frozenset((".js", ".css", ".wasm", ".html", ".json"))
_CHUNK: Final = 1 << 20
_SECONDS: Final = 60.0
Tell = Callable[[int, int], None]
"""Told how many bytes came, of how many."""


def install(home: Path, package: Path | None, tell: Tell = lambda done, total: None) -> int:
    """Put the viewer into a home, from a file or from the npm registry; return the bytes it takes there.

    Raises:
        NotFound: there is no such file.
        Unavailable: the registry does not answer.
        BadRequest: it is not the package that was meant.
    """
    new = home / f"{FOLDER}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o750, parents=True)
    try:
        path = package or _fetched(new / "package.tgz", tell)
        if not path.is_file():
            raise NotFound(f"There is no file {path}.", f"npm pack @ohif/app@{VERSION} makes it.")
        _check(path)
        _unpack(path, new / "ohif")
        (new / "package.tgz").unlink(missing_ok=True)
        shutil.rmtree(home / FOLDER, ignore_errors=True)
        new.rename(home / FOLDER)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return sum(each.stat().st_size for each in (home / FOLDER).rglob("*") if each.is_file())


def remove(home: Path) -> bool:
    """Take the viewer out of a home; say whether there was one."""
    is_there = (home / FOLDER).exists()
    shutil.rmtree(home / FOLDER, ignore_errors=True)
    return is_there


def _fetched(path: Path, tell: Tell) -> Path:
    try:
        with urllib.request.urlopen(URL, timeout=_SECONDS) as answer, path.open("wb") as file:
            total, done = int(answer.headers.get("Content-Length", 0)), 0
            while piece := answer.read(_CHUNK):
                file.write(piece)
                done += len(piece)
                tell(done, total)
    except OSError as error:
        what = f"The package could not be fetched: {getattr(error, 'reason', None) or error}."
        remedy = f"Fetch {URL} elsewhere, and name the file: peerpacs viewer install FILE"
        raise Unavailable(what, remedy) from None
    return path


def _check(path: Path) -> None:
    digest = hashlib.sha512()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    if base64.b64encode(digest.digest()).decode() != SHA512:
        what = f"{path.name} is not the package of @ohif/app {VERSION}: its SHA-512 is another one."
        raise BadRequest(what, f"Take {URL}.")


def _unpack(path: Path, to: Path) -> None:
    with tarfile.open(path, "r:gz") as package:
        for name, member in _wanted(package):
            content = package.extractfile(member)
            assert content is not None
            _write(to / name, _moved(name, content.read()))
    _write(to / _WORKER, b"")


def _wanted(package: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    for member in package:
        inside = member.name.removeprefix("package/")
        name = inside.removeprefix("dist/")
        if not member.isfile() or ".." in PurePosixPath(name).parts or name.startswith("/"):
            continue
        if inside == NOTICE:
            yield NOTICE, member
        is_left = name.startswith(_LEFT_OUT) or _UNWANTED.fullmatch(PurePosixPath(name).name)
        if inside.startswith("dist/") and not is_left and name != _WORKER:
            yield name, member


def _moved(name: str, content: bytes) -> bytes:
    """Return a file that was made for the top of a server as it is below `ROOT`."""
    if name == "index.html":
        content = re.sub(rb'(src|href|content)="/', rb'\1="/ohif/', content)
        return content.replace(b'PUBLIC_URL="/"', b'PUBLIC_URL="/ohif/"')
    if name.endswith(".js"):
        content = content.replace(b'__webpack_require__.p = "/";', b'__webpack_require__.p = "/ohif/";')
        return content.replace(*_PRIORS)
    if name.endswith(".css"):
        return re.sub(rb"url\(/([a-z0-9])", rb"url(/ohif/\1", content)
    return content.replace(b'"/assets', b'"/ohif/assets') if name == "manifest.json" else content


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if path.suffix in _ZIPPED and len(content) > 1024:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, 6, mtime=0))
