"""Lines of the audit for whoever must hear of each: in order, none left out, over restarts and outages.

The audit's own files are the queue; a row of the state says how far it was told. So nothing is kept twice,
and what could not be told yet waits for as long as the audit is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from catalog import Clock, PacsError

from .audit import Line
from .state import State

_MOST: Final = 500
"""Lines that are read at once."""
_PIECE: Final = 1 << 20
_LONGEST_PAUSE: Final = 300.0
_MONTH: Final = re.compile(r"\d{4}-\d{2}\.jsonl")


class Place(msgspec.Struct, frozen=True, array_like=True):
    """How far a listener was told."""

    file: str
    offset: int


class Tail:
    """Follows the audit for one listener; one thread calls `step`."""

    def __init__(
        self,
        name: str,
        folder: Path,
        state: State,
        tell: Callable[[list[Line]], None],
        clock: Clock,
        wanted: Callable[[Line], bool] = lambda line: True,
    ) -> None:
        """`tell` raises PacsError or OSError if the lines were not told; then they come again.

        A new listener hears what comes from now on.
        """
        self._key = name.encode()
        self._folder = folder
        self._places = state.table("audit-told", Place)
        self._tell = tell
        self._wanted = wanted
        self._clock = clock
        self._pause = 0.0
        self._again = 0.0
        self.why = ""
        """Why nothing can be told now, as a sentence; empty = all is well."""
        if self._places.get(self._key) is None:
            files = self._files()
            last = Place(files[-1].name, files[-1].stat().st_size) if files else Place("", 0)
            self._places.put(self._key, last)

    def step(self) -> bool:
        """Tell the next lines; say whether there were any."""
        now = self._clock()
        if self._pause and 0 <= self._again - now <= self._pause:
            return False
        place = self._places.get(self._key) or Place("", 0)
        lines, reached = self._read(place)
        if reached == place:
            return False
        wanted = [line for line in lines if self._wanted(line)]
        try:
            if wanted:
                self._tell(wanted)
        except (PacsError, OSError) as error:
            self.why = error.what if isinstance(error, PacsError) else str(error)
            self._pause = min(_LONGEST_PAUSE, max(1.0, 2 * self._pause))
            self._again = now + self._pause
            return False
        self.why, self._pause = "", 0.0
        self._places.put(self._key, reached)
        return True

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*.jsonl") if _MONTH.fullmatch(path.name))

    def _read(self, place: Place) -> tuple[list[Line], Place]:
        """Return the next lines and where they end; only whole ones, and after a month the next one."""
        files = self._files()
        for path in files:
            if path.name < place.file:
                continue
            offset = place.offset if path.name == place.file else 0
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(_PIECE)
            whole = data[: data.rfind(b"\n") + 1]
            if whole:
                texts = whole.splitlines(keepends=True)[:_MOST]
                return list(_lines(texts)), Place(path.name, offset + sum(map(len, texts)))
        return [], place


def _lines(texts: list[bytes]) -> Iterator[Line]:
    for text in texts:
        try:
            yield msgspec.json.decode(text, type=Line)
        except msgspec.MsgspecError:
            # Somebody wrote it in by hand; `peerpacs audit verify` tells that.
            continue
