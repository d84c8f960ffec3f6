"""CONFORMANCE.md says what the code says, and a node's own statement has the node's own values."""

from __future__ import annotations

import re
from pathlib import Path

from node.config import read_config
from node.conformance import any_node, keys, sop_classes, statement

PAGE = Path(__file__).parents[3] / "CONFORMANCE.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == statement(any_node()), "run: make docs"


def test_every_table_is_filled_and_every_chapter_there() -> None:
    text = statement(any_node())
    assert "<<" not in text
    assert re.findall(r"^## (\d+|Annex .) ", text, re.MULTILINE) == [
        *map(str, range(1, 9)),
        *(f"Annex {letter}" for letter in "ABCDE"),
    ]
    for each in sop_classes():
        assert f"| {each.uid} |" in text
    for key in keys():
        assert f"| {key.keyword} |" in text


def test_tables_have_as_many_cells_in_each_row_as_heads() -> None:
    for found in re.findall(r"(?:^\|.*\n)+", statement(any_node()), re.MULTILINE):
        assert len({re.sub(r"\\\|", "", row).count("|") for row in found.splitlines()}) == 1, found[:200]


def test_a_nodes_own_statement_has_its_own_values() -> None:
    own = '[node]\nname="b"\nae_title="BRAVO"\nnode_id="1"\n[dicom]\nport=104\nmax_pdu=65536\n'
    text = statement(read_config(own, "a test", {}))
    assert "| `BRAVO` |" in text
    assert "| 104 |" in text
    assert "65536 bytes" in text
