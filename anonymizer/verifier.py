"""Checks a finished file against its source and the policy, without any of the engine's code.

Only the parser is shared. What must go is read anew from the table's JSON; then the file is searched
for every value that had to go, and each attribute, the pixels and what was to stay are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pydicom.datadict import keyword_for_tag

from anonymizer.elements import DEFLATED, PIXEL_DATA, Element, Item, Part10, read_part10, tags, text_value
from anonymizer.leaks import Needles, haystack, squeeze, vocabulary
from anonymizer.promises import MEASURED, Expected, Value, has_row, is_registered, row_code, walk
from anonymizer.quarantine import Reason
from anonymizer.remarks import remarks_of
from anonymizer.verifier_pixels import compressed_finding, is_only_cleared, native_finding

_NEW_UID = re.compile(r"2\.25\.\d{1,39}")
_NUMBERS = frozenset(("DA", "DT", "TM", "DS", "IS"))
# Bytes of a value that may be nothing but a short identifier and what stands around it.
_SHORT_VALUE = 256
_PIXEL_MODULE = range(0x00280000, 0x00290000)
_DUMMIES = frozenset(
    b",REMOVED,NOT PRESENT,UNKNOWN,NONE,0,1,000D,001D,000000,010000,19000101,19010101,19000101000000,"
    b"19010101000000,urn:removed,CORRECT,COERCE".split(b",")
)
_OWN = tags("00120062 00120063 00120064 00280303 00280301 0018A001 00080008 00082111")


class Finding(NamedTuple):
    """One reason not to release a file; the sentence holds no value."""

    reason: Reason
    sentence: str


def needles_of(source: Part10, expected: Expected) -> tuple[Needles, Needles]:
    """What must not be in any file about this subject, and what must not be in this file."""
    return _needles(source.root, list(walk(source.root)), expected)


def _needles(root: Item, values: list[Value], expected: Expected) -> tuple[Needles, Needles]:
    subject, own, kept = expected.promises.needles(root, values)
    return subject, own.without(kept | expected.words)


def verify(
    source_data: bytes, output_data: bytes, expected: Expected, known: Needles, names: str = ""
) -> list[Finding]:
    """Everything that speaks against releasing the output; `known` is what else names this subject.

    `names` are the folder and file names it will be released under.
    """
    source, output = read_part10(source_data), read_part10(output_data)
    before, after = list(walk(source.root)), list(walk(output.root))
    subject, own = _needles(source.root, before, expected)
    findings = list(_leaks(output, after, output_data, known | subject | own, expected, names))
    findings += _policy_findings(before, after, output, expected)
    findings += _meta_findings(output, expected.options)
    findings += _retention_findings(source, output, expected)
    if PIXEL_DATA in source.root or PIXEL_DATA in output.root:
        findings += _pixel_findings(source, output, (source_data, output_data), expected)
    return findings


def verify_again(source_data: bytes, output_data: bytes) -> list[Finding]:
    """The same for an instance that was released before: nothing but its markers may be different."""
    source, output = read_part10(source_data), read_part10(output_data)
    changed = [tag for tag in output.root if output.root[tag] != source.root.get(tag) and tag not in _OWN]
    found = [Finding(Reason.LEAK_FOUND, f"({tag:08X}) changed in a second run.") for tag in changed]
    return [*found, *_meta_findings(output, frozenset(["113110"]))]


def _leaks(
    output: Part10, values: list[Value], data: bytes, needles: Needles, expected: Expected, names: str
) -> Iterator[Finding]:
    searched = data
    if output.transfer_syntax == DEFLATED:
        searched = data + b"".join(bytes(value.element.data) + b"\n" for value in values)
    bulk = [
        memoryview(v.element.value)
        for v in values
        if not isinstance(v.element.value, tuple)
        and (isinstance(v.element.value, memoryview) or v.tag == PIXEL_DATA)
    ]
    generated = " ".join(
        v.element.data.decode("latin-1")
        for v in values
        if v.element.vr in _NUMBERS or (v.element.vr == "UI" and v.element.data.startswith(b"2.25."))
    )
    frames = [v.element.data for v in values if v.element.is_encapsulated]
    found = haystack(searched, bulk, names, b"\n".join(remarks_of(data) for data in frames))
    given = {squeeze(word) for word in expected.given}
    hits = [hit for hit in found.hits(needles, generated) if hit not in given]
    if hits:
        yield Finding(Reason.LEAK_FOUND, f"{len(hits)} values that had to go are still in its bytes.")
    named = needles.words | needles.dates
    for value in values:
        if value.element.vr not in ("DS", "IS") or isinstance(value.element.value, memoryview):
            continue
        alone = value.element.data.decode("latin-1").split("\\")
        if any(part.strip(" +") in named for part in alone):
            yield Finding(Reason.LEAK_FOUND, f"({value.tag:08X}) is a number that names the subject.")
    for value in values if needles.whole else []:
        if isinstance(value.element.value, memoryview) or len(value.element.data) > _SHORT_VALUE:
            continue
        is_short = squeeze(value.element.data.decode("latin-1")) in needles.whole
        if is_short and row_code(value.tag, expected.options) not in ("", "K", "C"):
            yield Finding(Reason.LEAK_FOUND, f"({value.tag:08X}) still holds a short identifier.")


def _policy_findings(
    source: list[Value], values: list[Value], output: Part10, expected: Expected
) -> Iterator[Finding]:
    before: dict[int, set[bytes]] = {}
    for value in source:
        if expected.action(value.tag) not in ("", "K", "C"):
            before.setdefault(value.tag, set()).add(value.element.data.strip(b" \0"))
    for value in values:
        if value.tag == PIXEL_DATA and value.path:
            yield Finding(Reason.LEAK_FOUND, "Pixel data that nobody looked at lies in a sequence.")
        if value.tag & 0x10000:
            if "113111" not in expected.options:
                yield Finding(Reason.LEAK_FOUND, f"({value.tag:08X}) is private and was to go.")
            continue
        code = expected.action(value.tag)
        is_name = value.element.vr == "PN"
        if not is_name and (not code or code in ("K", "C") or value.tag in _OWN):
            continue
        data = value.element.data.strip(b" \0")
        if is_name and not _is_pseudonym(data, output.root):
            yield Finding(Reason.LEAK_FOUND, f"({value.tag:08X}) holds a name that is not the pseudonym.")
        if not code or code in ("K", "C") or value.tag in _OWN or data in _DUMMIES:
            continue
        if data in before.get(value.tag, ()) and not _may_repeat(value, data, expected):
            yield Finding(Reason.LEAK_FOUND, f"({value.tag:08X}) still has the value it had.")
    yield from _word_findings(values, expected)


def _is_pseudonym(data: bytes, root: Item) -> bool:
    return data in _DUMMIES or data == text_value(root, 0x00100020).encode()


def _may_repeat(value: Value, data: bytes, expected: Expected) -> bool:
    if value.element.vr == "UI":
        return all(is_registered(uid) for uid in data.decode("latin-1").split("\\"))
    return data.decode("latin-1") in expected.given or value.element.vr in ("TM", "CS", "OB", "SQ")


def _word_findings(values: list[Value], expected: Expected) -> Iterator[Finding]:
    """Every word of a cleaned text is in the vocabulary, approved, or a number with a meaning."""
    for value in values:
        if value.element.vr not in ("LO", "SH", "ST", "LT", "UT", "UC") or value.tag in _OWN:
            continue
        code = row_code(value.tag, expected.options)
        if code != "C" and (code or value.element.vr in ("LO", "SH")):
            continue
        text = value.element.data.decode("latin-1").strip(" \0")
        if text in expected.given:
            continue
        for word in re.findall(r"[^\W\d_]{2,}", text.casefold()):
            if word not in vocabulary() and word not in expected.words and len(word) > 3:
                yield Finding(Reason.LEAK_FOUND, f"({value.tag:08X}) has a word that nobody allowed.")


def _meta_findings(output: Part10, options: frozenset[str]) -> Iterator[Finding]:
    allowed = {0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012}
    if set(output.meta) - allowed:
        yield Finding(Reason.LEAK_FOUND, "Its File Meta Information has more than what was written.")
    if text_value(output.meta, 0x00020003) != text_value(output.root, 0x00080018):
        yield Finding(Reason.IOD_REGRESSION, "Its File Meta Information names another instance.")
    if "113110" not in options and not _NEW_UID.fullmatch(text_value(output.root, 0x00080018)):
        yield Finding(Reason.IOD_REGRESSION, "Its SOP Instance UID is not one that was made here.")


def _retention_findings(source: Part10, output: Part10, expected: Expected) -> Iterator[Finding]:
    """Numbers without a row in the table are what images are read by: they stay as they were."""
    for tag, element in source.root.items():
        if element.vr not in MEASURED or tag & 0x10000 or tag & 0xFFFF == 0 or has_row(tag):
            continue
        if tag >> 24 in (0x50, 0x60) or (expected.boxes and tag in _PIXEL_MODULE) or tag < 0x00080000:
            continue
        if not keyword_for_tag(tag):
            continue
        if tag not in output.root or output.root[tag].data != element.data:
            yield Finding(Reason.IOD_REGRESSION, f"({tag:08X}) was to stay and is not what it was.")


def _are_same(one: Element, other: Element) -> bool:
    """Whether two values have the same bytes; a bytearray looks at a view's without copying them."""
    value = bytearray(one.value) if isinstance(one.value, memoryview) else one.value
    return value == other.value


def _pixel_findings(
    source: Part10, output: Part10, files: tuple[bytes, bytes], expected: Expected
) -> Iterator[Finding]:
    before, after = source.root.get(PIXEL_DATA), output.root.get(PIXEL_DATA)
    if before is None or after is None:
        yield Finding(Reason.IOD_REGRESSION, "Its pixel data came or went.")
    elif not expected.boxes:
        if not _are_same(before, after) and not is_only_cleared(source.root, before.data, after.data):
            yield Finding(Reason.IOD_REGRESSION, "Its pixel data is not what it was.")
    elif after.is_encapsulated or before.is_encapsulated:
        yield from (Finding(*found) for found in compressed_finding(*files, expected.boxes))
    else:
        complaints = native_finding(source.root, before.data, after.data, expected.boxes)
        yield from (Finding(*found) for found in complaints)
