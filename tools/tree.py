"""Writes the tree of ARCHITECTURE.md from the first sentence of each module's docstring.

`python tools/tree.py` rewrites the page; a test compares it.
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "ARCHITECTURE.md"
FLOORS = ("protos", "anonymizer", "catalog", "federation", "node", "sim")
BEGIN, END = "```tree\n", "```\n"
_WIDTH = 112
_NAME = 22


def tree() -> str:
    """Return the tree: a folder a line, below it its modules with what each is for."""
    folders = sorted({path.parent for floor in FLOORS for path in (ROOT / floor).rglob("*.py")}, key=_floor)
    return "".join(_folder(folder) for folder in folders)


def _floor(folder: Path) -> tuple[int, str]:
    name = str(folder.relative_to(ROOT))
    return FLOORS.index(name.split("/")[0]), name


def _folder(folder: Path) -> str:
    lines = [f"{folder.relative_to(ROOT)}/\n"]
    for path in sorted(folder.glob("*.py")):
        if path.stem.endswith(("_pb2", "_pb2_grpc")):
            continue
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        sentence = " ".join(text.split("\n\n")[0].split())
        wrapped = textwrap.wrap(sentence, _WIDTH - _NAME - 2)
        lines += [f"  {path.name:<{_NAME - 1}} {wrapped[0]}\n"]
        lines += [f"  {'':<{_NAME}}{more}\n" for more in wrapped[1:]]
    return "".join(lines)


def page_with_tree(page: str) -> str:
    """Return the page with the tree as it is now."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + tree() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page_with_tree(PAGE.read_text()))
