"""Free text: what may stay is listed, everything else goes (PS3.15 E.3.5).

Two strengths. `cleaned` is for attributes that may hold anything: a word stays only if it is in the
vocabulary or a number with a meaning. `without_identifiers` is for attributes the standard regards as
not identifying: everything stays but what names this subject.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import NamedTuple

from anonymizer.table import DATA

_TOKEN = re.compile(r"[^\W_]+(?:\.\d+)?")
_MEASURE = re.compile(
    r"\d{1,4}(\.\d{1,3})?(mm|cm|m|ml|cc|mg|g|kg|kv|kvp|ma|mas|s|sec|min|hz|t|mt|d|x|ph|phase|st|nd|rd|th)?"
    r"|[tclsb]\d{1,2}(\.\d)?|t[12](w|wi|star)?|b\d{1,4}|[bhiqdu]r?\d{2}[fsh]?|v\d(\.\d)?|\d[xd]\d",
    re.ASCII,
)
_WORD_WITH_NUMBER = re.compile(r"([a-z]{2,})(\d{1,3})|(\d{1,3})([a-z]{2,})", re.ASCII)
# The words that are run together in one: "HeadCoil12" has three.
_PART = re.compile(r"\d+|[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
_LETTERS = frozenset("clorwx")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_ADDRESS = r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+|\b(?:https?://|www\.)\S+"
_DAY = (
    rf"\b\d{{1,2}}[ .-]*{_MONTH}[ .,-]*\d{{2,4}}\b"
    rf"|\b{_MONTH}[ .-]+\d{{1,2}}(?:st|nd|rd|th)?[, .-]+\d{{2,4}}\b"
    r"|\b(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}\b|\b\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)\d\d\b"
)
# Ages of ninety and more are so few people's that they are named by them (PatientAge says 090Y).
_GREAT_AGE = (
    r"\b0?(?:9\d|1[0-2]\d)[ -]*(?:y/o\b|y\.o\b\.?|(?:y|yo|yr|yrs|year|years|jahre|ans|anni|a[nñ]os)\b)"
    r"|\b(?:aged?|alter)[ :=]+0?(?:9\d|1[0-2]\d)\b"
)
_TITLED = (
    r"\b(?:dr|md|prof|professor|doctor|mrs|miss|mister|nurse|physician|radiologist|technologist|referred)\b"
    r"[ .:,]*(?:by[ ]+)?(?:[A-Z]\.?[ ]+)?[^\W\d_][\w'-]*(?:,[ ]*[^\W\d_][\w'-]*)?"
)
_DROPPED = re.compile(
    rf"{_ADDRESS}|{_DAY}|{_GREAT_AGE}"
    r"|\b\d+(?:\.\d+){4,}\b"  # UIDs
    r"|\b\d{1,4}([-/.])\d{1,2}\1\d{1,4}\b"  # dates with separators
    rf"|\b{_MONTH}[ .,-]*(?:19|20)\d\d\b|\b(?:19|20)\d\d\b"
    r"|\b\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]\.?m\b\.?)?"
    r"|\+?\(?\b\d[\d() ./-]{5,24}\d\b"  # phones and spaced numbers
    r"|\d{5,}"  # any run of five digits
    r"|\b\d+\s+\w+\s+(?:st|street|ave|avenue|rd|road|dr|drive|ln|lane|blvd|boulevard|way|court|ct|str|strasse)\b\.?"
    rf"|\b[A-Z]{{2}}\s+\d{{5}}(?:-\d{{4}})?\b|{_TITLED}",
    re.IGNORECASE,
)
# What is no part of a label, whoever wrote it: addresses, days, phones, and who is named with a title.
_NO_LABEL = re.compile(
    rf"{_ADDRESS}|{_DAY}|{_GREAT_AGE}"
    # "MR" and "DR" are modalities too, so a title in capitals counts only with its full stop
    r"|\b(?-i:(?:Dr|Mr|Mrs|Miss|Mister|Prof|Professor|Doctor)\b|(?:DR|MR|MRS|PROF)\.)"
    r"[ .:,]+(?-i:[A-Z])[\w'-]*(?:,[ ]*[^\W\d_][\w'-]*)?"
    r"|\b\d{1,2}([-/])\d{1,2}\1\d{2}\b"
    r"|(?<![\d.])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?![\d.])"
    r"|\b\d{3}-\d{2}-\d{4}\b|(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,5}\)|\b\d{3,5})[ /-]\d{3,4}[ -]\d{3,5}\b",
    re.IGNORECASE,
)
_TAIL = re.compile(r"\b(?:[Ff]or|[Bb]y|[Pp]er)[ ]+(?:[A-Z][a-z'-]+[ ]*)+")
# How letters that no accent makes are written where a keyboard lacks them, in one language or another.
_SPELLED = (
    str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe", "ß": "ss"}),
    str.maketrans({"ø": "o", "å": "a", "æ": "a", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}),
    str.maketrans({"ø": "o", "å": "aa", "ö": "o", "ü": "u", "ä": "a", "ð": "dh", "þ": "th"}),
)


class Cleaned(NamedTuple):
    """What stayed of a text, and the words nobody knew."""

    text: str
    unknown: tuple[str, ...]


class Identifiers:
    """What names one subject: words of names and places, and numbers, each at least two characters."""

    def __init__(self, words: Iterable[str] = (), numbers: Iterable[str] = ()) -> None:
        numbers = list(numbers)
        short = [number for number in numbers if 1 < len(number) < 4]  # found as words of their own only
        self.words = frozenset(
            spelled for word in (*words, *short) if len(word) > 1 for spelled in _spellings(word)
        )
        self.numbers = frozenset(form for number in numbers for form in _forms(number))
        self._runs = tuple(self.numbers | {word for word in self.words if len(word) > 4})

    def are_named_by(self, number: str) -> bool:
        """Whether a number alone is one of the subject's; shorter ones are anybody's."""
        return len(number) > 5 and number.isdigit() and number in self.numbers

    def __or__(self, other: Identifiers) -> Identifiers:
        return Identifiers(self.words | other.words, self.numbers | other.numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identifiers) and (self.words, self.numbers) == (
            other.words,
            other.numbers,
        )

    def __hash__(self) -> int:
        return hash((self.words, self.numbers))

    @property
    def runs(self) -> tuple[str, ...]:
        """What is looked for inside words too: the numbers and the longer words."""
        return self._runs


@lru_cache(maxsize=4096)
def spans_of(text: str, identifiers: Identifiers) -> list[tuple[int, int]]:
    """Where `text` names the subject, also without separators and in other case."""
    found = [m.span() for m in _TOKEN.finditer(text) if _fold(m[0]) in identifiers.words]
    parts = (m for m in _PART.finditer(text) if m.end() - m.start() > 2)
    found += [m.span() for m in parts if _fold(m[0]) in identifiers.words]
    places = [i for i, character in enumerate(text) if character.isalnum()]
    squeezed = "".join(_fold(text[i])[:1] or text[i] for i in places)
    for run in identifiers.runs:
        start = squeezed.find(run)
        while start >= 0:
            found.append((places[start], places[start + len(run) - 1] + 1))
            start = squeezed.find(run, start + 1)
    return found


@lru_cache(maxsize=4096)
def cleaned(text: str, identifiers: Identifiers, more_words: frozenset[str] = frozenset()) -> Cleaned:
    """The words of `text` that are known to be harmless, in their order, and those nobody knew."""
    text = unicodedata.normalize("NFKC", text)
    named = _marked(
        text,
        [m.span() for m in _DROPPED.finditer(text)]
        + [m.span() for m in _TAIL.finditer(text)]
        + spans_of(text, identifiers),
    )
    kept: list[str] = []
    unknown: list[str] = []
    last = -1
    for token in _TOKEN.finditer(text):
        if any(named[token.start() : token.end()]):
            continue
        if not _is_harmless(token[0].casefold(), more_words):
            unknown.append(token[0])
            continue
        between = text[last : token.start()] if last >= 0 else ""
        is_next = last >= 0 and not _TOKEN.search(between) and between.isascii()
        kept.append((between if is_next and between.isprintable() else " " if kept else "") + token[0])
        last = token.end()
    return Cleaned("".join(kept).strip(), tuple(unknown))


@lru_cache(maxsize=4096)
def without_identifiers(text: str, identifiers: Identifiers, *, is_code: bool = False) -> str:
    """`text` less what names the subject or tells of anybody; the same text if there is nothing of it.

    A code or version has digits like those of dates and phones: of it only the subject's own go.
    """
    spans = spans_of(text, identifiers)
    if not is_code:
        spans = (
            spans + [m.span() for m in _NO_LABEL.finditer(text)] + [m.span() for m in _TAIL.finditer(text)]
        )
    if not spans:
        return text
    return "".join(c for c, is_named in zip(text, _marked(text, spans), strict=True) if not is_named).strip()


@cache
def vocabulary() -> frozenset[str]:
    """The words that free text may keep, in lower case."""
    words = (DATA / "vocabulary.txt").read_text(encoding="utf-8").split()
    return frozenset(words + (DATA / "acquisition-words.txt").read_text(encoding="utf-8").split())


def _is_harmless(token: str, more_words: frozenset[str]) -> bool:
    if token in vocabulary() or token in more_words or token in _LETTERS:
        return True
    if _MEASURE.fullmatch(token):
        return True
    mixed = _WORD_WITH_NUMBER.fullmatch(token)
    return bool(mixed) and (mixed[1] or mixed[4]) in vocabulary() if mixed else False


def _marked(text: str, spans: list[tuple[int, int]]) -> bytearray:
    """One byte for each character: whether it lies in a span."""
    marks = bytearray(len(text))
    for start, end in spans:
        marks[start:end] = b"\1" * (end - start)
    return marks


def _forms(number: str) -> Iterator[str]:
    """A number without its separators, and its digits alone; too short ones would be found anywhere."""
    squeezed = _squeeze(number)
    digits = "".join(c for c in squeezed if c.isdigit())
    if len(squeezed) > 3:
        yield squeezed
    if len(digits) > 4:
        yield digits


def _spellings(word: str) -> set[str]:
    if word.isascii():
        return {word.lower()}
    composed = unicodedata.normalize("NFC", word.casefold())
    return {_fold(word), *(_fold(composed.translate(table)) for table in _SPELLED)}


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def _squeeze(text: str) -> str:
    return "".join(c for c in _fold(text) if c.isalnum())
