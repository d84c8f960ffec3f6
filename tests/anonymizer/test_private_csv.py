"""TCIA's list of private attributes as a policy's private list; a wrong row is told with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anonymizer import PRESETS, PolicyRejected, load_policy, policy_from
from tests.anonymizer.conftest import deidentified, sample

HEADER = "element_sig_pattern,tag_name,vr,private_disposition\n"
ROWS = (
    '"(0077,""LOCAL"",01)",Gain,DS,k\n'
    '"(0077,""LOCAL"",2)",Operator,PN,d\n'
    '"(0077,""LOCAL"",03)",Frame,UI,h\n'
    '"(0077,""LOCAL"",04)",Scanned,DA,o\n'
    '"(0077,""LOCAL"",05)",Day number,IS,oi\n'
    '"(0077,""LOCAL"",06)",Date as text,LO,o\n'
    '"(0077,""LOCAL"",07)",Twice,LO,k\n'
    '"(0040,0275)[<0>](0077,""LOCAL"",07)",Twice,LO,d\n'
    '"(0040,0275)[<0>](0079,""Vendor, (new) 1"",A1)",Count,US or SS,K\n'
    '"(0077,""LOCAL"",08)[<0>](0008,0100)",Code Value,SH,k\n'
)


def put(folder: Path, rows: str, header: str = HEADER) -> Path:
    """Write the list and a policy that names it; return the policy's file."""
    (folder / "ptkb.csv").write_text(header + rows, encoding="utf-8-sig")
    path = folder / "ours.json"
    path.write_text(json.dumps({**PRESETS["research"], "private": {"csv": "ptkb.csv"}}))
    return path


def test_what_the_list_keeps_is_kept_and_cleaned_by_its_vr(tmp_path: Path) -> None:
    policy = load_policy(put(tmp_path, ROWS))
    assert [
        (r["group"], r["creator"], r["element"], r["vr"]) for r in policy.document["private"]["list"]
    ] == [
        ("0077", "LOCAL", "01", "DS"),
        ("0077", "LOCAL", "03", "UI"),
        ("0077", "LOCAL", "04", "DA"),
        ("0079", "Vendor, (new) 1", "a1", "SS/US"),
    ]
    source = sample()
    block = source.private_block(0x0077, "LOCAL", create=True)
    for number, vr, value in ((1, "DS", "1.5"), (2, "PN", "A^B"), (3, "UI", "1.2.3"), (4, "DA", "20240102")):
        block.add_new(number, vr, value)
    out = deidentified(source, policy).private_block(0x0077, "LOCAL")
    assert out[1].value == 1.5
    assert 2 not in out
    assert out[3].value.startswith("2.25.")
    assert out[4].value not in ("", "20240102")


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ("0077-LOCAL-01,Gain,DS,k\n", r"line 3: '0077-LOCAL-01' names no element"),
        ('"(0078,""LOCAL"",01)",Gain,DS,k\n', "line 3: .* even group"),
        ('"(0077,""LOCAL"",01)",Gain,DS,maybe\n', "line 3: 'maybe' is no disposition"),
        ('"(0077,""LOCAL"",01)",Gain,number,k\n', "line 3: 'number' is no VR"),
        ('"(0077,""LOCAL"",01)",Gain,DS\n', "line 3: it has 3 cells"),
    ],
)
def test_a_wrong_row_is_told_with_its_line(tmp_path: Path, row: str, hint: str) -> None:
    with pytest.raises(PolicyRejected, match=hint):
        load_policy(put(tmp_path, ROWS.splitlines(keepends=True)[0] + row))


def test_a_file_that_is_no_such_list_is_told_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(PolicyRejected, match="line 1: there is no column 'private_disposition'"):
        load_policy(put(tmp_path, "", "element_sig_pattern,vr\n"))
    path = put(tmp_path, ROWS)
    (tmp_path / "ptkb.csv").write_bytes(HEADER.encode() + b"\xff\xfe\n")
    with pytest.raises(PolicyRejected, match="not UTF-8"):
        load_policy(path)
    (tmp_path / "ptkb.csv").unlink()
    with pytest.raises(PolicyRejected, match=r"ptkb\.csv cannot be read"):
        load_policy(path)
    with pytest.raises(PolicyRejected, match="private has no key 'csv'"):
        policy_from("sent without its file", {"private": {"csv": "ptkb.csv"}})
