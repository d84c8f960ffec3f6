"""Who is told of what goes on in a node beside its own audit: a syslog server, and an address for alarms."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from catalog import BadRequest, Clock
from node.atna import Sender, is_told, message
from node.audit import Line
from node.sections import Config
from node.state import State
from node.syslog import Syslog
from node.tailing import Tail
from node.webhook import Webhook

from .chores import Loop

logger = logging.getLogger(__name__)
_PAUSE = 1.0


class Telling:
    """Follows the audit for whom the configuration names; nobody by default."""

    def __init__(self, home: Path, config: Config, state: State, clock: Clock) -> None:
        """Raises BadRequest if an address or a file cannot be."""
        section, folder = config.tell, home / "audit"
        self._warned: dict[str, str] = {}
        self.tails: dict[str, Tail] = {}
        self.close: Callable[[], None] = lambda: None
        """Gives connections back."""
        node = config.node
        if section.syslog:
            sender = Sender(node.name, config.grid.site, node.node_id)
            trusting = partial(_trusting, home, section.syslog_ca_file)
            syslog = Syslog(section.syslog, socket.gethostname(), trusting)
            self.close = syslog.close

            def send(lines: list[Line]) -> None:
                syslog.send((each.time, each.event == "alarm", message(each, sender)) for each in lines)

            self.tails["syslog"] = Tail("syslog", folder, state, send, clock, is_told)
        if section.webhook:
            hook = Webhook(section.webhook, _secret(home, section.webhook_secret_file), node.name, clock)
            self.tails["webhook"] = Tail("webhook", folder, state, hook.send, clock, _is_alarm)

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own: an address that is slow holds up nobody."""
        for name, tail in self.tails.items():
            yield Loop(f"telling {name}", partial(self._step, name, tail), idle_pause=_PAUSE)

    def _step(self, name: str, tail: Tail) -> bool:
        did = tail.step()
        if tail.why != self._warned.get(name, ""):
            self._warned[name] = tail.why
            if tail.why:
                logger.warning("%s", tail.why)
            else:
                logger.info("What waited for %s was told.", name)
        return did


def _is_alarm(line: Line) -> bool:
    return line.event == "alarm"


def _trusting(home: Path, ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(home / ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _secret(home: Path, name: str) -> bytes:
    if not name:
        raise BadRequest("[tell] webhook needs a secret to sign with.", "Set tell.webhook_secret_file.")
    try:
        secret = (home / name).read_bytes().strip()
    except OSError as error:
        what = f"The secret of the address for alarms cannot be read: {error.strerror}."
        raise BadRequest(what, f"Put it into {home / name}.") from None
    if len(secret) < 16:
        raise BadRequest("The secret of the address for alarms is too short.", "Use at least 16 characters.")
    return secret
