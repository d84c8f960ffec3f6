"""Scores a de-identified set by the action table of the MIDI-B challenge's validation script."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset

from tests.anonymizer.midi_set import BOX, Check, Instance

_STOPWORDS = frozenset(re.findall("[a-z]+", "for by with without the a an of and in on at to from"))
_MISSING_PASSES = frozenset(("text_removed", "date_shifted", "uid_changed", "pixels_hidden"))

Find = Callable[[Instance], "Dataset | None"]


@dataclass
class Score:
    """How many checks passed; which failed, by action."""

    passed: int = 0
    asked: int = 0
    failures: list[tuple[str, Check]] = field(default_factory=list)

    @property
    def percent(self) -> float:
        return 100 * self.passed / self.asked

    @property
    def by_action(self) -> Counter[str]:
        return Counter(check.action for _, check in self.failures)


def score(instances: list[Instance], find: Find, uids: dict[str, str], patients: dict[str, str]) -> Score:
    """`find` gives the output of an instance (None if held back); `uids`, `patients` map old to new."""
    result = Score()
    for instance in instances:
        output = find(instance)
        for check in instance.checks:
            result.asked += 1
            if _passes(check, output, uids, patients):
                result.passed += 1
            else:
                result.failures.append((instance.path.name, check))
    return result


def lookup(dataset: Dataset, path: str) -> Any:
    """The value at a tag path of the challenge; None if nothing is there."""
    private = re.fullmatch(r'<\(([0-9a-f]{4}),"(.+)",([0-9a-f]{2})\)>', path)
    if private:
        try:
            block = dataset.private_block(int(private[1], 16), private[2])
            return block[int(private[3], 16)].value
        except KeyError:
            return None
    place: Any = dataset
    for group, element, index in re.findall(r"<\(([0-9a-f]{4}),([0-9a-f]{4})\)>(?:\[<(\d{4})>\])?", path):
        tag = int(group + element, 16)
        if tag not in place:
            return None
        value = place[tag].value
        if not index:
            return value if value is not None else ""
        if int(index) >= len(value):
            return None
        place = value[int(index)]
    return None


def _passes(check: Check, output: Dataset | None, uids: dict[str, str], patients: dict[str, str]) -> bool:
    if output is None:
        return check.action in _MISSING_PASSES
    if check.action == "pixels_hidden":
        return _is_hidden(output)
    if check.action == "pixels_retained":
        return hashlib.md5(output.PixelData).hexdigest() == check.text
    value = lookup(output, check.path)
    text = _text(value)
    if check.action == "tag_retained":
        return value is not None
    if check.action == "text_notnull":
        return bool(text)
    if check.action == "text_retained":
        return _is_retained(check.text, text)
    if check.action == "text_removed":
        return value is None or not any(token in text.lower() for token in _tokens(check.text))
    if check.action in ("date_shifted", "uid_changed"):
        return value is None or check.text not in text
    mapping = patients if check.action == "patid_consistent" else uids
    return value is None or text == mapping.get(check.value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return "\\".join(str(v) for v in value) if hasattr(value, "append") else str(value)


def _tokens(text: str) -> list[str]:
    words = re.split(r"[\s^=,;:\\]+", text.lower())
    return [word for word in words if len(word) > 1 and word not in _STOPWORDS]


def _is_retained(wanted: str, text: str) -> bool:
    if wanted in text:
        return True
    try:
        return [float(v) for v in wanted.split("\\")] == [float(v) for v in text.split("\\")]
    except ValueError:
        return all(token in text.lower() for token in _tokens(wanted))


def _is_hidden(output: Dataset) -> bool:
    """Without OCR: an area of one shade shows no word."""
    left, top, width, height = BOX
    planar = output.get("PlanarConfiguration", 0) if output.SamplesPerPixel > 1 else 0
    size = output.BitsAllocated // 8 * (1 if planar else output.SamplesPerPixel)
    plane = output.Rows * output.Columns * size
    for start in range(0, len(output.PixelData) // plane * plane, plane):
        for row in range(top, top + height):
            at = start + (row * output.Columns + left) * size
            line = output.PixelData[at : at + width * size]
            if line != line[:size] * width:
                return False
    return True
