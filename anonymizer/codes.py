"""Code strings: terms of the standard stay, what names the subject or is no term goes (PS3.5 6.2, PS3.3).

Lists of Defined Terms are open and scanners have their own, so it is words that are known here, not whole
terms: each word of four letters or more is in a term of PS3.3, in the vocabulary of free text, or approved.
"""

from __future__ import annotations

import re
from functools import lru_cache

from anonymizer.table import DATA
from anonymizer.text import Identifiers, cleaned, spans_of, vocabulary

_BODY_PART = 0x00180015
_REPERTOIRE = re.compile(r"[A-Z0-9 _]*")
_LONG_RUN = re.compile(r"\d{5}")
_LONG_WORD = re.compile(r"[A-Z]{4,}")


def without_names(tag: int, text: str, identifiers: Identifiers, more_words: frozenset[str]) -> str:
    """The values of a CS less what may name somebody; a value that goes leaves its place empty.

    The same text if there is nothing of it. `more_words` are approved ones. Private attributes are known
    to be safe when they come here, and have terms of their own.
    """
    parts = text.split("\\")
    kept = [
        part if _is_harmless(tag, part, identifiers, more_words) else _left(part, identifiers, more_words)
        for part in parts
    ]
    return text if kept == parts else "\\".join(kept).rstrip("\\")


def _is_harmless(tag: int, part: str, identifiers: Identifiers, more_words: frozenset[str]) -> bool:
    is_code = _REPERTOIRE.fullmatch(part) and len(part.strip()) <= 16 and not _LONG_RUN.search(part)
    is_known = is_code and tag != _BODY_PART and (tag & 0x10000 or _are_terms(part, more_words))
    found = spans_of(part, identifiers) if is_known else [(0, len(part))]
    return all(part[start:end].casefold() in vocabulary() or end - start < 4 for start, end in found)


def _are_terms(part: str, more_words: frozenset[str]) -> bool:
    known = _words(more_words)
    return all(word.lower() in known for word in _LONG_WORD.findall(part))


def _left(part: str, identifiers: Identifiers, more_words: frozenset[str]) -> str:
    return cleaned(part, identifiers, _words(more_words)).text


@lru_cache(maxsize=16)
def _words(more_words: frozenset[str]) -> frozenset[str]:
    terms = (DATA / "code-terms.txt").read_text(encoding="utf-8").split()
    return vocabulary() | more_words | frozenset(terms)
