"""Whom a command speaks to, in DCMTK's manner: `host port`, or a name of the device book."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from node.cli import Session

if TYPE_CHECKING:
    from node.contracts import Device
    from node.dimse import Requestor, Security
    from node.sections import Config
    from node.transcoding import Transcoder

F = TypeVar("F", bound=Callable[..., Any])


class Called(NamedTuple):
    """Who is called, who we say we are, and the words that were left."""

    calling_ae: str
    called_ae: str
    host: str
    port: int
    rest: tuple[str, ...]
    security: Security | None = None

    def requestor(self, convert: Transcoder | None = None) -> Requestor:
        """Return what speaks to it; `convert` makes fit what it would not accept as it is."""
        from node.dimse import Requestor, reencode

        return Requestor(
            self.calling_ae,
            self.host,
            self.port,
            self.called_ae,
            convert=convert or reencode,
            security=self.security,
        )


class TlsOptions(NamedTuple):
    """What a command line says about TLS; a device of the book brings its own unless something is said."""

    is_wanted: bool
    own: tuple[Path, Path] | None
    authorities: Path | None
    is_unverified: bool

    def security(self) -> Security | None:
        """Return how to call; None when nothing is said.

        Raises:
            UsageError: it is not said how the other side is verified.
            BadRequest: a file does not work.
        """
        from catalog import BadRequest
        from node.dimse import Security
        from node.dimse.tls import client_context

        if not (self.is_wanted or self.own or self.authorities or self.is_unverified):
            return None
        if self.authorities is None and not self.is_unverified:
            raise click.UsageError(
                "How to verify the other side? +cf FILE with its authority, or -ic for not."
            )
        try:
            return Security(
                client_context(authorities=None if self.is_unverified else self.authorities, own=self.own)
            )
        except OSError as error:
            raise BadRequest(
                f"The TLS files cannot be used: {error.strerror or error}.",
                "Name PEM files: +tls KEY CERTIFICATE, +cf AUTHORITIES.",
            ) from None


def titles(function: F) -> F:
    """Add DCMTK's options for the two AE titles and for TLS."""
    function = _tls(function)
    aet = click.option("-aet", "calling_ae", help="Our AE title; the node's own unless said.")
    aec = click.option("-aec", "called_ae", help="Their AE title; that of the book or ANY-SCP unless said.")
    return aet(aec(function))


def _tls(function: F) -> F:
    """Add DCMTK's options for TLS, which reach the command as one, `tls`."""
    path = click.Path(path_type=Path, exists=True, dir_okay=False)

    @functools.wraps(function)
    def with_tls(
        *arguments: Any,
        is_tls: bool,
        own_files: tuple[Path, Path] | None,
        authorities: Path | None,
        is_unverified: bool,
        **others: Any,
    ) -> Any:
        own = (own_files[1], own_files[0]) if own_files else None
        return function(*arguments, tls=TlsOptions(is_tls, own, authorities, is_unverified), **others)

    options = (
        click.option("--tls", "+tla", "is_tls", is_flag=True, help="Call with TLS."),
        click.option(
            "+tls",
            "own_files",
            nargs=2,
            type=path,
            metavar="KEY CERT",
            help="TLS, and show this certificate.",
        ),
        click.option(
            "+cf", "authorities", type=path, metavar="FILE", help="TLS; authorities to trust (PEM)."
        ),
        click.option("-ic", "is_unverified", is_flag=True, help="TLS with any certificate, not verified."),
    )
    decorated: Any = with_tls
    for option in reversed(options):
        decorated = option(decorated)
    return cast(F, decorated)


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


def called(
    session: Session,
    words: tuple[str, ...],
    calling_ae: str | None,
    called_ae: str | None,
    tls: TlsOptions,
) -> Called:
    """Understand `HOST PORT ...` or `NAME ...`; NAME is a device of the book or this node's own AE title.

    Raises:
        UsageError: it is neither.
    """
    config = _config(session)
    own = config.node.ae_title if config else "PEERPACS"
    if len(words) >= 2 and words[1].isdigit():
        calling, there = calling_ae or own, called_ae or "ANY-SCP"
        return Called(calling, there, words[0], int(words[1]), words[2:], tls.security())
    if not words:
        raise click.UsageError("Whom to call? Name HOST PORT, or a device of the book.")
    if config is None:
        raise click.UsageError(f"{words[0]}: name HOST PORT, or the book it is in with --home.")
    if words[0] == own:
        security = tls.security()
        host, port = _own_listener(session, config, "tls" if security else "dicom")
        return Called(calling_ae or own, called_ae or own, host, port, words[1:], security)
    device, security = _listener(session, config, words[0])
    there = called_ae or words[0]
    security = tls.security() or security
    return Called(calling_ae or own, there, device.address, device.port, words[1:], security)


def _config(session: Session) -> Config | None:
    from node.config import FILE_NAME, load_config

    if not session.named_home or not (Path(session.named_home).expanduser() / FILE_NAME).exists():
        return None
    return load_config(session.home)


def _own_listener(session: Session, config: Config, section: str) -> tuple[str, int]:
    from node.control import ask, is_running

    host = (config.tls.host if section == "tls" else "") or config.dicom.host
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    port = config.tls.port if section == "tls" else config.dicom.port
    return host, ask(session.home, "status")["ports"].get(section, port) if is_running(session.home) else port


def _listener(session: Session, config: Config, ae_title: str) -> tuple[Device, Security | None]:
    from catalog import BadRequest
    from node.credentials import own_credentials
    from node.devices import DeviceBook
    from node.state import State

    with State(session.home / "state") as state:
        device = DeviceBook(state).find(ae_title)
    if not device.port:
        what = f"{ae_title} is in the book without a port to call."
        raise BadRequest(what, f"Set it: peerpacs devices edit {ae_title} --address HOST --port PORT")
    return device, own_credentials(session.home, config).towards(device)
