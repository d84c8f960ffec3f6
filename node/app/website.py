"""The web server of a node: which roots open which archives, who may come, and what scripts can ask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from catalog import BadRequest, Busy
from catalog.structs import learn_structs
from node.accounts import Accounts
from node.archives import DEFAULT
from node.audit import read, verify
from node.certificates import ensure_certificate
from node.contracts import Caller, Device, Scope
from node.devices import ANY, LOOPBACK
from node.drain import REMEDY, WHAT
from node.grid_view import GridView
from node.medium import sweep
from node.sections import GRID_SUFFIX
from node.viewer import FOLDER
from node.viewer_links import ViewerLinks

if TYPE_CHECKING:
    from node.oidc import Provider
    from node.web import Backing, Doorkeeper, WebServer

    from .node import Node

_LOOPBACK_HOST: Final = "127.0.0.1"


def make_web(node: Node, folder: Path) -> WebServer:
    """Return the server of the default archive, of each other one, of each project's set, `/api` and pages.

    Archives that are added later are found too. `folder` is where large things lie for one request.
    """
    # Only a node that serves the web pays for its libraries.
    from node.web import Doorkeeper, Pages, WebLimits, WebServer

    learn_structs()
    sweep(folder)
    doorkeeper = Doorkeeper(
        Accounts(node.state, node.clock),
        node.access.refusals,
        node.audit,
        node.clock,
        lambda: _is_trusting(node),
        ViewerLinks(node.state, node.clock),
        _provider(node),
    )
    pages = Pages(
        node.config.node.name,
        node.config.node.ae_title,
        lambda: node.grid.membership is not None,
        lambda: list(node.archives),
        node.home / FOLDER,
    )
    roots = _roots(node, doorkeeper.links)
    return WebServer(
        roots,
        node.audit,
        node.transcoder,
        node.transcoder.codecs,
        node.clock,
        gate=doorkeeper,
        backing=_backing(node, roots["/dicom-web"], doorkeeper),
        pages=pages,
        limits=WebLimits(
            body_bytes=node.config.web.max_upload_mb << 20,
            rate=node.config.web.requests_per_second,
            at_once=node.config.web.requests_at_once,
        ),
        folder=folder,
        closed=lambda: node.closed.why,
    )


def _provider(node: Node) -> Provider | None:
    """Return the identity provider that the configuration names.

    Raises:
        BadRequest: something that is needed for it is not said, or the secret cannot be read.
    """
    section = node.config.oidc
    if not section.issuer:
        return None
    from node.oidc import Provider, Settings, parse_groups

    if not (section.client_id and section.address):
        raise BadRequest(
            "[oidc] names a provider, but not all of it.", "Set oidc.client_id and oidc.address."
        )
    secret = ""
    if section.client_secret_file:
        try:
            secret = (node.home / section.client_secret_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            what = f"The secret for the identity provider cannot be read: {error.strerror}."
            raise BadRequest(what, f"Put it into {node.home / section.client_secret_file}.") from None
    claims = section.name_claim, section.groups_claim, parse_groups(section.groups)
    settings = Settings(section.issuer, section.client_id, secret, section.address, *claims)
    return Provider(settings, node.clock)


def _roots(node: Node, links: ViewerLinks) -> dict[str, Callable[..., Scope | None]]:
    """Return what the DICOMweb roots open."""

    def scope(archive: str = DEFAULT) -> Scope | None:
        found = node.archives.get(archive)
        return found.scope(found.plan.ae_title) if found else None

    def grid() -> Scope | None:
        return node.neighbourhood.scope(node.config.node.ae_title + GRID_SUFFIX)

    def research(project: str) -> Scope | None:
        kept = [a for a in tuple(node.archives.values()) if a.plan.research == project.upper() != ""]
        return kept[0].scope(kept[0].plan.ae_title) if kept else None

    def linked(link: str) -> Scope | None:
        found = links.find(link)
        return grid() if found.is_everywhere else scope(found.archive)

    def unless_drained(resolve: Callable[..., Scope | None], **named: str) -> Scope | None:
        if node.drain.is_on:
            raise Busy(WHAT, REMEDY)
        return resolve(**named)

    opened: dict[str, Callable[..., Scope | None]] = {
        "/dicom-web": scope,
        "/grid/dicom-web": grid,
        "/archives/{archive}/dicom-web": scope,
        "/research/{project}/dicom-web": research,
        "/t/{link}/dicom-web": linked,
    }
    return {path: partial(unless_drained, resolve) for path, resolve in opened.items()}


def _backing(node: Node, scope: Callable[..., Scope | None], doorkeeper: Doorkeeper) -> Backing:
    """Return what the REST API works with."""
    from node.web import Backing, Remembered

    return Backing(
        verbs=node.desk.verbs(),
        scope=scope,
        devices=node.devices,
        forget_refusals=node.access.refusals.forget,
        audit_lines=lambda word: read(node.home / "audit", word),
        page=node.watch.pages.page,
        accounts=doorkeeper.accounts,
        doorkeeper=doorkeeper,
        grid=lambda caller: GridView(
            node.neighbourhood.parts, caller, _site_of(node), node.config.node.ae_title
        ),
        everywhere=lambda caller: _everywhere(node, caller),
        echo=lambda device: _echo(node, device),
        remembered=Remembered(node.state, node.clock),
        verify_audit=lambda: verify(node.home / "audit"),
    )


def _everywhere(node: Node, caller: Caller) -> Scope:
    scope = node.neighbourhood.scope(node.config.node.ae_title + GRID_SUFFIX)
    return scope.seen_by(caller) if scope.seen_by else scope


def _echo(node: Node, device: Device) -> float:
    """Call a device, and return the seconds until it answered.

    Raises:
        BadRequest: the book does not say where it listens.
        Unavailable: it does not answer, or not as it should.
    """
    from node.dimse import Requestor

    if not device.port or not device.address:
        what = f"{device.ae_title} is in the device book without an address and port."
        raise BadRequest(what, "Say in the device book where it listens.")
    own, security = node.config.node.ae_title, node.credentials.towards(device)
    return Requestor(own, device.address, device.port, device.ae_title, security=security).echo()


def _site_of(node: Node) -> str:
    """Return what this node's place is called in the grid."""
    return node.config.grid.site or node.config.node.name


def _is_trusting(node: Node) -> bool:
    """Say whether the device book trusts whoever is on this machine, as `init --dev` has it."""
    row = node.devices.get(ANY)
    return row is not None and row.address == LOOPBACK and ANY in row.called


def open_web(node: Node, web: WebServer) -> dict[str, int]:
    """Listen where the configuration says; return the ports by name.

    Raises:
        Busy: a port is taken.
        BadRequest: the TLS files do not work.
    """
    section, ports = node.config.web, dict[str, int]()
    if section.port:
        ensure_certificate(node.home, node.config, node.clock())
        ports["https"] = web.start(section.host, section.port, node.credentials.web)
    if section.plain_port:
        ports["web"] = web.start(_LOOPBACK_HOST, section.plain_port)
    return ports
