"""Hosts of their own on this machine: network namespaces on one bridge, whose lines fail as real ones do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


def ip(*words: str) -> None:
    """Run `ip`; it must succeed."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Bridge(NamedTuple):
    """What hosts hang on; its name and its network are nobody else's who tests on this machine."""

    name: str
    network: str
    """As `10.78.3`."""

    def address(self, number: int) -> str:
        """Return the address of one of its hosts."""
        return f"{self.network}.{number}"


@contextmanager
def bridge() -> Iterator[Bridge]:
    """Have a bridge while it is needed; its hosts are closed before."""
    made = _made()
    try:
        ip("link", "set", made.name, "up")
        yield made
    finally:
        ip("link", "delete", made.name)


def _made() -> Bridge:
    """Make the first bridge that is not there: of two who make the same, the kernel refuses one."""
    for number in range(100):
        name = f"gr{number}"
        command = ["ip", "link", "add", name, "type", "bridge"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return Bridge(name, f"10.78.{number}")
        assert "File exists" in done.stderr, done.stderr
    raise AssertionError("A hundred bridges are there already: earlier runs left them (ip link).")


class Host:
    """A network namespace with one line to the others, at a bridge."""

    def __init__(self, bridge: Bridge, name: str, number: int) -> None:
        """Names of lines are at most 15 characters, of which a bridge's and ours take up to 7."""
        self.space, self.address = f"{bridge.name}-{name}", bridge.address(number)
        self._line = f"{bridge.name}-{name}-l"
        ip("netns", "add", self.space)
        ip("link", "add", self._line, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("link", "set", self._line, "master", bridge.name, "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "link", "set", "lo", "up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command that is to run on this host."""
        return "ip", "netns", "exec", self.space

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on this host; it must succeed."""
        return subprocess.run([*self.prefix, *command], check=True, capture_output=True, text=True)

    def is_well(self, *command: str) -> bool:
        """Run a command on this host; say whether it succeeded."""
        return subprocess.run([*self.prefix, *command], capture_output=True).returncode == 0

    def cut(self) -> None:
        """Take the line away."""
        ip("link", "set", self._line, "down")

    def mend(self) -> None:
        """Bring the line back, as it was."""
        ip("link", "set", self._line, "up")
        self.is_well("tc", "qdisc", "del", "dev", "eth0", "root")
        if shutil.which("nft"):
            self.is_well("nft", "flush", "ruleset")

    def lose(self, out: int = 0, back: int = 0) -> None:
        """Lose so many of a hundred packets that go out over the line, and that come; needs nft."""
        self.run("nft", "add table inet weather")
        for hook, share, where in (("output", out, "oif"), ("input", back, "iif")):
            self.run("nft", f"add chain inet weather {hook} {{ type filter hook {hook} priority 0; }}")
            if share:
                which = "" if share >= 100 else f"numgen random mod 100 < {share} "
                rule = f"{where} eth0 {which}drop"
                self.run("nft", f"add rule inet weather {hook} {rule}")

    def slow(self, rate: str) -> None:
        """Have the line carry no more than this, such as `2mbit`, of what goes out."""
        self.run("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf",
                 "rate", rate, "burst", "32kbit", "latency", "400ms")  # fmt: skip

    def delay(self, milliseconds: int) -> bool:
        """Have what goes out come later; False where the kernel has no netem."""
        return self.is_well("tc", "qdisc", "replace", "dev", "eth0", "root", "netem",
                            "delay", f"{milliseconds}ms")  # fmt: skip

    def close(self) -> None:
        """Remove it."""
        ip("netns", "delete", self.space)
