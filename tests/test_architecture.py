"""ARCHITECTURE.md is true: every file is listed, imports go downwards, files and functions stay small."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"protos": 0, "anonymizer": 1, "catalog": 1, "federation": 2, "node": 3, "sim": 4}
"""A package imports only from lower floors; anonymizer and catalog share one and do not know each other."""
GENERATED = ("_pb2", "_pb2_grpc")
"""What the compiler makes of the .proto files is its own business, but for the tree and the imports."""
FILES = sorted(
    path for package in FLOORS for path in (ROOT / package).rglob("*.py") if not path.stem.endswith(GENERATED)
)
CLOCK_ROOMS = (
    "node/app/",
    "node/dimse/",
    "node/web/",
    "node/cli.py",
    "node/commands/",
    "sim/",
    "anonymizer/",
)
"""Where clocks, sleeps and threads may live: the composition root, the borders, the command lines."""
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_page_lists_every_module_and_what_it_is_for() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    tools = runpy.run_path(str(ROOT / "tools" / "tree.py"))
    assert tools["page_with_tree"](page) == page, "run: python tools/tree.py"


def test_generated_code_is_what_the_compiler_makes_of_the_protos() -> None:
    tools = runpy.run_path(str(ROOT / "tools" / "protos.py"))
    assert not tools["stale"](), "run: make protos"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_go_downwards(path: Path) -> None:
    package = _name(path).split("/")[0]
    upwards = {
        other
        for other in _imports(ast.parse(path.read_text())) & FLOORS.keys()
        if other != package and FLOORS[other] >= FLOORS[package]
    }
    assert not upwards, f"{_name(path)} imports from {upwards}, which is not a lower floor"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400, f"{_name(path)} has grown over 400 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            length = (node.end_lineno or 0) - first.lineno + 1
            assert length <= 40, f"{_name(path)}: {node.name} is {length} lines long"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_clocks_sleeps_and_threads_stay_in_their_rooms(path: Path) -> None:
    if _name(path).startswith(CLOCK_ROOMS):
        return
    text = path.read_text()
    assert not re.search(r"\btime\.(time|sleep|monotonic)\(|threading\.Thread\(|datetime\.now\(", text)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_every_module_says_why_it_exists_under_a_telling_name(path: Path) -> None:
    assert path.stem not in BANNED_NAMES
    assert ast.get_docstring(ast.parse(path.read_text())), f"{_name(path)} has no docstring"
