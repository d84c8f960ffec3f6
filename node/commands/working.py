"""`peerpacs worker`: a process of its own, here or on another host, that carries a node's transfers."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from node.cli import Session, plural, shared

if TYPE_CHECKING:
    from node.app.worker import WorkerProcess
    from node.transfers.wires import Keys

_BEAT: Final = 0.5
_TELL_AFTER: Final = 3
_REMEDY: Final = "Does the node run, is this its transfers.listen, and is --key its secrets/worker.key?"
_LAST_CALL: Final = 9.5
"""Seconds after which it leaves, whatever hangs: what is not given back is given to another worker."""


@click.command("worker")
@click.option("--connect", "url", default="", metavar="URL", help="transfers.listen of the node.")
@click.option("--key", type=click.Path(path_type=Path), help="A copy of secrets/worker.key; for tcp.")
@click.option("--workers", "count", type=click.IntRange(1, 64), default=2, help="Transfers at a time.")
@click.option(
    "--tls",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("tls"),
    show_default=True,
    metavar="DIR",
    help="Folder of node.crt, node.key and authorities.crt, for devices that are called with TLS.",
)
@shared
def worker_command(session: Session, url: str, key: Path | None, count: int, folder: Path) -> int:
    """Carry transfers for a node, in a process of its own, until Ctrl-C or SIGTERM.

    It needs no home folder and no disk: which devices are called, and every instance, comes from the node
    that is named, corrected as what the node sends itself. Set transfers.listen there, and copy
    secrets/worker.key of its home, which proves who may come: whoever has it is given what is sent.
    With --home instead of --connect it works for the node of this machine.

    Example: peerpacs worker --connect tcp://10.0.0.5:7446 --key worker.key
    """
    from node.app.worker import WorkerProcess
    from node.certificates import Files
    from node.credentials import Credentials
    from node.logs import start_logging
    from node.sections import ClientCertificates, LogFormat, LogLevel

    url, keys = _node(session, url, key)
    secure = Credentials(Files.within(folder), ClientCertificates.NONE).towards
    start_logging(LogLevel.INFO, LogFormat.TEXT)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stop.set())
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
    process = WorkerProcess(url, keys, count, secure, Path(tempfile.gettempdir()), time.time)
    if _reached(process, url, stop):
        process.start()
        said = {"ready": True, "connect": url, "workers": count, "process": os.getpid()}
        session.say(said, [f"ready: {plural(count, 'worker')} for {url} (process {os.getpid()})"])
        sys.stdout.flush()
    while not stop.wait(_BEAT):
        pass
    signal.setitimer(signal.ITIMER_REAL, _LAST_CALL)
    process.close()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def _node(session: Session, url: str, key: Path | None) -> tuple[str, Keys | None]:
    """Return where the node is and what it is shown.

    Raises:
        BadRequest: the node of this machine lets no workers in.
        NotFound: there is no such key file.
    """
    from catalog import BadRequest
    from node.config import load_config
    from node.transfers.wires import read_keys

    if not url:
        url = load_config(session.home).transfers.listen
        key = key or session.home / "secrets" / "worker.key"
        if not url:
            what = "The node of this machine lets no workers of other processes in."
            raise BadRequest(what, "Set transfers.listen in its peerpacs.toml, and start it again.")
    return url, read_keys(key) if key and url.startswith("tcp") else None


def _reached(process: WorkerProcess, url: str, stop: threading.Event) -> bool:
    """Return when the node has answered, or False when told to stop; who waits long is told why."""
    from catalog import Unavailable

    tries = 0
    while not stop.is_set():
        try:
            process.greet(1.0)
        except Unavailable:
            tries += 1
            if tries == _TELL_AFTER:
                click.echo(f"Nothing answers at {url} yet; it is tried on.\n{_REMEDY}", err=True)
        else:
            return True
    return False
