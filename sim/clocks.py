"""Wrong clocks for programs on this machine, which itself keeps the right one."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from .servers import ServerError

_TOOL: Final = Path(__file__).resolve().parent.parent / "tools" / "debian.sh"


def by_clock(skew: str) -> dict[str, str]:
    """Return the environment of a program whose clock is off by so much, like `+2h`; what runs is not.

    Raises:
        ServerError: faketime is missing.
    """
    if not skew:
        return {}
    return {"LD_PRELOAD": _library(), "FAKETIME": skew, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@cache
def _library() -> str:
    done = subprocess.run(["sh", str(_TOOL), "faketime", "faketime"], capture_output=True, text=True)
    root = Path(done.stdout.strip()).parent
    for path in sorted(root.glob("lib/*/faketime/libfaketime.so.1")):
        return str(path)
    raise ServerError(f"faketime is not here and could not be fetched:\n{done.stderr}")
