"""Acts a play: carries out its commands on real nodes and writes the transcript that they give.

A transcript tells of studies by the words of the play, never of UIDs, times or ports, so that it is the same
every time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from ..association import STUDY_ROOT_FIND, Association
from ..pdu import Address, identifier, value
from ..servers import ServerError, settle, wait
from ..targets import REFUSALS, Target, reason
from ..traffic import scenario
from .actors import Actor, befriend, enrol
from .agreement import differing, have_copies, kept
from .digests import digest, fetched
from .script import SCENARIOS, Command, weather_of
from .studies import Studies
from .traffic import Traffic

_PATIENCE: Final = 90.0
"""Seconds until what a play waits for is said not to be so."""
_ONE_REGION: Final = "node.issuer=PHANTOMS"
"""Hospitals number patients as their phantoms do, so that what one gives for another is as it was sent."""
_KNOWN: Final = ("PatientID", "PatientName", "StudyDate")
_COUNTED: Final = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")


class Stage:
    """Where a play is acted; a context manager that leaves nothing behind."""

    def __init__(self, seed: int = 1, kind: type[Actor] = Actor) -> None:
        """`kind` is what its nodes are: processes, or such as are stepped."""
        self._kind = kind
        self._folder = tempfile.TemporaryDirectory(prefix="play")
        self._actors: dict[str, Actor] = {}
        self._studies = Studies(seed)
        self._corrected: set[tuple[str, str]] = set()
        self._taken: dict[str, dict[str, set[str]]] = {}
        self._sending: Traffic | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # All of it, whatever fails: a node that is left would go on, and its folder could not be removed.
        with ExitStack() as ends:
            ends.callback(self._folder.cleanup)
            for actor in self._actors.values():
                ends.callback(actor.close)
            if self._sending:
                ends.callback(self._sending.close)

    @property
    def traffic(self) -> Traffic | None:
        """The traffic that was begun last, if any was."""
        return self._sending

    @property
    def members(self) -> list[Actor]:
        """The nodes of the grid that run."""
        return [actor for actor in self._actors.values() if actor.is_running and actor.line]

    def act(self, command: Command) -> list[str]:
        """Carry out one command; return what there is to tell.

        Raises:
            ServerError: a node did not start, stop or obey.
        """
        does: Callable[..., list[str]] = getattr(self, f"_{command.verb}")
        return does(*command.words)

    def _node(self, name: str, *settings: str) -> list[str]:
        self._begin(name, settings, has_line=False)
        return []

    def _begin(self, name: str, settings: Sequence[str], *, has_line: bool) -> Actor:
        actor = self._kind(Path(self._folder.name) / name, name, _read(settings), has_line=has_line)
        self._actors[name] = actor
        self._taken[name] = {}
        actor.start()
        return actor

    def _grid(self, *names: str) -> list[str]:
        members = [self._begin(name, [_ONE_REGION], has_line=True) for name in names]
        enrol(members[0], members[1:])
        befriend(members)
        return []

    def _send(self, name: str, *words: str) -> list[str]:
        return [line for word in words for line in self._sent(name, word)]

    def _sent(self, name: str, word: str, until: int = -1) -> list[str]:
        whole = self._studies.instances(word)
        taken = self._taken[name].setdefault(word, set())
        count, why = 0, ""
        target = self._target(self._actors[name].door)
        try:
            for stored in target.store(whole):
                taken.add(stored.SOPInstanceUID)
                count += 1
                if count == until:
                    self._actors[name].kill()
        except REFUSALS as error:
            why = f"; {reason(error)}"
        if until < 0 or count < until or not why:
            return [f"{name} took {count} of {len(whole)} of {word}{why}"]
        # Whether one more was answered before the end is chance.
        return [f"{name} took {until} of {len(whole)} of {word} and was killed"]

    def _kill(self, name: str, count: str, word: str) -> list[str]:
        return self._sent(name, word, until=int(count))

    def _crash(self, name: str) -> list[str]:
        self._actors[name].kill()
        return []

    def _set(self, name: str, *settings: str) -> list[str]:
        self._actors[name].settings |= _read(settings)
        return self._restart(name)

    def _clock(self, name: str, skew: str) -> list[str]:
        self._actors[name].skew = skew
        return self._restart(name)

    def _restart(self, name: str) -> list[str]:
        return self._stop(name) + self._start(name)

    def _line(self, name: str, *words: str) -> list[str]:
        line, weather = self._actors[name].line, weather_of(words)
        assert line
        if weather is None:
            line.cut()
        else:
            line.heal()
            line.be(*weather)
        return []

    def _stop(self, name: str) -> list[str]:
        self._actors[name].stop()
        return []

    def _start(self, name: str) -> list[str]:
        self._actors[name].start()
        return []

    def _cut(self, name: str) -> list[str]:
        self._actors[name].link.cut()
        return []

    def _heal(self, name: str) -> list[str]:
        self._actors[name].link.heal()
        return []

    def _traffic(self, name: str) -> list[str]:
        played = scenario.read(SCENARIOS / f"{name}.toml")
        self._sending = Traffic(
            played, {site: self._target(self._actors[site].door) for site in played.sites}
        )
        return []

    def _day(self, day: str) -> list[str]:
        assert self._sending
        self._sending.wait_for_day(int(day))
        return []

    def _over(self) -> list[str]:
        assert self._sending
        return self._sending.end()

    def _pass(self, seconds: str) -> list[str]:
        time.sleep(int(seconds))
        return []

    def _settle(self) -> list[str]:
        settle([actor for actor in self._actors.values() if actor.is_running])
        return []

    def _await(self, ae_title: str, *seen: str) -> list[str]:
        wanted = dict(word.split("=") for word in seen)
        now = dict.fromkeys(wanted, "")

        def is_so() -> bool:
            now.update({word: self._availability(ae_title, word) for word in wanted})
            return now == wanted

        with suppress(ServerError):
            wait(is_so, _PATIENCE, pause=0.2)
        return [f"{ae_title} finds " + "; ".join(f"{word} {where}" for word, where in now.items())]

    def _availability(self, ae_title: str, word: str) -> str:
        """Say where an AE title finds a study, and whether it lacks any of what was taken of it."""
        keys = {"StudyInstanceUID": self._studies.uid(word), "InstanceAvailability": "", _COUNTED[1]: ""}
        try:
            answers = self._asked(ae_title, keys)
        except REFUSALS as error:
            return reason(error)
        if not answers:
            return "not at all"
        whole = set[str]().union(*(taken.get(word, ()) for taken in self._taken.values()))
        count = int(value(answers[0], _COUNTED[1]) or 0)
        lacking = f" with {count} of {len(whole)} instances" if count < len(whole) else ""
        return value(answers[0], "InstanceAvailability") + lacking

    def _asked(self, ae_title: str, keys: Mapping[str, str]) -> list[bytes]:
        with Association(self._at(ae_title), [STUDY_ROOT_FIND], timeout=20.0) as association:
            return association.find(identifier("STUDY", **keys))

    def _copies(self, count: str) -> list[str]:
        have_copies(self.members, int(count))
        return []

    def _kept(self) -> list[str]:
        return kept(self.members, _PATIENCE)

    def _digests(self) -> list[str]:
        members, differ = self.members, ["nobody was asked"]

        def is_so() -> bool:
            differ[:] = differing(members)
            return not differ

        with suppress(ServerError):
            wait(is_so, _PATIENCE, pause=1.0)
        if differ:
            return [f"digests differ: {'; '.join(differ)}"]
        return [f"{_listed([each.called for each in members])} hold each other's catalogs with equal digests"]

    def _level(self) -> list[str]:
        running = self.members
        known: dict[str, list[list[str]]] = {actor.called: [] for actor in running}

        def are_so() -> bool:
            known.update({actor.called: self._known(actor) for actor in running})
            first, *others = known.values()
            return all(rows == first for rows in others)

        try:
            wait(are_so, _PATIENCE, pause=0.2)
        except ServerError:
            counts = "; ".join(f"{name} {len(rows)}" for name, rows in known.items())
            return [f"{_listed([*known])} do not find the same: {counts}"]
        return [f"{_listed([*known])} find the same {len(known[running[0].called])} studies"]

    def _known(self, actor: Actor) -> list[list[str]]:
        """Return what a member of a grid finds in it; one row that names the member if it does not answer."""
        keys = dict.fromkeys(("StudyInstanceUID", *_KNOWN, *_COUNTED), "")
        place, dates = f"{actor.address.ae_title}_GRID", self._sending.dates() if self._sending else [""]
        try:
            found = [each for day in dates for each in self._asked(place, keys | {"StudyDate": day})]
        except REFUSALS as error:
            return [[actor.called, reason(error)]]
        return sorted([value(each, key) for key in keys] for each in found)

    def _find(self, ae_title: str, *keys: str) -> list[str]:
        asked = {keyword: text for keyword, _, text in (key.partition("=") for key in keys)}
        shown = [key for key in asked if not asked[key]]
        try:
            answers = self._asked(ae_title, {"StudyInstanceUID": "", **asked})
        except REFUSALS as error:
            return [f"{ae_title} did not answer; {reason(error)}"]
        lines = sorted(
            " ".join(
                (
                    self._studies.word(value(each, "StudyInstanceUID")),
                    *(f"{key}={value(each, key)}" for key in shown),
                )
            )
            for each in answers
        )
        noun = "study" if len(lines) == 1 else "studies"
        return [f"{len(lines)} {noun}" + (": " if lines else "") + "; ".join(lines)]

    def _get(self, ae_title: str, word: str) -> list[str]:
        whole = self._studies.instances(word)
        try:
            found = fetched(self._at(ae_title), self._studies.uid(word))
        except REFUSALS as error:
            return [f"{ae_title} gave nothing of {word}; {reason(error)}"]
        same = len(found & {digest(each) for each in whole})
        other = len(found) - same
        changed = f", {other} with other bytes" if other else ""
        return [f"{ae_title} gave {same} of {len(whole)} of {word} as they were sent{changed}"]

    def _correct(self, name: str, word: str, *keys: str) -> list[str]:
        self._corrected.add((name, word))
        return self._decide("correct", name, word, *keys)

    def _reject(self, name: str, word: str) -> list[str]:
        self._taken[name].pop(word, None)
        return self._decide("reject", name, word)

    def _delete(self, name: str, word: str) -> list[str]:
        self._taken[name].pop(word, None)
        return self._decide("delete", name, word, "--yes")

    def _erase(self, name: str, word: str) -> list[str]:
        self._taken[name].pop(word, None)
        return self._decide("erase", name, word, "--yes")

    def _backup(self, name: str) -> list[str]:
        self._actors[name].back_up()
        return []

    def _restore(self, name: str) -> list[str]:
        actor = self._actors[name]
        actor.stop()
        actor.say("restore", str(actor.backups), "--replace")
        return self._start(name)

    def _decide(self, verb: str, name: str, word: str, *more: str) -> list[str]:
        try:
            self._actors[name].say(verb, self._studies.uid(word), *more, "--reason", "the play")
        except ServerError as error:
            return [str(error).replace(self._studies.uid(word), word).splitlines()[0]]
        return []

    def _check(self, place: str) -> list[str]:
        if place not in self._actors:
            lost, kept = self._lost(self._actors, self._at(place))
            told = [f"{place} gives all that was taken anywhere"]
            if lost:
                told = [f"{place} does not give {lost} of {kept} instances that were taken"]
            return (told if kept else []) + self._checked_traffic(place)
        lost, kept = self._lost([place], self._actors[place].door)
        if self._sending:
            missing, sent = self._sending.lost(place, self._target(self._actors[place].door))
            lost, kept = lost + missing, kept + sent
        return [
            f"{place} has lost nothing that it took" if not lost else f"{place} has lost {lost} of {kept}"
        ]

    def _checked_traffic(self, place: str) -> list[str]:
        if not self._sending:
            return []
        try:
            unseen, sent = self._sending.unseen(self._target(self._at(place)))
        except REFUSALS as error:
            return [f"{place} did not answer; {reason(error)}"]
        if unseen:
            return [f"{place} does not find {unseen} of {sent} instances of the traffic"]
        return [f"{place} finds all of the traffic"]

    def _lost(self, names: Iterable[str], address: Address) -> tuple[int, int]:
        """Count what an Application Entity does not give of what nodes took, and what they took."""
        lost, kept = 0, 0
        whole: dict[str, set[str]] = {}
        for name in names:
            for word, taken in self._taken[name].items():
                whole.setdefault(word, set()).update(taken)
        for word, taken in whole.items():
            found = set[str]()
            with suppress(*REFUSALS):
                found = fetched(address, self._studies.uid(word)) if taken else found
            wanted = {digest(each) for each in self._studies.instances(word) if each.SOPInstanceUID in taken}
            # What leaves corrected has other bytes: it can only be counted.
            is_changed = any((name, word) in self._corrected for name in names)
            lost += max(0, len(wanted) - len(found)) if is_changed else len(wanted - found)
            kept += len(wanted)
        return lost, kept

    def _target(self, address: Address) -> Target:
        return Target(name=address.ae_title, address=address, timeout=20.0, calling="MODALITY")

    def _at(self, ae_title: str) -> Address:
        actor = self._actors[ae_title.removesuffix("_GRID").lower()]
        return actor.door._replace(ae_title=ae_title)


def _read(settings: Sequence[str]) -> dict[str, str]:
    return dict(setting.split("=", 1) for setting in settings)


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
