"""Generates `protos/*_pb2*` from `protos/*.proto`; `--check` only says whether they are up to date.

The generated files are committed, so that a node needs no compiler; a test runs the check.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")


def generate(into: Path) -> None:
    """Write what the compiler makes of every .proto file below `into`/protos."""
    sources = sorted(f"protos/{path.name}" for path in (ROOT / "protos").glob("*.proto"))
    into.mkdir(parents=True, exist_ok=True)
    places = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *places, *sources]
    subprocess.run(command, cwd=ROOT, check=True)


def _read(root: Path) -> dict[str, str]:
    found = (path for pattern in GENERATED for path in (root / "protos").glob(pattern))
    return {path.name: path.read_text() for path in found}


def stale() -> set[str]:
    """Return the names of generated files that are missing, left over, or not what the compiler makes."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        made, kept = _read(Path(folder)), _read(ROOT)
    return {name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name)}


if __name__ == "__main__":
    if "--check" in sys.argv:
        if wrong := stale():
            sys.exit(f"{', '.join(sorted(wrong))}: not up to date. Run: make protos")
    else:
        for name in _read(ROOT):
            (ROOT / "protos" / name).unlink()
        generate(ROOT)
