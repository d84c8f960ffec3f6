"""Words that two people compare on the phone: the fingerprint of a key, eleven bits a word.

The list was written for this: 2048 plain words of three to nine letters, none of them one letter from
another.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

COUNT: Final = 6
"""Words of a fingerprint: 66 bits, more than anybody can search for a look-alike while two people talk."""
_BITS: Final = 11
_LIST: Final = Path(__file__).with_name("words.txt")


@cache
def word_list() -> tuple[str, ...]:
    """Return all words, in alphabetical order."""
    return tuple(_LIST.read_text().split())


def fingerprint(grid_id: bytes, spki: bytes) -> tuple[str, ...]:
    """Return six words that stand for this key in this grid."""
    number = int.from_bytes(sha256(b"peerpacs words\0" + grid_id + spki).digest(), "big")
    words = word_list()
    return tuple(words[number >> shift & (1 << _BITS) - 1] for shift in range(0, COUNT * _BITS, _BITS))
