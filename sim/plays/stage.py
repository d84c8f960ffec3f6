"""Acts a play: carries out its commands on real nodes and writes the transcript that they give.

A transcript tells of studies by the words of the play, never of UIDs, times or ports, so that it is the same
every time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Self

from ..association import STUDY_ROOT_FIND, STUDY_ROOT_GET, Association
from ..examinations import EXAMINATIONS, examination, instances_of
from ..pdu import Address, ProtocolError, identifier, value
from ..phantoms import Instance, Study, study
from ..servers import ServerError, settle
from ..targets import RECEIVED, REFUSALS, Target, reason
from .actors import Actor, enrol
from .script import Command, study_of


class Stage:
    """Where a play is acted; a context manager that leaves nothing behind."""

    def __init__(self, seed: int = 1) -> None:
        self._seed = seed
        self._folder = tempfile.TemporaryDirectory(prefix="play")
        self._actors: dict[str, Actor] = {}
        self._studies: dict[str, list[Instance]] = {}
        self._words: dict[str, str] = {}
        self._corrected: set[tuple[str, str]] = set()
        self._taken: dict[str, dict[str, set[str]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for actor in self._actors.values():
            actor.close()
        self._folder.cleanup()

    def act(self, command: Command) -> list[str]:
        """Carry out one command; return what there is to tell.

        Raises:
            ServerError: a node did not start, stop or obey.
        """
        does: Callable[..., list[str]] = getattr(self, f"_{command.verb}")
        return does(*command.words)

    def _node(self, name: str, *settings: str) -> list[str]:
        told = dict(setting.split("=", 1) for setting in settings)
        actor = Actor(Path(self._folder.name) / name, name, told)
        self._actors[name] = actor
        self._taken[name] = {}
        actor.start()
        return []

    def _grid(self, *names: str) -> list[str]:
        for name in names:
            self._node(name)
        founder, *others = (self._actors[name] for name in names)
        enrol(founder, others)
        return []

    def _send(self, name: str, *words: str) -> list[str]:
        return [line for word in words for line in self._sent(name, word)]

    def _sent(self, name: str, word: str, until: int = -1) -> list[str]:
        whole = self._instances(word)
        taken = self._taken[name].setdefault(word, set())
        count, why = 0, ""
        target = Target(name=name, address=self._actors[name].door, timeout=20.0, calling="MODALITY")
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

    def _settle(self) -> list[str]:
        settle([actor for actor in self._actors.values() if actor.is_running])
        return []

    def _find(self, ae_title: str, *keys: str) -> list[str]:
        asked = {keyword: text for keyword, _, text in (key.partition("=") for key in keys)}
        shown = [key for key in asked if not asked[key]]
        question = identifier("STUDY", **{"StudyInstanceUID": "", **asked})
        try:
            with Association(self._at(ae_title), [STUDY_ROOT_FIND], timeout=20.0) as association:
                answers = association.find(question)
        except REFUSALS as error:
            return [f"{ae_title} did not answer; {reason(error)}"]
        lines = sorted(
            " ".join(
                (
                    self._words.get(value(each, "StudyInstanceUID"), "a study nobody sent"),
                    *(f"{key}={value(each, key)}" for key in shown),
                )
            )
            for each in answers
        )
        noun = "study" if len(lines) == 1 else "studies"
        return [f"{len(lines)} {noun}" + (": " if lines else "") + "; ".join(lines)]

    def _get(self, ae_title: str, word: str) -> list[str]:
        whole = self._instances(word)
        try:
            found = self._fetched(self._at(ae_title), self._uid(word))
        except REFUSALS as error:
            return [f"{ae_title} gave nothing of {word}; {reason(error)}"]
        same = len(found & {_digest(each) for each in whole})
        other = len(found) - same
        changed = f", {other} with other bytes" if other else ""
        return [f"{ae_title} gave {same} of {len(whole)} of {word} as they were sent{changed}"]

    def _fetched(self, address: Address, uid: str) -> set[str]:
        digests: list[str] = []
        with Association(address, [STUDY_ROOT_GET], receives=RECEIVED, timeout=20.0) as association:
            got = association.get(identifier("STUDY", StudyInstanceUID=uid), digests)
        if got.status:
            raise ProtocolError(f"The C-GET ended with status {got.status:04X}.")
        return set(digests)

    def _correct(self, name: str, word: str, *keys: str) -> list[str]:
        self._corrected.add((name, word))
        return self._decide("correct", name, word, *keys)

    def _reject(self, name: str, word: str) -> list[str]:
        self._taken[name].pop(word, None)
        return self._decide("reject", name, word)

    def _delete(self, name: str, word: str) -> list[str]:
        self._taken[name].pop(word, None)
        return self._decide("delete", name, word, "--yes")

    def _decide(self, verb: str, name: str, word: str, *more: str) -> list[str]:
        try:
            self._actors[name].say(verb, self._uid(word), *more, "--reason", "the play")
        except ServerError as error:
            return [str(error).replace(self._uid(word), word).splitlines()[0]]
        return []

    def _check(self, name: str) -> list[str]:
        lost, kept = 0, 0
        for word, taken in self._taken[name].items():
            found = self._fetched(self._actors[name].door, self._uid(word)) if taken else set()
            wanted = {_digest(each) for each in self._instances(word) if each.SOPInstanceUID in taken}
            # What leaves corrected has other bytes: it can only be counted.
            is_changed = (name, word) in self._corrected
            lost += max(0, len(wanted) - len(found)) if is_changed else len(wanted - found)
            kept += len(wanted)
        return [f"{name} has lost nothing that it took" if not lost else f"{name} has lost {lost} of {kept}"]

    def _at(self, ae_title: str) -> Address:
        actor = self._actors[ae_title.removesuffix("_GRID").lower()]
        return actor.door._replace(ae_title=ae_title)

    def _uid(self, word: str) -> str:
        self._instances(word)
        return next(uid for uid, known in self._words.items() if known == word)

    def _instances(self, word: str) -> Sequence[Instance]:
        if word not in self._studies:
            parts = self._described(word, len(self._studies) + 1)
            self._words[parts[0].StudyInstanceUID] = word
            made = list(instances_of(parts))
            self._studies[word] = made
        return self._studies[word]

    def _described(self, word: str, number: int) -> tuple[Study, ...]:
        kind, series, count = study_of(word)
        if not series:
            assert kind in EXAMINATIONS
            return examination(self._seed, number, kind, is_small=True)
        day = f"202401{1 + Random(number).randrange(28):02d}"
        described = study(
            self._seed, number, modality=kind, series=series, instances=count, size=40_000, StudyDate=day
        )
        return (described,)


def _digest(instance: Instance) -> str:
    digest = sha256()
    for piece in instance.data_set():
        digest.update(piece)
    return digest.hexdigest()
