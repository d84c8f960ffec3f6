"""`python -m sim.nearline`: C-MOVE of a study that lies at a peer, against C-MOVE of one that lies here.

Two nodes as processes, one grid, one storescp that takes everything and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from .association import STUDY_ROOT_FIND, STUDY_ROOT_MOVE, Association
from .cases import CT_512_KB
from .clients import store, write
from .pdu import Address, identifier
from .phantoms import Study, study
from .servers import PeerPACS, StoreSCP, free_port

_SEED: Final = 61
_KNOWING: Final = "KNOWING"
"""A device whose issuer is the phantoms': nothing of what it is given is rewritten."""


class GridPACS(PeerPACS):
    """Our node with the ports of the grid."""

    def __init__(self, folder: Path, destination: Address) -> None:
        super().__init__(folder, destination)
        self._join = free_port()
        self._set_up(
            "devices", "add", _KNOWING, "--services", "echo,find,move", "--called", "*", "--move-to", "*",
            "--issuer", "PHANTOMS",
        )  # fmt: skip

    def settings(self) -> dict[str, str]:
        """Return what its environment has besides what all servers' have."""
        return {
            "PEERPACS__GRID__HOST": "127.0.0.1",
            "PEERPACS__GRID__PORT": str(free_port()),
            "PEERPACS__GRID__JOIN_PORT": str(self._join),
            "PEERPACS__GRID__JOIN_ADDRESS": f"127.0.0.1:{self._join}",
        }

    def say(self, *words: str) -> Any:
        """Run a command at the node; return what it says."""
        command = [str(self._program), "--home", str(self.home), *words, "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True).stdout)


def admit(one: GridPACS, other: GridPACS) -> None:
    """Have a node join the grid of another, which grants it everything."""
    ticket = one.say("invite", "--site", "other")["ticket"]
    asked = other.say("join", ticket, "--no-wait")
    one.say("approve", asked["request"])
    other.say("join")


def moved(address: Address, asked: Study, sink: StoreSCP, calling: str) -> tuple[float, float]:
    """Return the seconds until the first image came, and until the final response."""
    before, first = sink.received(), 0.0
    over = threading.Event()
    began = time.perf_counter()

    def watch() -> None:
        nonlocal first
        while not over.is_set() and not first:
            if sink.received() > before:
                first = time.perf_counter() - began
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    with Association(address, [STUDY_ROOT_MOVE], calling=calling) as association:
        began = time.perf_counter()
        watcher.start()
        wanted = identifier("STUDY", StudyInstanceUID=asked.StudyInstanceUID)
        status = association.move(wanted, sink.address.ae_title).status
        whole = time.perf_counter() - began
    over.set()
    watcher.join()
    if status:
        raise SystemExit(f"C-MOVE from {address.ae_title} ended with {status:04X}.")
    return first, whole


def wait_until_known(address: Address, studies: list[Study]) -> None:
    """Wait until a node's grid finds all of the studies, settled."""
    for each in studies:
        wanted = identifier("STUDY", StudyInstanceUID=each.StudyInstanceUID)
        while True:
            with Association(address, [STUDY_ROOT_FIND]) as association:
                if association.find(wanted):
                    break
            time.sleep(0.2)
    time.sleep(5)


def measure(scratch: Path, instances: int, repetitions: int) -> dict[str, float]:
    """Return medians: seconds of the local and of the nearline C-MOVE, and until the first image."""
    sink = StoreSCP(scratch / "sink", Address("SINK", free_port()), forks=False)
    alpha, beta = GridPACS(scratch / "alpha", sink.address), GridPACS(scratch / "beta", sink.address)
    studies = [study(_SEED, n, instances=instances, size=CT_512_KB) for n in range(2 * repetitions)]
    running = [sink, alpha, beta]
    try:
        for each in running:
            each.start()
        admit(alpha, beta)
        store(alpha.address, write(studies, scratch / "files", 1))
        grid = beta.address._replace(ae_title=f"{beta.address.ae_title}_GRID")
        wait_until_known(grid, studies)
        local, near, shown = [], [], []
        for same, other in zip(studies[::2], studies[1::2], strict=True):
            local.append(moved(alpha.address, same, sink, _KNOWING))
            near.append(moved(grid, same, sink, _KNOWING))
            shown.append(moved(grid, other, sink, "BENCHSCU"))
        again = [moved(grid, each, sink, _KNOWING) for each in studies[::2]]
    finally:
        for each in reversed(running):
            each.stop()
    named = {"local": local, "nearline": near, "nearline, identity rewritten": shown, "from copies": again}
    figures = {f"{name}: first image": median(first for first, _ in each) for name, each in named.items()}
    figures |= {f"{name}: whole": median(whole for _, whole in each) for name, each in named.items()}
    figures["nearline / local"] = median(n[1] / here[1] for n, here in zip(near, local, strict=True))
    return figures


def main() -> None:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=3)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name, value in measure(Path(scratch), said.instances, said.repetitions).items():
            print(f"{name:45}{value:8.3f}{'' if '/' in name else ' s'}")


if __name__ == "__main__":
    main()
