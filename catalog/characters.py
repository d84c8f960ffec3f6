"""Specific Character Set (0008,0005): from bytes to text and back, PS3.5 6.1 and PS3.3 C.12.1.1.2.

Code extensions by ISO 2022 escapes are understood wherever they stand, declared or not, because devices
forget to declare them. Bytes that the declared set cannot explain, and sets nobody knows, are read as
UTF-8 if they are that, else as ISO 8859-1: some text always comes out, and the stored bytes stay as sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

TEXT_DELIMITERS: Final = "\\\r\n\f\t"
"""After these the initial sets are in force again, PS3.5 6.1.2.5.3."""
NAME_DELIMITERS: Final = TEXT_DELIMITERS + "^="
UTF_8: Final = "ISO_IR 192"


class _Set(NamedTuple):
    codec: str
    escape: bytes = b""
    """What designates it as a code extension; empty where PS3.3 gives it none."""


# PS3.3 Tables C.12-2 to C.12-5. Defined terms without blanks and underscores, since devices vary those.
_SETS: Final = {
    "": _Set("ascii"),
    "ISOIR6": _Set("ascii", b"\x1b(B"),
    "ISOIR13": _Set("shift_jis", b"\x1b)I"),
    "ISOIR100": _Set("latin_1", b"\x1b-A"),
    "ISOIR101": _Set("iso8859_2", b"\x1b-B"),
    "ISOIR109": _Set("iso8859_3", b"\x1b-C"),
    "ISOIR110": _Set("iso8859_4", b"\x1b-D"),
    "ISOIR126": _Set("iso8859_7", b"\x1b-F"),
    "ISOIR127": _Set("iso8859_6", b"\x1b-G"),
    "ISOIR138": _Set("iso8859_8", b"\x1b-H"),
    "ISOIR144": _Set("iso8859_5", b"\x1b-L"),
    "ISOIR148": _Set("iso8859_9", b"\x1b-M"),
    "ISOIR166": _Set("iso8859_11", b"\x1b-T"),
    "ISOIR203": _Set("iso8859_15", b"\x1b-b"),
    "ISOIR58": _Set("gb2312", b"\x1b$)A"),
    "ISOIR87": _Set("iso2022_jp", b"\x1b$B"),
    "ISOIR149": _Set("euc_kr", b"\x1b$)C"),
    "ISOIR159": _Set("iso2022_jp_1", b"\x1b$(D"),
    "ISOIR192": _Set("utf_8"),
    "GB18030": _Set("gb18030"),
    "GBK": _Set("gbk"),
    "UTF8": _Set("utf_8"),
}
DEFINED_TERMS: Final = (
    *("ISO_IR 6", "ISO_IR 13", "ISO_IR 100", "ISO_IR 101", "ISO_IR 109", "ISO_IR 110", "ISO_IR 126"),
    *("ISO_IR 127", "ISO_IR 138", "ISO_IR 144", "ISO_IR 148", "ISO_IR 166", "ISO_IR 203"),
    *("ISO 2022 IR 6", "ISO 2022 IR 13", "ISO 2022 IR 58", "ISO 2022 IR 87", "ISO 2022 IR 100"),
    *("ISO 2022 IR 101", "ISO 2022 IR 109", "ISO 2022 IR 110", "ISO 2022 IR 126", "ISO 2022 IR 127"),
    *("ISO 2022 IR 138", "ISO 2022 IR 144", "ISO 2022 IR 148", "ISO 2022 IR 149", "ISO 2022 IR 159"),
    *("ISO 2022 IR 166", "ISO 2022 IR 203", UTF_8, "GB18030", "GBK"),
)
"""All that is understood of PS3.3 Tables C.12-2 to C.12-5, as they are spelled there."""
_IN_G0: Final = {b"\x1b$B", b"\x1b$(D"}
"""Two-byte sets that take the place of ASCII; all other extensions stand beside it, in G1."""
_BY_ESCAPE: Final = {each.escape: each for each in _SETS.values() if each.escape}
_ESCAPE: Final = re.compile(rb"(\x1b(?:\([BJ]|\)I|-[A-Za-z]|\$B|\$\(D|\$\)[AC]))")
_HIGH: Final = re.compile(rb"([\x80-\xff]+)")


def _lookup(term: str) -> _Set | None:
    spelling = re.sub(r"[^A-Z0-9]", "", term.upper())
    return _SETS.get(spelling.replace("ISO2022", "ISO", 1)) or _SETS.get(spelling.removeprefix("ISO2022"))


class NotInRepertoire(Exception):
    """A character set has no way to write this text so that it would be read as the same."""


class Repertoire:
    """The characters that one value of Specific Character Set allows, and how they are written."""

    __slots__ = ("_extensions", "codec", "terms")

    def __init__(self, terms: tuple[str, ...]) -> None:
        sets = [_lookup(term) for term in terms]
        known = [each for each in sets if each is not None]
        first = sets[0] if sets else _SETS[""]
        self.terms = terms
        # A two-byte set in first place is against PS3.3, but its text starts in ASCII all the same.
        is_plain = first is None or first.escape in _IN_G0
        self.codec = "ascii" if is_plain or first is None else first.codec
        self._extensions = tuple(each for each in known if each.escape and each.codec != self.codec)

    def decode(self, raw: bytes, delimiters: str = TEXT_DELIMITERS) -> str:
        """Return the text; never fails, see the module's promise. `delimiters` end a code extension."""
        if b"\x1b" in raw:
            return self._decode_escaped(raw, delimiters)
        try:
            return raw.decode(self.codec)
        except UnicodeDecodeError:
            return _guess(raw)

    def encode(self, text: str, delimiters: str = TEXT_DELIMITERS) -> bytes:
        """Return the bytes.

        Raises:
            NotInRepertoire: the set cannot say this.
        """
        try:
            raw = _encode(text, self.codec)
        except NotInRepertoire:
            if not self._extensions:
                raise
            parts = re.split(f"([{re.escape(delimiters)}])", text)
            raw = b"".join(self._encode_component(part) for part in parts)
        if not text.isascii() and self.decode(raw, delimiters) != text:
            raise NotInRepertoire(self.codec)
        return raw

    def _decode_escaped(self, raw: bytes, delimiters: str) -> str:
        parts: list[str] = []
        g0, g1 = b"", self.codec
        for index, run in enumerate(_ESCAPE.split(raw)):
            if index % 2 == 0:
                parts.append(self._decode_run(run, g0, g1, delimiters))
            elif run in _IN_G0:
                g0 = run
            elif run[1:2] == b"(":
                g0 = b""
            else:
                g1 = _BY_ESCAPE[run].codec if run in _BY_ESCAPE else g1
        return "".join(parts)

    def _decode_run(self, run: bytes, g0: bytes, g1: str, delimiters: str) -> str:
        if g0:
            pieces = enumerate(_HIGH.split(run))
            return "".join(
                _decode(each, g1) if at % 2 else _decode(each, "iso2022_jp_1", g0) for at, each in pieces
            )
        text = _decode(run, g1)
        if g1 == self.codec or self.codec == "ascii":
            return text
        for at, byte in enumerate(run):
            if byte < 0x80 and chr(byte) in delimiters:
                return _decode(run[:at], g1) + _decode(run[at:], self.codec)
        return text

    def _encode_component(self, text: str) -> bytes:
        try:
            return _encode(text, self.codec)
        except NotInRepertoire:
            pass
        allowed = {each.escape for each in self._extensions} | {b"\x1b(B"}
        for each in self._extensions:
            try:
                raw = _encode(text, each.codec)
            except NotInRepertoire:
                continue
            if each.escape not in _IN_G0:
                return each.escape + raw
            if allowed.issuperset(_ESCAPE.findall(raw)):
                # PS3.5 H.3.2: where the initial G0 is JIS X 0201, that is what comes back.
                return raw.replace(b"\x1b(B", b"\x1b(J") if self.codec == "shift_jis" else raw
        raise NotInRepertoire(self.codec)


def _decode(raw: bytes, codec: str, prefix: bytes = b"") -> str:
    try:
        return (prefix + raw).decode(codec)
    except UnicodeDecodeError:
        return _guess(raw)


def _encode(text: str, codec: str) -> bytes:
    try:
        raw = text.encode(codec)
    except UnicodeEncodeError as error:
        raise NotInRepertoire(codec) from error
    # Python has no codec for JIS X 0201 alone; Shift-JIS contains it, and two bytes are outside of it.
    if codec == "shift_jis" and len(raw) != len(text):
        raise NotInRepertoire(codec)
    return raw


def _guess(raw: bytes) -> str:
    try:
        return raw.decode("utf_8")
    except UnicodeDecodeError:
        return raw.decode("latin_1")


def repertoire(declared: bytes) -> Repertoire:
    """Return the repertoire for the raw value of Specific Character Set; empty is ASCII."""
    return _repertoire(declared[:256])


@lru_cache(maxsize=256)
def _repertoire(declared: bytes) -> Repertoire:
    return Repertoire(_terms(declared.decode("ascii", "replace").split("\\")))


def named_repertoire(character_set: str) -> Repertoire:
    """Return the repertoire for defined terms, backslashes between them as in the element."""
    return repertoire(character_set.encode("ascii", "replace"))


def _terms(values: Iterable[str]) -> tuple[str, ...]:
    terms = tuple(value.strip(" \0") for value in values)
    return terms if any(terms) else ()


ASCII: Final = Repertoire(())
UNICODE: Final = Repertoire((UTF_8,))
