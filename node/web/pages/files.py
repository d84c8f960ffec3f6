"""The static files of the pages; their address carries a digest, so that browsers keep them for good."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class File(NamedTuple):
    """One file as it is sent."""

    content: bytes
    media_type: str


class Files:
    """All of them, under one `root` that changes when any of them does."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {
            path.name: File(path.read_bytes(), _TYPES[path.suffix])
            for path in sorted(folder.iterdir())
            if path.suffix in _TYPES
        }
        whole = hashlib.sha256()
        for name, file in self._files.items():
            whole.update(name.encode() + b"\0" + file.content)
        self.digest = whole.hexdigest()[:16]

    def get(self, name: str) -> File | None:
        """Return a file by its name."""
        return self._files.get(name)

    def url(self, name: str) -> str:
        """Return the path under which a file is served."""
        return f"/pages/{self.digest}/{name}"
