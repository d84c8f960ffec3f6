"""Who is in an export: a sealed file beside its parts, so that rows of the state stay small."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import msgspec

from .model import Choice
from .sealing import Vault


class Choices:
    """Keeps what exports chose, as long as they are made."""

    def __init__(self, folder: Path, vault: Vault) -> None:
        self._folder = folder
        self._vault = vault
        self.get = lru_cache(maxsize=4)(self._get)
        """Return what an export chose. Raises Damaged or OSError if its file is gone."""

    def put(self, export: str, choices: Sequence[Choice]) -> None:
        """Write what an export chose; a first writing stands."""
        path = self._path(export)
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._vault.write(path, msgspec.msgpack.encode(list(choices)), f"{export}/choices")

    def _get(self, export: str) -> tuple[Choice, ...]:
        sealed = self._vault.read(self._path(export), f"{export}/choices")
        return msgspec.msgpack.decode(sealed, type=tuple[Choice, ...])

    def _path(self, export: str) -> Path:
        return self._folder / export / "choices.sealed"
