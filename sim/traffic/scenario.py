"""A scenario: one readable TOML file that says who sends and asks what, where, and how fast time goes.

It is read strictly: what is not understood is refused with its line and what was probably meant.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from catalog import BadRequest

from . import records
from .devices import HABITS, TABLE_3, devices
from .records import Burst
from .week import scaled, week


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """People at every site: at workstations they look for studies and open them, researchers export."""

    workstations: int = 0
    questions_an_hour: float = 12.0
    """Of each workstation, in the time of the scenario."""
    opened: float = 0.5
    """The share of questions after which a study is opened."""
    commitment: float = 0.0
    """The share of series for which the device asks for Storage Commitment."""
    researchers: int = 0
    exports_a_day: float = 2.0
    """Of each researcher, who fetches all studies that have a modality, of a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Who sends and asks what; `faster` compresses time, `share` the bytes."""

    title: str = "A week of traffic"
    seed: int = 1
    start: date = date(2024, 1, 1)
    """A Monday: the study date of the first day."""
    days: int = 7
    first_day_devices: int = 8
    faster: float = 1.0
    share: float = 1.0
    sites: tuple[str, ...] = ("alpha",)
    devices: Mapping[str, int] = field(default_factory=lambda: dict(TABLE_3))
    readers: Readers = field(default_factory=Readers)
    traffic: Path | None = None
    """A recorded traffic file to replay in place of the devices' week."""

    def bursts(self) -> list[Burst]:
        """Return the traffic in order of time. Raises as `records.read`."""
        if self.traffic:
            return scaled(records.read(self.traffic), self.share)
        equipment = devices(self.devices, self.sites, self.seed)
        return scaled(week(equipment, self.seed, self.days, self.first_day_devices), self.share)


_LIMITS: Final = {
    "days": (1, 366),
    "first_day_devices": (0, 10_000),
    "faster": (0.001, 1_000_000),
    "share": (1e-9, 1),
    "workstations": (0, 1000),
    "questions_an_hour": (0.01, 100_000),
    "opened": (0, 1),
    "commitment": (0, 1),
    "researchers": (0, 1000),
    "exports_a_day": (0.01, 100_000),
}


def read(path: Path) -> Scenario:
    """Read a scenario file. Raises as `understand`, and OSError."""
    return understand(records.text_of(path), str(path), path.parent)


def understand(text: str, source: str, folder: Path = Path()) -> Scenario:
    """Return what a scenario says; `folder` is where files that it names lie.

    Raises:
        BadRequest: an unknown word, a wrong type, a value out of range, two that exclude each other, a file
            that is not there; with line and suggestion.
    """
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+)", str(error))
        line = at[1] if at else text.count("\n") + 1
        raise BadRequest(f"{source}, line {line}: this is not TOML: {error}.", "Correct that line.") from None
    reader = _Reader(text, source)
    values = reader.values(Scenario, told, "")
    if "devices" in told:
        values["devices"] = reader.counts(told["devices"])
    if "readers" in told:
        values["readers"] = Readers(**reader.values(Readers, told["readers"], "readers"))
    if "traffic" in values:
        values["traffic"] = reader.recording(told, folder)
    return Scenario(**values)


_TYPES: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "str": ((str,), "text"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "date": ((date,), "a date like 2024-01-01"),
    "tuple[str, ...]": ((list,), "a list of names"),
    "Path | None": ((str,), "the name of a file"),
}


class _Reader:
    def __init__(self, text: str, source: str) -> None:
        self._lines = text.splitlines()
        self._source = source

    def values(self, of: type, told: Any, section: str) -> dict[str, Any]:
        known = {each.name: each for each in fields(of)}
        if not isinstance(told, dict):
            self._refuse(section, section, f"{section} is a section.", f"Write [{section}] on a line.")
        found = {}
        for key, value in told.items():
            if key not in known:
                self._unknown(section, key, list(known))
            if known[key].type in _TYPES:
                found[key] = self._checked(section, key, value, *_TYPES[str(known[key].type)])
        return found

    def counts(self, told: Any) -> dict[str, int]:
        if not isinstance(told, dict):
            self._refuse("", "devices", "devices is a section.", "Write [devices] and CT = 37 below it.")
        for key, value in told.items():
            if key not in HABITS:
                self._unknown("devices", key, list(HABITS))
            if type(value) is not int or not 0 <= value <= 10_000:
                self._refuse("devices", key, f"{key} = {value!r} is no number of devices.", f"{key} = 37")
        if not any(told.values()):
            self._refuse("", "devices", "there is no device, so nothing is sent.", "Write CT = 37 below it.")
        return dict(told)

    def recording(self, told: Mapping[str, Any], folder: Path) -> Path:
        for other in ("devices", "first_day_devices"):
            if other in told:
                what = f"{other} and traffic both say who sends."
                self._refuse("", other, what, f"Leave out traffic or {other}.")
        path = folder / str(told["traffic"])
        if not path.is_file():
            self._refuse("", "traffic", f"there is no file {path}.", "Name one relative to this scenario.")
        return path

    def _checked(self, section: str, key: str, value: Any, types: tuple[type, ...], what: str) -> Any:
        is_right = isinstance(value, types) and not isinstance(value, bool | datetime)
        if types == (list,):
            is_right = is_right and value and all(isinstance(each, str) for each in value)
            value = self._sites(key, value) if is_right else value
        if not is_right:
            self._refuse(section, key, f"{key} is {what}, not {value!r}.", "Correct that line.")
        least, most = _LIMITS.get(key, (None, None))
        if least is not None and most is not None and not least <= value <= most:
            self._refuse(section, key, f"{key} = {value} is out of range.", f"Say {least:g} to {most:g}.")
        return value

    def _sites(self, key: str, names: list[str]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,15}", name):
                what = f"{name!r} cannot be the name of a site."
                self._refuse("", key, what, "Write up to 16 letters of ASCII and digits, without spaces.")
            if names.count(name) > 1:
                self._refuse("", key, f"{name} is in {key} twice.", "Name each site once.")
        return tuple(names)

    def _unknown(self, section: str, key: str, known: list[str]) -> NoReturn:
        by_small = {each.lower(): each for each in known}
        close = difflib.get_close_matches(key.lower(), by_small, n=1, cutoff=0.5)
        hint = f"Did you mean {by_small[close[0]]}?" if close else f"There are: {', '.join(known)}."
        where = f" in [{section}]" if section else ""
        self._refuse(section, key, f"there is no {key!r}{where}.", hint)

    def _refuse(self, section: str, key: str, what: str, remedy: str) -> NoReturn:
        raise BadRequest(f"{self._source}, line {self._line(section, key)}: {what}", remedy)

    def _line(self, section: str, key: str) -> int:
        """The line that gives a key in a section, in either of TOML's ways; the first line if none does."""
        within = ""
        for number, line in enumerate(self._lines, start=1):
            if heading := re.match(r"\s*\[+\s*([^\]\s]+)\s*\]", line):
                within = heading[1]
                if within == key and not section:
                    return number
            elif (re.match(rf"\s*['\"]?{re.escape(key)}['\"]?\s*=", line) and within == section) or (
                section and re.match(rf"\s*{section}\s*(=.*\b|\.\s*){re.escape(key)}\b", line)
            ):
                return number
        return 1
