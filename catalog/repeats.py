"""Describing many instances: what the bytes of one have in common with those before is decoded once.

An element that was seen with the same bytes under the same circumstances (character set, pixel
representation, private creators) means the same, and has the same search terms. The slices of a series
differ in a dozen of their hundreds of elements, and the studies of a modality in not many more.
"""

from __future__ import annotations

import struct
from itertools import chain, repeat
from typing import Any, Final, NamedTuple

from .dataset import describe
from .elements import (
    CHARACTER_SET,
    PIXEL_DATA,
    UNDEFINED,
    Coding,
    MoreNeeded,
    actual_coding,
    end_of_sequence,
    nested,
    syntax,
)
from .errors import Unreadable
from .model import Attributes
from .terms import terms_of

_LONGEST: Final = 1024
"""Bytes of an element that is worth remembering."""
_REMEMBERED: Final = 4096
"""Elements in each of two generations: those of the older one that are not met again are forgotten."""
_CIRCUMSTANCES: Final = frozenset((CHARACTER_SET, 0x00280103))
"""Specific Character Set and Pixel Representation; private creators are too."""
_TAGS: Final = {order: struct.Struct(order + "HH") for order in "<>"}
_REFERENCE: Final = "BulkDataURI"


class Described(NamedTuple):
    """What an instance says, and the search terms of it."""

    attributes: Attributes
    terms: list[str]


class _Known(NamedTuple):
    tag: str
    element: dict[str, Any]
    terms: tuple[str, ...]


class _Step(NamedTuple):
    """One element of the instance before this one: its bytes, what they mean, under what, and what after."""

    raw: bytes
    known: _Known | None
    before: bytes
    after: bytes


_NOTHING: Final = _Step(b"", None, b"nothing is expected", b"")


class _Unknown(NamedTuple):
    place: int
    start: int


class Describer:
    """Describes instances as `describe` does; one thread at a time."""

    def __init__(self) -> None:
        self._young: dict[bytes, _Known] = {}
        self._old: dict[bytes, _Known] = {}
        self._last: list[_Step] = []

    def describe(self, data: memoryview, TransferSyntaxUID: str, total: int) -> Described:
        """Return what `describe` does; elements are shared between results, so nobody may change them.

        Raises:
            Unreadable, MoreNeeded: as `describe` does.
        """
        promised, is_deflated = syntax(TransferSyntaxUID)
        if not is_deflated and actual_coding(data, 0, promised, total) is promised:
            try:
                return self._by_element(_Source(data, TransferSyntaxUID, promised, total))
            except (Unreadable, struct.error):
                # What is odd about it is for the whole reader to judge.
                pass
        attributes = describe(data, TransferSyntaxUID, total)
        return Described(attributes, list(terms_of(attributes)))

    def _by_element(self, source: _Source) -> Described:
        steps, unknown = self._steps(source)
        if unknown:
            self._learn(source, steps, unknown)
        self._last = steps
        attributes = {step.known.tag: step.known.element for step in steps if step.known}
        attributes.update(source.tail())
        return Described(attributes, [term for step in steps if step.known for term in step.known.terms])

    def _steps(self, source: _Source) -> tuple[list[_Step], list[_Unknown]]:
        steps: list[_Step] = []
        unknown: list[_Unknown] = []
        blob, context, offset = source.blob, source.context, 0
        for expected in chain(self._last, repeat(_NOTHING)):
            # The same bytes in the same place: not even their header need be looked at.
            if expected.before == context and blob.startswith(expected.raw, offset):
                step = expected
            elif (stop := source.end_of(offset)) is None:
                break
            else:
                step = self._step(source, blob[offset:stop], context)
                if step.known is None:
                    unknown.append(_Unknown(len(steps), offset))
            steps.append(step)
            offset += len(step.raw)
            context = step.after
        source.end = offset
        return steps, unknown

    def _step(self, source: _Source, raw: bytes, context: bytes) -> _Step:
        key = context + raw
        known = self._young.get(key)
        if known is None and (known := self._old.get(key)) is not None:
            self._young[key] = known
        return _Step(raw, known, context, key if source.is_circumstance(raw) else context)

    def _learn(self, source: _Source, steps: list[_Step], unknown: list[_Unknown]) -> None:
        """Describe the elements that are new, in a data set of their own with their circumstances."""
        starts = dict(unknown)
        parts: list[bytes] = []
        moved: dict[int, int] = {}
        position = 0
        for place, step in enumerate(steps):
            if place in starts or step.after is not step.before:
                moved[place] = starts.get(place, 0) - position
                parts.append(step.raw)
                position += len(step.raw)
        data = memoryview(b"".join(parts))
        attributes = describe(data, source.TransferSyntaxUID, len(data))
        for place in starts:
            step = steps[place]
            tag = source.tag_of(step.raw)
            if (element := attributes.get(tag)) is not None:
                known = self._known(step, tag, element, moved[place])
                # A reference is true of one place only, so nobody may expect it again.
                before = _NOTHING.before if _REFERENCE in element else step.before
                steps[place] = step._replace(known=known, before=before)
        if len(self._young) > _REMEMBERED:
            self._old, self._young = self._young, {}

    def _known(self, step: _Step, tag: str, element: dict[str, Any], distance: int) -> _Known:
        if element["vr"] == "SQ" and _refers(element):
            raise struct.error("a reference inside a sequence")
        known = _Known(tag, _moved(element, distance), tuple(terms_of({tag: element})))
        if len(step.raw) <= _LONGEST and _REFERENCE not in element:
            self._young[step.before + step.raw] = known
        return known


class _Source:
    """The bytes of a data set, element by element up to its pixels."""

    def __init__(self, data: memoryview, TransferSyntaxUID: str, coding: Coding, total: int) -> None:
        self.TransferSyntaxUID = TransferSyntaxUID
        self.blob = data.tobytes()
        self.context = coding.order.encode() + (b"I" if coding.is_implicit else b"E")
        self.end = 0
        """Where the pixels begin."""
        self._data = data
        self._coding = coding
        self._total = total

    def end_of(self, offset: int) -> int | None:
        """Return the end of the element at `offset`; None where the pixels or the end are.

        Raises:
            struct.error: it is not all here.
        """
        if offset >= self._total:
            return None
        tag, letters, stop, length = self._coding.header(self._data, offset)
        if tag in PIXEL_DATA:
            return None
        if length == UNDEFINED:
            stop = end_of_sequence(self._data, stop, nested(self._coding, letters), self._total)
        else:
            stop += length
        if stop > len(self._data):
            raise struct.error("more is needed")
        return stop

    def is_circumstance(self, raw: bytes) -> bool:
        """Say whether the meaning of other elements depends on this one."""
        tag = self._tag(raw)
        return tag in _CIRCUMSTANCES or (tag & 0x10000 != 0 and tag & 0xFFFF <= 0xFF)

    def _tag(self, raw: bytes) -> int:
        group, element = _TAGS[self._coding.order].unpack_from(raw)
        return int(group << 16 | element)

    def tag_of(self, raw: bytes) -> str:
        """Return the tag of an element's bytes as DICOM JSON has it."""
        return f"{self._tag(raw):08X}"

    def tail(self) -> Attributes:
        """Return the attributes of what begins with the pixels."""
        if self.end >= self._total:
            return {}
        try:
            tail = describe(self._data[self.end :], self.TransferSyntaxUID, self._total - self.end)
        except MoreNeeded as more:
            raise MoreNeeded(more.size + self.end) from None
        return {tag: _moved(element, self.end) for tag, element in tail.items()}


def _moved(element: dict[str, Any], distance: int) -> dict[str, Any]:
    if _REFERENCE not in element:
        return element
    offset, length = element[_REFERENCE][1:].split(",")
    return {**element, _REFERENCE: f"#{int(offset) + distance},{length}"}


def _refers(element: dict[str, Any]) -> bool:
    return any(
        _REFERENCE in inner or (inner["vr"] == "SQ" and _refers(inner))
        for item in element.get("Value") or ()
        for inner in item.values()
    )
