"""ARCHITECTURE.md is true: every file is listed, imports go downwards, files and functions stay small."""

from __future__ import annotations

import ast
import functools
import re
import runpy
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"protos": 0, "anonymizer": 1, "catalog": 1, "federation": 2, "node": 3, "sim": 4}
"""A package imports only from lower floors; anonymizer and catalog share one and do not know each other."""
GENERATED = ("_pb2", "_pb2_grpc")
"""What the compiler makes of the .proto files is its own business, but for the tree and the imports."""
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


def _imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


class Module(NamedTuple):
    """What is judged of a file that a person wrote."""

    lines: int
    imports: set[str]
    functions: dict[str, int]
    """Name to lines of the body."""
    has_docstring: bool
    has_clock: bool


@functools.cache
def _modules(package: str) -> dict[str, Module]:
    """Return all modules of a package by their path; each is read once for all tests."""
    paths = sorted(path for path in (ROOT / package).rglob("*.py") if not path.stem.endswith(GENERATED))
    return {str(path.relative_to(ROOT)): _read(path.read_text()) for path in paths}


def _read(text: str) -> Module:
    tree = ast.parse(text)
    functions = {
        f"{node.name} in line {node.lineno}": _length(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    clock = re.search(r"\btime\.(time|sleep|monotonic)\(|threading\.Thread\(|datetime\.now\(", text)
    has_docstring = bool(ast.get_docstring(tree))
    return Module(len(text.splitlines()), _imports(tree), functions, has_docstring, clock is not None)


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body
    first = body[1] if ast.get_docstring(function) and len(body) > 1 else body[0]
    return (function.end_lineno or 0) - first.lineno + 1


def test_the_page_lists_every_module_and_what_it_is_for() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    tools = runpy.run_path(str(ROOT / "tools" / "tree.py"))
    assert tools["page_with_tree"](page) == page, "run: python tools/tree.py"


def test_generated_code_is_what_the_compiler_makes_of_the_protos() -> None:
    tools = runpy.run_path(str(ROOT / "tools" / "protos.py"))
    assert not tools["stale"](), "run: make protos"


@pytest.mark.parametrize("package", FLOORS)
def test_imports_go_downwards(package: str) -> None:
    forbidden = {other for other in FLOORS if other != package and FLOORS[other] >= FLOORS[package]}
    upwards = {
        name: module.imports & forbidden
        for name, module in _modules(package).items()
        if module.imports & forbidden
    }
    assert not upwards, "no lower floor is what these import from"


@pytest.mark.parametrize("package", FLOORS)
def test_files_and_functions_stay_small(package: str) -> None:
    modules = _modules(package)
    assert modules
    files = {name: module.lines for name, module in modules.items() if module.lines > 400}
    assert not files, "these have grown over 400 lines"
    functions = {
        f"{name}: {function}": length
        for name, module in modules.items()
        for function, length in module.functions.items()
        if length > 40
    }
    assert not functions, "these have grown over 40 lines"


@pytest.mark.parametrize("package", FLOORS)
def test_clocks_sleeps_and_threads_stay_in_their_rooms(package: str) -> None:
    with_clock = [name for name, module in _modules(package).items() if module.has_clock]
    assert not [name for name in with_clock if not name.startswith(CLOCK_ROOMS)]


@pytest.mark.parametrize("package", FLOORS)
def test_every_module_says_why_it_exists_under_a_telling_name(package: str) -> None:
    modules = _modules(package)
    assert not [name for name in modules if Path(name).stem in BANNED_NAMES]
    assert not [name for name, module in modules.items() if not module.has_docstring], "no docstring"
