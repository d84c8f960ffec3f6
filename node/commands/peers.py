"""Whom a command speaks to, in DCMTK's manner: `host port`, or a name of the device book."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from node.cli import Session

if TYPE_CHECKING:
    from node.config import Config
    from node.dimse import Requestor
    from node.transcoding import Transcoder

F = TypeVar("F", bound=Callable[..., Any])


class Called(NamedTuple):
    """Who is called, who we say we are, and the words that were left."""

    calling_ae: str
    called_ae: str
    host: str
    port: int
    rest: tuple[str, ...]

    def requestor(self, convert: Transcoder | None = None) -> Requestor:
        """Return what speaks to it; `convert` makes fit what it would not accept as it is."""
        from node.dimse import Requestor, reencode

        return Requestor(self.calling_ae, self.host, self.port, self.called_ae, convert=convert or reencode)


def titles(function: F) -> F:
    """Add DCMTK's options for the two AE titles."""
    aet = click.option("-aet", "calling_ae", help="Our AE title; the node's own unless said.")
    aec = click.option("-aec", "called_ae", help="Their AE title; that of the book or ANY-SCP unless said.")
    return aet(aec(function))


def keys(function: F) -> F:
    """Add DCMTK's options for what is asked."""
    options = (
        click.option(
            "-k", "pairs", multiple=True, metavar="KEY[=VALUE]", help="Attribute to match or return."
        ),
        click.option("-P", "is_patient_root", is_flag=True, help="Ask in the Patient Root model."),
        click.option(
            "-S", "is_study_root", is_flag=True, help="Ask in the Study Root model, as unless said."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def called(session: Session, words: tuple[str, ...], calling_ae: str | None, called_ae: str | None) -> Called:
    """Understand `HOST PORT ...` or `NAME ...`; NAME is a device of the book or this node's own AE title.

    Raises:
        UsageError: it is neither.
    """
    config = _config(session)
    own = config.node.ae_title if config else "PEERPACS"
    if len(words) >= 2 and words[1].isdigit():
        calling, there = calling_ae or own, called_ae or "ANY-SCP"
        return Called(calling, there, words[0], int(words[1]), words[2:])
    if not words:
        raise click.UsageError("Whom to call? Name HOST PORT, or a device of the book.")
    if config is None:
        raise click.UsageError(f"{words[0]}: name HOST PORT, or the book it is in with --home.")
    host, port = _own_listener(session, config) if words[0] == own else _listener(session, words[0])
    return Called(calling_ae or own, called_ae or words[0], host, port, words[1:])


def _config(session: Session) -> Config | None:
    from node.config import FILE_NAME, load_config

    if not session.named_home or not (Path(session.named_home).expanduser() / FILE_NAME).exists():
        return None
    return load_config(session.home)


def _own_listener(session: Session, config: Config) -> tuple[str, int]:
    from node.control import ask, is_running

    host = "127.0.0.1" if config.dicom.host in ("0.0.0.0", "::") else config.dicom.host
    if not is_running(session.home):
        return host, config.dicom.port
    return host, ask(session.home, "status")["ports"].get("dicom", config.dicom.port)


def _listener(session: Session, ae_title: str) -> tuple[str, int]:
    from catalog import BadRequest
    from node.devices import DeviceBook
    from node.state import State

    with State(session.home / "state") as state:
        device = DeviceBook(state).find(ae_title)
    if not device.port:
        what = f"{ae_title} is in the book without a port to call."
        raise BadRequest(what, f"Set it: peerpacs devices edit {ae_title} --address HOST --port PORT")
    return device.address, device.port
