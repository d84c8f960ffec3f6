"""Looks for what an instance was not to say in every byte of a finished file.

Separate from the engine: nothing here knows how a value was cleaned, only which values had to go. The
scan squeezes the file to letters and digits, in lower case, before it looks: one pass finds a name or
number in ASCII, Latin-1, UTF-8 and UTF-16, in any case and with any separators.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import permutations

from anonymizer.table import DATA

SHORTEST, LONG = 4, 8

_WORD = re.compile(r"[^\W_]+")
_ALPHANUMERIC = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NOT_ALPHANUMERIC = bytes(b for b in range(256) if b not in _ALPHANUMERIC)
_LOWER = bytes(b + 32 if 65 <= b <= 90 else b for b in range(256))
_FOLD = bytes(b + 32 if 65 <= b <= 90 or (192 <= b <= 222 and b != 215) else b for b in range(256))
_MEASURE = re.compile(r"\d{1,4}(\.\d+)?[a-z]{0,3}|[a-z]{1,3}\d{1,4}")
_DATE = re.compile(r"((?:18|19|20)\d\d)\.?(0[1-9]|1[0-2])\.?(0[1-9]|[12]\d|3[01])")
# What the engine itself writes into every file; a subject of that name is not found by it.
_MARKER_WORDS = " removed present unknown none peerpacs policy seal derived original de-identifying equipment"
_SPELLED: tuple[dict[int, str], ...] = (
    str.maketrans(
        {"ø": "o", "å": "a", "æ": "a", "œ": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
    ),
    str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe"}),
)
_DUMMY_DATES = ("19000101", "19010101")


@dataclass(slots=True)
class Needles:
    """Squeezed values that must not be found; `raw` are byte strings with letters beyond ASCII."""

    words: set[str] = field(default_factory=set)
    dates: set[str] = field(default_factory=set)
    raw: set[bytes] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)

    def __or__(self, other: Needles) -> Needles:
        return Needles(
            self.words | other.words, self.dates | other.dates, self.raw | other.raw, self.whole | other.whole
        )

    def __bool__(self) -> bool:
        return bool(self.words or self.dates or self.raw or self.whole)

    def update(self, other: Needles) -> None:
        """Takes the other's in."""
        self.words |= other.words
        self.dates |= other.dates
        self.raw |= other.raw
        self.whole |= other.whole

    def add_name(self, text: str) -> None:
        """A PN: each part that is no ordinary word, and any two parts run together."""
        for name in text.split("\\"):
            parts = _WORD.findall(name)
            self._add(part for part in parts if part.casefold() not in vocabulary())
            self._add("".join(pair) for pair in permutations(parts[:5], 2))

    def add_number(self, text: str) -> None:
        """An identifier: as it is, and its digits alone."""
        for number in text.split("\\"):
            squeezed = squeeze(number)
            self._add([number])
            if sum(c.isdigit() for c in squeezed) >= 6:
                self._add(["".join(c for c in squeezed if c.isdigit())])
            if 0 < len(squeezed) < SHORTEST:
                self.whole.add(squeezed)

    def add_date(self, text: str) -> None:
        """A DA or DT: year first, day first and month first."""
        for value in text.split("\\"):
            match = _DATE.match(value.strip())
            if match and "".join(match.groups()) not in _DUMMY_DATES:
                year, month, day = match.groups()
                self.dates |= {year + month + day, day + month + year, month + day + year}

    def add_text(self, text: str) -> None:
        """Free text or a label: every word that is no ordinary one and no measure."""
        for word in _WORD.findall(text):
            folded = word.casefold()
            if folded.rstrip("0123456789") not in vocabulary() and not _MEASURE.fullmatch(folded):
                self._add([word])

    def without(self, words: Iterable[str]) -> Needles:
        """These needles less `words`."""
        return Needles(self.words - set(words), self.dates, self.raw, self.whole)

    def _add(self, values: Iterable[str]) -> None:
        for value in values:
            if value.isascii():
                squeezed = squeeze(value)
                if len(squeezed) >= SHORTEST:
                    self.words.add(squeezed)
            else:
                self._add(_plain(value))
            if not value.isascii() and len(value.encode()) >= SHORTEST:
                for form in {value, value.lower(), value.upper(), value.title()}:
                    self.raw |= set(_encodings(form))


class Haystack:
    """A finished file and its path, in the forms that are searched; each is made when it is first needed.

    `rest` is what remains of the file without bulk data.
    """

    def __init__(self, data: bytes, names: bytes, rest: bytes) -> None:
        self._data = data
        self._names = names
        self.rest = rest

    @cached_property
    def everything(self) -> bytes:
        """All bytes as they are."""
        return self._data + self._names

    @cached_property
    def squeezed(self) -> bytes:
        """Letters and digits of all bytes, in lower case."""
        return b"".join(part.translate(_LOWER, _NOT_ALPHANUMERIC) for part in (self._data, self._names))

    @cached_property
    def folded(self) -> bytes:
        """All bytes in one form for both cases of Latin-1."""
        return _folded(self.everything)

    @cached_property
    def header(self) -> bytes:
        """What is no bulk data, in lower case."""
        return self.rest.translate(_LOWER, b"\0")

    def hits(self, needles: Needles, generated: str) -> list[str]:
        """The needles that are in the file, but for digits in `generated` UIDs, dates and pseudonyms."""
        made = squeeze(generated)
        found = [
            needle
            for needle in needles.words | needles.dates
            if self._holds(needle.encode(), made.count(needle))
        ]
        folded = {raw: _folded(raw) for raw in needles.raw}
        # Most of a value's forms are one when folded, and each look is one at the whole file.
        long = {fold for fold in set(folded.values()) if len(fold) >= LONG and fold in self.folded}
        return found + [repr(raw) for raw, fold in folded.items() if fold in long or self._has(raw, fold)]

    def _has(self, raw: bytes, fold: bytes) -> bool:
        """Whether what is short when folded is there: the shortest are in any noise, so not in pixels."""
        return len(fold) < LONG and raw in (self.everything if len(raw) >= LONG else self.rest)

    def _holds(self, needle: bytes, expected: int) -> bool:
        if len(needle) >= LONG:
            if needle not in self.squeezed:
                return False
            return self._count(needle, self.everything) > expected
        if needle not in self.header:
            return False
        return self._count_words(needle) > expected

    def _count(self, needle: bytes, data: bytes) -> int:
        """Matches with at most three separators between letters, or with UTF-16's zero bytes."""
        apart = rb"[^0-9A-Za-z]{0,3}".join(re.escape(needle[i : i + 1]) for i in range(len(needle)))
        return len(re.findall(b"(?i)" + apart, data))

    def _count_words(self, needle: bytes) -> int:
        kind = rb"[0-9.]" if needle.isdigit() else rb"[0-9a-z]"
        word = rb"(?<!%b)%b(?!%b)" % (kind, re.escape(needle), kind)
        return len(re.findall(word, self.header))


def haystack(data: bytes, bulk: Iterable[memoryview], names: str, remarks: bytes = b"") -> Haystack:
    """The finished file's bytes and its path, ready to be searched.

    `remarks` are what is readable within the bulk values and is to be searched like the rest.
    """
    path, rest = b"\n" + names.encode(), data
    for value in bulk:
        rest = _without(rest, value)
    return Haystack(data, path, rest + path + b"\n" + remarks)


@cache
def vocabulary() -> frozenset[str]:
    """Words that say nothing about anybody."""
    files = ("vocabulary.txt", "acquisition-words.txt")
    words = " ".join((DATA / name).read_text(encoding="utf-8") for name in files).split()
    table = json.loads((DATA / "ps3.15-table-e1-1.json").read_text(encoding="utf-8"))
    markers = " ".join(meaning for _, _, meaning in table["cid_7050"]) + _MARKER_WORDS
    return frozenset((*words, *_WORD.findall(markers.casefold())))


def squeeze(text: str) -> str:
    """Letters and digits only, lower case, ASCII where a letter has one."""
    if text.isascii():
        return "".join(_WORD.findall(text)).lower()
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in folded if c.isalnum())


def _plain(value: str) -> Iterator[str]:
    """How a name is written on a keyboard without its letters: Müller as Muller and as Mueller."""
    composed = unicodedata.normalize("NFC", value.casefold())
    for spelled in _SPELLED:
        decomposed = unicodedata.normalize("NFKD", composed.translate(spelled))
        plain = "".join(c for c in decomposed if not unicodedata.combining(c))
        if plain.isascii() and plain not in vocabulary():
            yield plain


def _encodings(text: str) -> Iterator[bytes]:
    for codec in ("utf-8", "latin-1", "utf-16-le", "utf-16-be"):
        try:
            yield text.encode(codec)
        except UnicodeEncodeError:
            continue


def _folded(data: bytes) -> bytes:
    """One form for both cases of Latin-1 and without UTF-16's zero bytes; what is together stays so."""
    return data.translate(_FOLD, b"\0")


def _without(data: bytes, value: memoryview) -> bytes:
    """`data` less one bulk value; all of it if the value cannot be placed for certain."""
    tail, head = bytes(value[-64:]), bytes(value[:64])
    end = data.rfind(tail) + len(tail)
    start = end - len(value)
    return data[:start] + data[end:] if start >= 0 and data[start : start + 64] == head else data
