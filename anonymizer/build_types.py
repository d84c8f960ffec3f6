"""Makes data/iod-types.json from the maps that the highdicom package ships (PS3.3 by way of highdicom).

    python -m anonymizer.build_types /path/to/site-packages/highdicom/_standard

Run once per edition; the product reads only the result. A row is kept if its attribute is in Table
E.1-1 and its Type can change an action, or if it is a Type 1 member of a sequence that action D must
fill with dummies.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

from anonymizer.table import load_table

OUTPUT = Path(__file__).parent / "data" / "iod-types.json"
ABOUT = (
    "Types of PS3.3 for the attributes of PS3.15 Table E.1-1. Derived from highdicom (MIT licence, "
    "(c) the highdicom contributors); PS3.3 and PS3.4 are (c) NEMA."
)


def build(maps: Path) -> dict[str, Any]:
    """The table as JSON: SOP class to IOD, IOD to its modules, module to {path: {attribute: Type}}.

    Many sequences have the same members, so a path names one of the shared `members`.
    """
    classes = json.loads((maps / "sop_class_iod_map.json").read_text())
    iods = json.loads((maps / "iod_module_map.json").read_text())
    attributes = json.loads((maps / "module_attribute_map.json").read_text())
    used = sorted({module["key"] for iod in classes.values() for module in iods[iod]})
    members: list[dict[str, str]] = []
    modules = {key: _module(attributes.get(key, []), members) for key in used}
    return {
        "about": ABOUT,
        "sop_classes": classes,
        "iods": {iod: _modules(iods[iod]) for iod in sorted(set(classes.values()))},
        "modules": modules,
        "members": members,
    }


def _modules(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    return {
        "mandatory": sorted({row["key"] for row in rows if row["usage"] == "M"}),
        "optional": sorted({row["key"] for row in rows if row["usage"] != "M"}),
    }


def _module(rows: list[dict[str, Any]], members: list[dict[str, str]]) -> dict[str, Any]:
    presence = sorted(tag for row in rows if not row["path"] and row["type"] == "1" and (tag := _tag(row)))
    types: dict[str, dict[str, str]] = {}
    for row in rows:
        path = [tag_for_keyword(keyword) for keyword in row["path"]]
        attribute = tag_for_keyword(row["keyword"])
        if attribute is None or None in path or not _matters(attribute, row["type"], path):
            continue
        types.setdefault("/".join(f"{part:08X}" for part in path), {})[f"{attribute:08X}"] = row["type"]
    members += [group for group in types.values() if group not in members]
    return {
        "presence": presence,
        "paths": {path: members.index(group) for path, group in sorted(types.items())},
    }


def _tag(row: dict[str, Any]) -> str:
    tag = tag_for_keyword(row["keyword"])
    return "" if tag is None else f"{tag:08X}"


def _matters(tag: int, type_: str, path: list[int | None]) -> bool:
    """Type 3 changes an action only for code D, where it tells "in the IOD" from "not in the IOD"."""
    table = load_table()
    filled = {t for t, row in table.rows.items() if "D" in row.basic.split("/")}
    if type_ in ("1", "1C") and any(part in filled for part in path):
        return True
    row = table.rows.get(tag)
    if row is None:
        return False
    return type_ in ("1", "1C", "2", "2C") or row.basic == "D"


if __name__ == "__main__":
    OUTPUT.write_text(json.dumps(build(Path(sys.argv[1])), separators=(",", ":")) + "\n")
