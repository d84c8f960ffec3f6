"""`peerpacs devices`: the device book, effective at once, whether or not the node runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from node.cli import Session, by_default, columns, shared, who

if TYPE_CHECKING:
    from node.contracts import Device
    from node.devices import DeviceBook

F = TypeVar("F", bound=Callable[..., Any])


@click.group("devices", invoke_without_command=True)
@shared
def devices_command(session: Session) -> None:
    """Show and change which AE titles may do what.

    Example: peerpacs devices add CT1 --address 10.1.7.20 --port 104 --services echo,store
    """
    by_default(list_devices)


def _words(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(word.strip() for word in value.split(",") if word.strip())


_IN_THE_GRID: Final = (
    click.option(
        "--all-issuers/--own-issuer",
        "all_issuers",
        default=None,
        help="In the grid: a Patient ID without issuer may be any hospital's, or only its own's.",
    ),
    click.option("--foreign-ids", help="Patient IDs of other issuers: prefix (ISSUER/ID) or keep."),
    click.option("--grid-mode", help="Grid answers from: synced catalogs, hybrid, or live."),
    click.option(
        "--grid-details/--no-grid-details",
        "grid_details",
        default=None,
        help="Grid answers carry the private block PEERPACS 1.0: holders, ages, sites that are missing.",
    ),
    click.option("--purpose", help="Purpose of use that owners are told: treatment, payment, research ..."),
    click.option("--on-partial", help="Answers from old copies end: complete, comment, warn or fail."),
    click.option("--on-incomplete", help="Answers that may lack a site end: comment, warn or fail."),
    click.option("--stale-after", type=float, help="Seconds after which a copy counts as none."),
)


def _settings(function: F) -> F:
    options = (
        click.option("--address", help="Host, IP address or network (10.1.7.0/24) it calls from."),
        click.option("--port", type=int, help="Port where it listens; 0 = it does not."),
        click.option(
            "--services",
            callback=_words,
            help="What it may do: echo,store,find,move,get,commit,reject; +get adds one.",
        ),
        click.option(
            "--called",
            callback=_words,
            help="Called AE titles it may use; empty = the default archive's, * = all.",
        ),
        click.option(
            "--move-to", "move_destinations", callback=_words, help="AE titles it may C-MOVE to; * = all."
        ),
        click.option("--issuer", help="Assigning authority of Patient IDs that it sends without one."),
        *_IN_THE_GRID,
        click.option("--transfer-syntaxes", callback=_words, help="The only ones used with it; empty = all."),
        click.option("--character-set", help="Specific Character Set of answers to it, like ISO_IR 100."),
        click.option(
            "--lenient/--strict", "is_lenient", default=None, help="Take queries that lack unique keys."
        ),
        click.option(
            "--complete-after", type=float, help="Seconds of silence after which a study is complete."
        ),
        click.option(
            "--tls", help="TLS to its port: off, verify, pin (what it shows now), sha256:..., unverified."
        ),
        click.option("--note", help="A word for the next administrator."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@devices_command.command("list")
@shared
def list_devices(session: Session) -> int:
    """Show the device book.

    Example: peerpacs devices list
    """
    from msgspec import to_builtins

    with _book(session) as book:
        devices = list(book)
    titles = ("AE TITLE", "ADDRESS", "PORT", "SERVICES", "MOVES TO", "NOTE")
    rows = [_row(device) for device in devices]
    empty = ["The book is empty: nobody may do more than C-ECHO. Begin with: peerpacs devices add --help"]
    session.say([to_builtins(device) for device in devices], columns(rows, titles) if rows else empty)
    return 0


@devices_command.command("add")
@click.argument("ae_title")
@_settings
@shared
def add_device(session: Session, ae_title: str, **settings: Any) -> int:
    """Allow an AE title; without --services it may only echo.

    Example: peerpacs devices add WS1 --address ws1.example --port 104 --services echo,find,move
    """
    from catalog import BadRequest
    from node.contracts import Device

    with _book(session) as book:
        if book.get(ae_title.strip(" ")):
            services = ",".join(settings["services"] or ("store",)).lstrip("+")
            command = f"peerpacs devices edit {shlex.quote(ae_title)} --services +{services}"
            remedy = session.pasteable(f"Give it more with: {command}")
            raise BadRequest(f"{ae_title} is in the book already.", remedy)
        device = book.put(_pinned(_changed(Device(ae_title=ae_title), settings, _title(session))))
    _tell(session, "added", device)
    return 0


@devices_command.command("edit")
@click.argument("ae_title")
@_settings
@shared
def edit_device(session: Session, ae_title: str, **settings: Any) -> int:
    """Change what is said, keep the rest.

    Example: peerpacs devices edit CT1 --services echo,store,find
    """
    with _book(session) as book:
        device = book.put(_pinned(_changed(book.find(ae_title), settings, _title(session))))
    _tell(session, "changed", device)
    return 0


@devices_command.command("remove")
@click.argument("ae_title")
@shared
def remove_device(session: Session, ae_title: str) -> int:
    """Forget an AE title; from now on it is a stranger.

    Example: peerpacs devices remove CT1
    """
    with _book(session) as book:
        device = book.remove(ae_title)
    _tell(session, "removed", device)
    return 0


@devices_command.command("echo")
@click.argument("ae_title")
@shared
def echo_device(session: Session, ae_title: str) -> int:
    """Call a device with C-ECHO, as this node.

    Example: peerpacs devices echo WS1
    """
    from catalog import BadRequest
    from node.config import load_config
    from node.credentials import own_credentials
    from node.dimse import Requestor

    with _book(session) as book:
        device = book.find(ae_title)
    if not device.port:
        raise BadRequest(
            f"{ae_title} has no port to call.", f"Set it: peerpacs devices edit {ae_title} --port PORT"
        )
    config = load_config(session.home)
    security = own_credentials(session.home, config).towards(device)
    calling = config.node.ae_title
    seconds = Requestor(calling, device.address, device.port, device.ae_title, security=security).echo()
    line = f"✓ {device.ae_title} at {device.address}:{device.port} answered in {seconds * 1000:.0f} ms."
    session.say({"ae_title": device.ae_title, "seconds": seconds}, [line])
    return 0


@contextmanager
def _book(session: Session) -> Iterator[DeviceBook]:
    from node.config import load_config
    from node.devices import DeviceBook
    from node.roles.plan import demand_catalog
    from node.state import State

    demand_catalog(load_config(session.home), session.home)
    with State(session.home / "state") as state:
        yield DeviceBook(state)


def _title(session: Session) -> str:
    from node.config import load_config

    return load_config(session.home).node.ae_title


def _changed(device: Device, settings: dict[str, Any], default_title: str) -> Device:
    import msgspec

    from catalog import BadRequest
    from node.contracts import Device, Service

    said = {key: value for key, value in settings.items() if value is not None}
    if said.get("tls") == "off":
        said["tls"] = ""
    own = {
        "services": device.services,
        "called": device.called or (default_title,),
        "move_destinations": device.move_destinations or (device.ae_title,),
    }
    for key, has in own.items():
        words = said.get(key, ())
        if any(word.startswith("+") for word in words):
            said[key] = tuple(dict.fromkeys((*has, *(word.lstrip("+") for word in words))))
    try:
        return msgspec.convert({**msgspec.to_builtins(device), **said}, Device)
    except msgspec.ValidationError as error:
        wrong = [word for word in said.get("services", ()) if word not in list(Service)]
        if not wrong:
            raise BadRequest(f"That cannot be a device: {error}.", "See --help.") from None
        raise BadRequest(f"{', '.join(wrong)} is no service.", f"There are {', '.join(Service)}.") from None


def _pinned(device: Device) -> Device:
    """Have `pin` mean the certificate that the device shows at this moment."""
    from msgspec.structs import replace

    from catalog import BadRequest
    from node.devices import PINNED, is_one_host
    from node.dimse import shown_certificate

    if device.tls != "pin":
        return device
    if not device.port or not is_one_host(device.address):
        what = f"{device.ae_title} cannot be asked for its certificate without one host and a port."
        raise BadRequest(what, "Say --address HOST and --port PORT too.")
    shown = shown_certificate(device.address, device.port)
    click.echo(
        f"It shows the certificate {PINNED}{shown}; compare that with the device's own page.", err=True
    )
    return replace(device, tls=PINNED + shown)


def _tell(session: Session, what: str, device: Device) -> None:
    """Drop what the device was refused before, write the change into the audit and print it."""
    from msgspec import to_builtins

    from node.access import Refusals
    from node.audit import AuditLog
    from node.state import State

    with State(session.home / "state") as state:
        Refusals(state, time.time).forget(device.ae_title)
    audit = AuditLog(session.home / "audit", time.time)
    row = to_builtins(device)
    audit.record("change", None, f"device {what}", {"who": who(), "device": row})
    services = f"it may do: {', '.join(device.services) or 'nothing'}"
    now = "from now on it is a stranger" if what == "removed" else services
    session.say({"outcome": what, "device": row}, [f"✓ {device.ae_title} was {what}; {now}."])


def _row(device: Device) -> tuple[object, ...]:
    moves = ",".join(device.move_destinations) or "itself"
    address = device.address or "any"
    port = f"{device.port} TLS" if device.port and device.tls else device.port or "-"
    return (device.ae_title, address, port, ",".join(device.services) or "nothing", moves, device.note)
