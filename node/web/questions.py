"""QIDO-RS parameters (PS3.18 8.3.4, 10.6.1) into the question that the catalog answers for C-FIND as well."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from catalog import (
    BY_KEYWORD,
    FIXED_TABLE,
    UNIQUE_KEY,
    Attributes,
    BadRequest,
    Level,
    Matching,
    Query,
    compile_matcher,
    decode_identifier,
    encode_identifier,
    known_vr,
)
from catalog.levels import COMPUTED
from node.keys import tag_of

from .problems import Malformed

MOST: Final = 10_000
"""Answers to one request; who wants more asks for the rest by offset."""
UNKNOWN_PARAMETER: Final = "The parameter {} is not known here and was ignored."
NOT_FUZZY: Final = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_MOST_PARAMETERS: Final = 1000
_DEEPEST: Final = 5
_RANK: Final = tuple(Level)
_LISTS: Final = frozenset(("00080061",))
"""ModalitiesInStudy is asked for as a list by everybody."""
_EMPTY: Final = '""'
"""Two QUOTATION MARKs: empty value matching, PS3.4 C.2.2.2.7."""
_BINARY: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))

# PS3.18 Tables 10.6.3-3 to 10.6.3-5: what is answered without being asked for.
_ANSWERED: Final[dict[Level, str]] = {
    Level.STUDY: """00080020 00080030 00080050 00080056 00080061 00080090 00080201 00100010 00100020
        00100021 00100030 00100040 0020000D 00200010 00081030 00201206 00201208""",
    Level.SERIES: """00080060 00080201 0008103E 0020000E 00200011 00201209 00080021 00080031 00400244
        00400245 00400275.00400009 00400275.00401001""",
    Level.IMAGE: "00080016 00080018 00080056 00080201 00200013 00280010 00280011 00280100 00280008",
}


class Question(NamedTuple):
    """One search: what the catalog is asked, which answers go out, and what the client must be told."""

    query: Query
    empties: frozenset[str]
    """Tags whose value has to be empty."""
    offset: int
    limit: int | None
    is_everything: bool
    """Whether every attribute of an instance was asked for."""
    warnings: tuple[str, ...]


class _Reading:
    """The parameters of a request while they are read."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []
        self.fields: list[str] = []
        self.flags: dict[str, bool] = {}
        self.numbers: dict[str, int] = {}
        self.warnings: list[str] = []

    def read(self, query: str) -> None:
        for name, value in _pairs(query):
            word = name.lower()
            if word == "includefield":
                self.fields += [field.strip() for field in value.split(",") if field.strip()]
            elif word in ("fuzzymatching", "emptyvaluematching", "multiplevaluematching"):
                self.flags[word] = _flag(word, value)
            elif word in ("limit", "offset"):
                self.numbers[word] = _number(word, value)
            elif word != "accept":
                self.given.append((name, value))


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS, separator="&"
        )
    except UnicodeDecodeError:
        raise Malformed("The query is not UTF-8.", "Encode it as UTF-8, then by percent signs.") from None
    except ValueError:
        raise Malformed(f"The query has more than {_MOST_PARAMETERS} parameters.", "Ask in parts.") from None
    for name, value in pairs:
        if any(ord(character) < 32 or ord(character) == 127 for character in name + value):
            raise Malformed("The query has control characters.", "Leave them out.")
    return pairs


def _flag(word: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise Malformed(f"{word} is neither true nor false.", "Correct the query.")
    return value.lower() == "true"


def _number(word: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", value):
        raise Malformed(f"{word} is not a whole number from 0 on.", "Correct the query.")
    return int(value)


def understand(query: str, level: Level, named: dict[str, str], *, is_below_root: bool) -> Question:
    """Return the question; `named` are the UIDs of the path, by tag.

    `is_below_root` says that the path names nothing above the level, so that what is above is told as well.

    Raises:
        Malformed, BadRequest: a parameter has a value it cannot have.
    """
    reading = _Reading()
    reading.read(query)
    keys, empties = _keys(reading)
    is_everything = "all" in (field.lower() for field in reading.fields)
    wanted = _everything(level) if is_everything else _answered(level, is_below_root)
    fields = [field for field in reading.fields if field.lower() != "all"]
    asked = _returned([*wanted, *(path for path in map(_path_or_none(reading), fields) if path)])
    keys.update({tag: {"vr": "UI", "Value": [uid]} for tag, uid in named.items()})
    keys = _merged(asked, keys)
    if reading.flags.get("fuzzymatching"):
        reading.warnings.append(NOT_FUZZY)
    compile_matcher(keys, Matching.PLAIN)
    return Question(
        Query(level=level, keys=keys),
        frozenset(empties),
        reading.numbers.get("offset", 0),
        reading.numbers.get("limit"),
        is_everything and level is Level.IMAGE,
        tuple(reading.warnings),
    )


def _answered(level: Level, is_below_root: bool) -> list[list[str]]:
    levels = [level]
    if is_below_root:
        levels = [each for each in _ANSWERED if _RANK.index(each) <= _RANK.index(level)]
    words = [word for each in levels for word in _ANSWERED[each].split()]
    uids = [UNIQUE_KEY[each] for each in _ANSWERED if _RANK.index(each) <= _RANK.index(level)]
    return [word.split(".") for word in (*words, *uids)]


def _everything(level: Level) -> list[list[str]]:
    rank = _RANK.index(level)
    fixed = [row.tag for row in FIXED_TABLE if _RANK.index(row.level) <= rank]
    computed = [tag for tag, at in COMPUTED.items() if _RANK.index(at) <= rank and at is not Level.PATIENT]
    return [[tag] for tag in (*fixed, *computed, "00080056")] + _answered(level, True)


def _keys(reading: _Reading) -> tuple[Attributes, set[str]]:
    """Return the matching keys, and the tags that have to be empty."""
    paths: dict[tuple[str, ...], list[str]] = {}
    for name, value in reading.given:
        named = _path(name)
        if named is None:
            reading.warnings.append(UNKNOWN_PARAMETER.format(_quoted(name)))
        else:
            paths.setdefault(tuple(named), []).append(value)
    keys: Attributes = {}
    empties = set()
    for path, values in paths.items():
        if reading.flags.get("emptyvaluematching") and values == [_EMPTY] and len(path) == 1:
            empties.add(path[0])
            _put(keys, path, {"vr": _vr(path[0])})
        else:
            is_list = reading.flags.get("multiplevaluematching", False)
            _put(keys, path, _element(path, values, is_list))
    return _checked(keys), empties


def _path(name: str) -> list[str] | None:
    """Return the tags that a name leads through; None if one of them is unknown."""
    words = name.split(".")
    try:
        tags = [BY_KEYWORD[word].tag if word in BY_KEYWORD else tag_of(word) for word in words]
    except BadRequest:
        return None
    if len(tags) > _DEEPEST or any(_vr(tag) != "SQ" for tag in tags[:-1]):
        return None
    return tags


def _path_or_none(reading: _Reading) -> Any:
    def read(field: str) -> list[str] | None:
        path = _path(field)
        if path is None:
            reading.warnings.append(UNKNOWN_PARAMETER.format(_quoted(f"includefield={field}")))
        return path

    return read


def _quoted(name: str) -> str:
    """Return a parameter's name as it may stand in a header."""
    return re.sub(r"[^\w.=,()-]", "?", name, flags=re.ASCII)[:64]


def _vr(tag: str) -> str:
    vr = known_vr(int(tag, 16))
    return "LO" if vr == "UN" else vr


def _element(path: tuple[str, ...], values: list[str], is_list: bool) -> dict[str, Any]:
    vr = _vr(path[-1])
    if vr == "SQ":
        if any(values):
            raise BadRequest("A sequence has no value of its own.", "Name an attribute in it.", (path[-1],))
        return {"vr": vr}
    if vr in _BINARY:
        raise BadRequest("Bulk data cannot be searched for.", "Leave that key out.", (path[-1],))
    texts = values
    if vr == "UI" or path[-1] in _LISTS or is_list:
        divider = r"[\\,]" if vr != "PN" else r"\\"
        texts = [text for value in values for text in re.split(divider, value)]
    elif len(values) > 1 or (vr not in ("LT", "ST", "UT", "UR") and "\\" in values[0]):
        raise BadRequest(
            "A key has several values.", "Ask once for each, or add multiplevaluematching=true.", (path[-1],)
        )
    texts = [text for text in texts if text]
    if not texts:
        return {"vr": vr}
    return {"vr": vr, "Value": [{"Alphabetic": text} for text in texts] if vr == "PN" else texts}


def _put(keys: Attributes, path: tuple[str, ...] | list[str], content: dict[str, Any]) -> None:
    *above, last = path
    for tag in above:
        items = keys.setdefault(tag, {"vr": "SQ"}).setdefault("Value", [{}])
        keys = items[0]
    keys.setdefault(last, content)


def _checked(keys: Attributes) -> Attributes:
    """Return the keys as C-FIND has them; what no element can hold is refused on the way."""
    read = decode_identifier(encode_identifier(keys, _EXPLICIT), _EXPLICIT)
    return {tag: read[tag] for tag in keys}


def _returned(paths: Iterable[list[str]]) -> Attributes:
    keys: Attributes = {}
    for path in sorted(paths, key=len):
        # A whole sequence is more than a part of it.
        if not (len(path) > 1 and keys.get(path[0]) == {"vr": "SQ"}):
            _put(keys, path, {"vr": _vr(path[-1])})
    return keys


def _merged(returned: Attributes, matched: Attributes) -> Attributes:
    """Return all keys; what is matched goes before what is only answered, item attributes of both stay."""
    keys = {**returned, **matched}
    for tag in returned.keys() & matched.keys():
        mine, theirs = returned[tag].get("Value"), matched[tag].get("Value")
        if matched[tag]["vr"] == "SQ" and mine and theirs:
            keys[tag] = {"vr": "SQ", "Value": [_merged(mine[0], theirs[0])]}
    return keys
