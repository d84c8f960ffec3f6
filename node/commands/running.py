"""`peerpacs run` and `peerpacs status`: a node at work, and how it is."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli import FAILED, Session, loading, plural, readable, shared
from node.commands.archives import troubles
from node.commands.migrating import summary
from node.commands.old_pacs import old_sentences
from node.commands.storing import storage_sentences

if TYPE_CHECKING:
    from node.sections import Config

logger = logging.getLogger(__name__)
_LAST_CALL: Final = 9.5
"""Seconds after which a node that was told to stop leaves, whatever hangs: what it acknowledged is safe."""
_SHOWN: Final = 10
_BEAT: Final = 0.5


@click.command("run")
@shared
def run_command(session: Session) -> int:
    """Run the node until Ctrl-C or SIGTERM. It prints `ready` when its ports answer.

    Example: peerpacs run --home /var/lib/peerpacs
    """
    with loading():
        from node.app import open_node
        from node.app.role_serving import wait_for_roles
        from node.config import load_config
        from node.logs import start_logging
        from node.roles.plan import has
        from node.sections import Role
        from node.watching import Watchdog
    gc.freeze()  # modules stay: the collector passes over them from now on

    config = load_config(session.home)
    start_logging(config.log.level, config.log.format, file=config.log.file)
    _allow_many_files()
    stop = threading.Event()
    _stop_on_signals(stop)
    if not wait_for_roles(session.home, config, stop.is_set, _tell_of_absence):
        return 0
    if not has(config, Role.CATALOG):
        _run_role(session, config, stop)
    else:
        with open_node(session.home) as node:
            ports = node.start()
            _say_ready(session, config, ports)
            dog = Watchdog(node.watch.hearts.silent, time.monotonic)
            # In beats: a signal that the kernel gives to another thread is heard when this one next wakes.
            while not stop.wait(_BEAT):
                _tell_of_silence(dog.step())
            _say_stopping()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def _run_role(session: Session, config: Config, stop: threading.Event) -> None:
    """Run a process that has the gateway alone, or the storage."""
    from node.app.gateway_role import GatewayRole
    from node.app.storage_role import StorageRole
    from node.sections import Role

    is_gateway = Role.GATEWAY in config.roles.run
    role = GatewayRole(session.home) if is_gateway else StorageRole(session.home)
    try:
        _say_ready(session, config, role.start())
        while not stop.wait(_BEAT):
            pass
        _say_stopping()
    finally:
        role.close()


def _say_ready(session: Session, config: Config, ports: dict[str, int]) -> None:
    from node.watching import notify

    named = ", ".join(
        f"{name.upper() if name in ('dicom', 'tls') else name} port {port}" for name, port in ports.items()
    )
    whole = len(config.roles.run) == len(type(config.roles.run[0]))
    part = "" if whole else f", the {' and '.join(config.roles.run)},"
    line = f"ready: {config.node.ae_title}{part} answers on {named or 'no port'} (process {os.getpid()})"
    said = {"ready": True, "ae_title": config.node.ae_title, "ports": ports, "process": os.getpid()}
    session.say({**said, "roles": config.roles.run}, [line])
    sys.stdout.flush()
    notify(READY=1, STATUS=line.removeprefix("ready: "))


def _say_stopping() -> None:
    from node.watching import notify

    notify(STOPPING=1, STATUS="Finishing or aborting what is in flight")
    signal.setitimer(signal.ITIMER_REAL, _LAST_CALL)


def _tell_of_absence(role: str, url: str) -> None:
    logger.warning("The %s of this node does not answer at %s yet; it is waited for.", role, url)


def _tell_of_silence(silent: list[str]) -> None:
    if silent:
        logger.error(
            "%s: does not turn any more. The service manager is not told that all is well, so it will start "
            "the node anew; what was acknowledged is safe.",
            ", ".join(silent),
        )


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))


def _stop_on_signals(stop: threading.Event) -> None:
    def stop_soon(number: int, frame: FrameType | None) -> None:
        stop.set()

    def leave_now(number: int, frame: FrameType | None) -> None:
        os._exit(0)

    signal.signal(signal.SIGTERM, stop_soon)
    signal.signal(signal.SIGINT, stop_soon)
    signal.signal(signal.SIGALRM, leave_now)


@click.command("status")
@shared
def status_command(session: Session) -> int:
    """Say how the node is. Also what waits for a person, and who was refused and why.

    Example: peerpacs status --home /var/lib/peerpacs
    """
    from node.control import is_running

    running = is_running(session.home)
    with session.desk("status") as ask:
        status = {"is_running": running, **ask("status")}
    session.say(status, map(session.pasteable, sentences(status, time.time())))
    return 0 if running else FAILED


def _elsewhere(status: dict[str, Any]) -> Iterator[str]:
    """Yield what is said of other systems: old PACS, targets of routes, what is moved in."""
    for each in status.get("old_pacs", ()):
        yield from old_sentences(each)
    for name, count in status.get("routes_waiting", {}).items():
        yield f"The route {name} waits to send {plural(count, 'study')}: peerpacs routes"
    for each in status.get("migrations", ()):
        first, *rest = summary(each)
        yield from (f"Moving in from {first}", *rest)


def _fullness(disk: dict[str, Any]) -> Iterator[str]:
    if disk["is_full"]:
        enough = readable(disk["resume_above"])
        yield f"The disk is full: who stores is told A700 until {enough} are free. Free some space."


def sentences(status: dict[str, Any], now: float) -> list[str]:
    """Return a status as people read it."""
    archive, held, rejected = status["archive"], status["held"], status["rejected"]
    lines = [
        _how_it_runs(status, now),
        f"{plural(archive['instances'], 'instance')} of {plural(archive['studies'], 'study')} here, "
        f"{readable(archive['bytes'])}; {readable(status['disk']['free'])} free on the disk.",
    ]
    lines += _fullness(status["disk"])
    lines += _certificate(status.get("tls"), now)
    lines += storage_sentences(status["storage"])
    lines += troubles(status["archives"])
    if status.get("draining"):
        lines.append("It takes no new work, because it is being drained. To end that: peerpacs drain --off")
    if status.get("closed"):
        lines.append(f"Nobody is answered yet: {status['closed']}")
    lines += [f"Grid: {each['what']} {each['next']}".rstrip() for each in status.get("grid", [])]
    if news := status.get("published"):
        lines.append(f"The grid published version {news['version']} of its book. See: peerpacs book diff")
    lines += _elsewhere(status)
    if status["conflicts"]:
        count = plural(status["conflicts"], "instance")
        lines.append(f"{count} came twice with other content. Decide: peerpacs conflicts list")
    if held["instances"]:
        senders = ", ".join(held["senders"])
        count = plural(held["instances"], "instance")
        lines.append(f"{count} from unknown senders ({senders}) wait for you: peerpacs held list")
    if rejected["files"]:
        lines.append(f"{plural(rejected['files'], 'data set')} could not be taken: peerpacs rejected list")
    lines += _waiting_results(status["commitments"], now)
    lines += _transfers(status["transfers"])
    refusals = status["refusals"]
    for refusal in refusals[:_SHOWN]:
        times = "once" if refusal["count"] == 1 else f"{refusal['count']} times"
        lines += [
            f"Refused {times}, last {_ago(now - refusal['last'])} ago: {refusal['why']}",
            f"    To allow it: {refusal['remedy']}",
        ]
    if len(refusals) > _SHOWN:
        lines.append(f"{len(refusals) - _SHOWN} more kinds of refusals: peerpacs status --json")
    return lines


def _certificate(tls: dict[str, Any] | None, now: float) -> list[str]:
    """Speak of the TLS certificate when there is something to do."""
    from node.certificates import WARN, how_long

    lines = []
    if tls and tls["problem"]:
        lines.append(f"New TLS files are not in use: {tls['problem']} See: peerpacs check")
    if tls and "ends" in tls and tls["ends"] - now < WARN:
        lines.append(
            f"The TLS certificate {how_long(tls['ends'], now)}. Put a new one and its key in its place; "
            "no restart is needed."
        )
    return lines


def _waiting_results(rows: list[dict[str, Any]], now: float) -> list[str]:
    """Return who waits for a result of Storage Commitment, and why."""
    lines = []
    for row in rows[:_SHOWN]:
        what = f"{row['ae_title']} asked {_ago(now - row['asked'])} ago for commitment of "
        what += plural(row["instances"], "instance")
        if row["is_given_up"]:
            lines += [
                f"ALARM: {what} and could not be told the result: {row['why']}.",
                "    It is told when it next calls. If its address is wrong, correct it: "
                f"peerpacs devices edit {row['ae_title']} --address HOST --port PORT",
            ]
        elif row["why"]:
            lines.append(f"{what}; it waits: {row['why']}. Next try in {_ago(row['next'] - now)}.")
        else:
            lines.append(f"{what}, which is being checked.")
    if len(rows) > _SHOWN:
        lines.append(f"{len(rows) - _SHOWN} more wait for a result of Storage Commitment: status --json")
    return lines


def _transfers(counts: dict[str, int]) -> list[str]:
    """Return what is sent, if anything is, and what a person should look at."""
    said = ", ".join(f"{count} {standing}" for standing, count in counts.items() if count)
    return [f"Transfers: {said}. See: peerpacs transfers list"] if said else []


def _how_it_runs(status: dict[str, Any], now: float) -> str:
    if not status["is_running"]:
        return f"{status['name']} ({status['ae_title']}) is not running. Start it: peerpacs run"
    ports = ", ".join(f"{name.upper()} port {port}" for name, port in status["ports"].items())
    since = _ago(now - status["started"]) if status["started"] else "a moment"
    count = plural(status["associations"].get("open", 0), "association")
    how = f"{status['name']} answers as {status['ae_title']} on {ports or 'no port'}"
    return f"{how}, since {since}; {count} open."


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length or (unit != "minute" and seconds >= length):
            return plural(int(seconds / length), unit)
    return plural(max(0, int(seconds)), "second")
