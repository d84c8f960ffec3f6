"""A policy in English: what happens to each attribute, for those who have to agree to it."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.datadict import keyword_for_tag

from anonymizer.dates import UNSHIFTABLE
from anonymizer.elements import vr_of
from anonymizer.policy import Policy
from anonymizer.table import EDITION, RESOLVED, Option, load_table

# What each code does, as a sentence about "it".
SENTENCES = {
    "D": "is replaced by a dummy value",
    "Z": "is emptied, or replaced by a dummy where the IOD demands a value",
    "X": "is removed, or emptied or replaced by a dummy where the IOD demands it",
    "K": "is kept",
    "C": "is cleaned: only words, dates and codes known to be harmless stay",
    "U": "is replaced by a UID made with the project key, everywhere the same",
    "Z/D": "is emptied, or replaced by a dummy where the IOD demands a value",
    "X/Z": "is removed, or emptied where the IOD demands it",
    "X/D": "is removed, or replaced by a dummy where the IOD demands it",
    "X/Z/D": "is removed, emptied or replaced by a dummy, by what the IOD demands",
    "X/Z/U*": "is removed, or kept with new UIDs where the IOD demands it",
    "U*": "is kept, with new UIDs inside",
}
_DATES = "is moved back by whole weeks, the same for all of a subject"
_TIMES = "is kept, while its date is moved by whole weeks"
_OPTIONS = {
    Option.CLEAN_PIXEL_DATA: "Areas that may hold burned-in text are blanked; images that may hold text and "
    "that nothing vouches for are quarantined.",
    Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES: "Thin slices of heads are quarantined; no face is removed.",
    Option.CLEAN_GRAPHICS: "Graphics and their texts are cleaned; overlays and curves are removed.",
    Option.CLEAN_STRUCTURED_CONTENT: "Structured reports are cleaned item by item.",
    Option.CLEAN_DESCRIPTORS: "Free text keeps only words from a list of harmless ones.",
    Option.RETAIN_FULL_DATES: "Dates are kept as they are.",
    Option.RETAIN_MODIFIED_DATES: "Dates are moved back by whole weeks, for each subject by its own number.",
    Option.RETAIN_PATIENT_CHARACTERISTICS: "Sex, age (at most 90 years), size and weight are kept.",
    Option.RETAIN_DEVICE_IDENTITY: "Devices stay identifiable.",
    Option.RETAIN_UIDS: "UIDs are kept.",
    Option.RETAIN_SAFE_PRIVATE: "Private attributes known to be safe (Table E.3.10-1) are kept and cleaned.",
    Option.RETAIN_INSTITUTION_IDENTITY: "Institutions stay identifiable.",
}
# What happens whatever the table says, in the order it happens.
ALWAYS = (
    "Patient ID and Patient's Name become one pseudonym made with the project key.",
    "An attribute that is not in the table is kept only if its VR is safe; names (PN), texts and dates are "
    "treated as above wherever they stand, and what the data dictionary does not know is removed.",
    "Text that stays is searched for the subject's own names and numbers, which are taken out.",
    "Private attributes are removed unless they are known to be safe.",
    "Where pixel.catalogue is true, ultrasound of known scanners has the strip blanked that names are in.",
    "Overlays (60xx), curves (50xx), icons, group lengths and padding are removed.",
    "File Meta Information and preamble are written anew.",
    "The instance says what was done: (0012,0062), (0012,0063), (0012,0064), (0018,A001), (0028,0303).",
    "Each finished file is searched, in all of its bytes, for every value that had to go.",
    "Whatever cannot be vouched for is quarantined with a reason, never passed on.",
)


def describe(policy: Policy) -> Iterator[str]:
    """The policy as lines of text, one attribute of Table E.1-1 a line."""
    meanings = load_table().cid_7050
    yield f"Profile {policy.name}: {meanings['113100']} (PS3.15-{EDITION}), policy {policy.digest[:12]}"
    for option in sorted(policy.options):
        yield f"  {option} {meanings[option]}: {_OPTIONS[option]}"
    yield ""
    yield "Always:"
    yield from (f"  {sentence}" for sentence in ALWAYS)
    yield ""
    yield "Attributes:"
    for tag, code in sorted(policy.actions.items()):
        yield f"  ({tag >> 16:04X},{tag & 0xFFFF:04X}) {_name(tag)} {_sentence(tag, code, policy)}."


def _name(tag: int) -> str:
    row = load_table().rows.get(tag)
    return row.name if row else keyword_for_tag(tag)


def _sentence(tag: int, code: str, policy: Policy) -> str:
    assert code in RESOLVED or code == "U*"
    if tag in (0x00100010, 0x00100020):
        return "is replaced by the subject's pseudonym"
    if tag in UNSHIFTABLE and code == "C":
        return "is removed, or replaced by a dummy: moved, it would give away by how much"
    if code == "C" and policy.shows(Option.RETAIN_MODIFIED_DATES):
        vr = vr_of(tag)
        return {"DA": _DATES, "DT": _DATES, "TM": _TIMES}.get(vr, SENTENCES[code])
    return SENTENCES[code]
