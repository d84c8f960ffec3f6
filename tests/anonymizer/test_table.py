"""Table E.1-1 as data, and every one of its rows carried out."""

from __future__ import annotations

import pytest
from pydicom._dicom_dict import DicomDictionary

from anonymizer import Engine, Option, Policy, ProjectKey, load_policy, policy_from
from anonymizer.elements import (
    EXPLICIT_LITTLE,
    PIXEL_DATA,
    Element,
    Item,
    Part10,
    read_part10,
    tags,
    write_part10,
)
from anonymizer.iod import is_supported, types_of
from anonymizer.markers import file_meta
from anonymizer.structured import CONTENT_SEQUENCE
from anonymizer.table import RESOLVED, load_table
from tests.anonymizer.conftest import SECRET, written

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
PLANTED = {
    "DA": b"20010203",
    "DT": b"20010203040506.789",
    "TM": b"040506",
    "UI": b"1.2.3.4.5.6.7",
    "DS": b"41.5",
    "IS": b"41",
    "AS": b"041Y",
    "CS": b"ATTENUATED",  # a term, as others do not stay whatever their row says
    "US": b"\x29\0",
    "FL": b"\0\0\x24\x42",
    "UR": b"http://xyzzy.example/plugh",
}
TEXT = b"Xyzzy Plugh"
NAME = b"Grault^Garply"
# Text that says where or under which number the subject is; what repeats it elsewhere is taken out.
IDENTIFYING = tags(
    "00080050 00080080 00080081 00080092 00080094 00081010 00081040 00100021 00101000 00101040 00101060 "
    "00101081 00101090 00102150 00102152 00102154 00102155 00200010 00380010 00380060 00380300 00380400 "
    "00400009 00400243 00400253 00401001 00401103 00402010 00402016 00402017"
)
# Elements that carry the instance or that the engine writes itself.
SPECIAL = {0x00080018, 0x00020003, 0x0020000D, 0x0020000E, 0x00100010, 0x00100020, 0x00420011, 0x0018A001}
EVERYTHING = [
    policy_from("all", {"options": sorted(set(Option) - {Option.RETAIN_FULL_DATES})}),
    policy_from("full dates", {"options": sorted(set(Option) - {Option.RETAIN_MODIFIED_DATES})}),
    *(load_policy(name) for name in ("basic", "research", "tcia", "teaching")),
]


def planted_instance() -> Part10:
    """A CT instance that holds every attribute of Table E.1-1 that is not a sequence."""
    root = Item()
    for tag in load_table().rows:
        vr = DicomDictionary[tag][0] if tag in DicomDictionary else "UN"
        if vr not in ("SQ", "UN", "OB") and tag >> 16 not in (0, 2, 4) and tag not in SPECIAL:
            text = NAME if vr == "PN" else b"Waldo %08X" % tag if tag in IDENTIFYING else TEXT
            root[tag] = Element(vr, PLANTED.get(vr, text))
    for tag, value in ((0x00080016, CT.encode()), (0x00080018, b"1.2.3.1"), (0x0020000D, b"1.2.3.2")):
        root[tag] = Element("UI", value)
    root[PIXEL_DATA] = Element("OW", b"\0\0")
    root[0x00080201] = Element("SH", b"+0100")
    root[0x0020000E] = Element("UI", b"1.2.3.3")
    root[0x00100020] = Element("LO", b"MRN4711")
    return Part10(file_meta(root, EXPLICIT_LITTLE), root, EXPLICIT_LITTLE)


def test_the_table_is_edition_2026d_with_657_rows() -> None:
    table = load_table()
    assert len(table.rows) + len(table.repeating) == 657
    assert (len(table.safe_private), len(table.concepts), len(table.cid_7050)) == (479, 214, 13)


def test_retained_devices_and_modified_dates_disagree_on_exactly_eleven_attributes() -> None:
    both = {Option.RETAIN_DEVICE_IDENTITY: "K", Option.RETAIN_MODIFIED_DATES: "C"}
    rows = [row for row in load_table().rows.values() if both.items() <= row.options.items()]
    assert len(rows) == 11
    assert {row.action(frozenset(both)) for row in rows} == {"C"}


def test_every_code_is_resolved_for_every_type_to_one_action() -> None:
    for by_type in RESOLVED.values():
        assert set(by_type) == {"1", "2", "3", ""}
        assert set(by_type.values()) <= {"D", "Z", "X", "K", "C", "U", "U*"}


def test_a_type_depends_on_the_iod_and_on_the_modules_that_are_there() -> None:
    assert is_supported(CT)
    assert not is_supported("1.2.3")
    device_serial_number = 0x00181000
    assert types_of(ENHANCED_CT, ())[()][device_serial_number] == "1"
    assert types_of(CT, ())[()].get(device_serial_number, "3") == "3"
    trial_module = {0x00120010}
    assert types_of(CT, trial_module)[()][0x00120020] == "1"
    assert types_of(CT, ())[()][0x00120020] == "3"


@pytest.mark.parametrize("policy", EVERYTHING, ids=lambda p: p.name)
def test_every_row_does_what_its_code_says(policy: Policy) -> None:
    source = planted_instance()
    data = b"".join(bytes(chunk) for chunk in write_part10(source))
    out = read_part10(written(Engine(policy, ProjectKey("TRIAL", SECRET)).deidentify(data))).root
    types = types_of(CT, source.root)[()]
    for tag, element in source.root.items():
        if tag in SPECIAL or tag not in load_table().rows or tag == CONTENT_SEQUENCE:
            continue
        action = RESOLVED.get(policy.actions[tag], {"": "U*"}).get(types.get(tag, ""), "")
        complaint = _complaint(action, tag, element, out.get(tag))
        assert not complaint, f"({tag:08X}) {action} {element.vr}: {complaint}"


def _complaint(action: str, tag: int, before: Element, after: Element | None) -> str:
    if action == "X":
        return "" if after is None else "is still there"
    if action == "Z":
        return "" if after is not None and not after.value else "is not empty"
    if after is not None and action == "D" and (after.data == before.data or not after.data):
        return "is no dummy"
    if action == "U" and (after is None or not after.data.startswith(b"2.25.")):
        return "is not a new UID"
    if action == "K":
        kept = after is not None and after.data.strip(b" \0") == before.data.strip(b"\0")
        return "" if kept or before.vr == "AE" else "was not kept"
    if (
        action == "C"
        and after is not None
        and any(part in after.data for part in (b"zzy", b"rault", b"aldo"))
    ):
        return "has a word that nobody allowed"
    moved = action == "C" and before.vr in ("DA", "DT") and after is not None
    return "was not moved" if moved and after is not None and after.data == before.data else ""
