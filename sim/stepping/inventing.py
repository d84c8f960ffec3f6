"""Plays that nobody wrote: hospitals are used and harmed as is drawn from a number, then all is mended.

What must be so in the end is the same for all of them, whatever was done: every member finds and gives all
that was taken, and all hold each other's catalogs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from ..plays.script import RULE

_NAMES: Final = ("alpha", "beta", "gamma")
_WEATHERS: Final = (
    "cut",
    "silent",
    "silent sent",
    "silent got",
    "delay=0.3 loss=0.1 rate=200000",
    "delay=0.1",
    "",
)
_SKEWS: Final = ("+30s", "-40m", "+2h", "+10h")
_PAUSES: Final = (1, 5, 20, 70)
_MOST: Final = 25
_DEEDS: Final = {
    "send": 18,
    "correct": 6,
    "hide": 6,
    "line": 8,
    "end": 8,
    "clock": 3,
    "quota": 3,
    "set_back": 5,
    "get": 4,
    "pass": 4,
}
"""What is done, and how often in comparison."""
_WELL: Final = (
    " find the same ",
    " is at 2 sites",
    " hold each other's catalogs with equal digests",
    " has lost nothing that it took",
    " gives all that was taken anywhere",
)


def invented(number: int) -> str:
    """Return the play of a number: the same one each time."""
    return "\n".join(_Inventor(number).lines()) + "\n"


def complaints(told: Iterable[str]) -> list[str]:
    """Return what the last scene of an invented play tells that must not be so."""
    return [line for line in told if not any(words in line for words in _WELL) or " do not " in line]


class _Inventor:
    """Knows of each hospital whether it runs, and what it took and still has."""

    def __init__(self, number: int) -> None:
        self._chance = Random(f"play {number}")
        self._running = dict.fromkeys(_NAMES, True)
        self._has: dict[str, list[str]] = {name: [] for name in _NAMES}
        self._sent = 0
        self._is_hidden = False
        self._is_full: set[str] = set()
        self._have_backups: set[str] = set()

    def lines(self) -> list[str]:
        """Return the play."""
        keeps = self._chance.random() < 0.7
        lines = [f"grid {' '.join(_NAMES)}", *(["copies 2"] if keeps else [])]
        for _ in range(self._chance.randint(8, _MOST)):
            deed, name = self._chance.choices([*_DEEDS], [*_DEEDS.values()])[0], self._chance.choice(_NAMES)
            if line := getattr(self, f"_{deed}")(name):
                lines.append(line)
        return [*lines, RULE, "", *self._mended(counts=keeps and not self._is_hidden)]

    def _mended(self, *, counts: bool) -> Sequence[str]:
        """Return what mends everything, and looks whether all is well."""
        mends = [f"line {name}" for name in _NAMES]
        mends += [f"start {name}" for name, runs in self._running.items() if not runs]
        mends += [f"set {name} storage.quota_mb=1000" for name in sorted(self._is_full)]
        looks = ["level", *(["kept"] if counts else []), "digests"]
        return [
            *mends,
            *looks,
            *(f"check {place}" for name in _NAMES for place in (name, f"{name.upper()}_GRID")),
        ]

    def _any(self, name: str) -> str:
        return self._chance.choice(self._has[name]) if self._running[name] and self._has[name] else ""

    def _send(self, name: str) -> str:
        if not self._running[name]:
            return ""
        if self._chance.random() < 0.2 and (again := self._any(name)):
            return f"send {name} {again}"
        self._sent += 1
        kind, series = self._chance.choice(("CT", "MR", "CR", "US")), self._chance.choice((1, 1, 2))
        instances = self._chance.randint(1, 5)
        self._has[name].append(f"{kind}-{series}x{instances}#{self._sent}")
        return f"send {name} {self._has[name][-1]}"

    def _correct(self, name: str) -> str:
        word = self._any(name)
        return f"correct {name} {word} PatientID=NEW-{self._chance.randint(1, 3)}" if word else ""

    def _hide(self, name: str) -> str:
        word = self._any(name)
        if not word:
            return ""
        self._has[name].remove(word)
        self._is_hidden = True
        return f"{self._chance.choice(('reject', 'delete', 'erase'))} {name} {word}"

    def _line(self, name: str) -> str:
        return f"line {name} {self._chance.choice(_WEATHERS)}".rstrip()

    def _end(self, name: str) -> str:
        self._running[name] = not self._running[name]
        return (
            f"start {name}"
            if self._running[name]
            else f"{self._chance.choice(('crash', 'crash', 'stop'))} {name}"
        )

    def _clock(self, name: str) -> str:
        return f"clock {name} {self._chance.choice(_SKEWS)}" if self._running[name] else ""

    def _quota(self, name: str) -> str:
        """Have its disk be full soon, or have room again."""
        if not self._running[name]:
            return ""
        self._is_full ^= {name}
        return f"set {name} storage.quota_mb={1 if name in self._is_full else 1000}"

    def _set_back(self, name: str) -> str:
        """Make a backup, or go back to one."""
        if not self._running[name]:
            return ""
        if name in self._have_backups and self._chance.random() < 0.6:
            return f"restore {name}"
        self._have_backups.add(name)
        # Backups are named by their second, and there are not two in one.
        return f"pass 1\nbackup {name}"

    def _get(self, name: str) -> str:
        words = [word for words in self._has.values() for word in words]
        return (
            f"get {name.upper()}_GRID {self._chance.choice(words)}" if words and self._running[name] else ""
        )

    def _pass(self, name: str) -> str:
        return f"pass {self._chance.choice(_PAUSES)}"
