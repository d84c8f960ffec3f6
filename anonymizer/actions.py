"""Carries out the actions of Table E.1-1 on one instance, sequence by sequence.

Every element gets exactly one action: that of its content item, its row, or, if it has no row, of its
VR (allow-list by default). Nothing leaves this module that no rule decided about.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from functools import lru_cache
from typing import NamedTuple

from pydicom.datadict import keyword_for_tag

from anonymizer import codes, structured, values
from anonymizer.dates import UNSHIFTABLE, is_date, is_time, shifted
from anonymizer.elements import BINARY, TEXTUAL, Element, Item, tags, vr_of
from anonymizer.iod import Path, Types
from anonymizer.keys import ProjectKey
from anonymizer.policy import Policy
from anonymizer.private import SafeList, safe_members
from anonymizer.quarantine import Quarantined, Reason
from anonymizer.subject import Subject, charset_of, decode
from anonymizer.table import RESOLVED, Option
from anonymizer.text import cleaned, without_identifiers

_CODE_VALUE, _CODE_MEANING, _TIMEZONE = 0x00080100, 0x00080104, 0x00080201
# Codes, schemes, versions and kernels: their digits are no dates and no phone numbers.
_CODES = tags("00080100 00080102 00080103 00080105 0008010F 00181020 00181210 00540081 00209056")
_CODE_SEQUENCES = tags("00080082 00401101 0040A168")
_ECHOED = frozenset(("LO", "SH"))
_FREE = frozenset(("ST", "LT", "UT", "UC"))
_TEXT = _ECHOED | _FREE
_BULK = frozenset(("OB", "OW", "OF", "OD", "OL", "OV"))
_PIXELS = tags("7FE00008 7FE00009 7FE00010")
_REFERENCE_LISTS = tags("00081115 00081200")
_REFERENCED_INSTANCE = 0x00081155
_LONGEST_TEXT = 1 << 16
_FIRST_TAG = 0x00080000  # below are commands, File Meta Information and directories
_MOST_SUBJECTS, _MOST_VALUES = 8, 1 << 14
_NO_TYPES: dict[int, str] = {}


class Decision(NamedTuple):
    """What becomes of a value (None: it goes), under which action code, and what words of it nobody knew.

    Without a code nothing was done.
    """

    result: Element | None
    code: str = ""
    is_logged: bool = False
    unknown: tuple[str, ...] = ()


Decisions = dict[tuple[str, ...], dict[tuple[int, str | None, str, Element], Decision]]


class Memory:
    """What was decided about the values of a few subjects: their next instance has nearly the same ones."""

    def __init__(self) -> None:
        self._decided: OrderedDict[tuple[Subject, bool], Decisions] = OrderedDict()

    def of(self, subject: Subject, *, is_ours: bool) -> Decisions:
        """Decisions by character sets, then by tag, row, Type and element; to be added to."""
        decided = self._decided.pop((subject, is_ours), None)
        if decided is None or sum(map(len, decided.values())) > _MOST_VALUES:
            decided = {}
        self._decided[subject, is_ours] = decided
        while len(self._decided) > _MOST_SUBJECTS:
            self._decided.popitem(last=False)
        return decided


class Work:
    """The actions on one instance, and the account of what was done.

    `days` is the date shift (0 for an instance this key has already de-identified), `types` the Types
    of the instance's attributes by path.
    """

    def __init__(
        self,
        policy: Policy,
        key: ProjectKey,
        safe: SafeList,
        subject: Subject,
        types: Types,
        memory: Memory,
        *,
        is_ours: bool,
    ) -> None:
        self.policy = policy
        self.key = key
        self.safe = safe
        self.subject = subject
        self.types = types
        self.is_ours = is_ours
        self.may_drop = True
        self.date_code = _date_code(policy)
        dates = policy.document["dates"]
        self.days = 0 if is_ours else key.shift_days(subject.identity, dates["min_weeks"], dates["max_weeks"])
        self.counts: Counter[str] = Counter()
        self.log: list[tuple[Path, int, str]] = []
        self.unknown_words: set[str] = set()
        self._memory = memory.of(subject, is_ours=is_ours)

    def root(self, source: Item) -> Item:
        """The de-identified copy of a whole data set."""
        copy = self.item(source, (), ("iso8859",))
        listed = _REFERENCE_LISTS & copy.keys()
        if listed and _PIXELS & copy.keys() and _refers(source) and not _refers(copy):
            for tag in listed:  # 1C: only what is referred to may be listed
                del copy[tag]
        return copy

    def item(self, source: Item, path: Path, codecs: tuple[str, ...]) -> Item:
        """The de-identified copy of a data set or sequence item."""
        codecs = charset_of(source, codecs)
        place = self.types.get(path, _NO_TYPES)
        actions = self._item_actions(source)
        decided = self._memory.setdefault(codecs, {})
        copy = Item()
        for tag, element in source.items():
            if tag & 0x10000 or tag < _FIRST_TAG or (tag in _PIXELS and path):
                self.counts["X"] += bool(tag in _PIXELS)  # nobody has looked at what lies deeper
                continue
            row, type_ = actions.get(tag), place.get(tag, "")
            if isinstance(element.value, bytes):
                decision = decided.get((tag, row, type_, element))
                if decision is None:
                    decision = self._decision(row, tag, element, (path, type_, codecs))
                    decided[tag, row, type_, element] = decision
            else:
                decision = self._decision(row, tag, element, (path, type_, codecs))
            self._note(decision, path, tag)
            if decision.result is not None:
                copy[tag] = decision.result
        self._private(source, copy, path, codecs)
        return copy

    def _decision(
        self, row: str | None, tag: int, element: Element, where: tuple[Path, str, tuple[str, ...]]
    ) -> Decision:
        """What becomes of a value; for a sequence, what its items are is done and noted already."""
        known, type_ = _as_known(tag, element), where[1]
        if known is None:  # its VR is of another kind than PS3.6 says: it hides something
            return Decision(self._emptied(tag, Element(vr_of(tag), b""), type_), "X", is_logged=False)
        code = row or self._default(tag, known.vr)
        code = RESOLVED[code][type_] if code in RESOLVED else code
        return self._act(code, tag, known, where)

    def _note(self, decision: Decision, path: Path, tag: int) -> None:
        if decision.code:
            self.counts[decision.code] += 1
            if decision.is_logged:
                self.log.append((path, tag, decision.code))
            self.unknown_words.update(decision.unknown)

    def uid(self, uid: str) -> str:
        """The new UID for an instance UID; registered UIDs stay."""
        if not uid or self.is_ours or values.is_registered(uid):
            return uid
        return self.key.uid(uid)

    def _default(self, tag: int, vr: str) -> str:
        code = default_code(tag, vr)
        return self.date_code if code == "DATE" else code

    def _item_actions(self, source: Item) -> dict[int, str]:
        actions = self.policy.actions
        if structured.is_content_item(source):
            own = structured.content_action(source, self.policy, may_drop=False)
            if own is not None:
                return {**actions, own[0]: own[1]}
        elif _CODE_MEANING in source and structured.has_private_scheme(source):
            return {**actions, _CODE_VALUE: "C", _CODE_MEANING: "C"}
        return actions

    def _act(
        self, code: str, tag: int, element: Element, where: tuple[Path, str, tuple[str, ...]]
    ) -> Decision:
        if not element.value and code not in ("X",):
            return Decision(element)
        is_logged = code not in ("K", "E")
        if code == "X":
            return Decision(None, code, is_logged)
        if code == "Z":
            return Decision(Element(element.vr, () if element.items else b""), code, is_logged)
        if isinstance(element.value, tuple):
            return Decision(self._sequence(code, tag, element, where), code, is_logged)
        self._unknown: tuple[str, ...] = ()
        result = self._value(code, tag, element, where)
        return Decision(result, code, is_logged, self._unknown)

    def _sequence(
        self, code: str, tag: int, element: Element, where: tuple[Path, str, tuple[str, ...]]
    ) -> Element | None:
        if code == "D" and tag in _CODE_SEQUENCES:
            return structured.removed_code()
        if tag == structured.GRAPHIC_ANNOTATION and code == "D":
            return structured.neutral_annotation(element)
        path, _, codecs = where
        nested = tuple(
            self.item(item, (*path, tag), codecs) for item in element.items if not self._is_dropped(tag, item)
        )
        return Element("SQ", nested) if nested else None

    def _is_dropped(self, tag: int, item: Item) -> bool:
        if tag != structured.CONTENT_SEQUENCE or not self.may_drop:
            return False
        action = structured.content_action(item, self.policy, may_drop=True)
        if action is None or action[1] != "DROP":
            return False
        self.counts["X"] += 1
        return True

    def _value(
        self, code: str, tag: int, element: Element, where: tuple[Path, str, tuple[str, ...]]
    ) -> Element | None:
        vr = element.vr
        if vr == "UI":
            return self._uids(code, tag, element)
        if code == "D" or vr == "PN":
            return Element(vr, self._dummy(tag, element))
        if vr in ("DA", "DT", "TM"):
            return self._date(code, tag, element, where[1])
        if vr in _TEXT:
            return self._text(code, tag, element, where)
        if vr == "AE":
            is_own = element.data.decode("latin-1").strip() in self.policy.ae_titles
            return element if is_own else self._emptied(tag, element, where[1])
        if code == "C" or (vr in _BULK and tag not in _PIXELS and values.is_writing(element.data)):
            return self._emptied(tag, element, where[1])
        if vr in ("CS", "DS", "IS", "AS"):
            return self._checked(tag, element, where)
        return element

    def _uids(self, code: str, tag: int, element: Element) -> Element:
        text = element.data.decode("latin-1")
        uids = [part.strip(" \0") for part in text.split("\\")]
        if code == "R" and not all(values.is_uid(uid) for uid in uids if uid):
            raise Quarantined(Reason.UI_ROLE_UNKNOWN, f"({tag:08X}) should name a class and holds no UID.")
        if code in ("R", "K") and all(values.is_uid(uid) for uid in uids if uid):
            return element
        return Element("UI", "\\".join(self.uid(uid) for uid in uids).encode())

    def _date(self, code: str, tag: int, element: Element, type_: str) -> Element | None:
        text = element.data.decode("latin-1")
        if tag in UNSHIFTABLE and code != "K":
            return self._emptied(tag, element, type_)
        if element.vr == "TM":
            return element if is_time(text) else self._emptied(tag, element, type_)
        if code == "K" or self.is_ours:
            return element if is_date(element.vr, text) else self._emptied(tag, element, type_)
        moved = shifted(element.vr, text, self.days, must_have_value=type_ == "1")
        return Element(element.vr, moved.encode())

    def _text(
        self, code: str, tag: int, element: Element, where: tuple[Path, str, tuple[str, ...]]
    ) -> Element | None:
        if tag == _TIMEZONE:
            return element if values.is_offset(element.data) else None
        if len(element.value) > _LONGEST_TEXT:
            return self._emptied(tag, element, where[1])
        before = decode(element, where[2])
        if code == "C":
            text, unknown = cleaned(before, self.subject.identifiers, self.policy.words)
            self._unknown = unknown
        else:
            text = without_identifiers(before, self.subject.identifiers, is_code=tag in _CODES)
        if text == before:
            return element
        return self._encoded(text, tag, element, where) if text else self._emptied(tag, element, where[1])

    def _checked(
        self, tag: int, element: Element, where: tuple[Path, str, tuple[str, ...]]
    ) -> Element | None:
        data = element.data
        if element.vr in ("DS", "IS"):
            is_safe = values.is_number(data) and not self._names_subject(data)
            return element if is_safe else self._emptied(tag, element, where[1])
        if element.vr == "AS":
            if not values.is_age(data):
                return self._emptied(tag, element, where[1])
            return Element("AS", values.capped_age(data))
        text = data.decode("latin-1").strip(" \0")
        kept = codes.without_names(tag, text, self.subject.identifiers, self.policy.words)
        if kept == text:
            return element
        return Element("CS", kept.encode("latin-1")) if kept else self._emptied(tag, element, where[1])

    def _names_subject(self, data: bytes) -> bool:
        numbers = data.decode("ascii").split("\\")
        return any(self.subject.identifiers.are_named_by(number.strip(" \0+")) for number in numbers)

    def _encoded(
        self, text: str, tag: int, element: Element, where: tuple[Path, str, tuple[str, ...]]
    ) -> Element | None:
        if text.isascii():
            return Element(element.vr, text.encode("ascii"))
        from pydicom.charset import encode_string

        try:
            return Element(element.vr, encode_string(text, list(where[2])))
        except (UnicodeError, LookupError):
            return self._emptied(tag, element, where[1])

    def _emptied(self, tag: int, element: Element, type_: str) -> Element | None:
        """What X, Z or D leave of a value that turned out not to be safe, by its Type."""
        if type_ == "1":
            return Element(element.vr, self._dummy(tag, element))
        return Element(element.vr, b"") if type_ == "2" else None

    def _dummy(self, tag: int, element: Element) -> bytes:
        return element.data if self.is_ours else values.dummy(tag, element.vr, element.data)

    def _private(self, source: Item, copy: Item, path: Path, codecs: tuple[str, ...]) -> None:
        held = [tag for tag in source if tag & 0x10000]
        if not held:
            return
        if self.policy.shows(Option.RETAIN_SAFE_PRIVATE):
            for tag, element in safe_members(source, self.safe):
                kept = self._private_value(tag, element, path, codecs)
                if kept is not None:
                    copy[tag] = kept
            for tag in [t for t in copy if t & 0x10000 and t & 0xFFFF < 0x100]:
                if not any(t & 0xFFFF0000 | (t >> 8 & 0xFF) == tag for t in copy if t & 0xFFFF > 0xFF):
                    del copy[tag]
        self.counts["X"] += sum(tag not in copy for tag in held)

    def _private_value(
        self, tag: int, element: Element, path: Path, codecs: tuple[str, ...]
    ) -> Element | None:
        if tag & 0xFFFF < 0x100:
            return element
        if element.vr in ("UN", "PN", "UR", "AE"):
            return None
        code = {"UI": "U", "SQ": "K"}.get(element.vr, "C" if element.vr in _TEXT else "K")
        if element.vr in ("DA", "DT", "TM"):
            code = self.date_code
        decision = self._act(code, tag, element, (path, "", codecs))
        self._note(decision, path, tag)
        return decision.result


def _refers(item: Item) -> bool:
    return any(
        tag == _REFERENCED_INSTANCE or any(_refers(nested) for nested in element.items)
        for tag, element in item.items()
        if tag not in _REFERENCE_LISTS
    )


def _as_known(tag: int, element: Element) -> Element | None:
    """The element under the VR that PS3.6 gives it; None if text stands for numbers or the reverse."""
    vr = vr_of(tag)
    if vr in (element.vr, "UN") or (vr in BINARY and element.vr in BINARY):
        return element
    if vr in TEXTUAL and element.vr in TEXTUAL:
        return Element(vr, element.value)
    return None


@lru_cache(maxsize=1 << 14)
def default_code(tag: int, vr: str) -> str:
    """The action for a standard attribute without a row: keep what is safe by VR, doubt the rest.

    Beyond the standard's codes: "R" a registered UID's role, "E" text that must not echo the subject,
    "DATE" what the policy says about dates.
    """
    if tag >> 16 == 0xFFFC or tag >> 24 in (0x50, 0x60) or tag & 0xFFFF == 0 or tag in values.NAMING:
        return "X"
    if vr in ("UN", "UR") or vr_of(tag) == "UN":
        return "X"
    if vr == "UI":
        return "R" if tag in values.REGISTERED_ROLES else "U"
    if vr in _ECHOED:
        return "C" if values.is_free_label(keyword_for_tag(tag)) else "E"
    if vr in ("DA", "DT", "TM"):
        return "DATE"
    return "X/Z/D" if vr == "PN" else "C" if vr in _FREE else "K"


def _date_code(policy: Policy) -> str:
    if policy.shows(Option.RETAIN_FULL_DATES):
        return "K"
    return "C" if policy.shows(Option.RETAIN_MODIFIED_DATES) else "X/Z/D"
