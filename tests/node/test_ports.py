"""A port of devices that somebody else has is told at once, not after a start has waited for its peers."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from catalog import Busy
from node.app import open_node
from tests.homes import new_home


@pytest.mark.parametrize(
    ("section", "more"), [("dicom", {}), ("tls", {}), ("dicom", {"processes": {"count": 2}})]
)
def test_a_taken_port_ends_the_start_before_anybody_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, more: dict[str, Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        home = new_home(tmp_path / "home", **{section: {"port": port}, **more})
        with open_node(home, purpose="node") as node:

            def hear(stop: object) -> None:
                raise AssertionError("it waits for its peers")

            monkeypatch.setattr(node.neighbourhood, "hear", hear)
            with pytest.raises(Busy, match=f"Port {port} on 127.0.0.1 cannot be opened") as refused:
                node.start()
            assert f"set {section}.port" in refused.value.next
