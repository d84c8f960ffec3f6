"""A program reads the OpenAPI document and asks whatever it allows, and more (schemathesis)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from node.accounts import Accounts
from node.rights import Right
from tests.homes import phantoms
from tests.node.web.asking import web

_CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
_EXAMPLES: Final = 12
_NODE: Final = {"name": "alpha", "ae_title": "ALPHA", "node_id": "00000000-0000-4000-8000-000000000006"}


@pytest.mark.slow
def test_whatever_the_document_allows_is_answered_as_it_says(tmp_path: Path) -> None:
    with web(tmp_path / "alpha", node=_NODE) as site:
        site.store(*phantoms(11, instances=3, series=2))
        accounts = Accounts(site.node.state, site.node.clock)
        accounts.add("robot", ("admin",))
        _, token = accounts.make_token("robot", tuple(Right), ("*",), 1)
        program = Path(sys.executable).with_name("schemathesis")
        asked = subprocess.run(
            [
                *(program, "run", f"{site.address}/openapi.json"),
                *("--header", f"Authorization: Bearer {token}"),
                *("--checks", ",".join(_CHECKS), "--phases", "coverage,fuzzing"),
                *("--max-examples", str(_EXAMPLES), "--seed", "6", "--continue-on-failure", "--no-color"),
                # A path of this machine that was guessed might be one that is there, and very large; and of
                # DICOM files it cannot make any: those are sent, and spoilt, by test_storing.py.
                *("--exclude-path-regex", "/(imports|instances)$"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert asked.returncode == 0, asked.stdout[-20_000:]
        assert "429" not in asked.stdout, "much of it was turned away before it was looked at"
