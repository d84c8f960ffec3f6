"""The text of a play: remarks, commands, and after `----` the transcript that they are expected to give.

A transcript ends at an empty line. What cannot be understood is refused before anything is acted, with its
line and what was meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from catalog import BadRequest

from ..examinations import EXAMINATIONS
from ..headers import KINDS
from ..links import CALM, Weather
from ..traffic import scenario

RULE: Final = "----"
SCENARIOS: Final = Path(__file__).parent.parent / "scenarios"
"""Where plays and the traffic they name lie."""
AVAILABILITIES: Final = ("ONLINE", "NEARLINE", "UNAVAILABLE")
"""Where a study may be, as an answer's Instance Availability tells."""
_STUDY: Final = re.compile(r"(?P<kind>[A-Z]+(?:-[A-Z]+)?)(?:-(?P<series>\d+)x(?P<instances>\d+))?(?:#\d+)?")


class Command(NamedTuple):
    """One command and the number of its line."""

    line: int
    verb: str
    words: tuple[str, ...]


@dataclass(slots=True)
class Scene:
    """Commands and the transcript expected of them; `lines` are theirs with the remarks between."""

    lines: list[str] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    expected: list[str] | None = None


class Grammar(NamedTuple):
    """What each word of a verb is; the last may come again with `...`, or not at all in brackets."""

    usage: tuple[str, ...]
    means: str


VERBS: Final[Mapping[str, Grammar]] = {
    "node": Grammar(
        ("NEW", "[SETTING...]"), "begin with a node of that name, with settings like storage.quota_mb=1"
    ),
    "grid": Grammar(
        ("NEW", "NEW..."),
        "begin with nodes of those names in one grid; each lets the others find and fetch all",
    ),
    "send": Grammar(("NODE", "STUDY..."), "send studies to a node, until it refuses or dies"),
    "find": Grammar(("AE", "[KEY...]"), "ask an AE title for studies; a key without value is shown"),
    "get": Grammar(("AE", "STUDY"), "fetch a study by C-GET and compare every instance with what was sent"),
    "correct": Grammar(("NODE", "STUDY", "KEY..."), "correct attributes of a study"),
    "reject": Grammar(("NODE", "STUDY"), "hide a study"),
    "delete": Grammar(("NODE", "STUDY"), "delete a study"),
    "erase": Grammar(("NODE", "STUDY"), "erase a study for good, with every trace of it"),
    "backup": Grammar(("NODE",), "make a backup of a node's databases"),
    "restore": Grammar(("NODE",), "stop a node and make it again from its backup and its objects"),
    "kill": Grammar(
        ("NODE", "COUNT", "STUDY"), "kill -9 a node when so many instances of a study were taken"
    ),
    "crash": Grammar(("NODE",), "kill -9 a node"),
    "stop": Grammar(("NODE",), "stop a node as a service manager does"),
    "start": Grammar(("NODE",), "start a node again"),
    "set": Grammar(
        ("NODE", "SETTING..."), "stop a node and start it with other settings, like storage.quota_mb=1"
    ),
    "clock": Grammar(
        ("NODE", "SKEW"), "stop a node and start it with a clock that is off by so much, like +2h or -40m"
    ),
    "cut": Grammar(("NODE",), "cut the link between a node and its devices"),
    "heal": Grammar(("NODE",), "join the link between a node and its devices again"),
    "line": Grammar(
        ("MEMBER", "[WEATHER...]"),
        "have the line between a node and its peers be cut, silent, or with delay=SECONDS, rate=BYTES and "
        "loss=SHARE; for what it sends alone with `sent`, or gets with `got`; as it was without a word",
    ),
    "await": Grammar(("AE", "SEEN..."), "wait until an AE title finds studies so, like CT-3x10=NEARLINE"),
    "copies": Grammar(
        ("COUNT",), "have every member of the grid ask for so many copies of its studies, at as many sites"
    ),
    "kept": Grammar((), "wait until every study is at as many sites as its rule demands"),
    "digests": Grammar((), "wait until all members hold the others' catalogs with equal digests"),
    "level": Grammar((), "wait until all nodes that run find the same in the grid"),
    "check": Grammar(
        ("PLACE",), "fetch all that a node ever acknowledged, or at ALPHA_GRID all nodes, and compare it"
    ),
    "traffic": Grammar(
        ("SCENARIO",),
        "begin the traffic of a scenario, a TOML file without its ending, at nodes called as its sites",
    ),
    "day": Grammar(("COUNT",), "wait until that day of the traffic begins"),
    "over": Grammar((), "wait until all of the traffic was taken"),
    "pass": Grammar(("COUNT",), "let so many seconds pass"),
    "settle": Grammar((), "wait until no node works on anything"),
}
"""Every command of a play."""


def parse(text: str, source: str) -> list[Scene]:
    """Return the scenes of a play.

    Raises:
        BadRequest: a line cannot be understood; it is named.
    """
    reader = _Reader(source)
    scenes, scene = [], Scene()
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if scene.expected is not None:
            if stripped:
                scene.expected.append(line.rstrip())
                continue
            scenes.append(scene)
            scene = Scene()
        if stripped == RULE:
            scene.expected = []
            continue
        scene.lines.append(line.rstrip())
        if stripped and not stripped.startswith("#"):
            scene.commands.append(reader.command(number, stripped))
    return [*scenes, scene]


def written(scenes: Sequence[Scene]) -> str:
    """Return the text of scenes; `parse` gives them back."""
    parts = []
    for scene in scenes:
        lines = list(scene.lines)
        if scene.expected is not None:
            lines += [RULE, *scene.expected]
        parts.append("\n".join(lines))
    return "\n".join(parts).rstrip("\n") + "\n"


def study_of(word: str) -> tuple[str, int, int]:
    """Return kind, series and instances of a word like CT-3x10; 0 where an examination is as it is.

    Raises:
        ValueError: it is no such word.
    """
    matched = _STUDY.fullmatch(word)
    known = {*KINDS, *EXAMINATIONS}
    if not matched or matched["kind"] not in known:
        raise ValueError(f"{word!r} is no study; write for example CT-3x10, RT or CT-3x10#2")
    if matched["series"] is None:
        if matched["kind"] not in EXAMINATIONS:
            raise ValueError(f"{word!r} needs its series and instances: {word}-1x1")
        return matched["kind"], 0, 0
    if matched["kind"] not in KINDS or not (int(matched["series"]) and int(matched["instances"])):
        raise ValueError(f"{word!r} is no study; there are series of {', '.join(KINDS)}")
    return matched["kind"], int(matched["series"]), int(matched["instances"])


def weather_of(words: Sequence[str]) -> tuple[Weather, Weather] | None:
    """Return the weather for what is sent and got over a line; None: it is cut.

    Raises:
        ValueError: the words say no weather.
    """
    ways = [word for word in words if word in ("sent", "got")]
    said = [word for word in words if word not in ways]
    if "cut" in said:
        if len(words) > 1:
            raise ValueError("a line is cut both ways; to lose one way write silent sent or silent got")
        return None
    if len(ways) > 1 or (ways and not said):
        raise ValueError("one way is sent or got; write for example silent sent")
    numbers = {"delay": 0.0, "rate": 0.0, "loss": 0.0}
    for word in said:
        name, _, number = word.partition("=")
        if name in numbers and re.fullmatch(r"\d+(\.\d+)?", number):
            numbers[name] = float(number)
        elif word != "silent":
            raise ValueError(f"{word!r} is no weather of a line; write for example delay=0.2, or silent")
    weather = Weather(**numbers, is_silent="silent" in said)
    return weather if "got" not in ways else CALM, weather if "sent" not in ways else CALM


class _Reader:
    """Reads commands in their order, and knows which nodes there are by then."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._nodes: list[str] = []
        self._members: list[str] = []
        self._has_traffic = False

    def command(self, number: int, text: str) -> Command:
        verb, *words = text.split()
        if verb not in VERBS:
            close = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.5)
            hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(VERBS)}."
            self._refuse(number, f"there is no command {verb!r}.", hint)
        usage = VERBS[verb].usage
        is_open = any("..." in word for word in usage)
        least = sum(not word.startswith("[") for word in usage)
        if len(words) < least or (len(words) > len(usage) and not is_open):
            self._refuse(
                number, f"{verb} cannot be said with {len(words)} words.", f"Write: {verb} {' '.join(usage)}"
            )
        for place, word in enumerate(words):
            what = usage[min(place, len(usage) - 1)].strip("[.]")
            try:
                getattr(self, f"_check_{what.lower()}")(word)
            except ValueError as error:
                self._refuse(number, f"{error}.", f"{verb}: {VERBS[verb].means}.")
        try:
            if verb == "line":
                weather_of(words[1:])
        except ValueError as error:
            self._refuse(number, f"{error}.", f"{verb}: {VERBS[verb].means}.")
        if verb in ("day", "over") and not self._has_traffic:
            self._refuse(number, f"there is no traffic for {verb!r}.", "Write before: traffic four-hospitals")
        if verb in ("copies", "kept", "digests") and not self._members:
            self._refuse(number, f"there is no grid for {verb!r}.", "Write before: grid alpha beta")
        if verb == "grid":
            self._members += words
        return Command(number, verb, tuple(words))

    def _refuse(self, number: int, what: str, remedy: str) -> NoReturn:
        raise BadRequest(f"{self._source}, line {number}: {what}", remedy)

    def _check_new(self, word: str) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,9}", word):
            raise ValueError(
                f"{word!r} cannot be the name of a node; write a word of small letters, at most ten"
            )
        if word in self._nodes:
            raise ValueError(f"there is a node {word} already")
        self._nodes.append(word)

    def _check_node(self, word: str) -> None:
        if word not in self._nodes:
            close = difflib.get_close_matches(word, self._nodes, n=1)
            hint = (
                f"did you mean {close[0]}" if close else f"there are {', '.join(self._nodes) or 'none yet'}"
            )
            raise ValueError(f"there is no node {word!r}; {hint}")

    def _check_member(self, word: str) -> None:
        self._check_node(word)
        if word not in self._members:
            raise ValueError(f"{word} is in no grid; write for example: grid {word} other")

    def _check_place(self, word: str) -> None:
        (self._check_ae if word.endswith("_GRID") else self._check_node)(word)

    def _check_ae(self, word: str) -> None:
        self._check_node(word.removesuffix("_GRID").lower())
        if word != word.upper():
            raise ValueError(f"{word!r} is no AE title; write {word.upper()}")

    def _check_study(self, word: str) -> None:
        study_of(word)

    def _check_seen(self, word: str) -> None:
        name, _, availability = word.partition("=")
        self._check_study(name)
        if availability not in AVAILABILITIES:
            raise ValueError(f"{word!r} lacks where it is; write {name}={' or '.join(AVAILABILITIES)}")

    def _check_weather(self, word: str) -> None:
        if word not in ("sent", "got"):
            weather_of([word])

    def _check_scenario(self, word: str) -> None:
        path = SCENARIOS / f"{word}.toml"
        if not path.is_file():
            known = sorted(each.stem for each in SCENARIOS.glob("*.toml"))
            raise ValueError(f"there is no scenario {word!r}; there are {', '.join(known)}")
        for site in scenario.read(path).sites:
            self._check_node(site)
        self._has_traffic = True

    def _check_skew(self, word: str) -> None:
        if not re.fullmatch(r"[+-]\d+[smhd]", word):
            raise ValueError(f"{word!r} is nothing that a clock can be off; write for example +2h or -40m")

    def _check_count(self, word: str) -> None:
        if not word.isdecimal():
            raise ValueError(f"{word!r} is no number")

    def _check_key(self, word: str) -> None:
        from pydicom.datadict import tag_for_keyword

        if tag_for_keyword(word.partition("=")[0]) is None:
            raise ValueError(f"{word.partition('=')[0]!r} is not the keyword of a Data Element")

    def _check_setting(self, word: str) -> None:
        if not re.fullmatch(r"[a-z_]+\.[a-z_]+=.+", word):
            raise ValueError(f"{word!r} is no setting; write for example storage.quota_mb=1")
