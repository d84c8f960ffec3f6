"""Attribute matching, PS3.4 C.2.2.2: which attributes a set of keys matches.

What the standard leaves to the implementation is decided here, once, for C-FIND, QIDO-RS and the grid:

- Text is compared in Unicode's NFC, case-sensitively but for PN; leading and trailing spaces do not count.
- PN: a key of one component group matches any of the stored groups; a key with `=` matches group by group.
- DS, IS and the binary numbers are compared as numbers.
- TM and DT are compared as moments: `1000` is 10:00:00. Where both the key's and the stored value's offset
  from UTC are known (their own, or Timezone Offset From UTC), they are taken into account.
- Several values in a key that is not a UID mean any of them.
- A stored value that cannot be understood matches nothing but universal matching.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from .dictionary import BINARY, NUMBERS
from .model import Attributes, Matching
from .ranges import PAIRS, Test, combined, date_times, dates, refused, times, zone
from .values import texts

WILDCARD_VR: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "UN"))
"""VRs in which `*` and `?` are wildcards, PS3.4 C.2.2.2.4; UN too, where the text of a private key is."""
NEVER_MATCHED: Final = frozenset(("00080005", "00080052", "00080053", "00080054", "00080201"))
"""What an Identifier says about itself: character set, level, view, Retrieve AE Title, time zone."""
_LONGEST: Final = 2048
"""Characters of a value in a key: more than any VR needs, and soon compiled."""
NUMBER_VR: Final = frozenset((*NUMBERS, "DS", "IS"))
"""VRs whose values are compared as numbers."""
UNMATCHABLE_VR: Final = BINARY - {"UN"}
"""VRs the standard defines no matching for; such keys are ignored."""


def matches(keys: Attributes, attributes: Attributes, matching: Matching) -> bool:
    """Say whether the attributes match all keys; see `compile_matcher`."""
    return compile_matcher(keys, matching)(attributes)


def compile_matcher(keys: Attributes, matching: Matching) -> Test:
    """Return the test for these keys, to be used on many attributes.

    Raises:
        BadRequest: a key has a value that its VR does not allow in a key; `tags` names it.
    """
    tests = _tests(keys, matching, zone(keys))

    if len(tests) == 1:
        return tests[0]

    def is_match(attributes: Attributes) -> bool:
        return all(test(attributes) for test in tests)

    return is_match


def is_universal(content: dict[str, Any]) -> bool:
    """Say whether a key matches everything, so that it only asks for a value, C.2.2.2.3."""
    vr = content["vr"]
    if vr == "SQ":
        return all(is_universal(each) for item in content.get("Value") or () for each in item.values())
    if vr in UNMATCHABLE_VR:
        return "InlineBinary" not in content
    nothing = " *=" if vr == "PN" else " *" if vr in WILDCARD_VR else " "
    return not any(text.strip(nothing) for text in texts(content))


def _tests(keys: Attributes, matching: Matching, offset: int | None) -> list[Test]:
    tests = []
    paired: set[str] = set()
    if matching & Matching.COMBINED_DATE_TIME:
        for date_tag, time_tag in PAIRS:
            if test := combined(keys, date_tag, time_tag, offset):
                tests.append(test)
                paired |= {date_tag, time_tag}
    for tag, content in keys.items():
        if tag in NEVER_MATCHED or tag in paired or content["vr"] in UNMATCHABLE_VR or is_universal(content):
            continue
        if test := _test(tag, content, matching, offset):
            tests.append(test)
    return tests


def _test(tag: str, content: dict[str, Any], matching: Matching, offset: int | None) -> Test | None:
    vr = content["vr"]
    if vr == "SQ":
        return _sequence(tag, content["Value"], matching, offset)
    wanted = [text.strip() for text in texts(content)]
    if any(len(text) > _LONGEST for text in wanted):
        raise refused(tag, vr, f"A value in a key has at most {_LONGEST} characters.")
    if vr == "PN":
        return _any_of(tag, [_person_name(text) for text in wanted])
    if vr in WILDCARD_VR:
        return _any_of(tag, [_pattern(_plain(text)) for text in wanted])
    if vr == "UI":
        return _uids(tag, wanted)
    if vr == "DA":
        return dates(tag, wanted)
    if vr == "TM":
        return times(tag, wanted, offset)
    if vr == "DT":
        return date_times(tag, wanted, offset)
    if vr in NUMBER_VR:
        return _numbers(tag, vr, wanted)
    return _any_of(tag, [_plain(text).__eq__ for text in wanted])


def _any_of(tag: str, accept: list[Callable[[str], Any]]) -> Test:
    """Return a test that some stored value is accepted: C.2.2.2.1, any value of several counts."""

    def test(attributes: Attributes) -> bool:
        if content := attributes.get(tag):
            for text in texts(content):
                value = _plain(text)
                for each in accept:
                    if each(value):
                        return True
        return False

    return test


def _plain(text: str) -> str:
    text = text.strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _pattern(wanted: str) -> Callable[[str], Any]:
    """Return what accepts the texts that a key with wildcards matches, in time linear in the text."""
    if "*" not in wanted and "?" not in wanted:
        return wanted.__eq__
    head, *rest = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", wanted)]
    if not rest:
        return re.compile(head, re.DOTALL).fullmatch
    *middle, tail = rest
    # Atomic groups: the leftmost place for each part is always good enough, so nothing is tried twice.
    parts = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(f"{head}{parts}.*{tail}", re.DOTALL).fullmatch


def _person_name(wanted: str) -> Callable[[str], Any]:
    groups = [_component(_folded(group)) for group in wanted.split("=", 2)]
    if len(groups) == 1:
        accept = groups[0]
        return lambda text: accept is None or any(accept(_folded(group)) for group in text.split("=", 2))

    def by_group(text: str) -> bool:
        stored = [*text.split("=", 2), "", ""]
        return all(each is None or each(_folded(group)) for each, group in zip(groups, stored, strict=False))

    return by_group


def _folded(group: str) -> str:
    """Return a component group without what PS3.5 6.2.1 says is not significant, and without case."""
    group = group.strip(" ").casefold()
    if not group.isascii():
        group = unicodedata.normalize("NFC", group)
    if " ^" in group or "^ " in group:
        group = re.sub(" *\\^ *", "^", group)
    return group.rstrip("^ ")


def _component(wanted: str) -> Callable[[str], Any] | None:
    if not wanted.strip("*"):
        return None
    accept = _pattern(wanted)
    if "^" in wanted and ("*" in wanted or "?" in wanted):
        # Trailing carets may be left out of a name, but a pattern may ask for them: DOE^* means DOE too.
        return lambda group: accept(group) or accept(group + "^^^^")
    return accept


def _uids(tag: str, wanted: list[str]) -> Test:
    for uid in wanted:
        if not re.fullmatch(r"[0-9A-Za-z._-]*", uid):
            raise refused(tag, "UI", "A UID has no wildcards; several UIDs are separated by backslashes.")
    uids = frozenset(wanted) - {""}

    def test(attributes: Attributes) -> bool:
        content = attributes.get(tag)
        return content is not None and not uids.isdisjoint(content.get("Value") or ())

    return test


def _numbers(tag: str, vr: str, wanted: list[str]) -> Test:
    try:
        numbers = {float(text) for text in wanted if text}
    except ValueError:
        raise refused(tag, vr, "Only single numbers can be asked for.") from None

    def accept(text: str) -> bool:
        try:
            return float(text) in numbers
        except ValueError:
            return False

    return _any_of(tag, [accept])


def _sequence(tag: str, items: list[Attributes], matching: Matching, offset: int | None) -> Test | None:
    """Return a test that one and the same stored item matches all keys of the item, C.2.2.2.6."""
    if len(items) != 1:
        raise refused(tag, "SQ", "A sequence in a key has one item.")
    tests = _tests(items[0], matching, offset)
    if not tests:
        return None

    def test(attributes: Attributes) -> bool:
        content = attributes.get(tag)
        if not content or content["vr"] != "SQ":
            return False
        return any(all(each(item) for each in tests) for item in content.get("Value") or ())

    return test
