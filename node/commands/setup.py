"""`peerpacs init`: a home folder with everything a node needs to start."""

from __future__ import annotations

import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli import Session, readable, shared, who

if TYPE_CHECKING:
    from node.sections import Config

_PORTS = ("dicom", "tls", "web", "grid", "watch")


@click.command("init")
@click.option("--name", help="Name of the hospital or site.")
@click.option("--ae", help="AE title, at most 11 characters: its twin with _GRID must fit into 16.")
@click.option("--issuer", default="", help="Assigning authority of Patient IDs that come without one.")
@click.option("--dicom-port", type=int, help="DICOM port, 11112 unless said; 0 = none.")
@click.option("--tls-port", type=int, help="DICOM TLS port, 2762 unless said; 0 = none.")
@click.option("--web-port", type=int, help="Web port (TLS), 8443 unless said; 0 = none.")
@click.option("--grid-port", type=int, help="Port for other nodes, 7443 unless said; 0 = none.")
@click.option("--watch-port", type=int, help="Port for /metrics and health, 8080 unless said; 0 = none.")
@click.option("--storage", default="disk", help="Where objects are kept: disk, or s3://bucket/prefix.")
@click.option("--s3-endpoint", default="", help="URL of the S3 server; empty = Amazon's own.")
@click.option("--s3-keys", type=click.Path(exists=True, dir_okay=False), help="File: access key, secret key.")
@click.option(
    "--node-id", default="", help="Of a node of the grid that was lost, in whose place this one comes."
)
@click.option("--dev", is_flag=True, help="Trust everybody on this machine. Not for a real hospital.")
@click.option("--yes", is_flag=True, help="Ask nothing; use what was said and the defaults.")
@shared
def init_command(
    session: Session, name: str | None, ae: str | None, dev: bool, yes: bool, **settings: Any
) -> int:
    """Make a new node in a home folder. Nothing that exists is overwritten.

    Example: peerpacs init --home /var/lib/peerpacs --name "St Anne" --ae ANNE
    """
    if not session.named_home and not yes:
        session.named_home = click.prompt("Home folder", default="/var/lib/peerpacs", err=True)
    home = session.home
    if not yes:
        name = name or click.prompt("Name of the hospital", default=_default_name(home), err=True)
        ae = ae or click.prompt("AE title", default=_default_ae(name), err=True)
    name = name or _default_name(home)
    ae = ae or _default_ae(name)
    made = make_node(home, name, ae, settings, is_dev=dev)
    session.say(made, _what_was_made(made))
    return 0


def make_node(home: Path, name: str, ae: str, settings: dict[str, Any], *, is_dev: bool) -> dict[str, Any]:
    """Make the home folder of a node and return what is in it.

    Raises:
        BadRequest: a value is wrong, or there is a node already.
    """
    import time

    from catalog import BadRequest
    from node.audit import AuditLog
    from node.certificates import ensure_certificate
    from node.config import FILE_NAME, check_ae_title, load_config, write_config
    from node.sections import GRID_SUFFIX

    if (home / FILE_NAME).exists():
        what = f"There is a node in {home} already; init never overwrites one."
        raise BadRequest(what, f"Start it with: peerpacs run --home {home}, or choose another folder.")
    node_id = _node_id(settings["node_id"])
    ae_title = check_ae_title(ae, longest=16 - len(GRID_SUFFIX))
    said = (f"{section}_port" for section in _PORTS)
    own: dict[str, dict[str, Any]] = {
        "node": {"name": name, "ae_title": ae_title, "node_id": node_id, "issuer": settings["issuer"]},
        "storage": {"url": settings["storage"]},
        "s3": {"endpoint": settings["s3_endpoint"]},
        **{key[:-5]: {"port": settings[key]} for key in said if settings[key] is not None},
    }
    home.mkdir(parents=True, exist_ok=True, mode=0o750)
    keys = _read_keys(settings["s3_keys"])
    path = write_config(home, own)
    try:
        _write_secrets(home / "secrets", keys)
        config = load_config(home)
        first = _first_rows(home, time.time, is_dev=is_dev, has_web=bool(config.web.port))
        if config.tls.port or config.web.port:
            ensure_certificate(home, config, time.time())
        audit = AuditLog(home / "audit", time.time)
        audit.record("change", None, "node made", {"who": who(), "node_id": node_id, "is_dev": is_dev})
        audit.close()
    except BaseException:
        path.unlink()
        raise
    return {**_made(config, home), "web": first, "home": str(home), "config": str(path), "is_dev": is_dev}


def _node_id(said: str) -> str:
    """Return the id of a new node, or the one that was said; raises BadRequest if that is none."""
    from federation.trust.names import check_node_id

    return check_node_id(said) if said else str(uuid.uuid4())


def _first_rows(
    home: Path, clock: Callable[[], float], *, is_dev: bool, has_web: bool
) -> dict[str, Any] | None:
    """Write the first rows of the state; return who can log in over the web, if anybody can."""
    from node.accounts import FIRST, Accounts
    from node.devices import DEV_RULE, DeviceBook
    from node.rights import Role
    from node.state import State

    with State(home / "state") as state:
        if is_dev:
            DeviceBook(state).put(DEV_RULE)
        if not has_web:
            return None
        _, password = Accounts(state, clock).add(FIRST, (Role.ADMIN,), "made by init")
    return {"user": FIRST, "one_time_password": password}


def _read_keys(path: str | None) -> list[str]:
    """Return access key and secret key from a file with one on each line, or nothing.

    Raises:
        BadRequest: it has not two lines.
    """
    from catalog import BadRequest

    if path is None:
        return []
    keys = Path(path).read_text(encoding="utf-8").split()
    if len(keys) != 2:
        remedy = "Write the access key on its first line and the secret key on its second."
        raise BadRequest(f"{path} has {len(keys)} words instead of two.", remedy)
    return keys


def _write_secrets(folder: Path, keys: list[str]) -> None:
    """Make the folder of secrets, with the bucket's credentials if they were given."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, key in zip(("s3-access-key", "s3-secret-key"), keys, strict=False):
        with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{key}\n")


def _made(config: Config, home: Path) -> dict[str, Any]:
    from node.certificates import describe

    certificate = describe(home / config.tls.certificate_file)._asdict() if config.tls.port else None
    return {
        "certificate": certificate,
        "resume_above": config.storage.resume_above_mb << 20,
        "name": config.node.name,
        "ae_title": config.node.ae_title,
        "node_id": config.node.node_id,
        "ports": {section: getattr(config, section).port for section in _PORTS},
    }


def _what_was_made(made: dict[str, Any]) -> list[str]:
    free = shutil.disk_usage(made["home"]).free
    is_room = free >= made["resume_above"]
    least = f": too little, C-STORE is answered A700 until {readable(made['resume_above'])} are"
    lines = [
        f"✓ {made['config']}   what needs a restart to change; every key is explained in it",
        f"✓ node {made['name']}, AE title {made['ae_title']}, id {made['node_id']}",
        f"{'✓' if is_room else '!'} {readable(free)} free for images{'' if is_room else least}",
        f"✓ DICOM port {made['ports']['dicom']}" if made["ports"]["dicom"] else "! no DICOM port",
    ]
    if made["certificate"]:
        ends = date.fromtimestamp(made["certificate"]["ends"])
        lines.append(
            f"✓ DICOM TLS port {made['ports']['tls']} with a self-signed certificate until {ends}, "
            f"sha256:{made['certificate']['fingerprint'][:16]}..."
        )
    if made["web"]:
        lines.append(
            f"✓ web https://{socket.gethostname()}:{made['ports']['web']}   user {made['web']['user']}, "
            f"one-time password {made['web']['one_time_password']} (valid for 7 days, shown only here)"
        )
    if made["is_dev"]:
        lines.append("! everybody on this machine may do everything (--dev); see: peerpacs devices list")
    if grid := made["ports"]["grid"]:
        lines.append(f"  port {grid} is for other nodes; it opens when this one founds or joins a grid")
    home = made["home"]
    return [
        *lines,
        "",
        f"Next:  peerpacs run --home {home}",
        f"       peerpacs check --home {home}",
        f"       peerpacs devices add CT1 --address HOST --services echo,store --home {home}",
    ]


def _default_name(home: Path) -> str:
    return home.name or "peerpacs"


def _default_ae(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")[:11] or "PEERPACS"
