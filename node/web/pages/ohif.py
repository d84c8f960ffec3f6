"""Serves OHIF, where it is installed: its files, and a configuration that knows this node alone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

import falcon

from node.viewer import ROOT

from ..exchange import Services

_CONFIG: Final = "app-config.js"
_INDEX: Final = "index.html"
_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".jpg": "image/jpeg",
}
_FOR_GOOD: Final = re.compile(r".*[0-9a-f]{16}.*")
"""Names that carry a digest of what is in the file."""
_INLINE: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_CSP: Final = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' {}; worker-src 'self' blob:; "
    "img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; "
    "font-src 'self' data:; object-src 'none'; base-uri 'self'; frame-ancestors 'none'"
)


class Ohif:
    """Answers below `/ohif/`; what is no file there is a page of the viewer itself."""

    def __init__(self, folder: Path, is_in_grid: Any, services: Services) -> None:
        self._folder, self._is_in_grid, self._services = folder / "ohif", is_in_grid, services
        self._known: tuple[float, dict[str, Path]] = 0.0, {}

    def is_installed(self) -> bool:
        """Say whether there is anything to serve."""
        return (self._folder / _INDEX).exists()

    def on_get(self, request: falcon.Request, response: falcon.Response, path: str = "") -> None:
        """Answer with a file, the configuration, or the viewer."""
        if not self.is_installed():
            what = "OHIF is not installed here."
            raise falcon.HTTPNotFound(title=what, description="peerpacs viewer install")
        if path == _CONFIG:
            response.content_type = _TYPES[".js"]
            response.data = _config(self._is_in_grid())
            response.set_header("Cache-Control", "no-store")
            return
        file = self._files().get(path)
        if file is None or path == _INDEX:
            self._index(request, response)
            return
        content = file.with_name(file.name + ".gz")
        if "gzip" in request.get_header("Accept-Encoding", default="") and content.exists():
            file = content
            response.set_header("Content-Encoding", "gzip")
        response.set_header("Vary", "Accept-Encoding")
        is_good = _FOR_GOOD.fullmatch(Path(path).name)
        response.set_header("Cache-Control", "public, max-age=31536000, immutable" if is_good else "no-cache")
        response.content_type = _TYPES.get(Path(path).suffix, "application/octet-stream")
        response.data = file.read_bytes()

    on_head = on_get

    def _index(self, request: falcon.Request, response: falcon.Response) -> None:
        if self._services.gate.known(request) is None:
            response.status, response.location = 303, "/login"
            return
        content = (self._folder / _INDEX).read_bytes()
        hashes = [hashlib.sha256(script).digest() for script in _INLINE.findall(content)]
        named = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes)
        response.set_header("Content-Security-Policy", _CSP.format(named))
        response.set_header("Cache-Control", "no-store")
        response.data, response.content_type = content, _TYPES[".html"]

    def _files(self) -> dict[str, Path]:
        """Return the files by name; looked up in a list, so that no name leads anywhere else."""
        when = self._folder.stat().st_mtime
        if self._known[0] != when:
            files = {
                str(each.relative_to(self._folder)): each
                for each in self._folder.rglob("*")
                if each.is_file() and each.suffix != ".gz"
            }
            self._known = when, files
        return self._known[1]


def _config(is_in_grid: bool) -> bytes:
    """Return OHIF's configuration: this hospital, and all sites where there are others."""
    sources = [_source("node", "This hospital", "/dicom-web", "/wado")]
    if is_in_grid:
        sources.append(_source("everywhere", "All sites", "/grid/dicom-web", "/grid/wado"))
    told = {
        "routerBasename": ROOT.rstrip("/"),
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showLoadingIndicator": True,
        "customizationService": [{"studyBrowser.studyMode": {"$set": "primary"}}],
        "studyPrefetcher": {"enabled": False},
        "investigationalUseDialog": {"option": "always"},
        "defaultDataSourceName": "node",
        "dataSources": sources,
    }
    return f"window.config = {json.dumps(told)};\n".encode()


def _source(name: str, friendly: str, root: str, by_uri: str) -> dict[str, Any]:
    return {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": name,
        "configuration": {
            "friendlyName": friendly,
            "name": name,
            "qidoRoot": root,
            "wadoRoot": root,
            "wadoUriRoot": by_uri,
            "qidoSupportsIncludeField": True,
            "supportsReject": False,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "singlepart": "bulkdata,video,pdf",
            "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
            "omitQuotationForMultipartRequest": True,
        },
    }
