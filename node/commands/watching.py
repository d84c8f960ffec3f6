"""`peerpacs health` and `peerpacs config`: for what watches a node, and for who wonders at a setting."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

import click

from node.cli import FAILED, Session, columns, shared

if TYPE_CHECKING:
    from node.sections import Config

_PATIENCE = 5.0


@click.command("health")
@shared
def health_command(session: Session) -> int:
    """Say whether the node is ready. Exit 0 if it is: for containers, which ask again and again.

    Example: peerpacs health --home /data
    """
    from node.config import load_config

    config = load_config(session.home)
    found = _over_http(config) if config.watch.port else _over_the_socket(session)
    session.say(found, found["lines"])
    return 0 if found["is_ready"] else FAILED


def _over_http(config: Config) -> dict[str, Any]:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.watch.host, config.watch.host)
    connection = http.client.HTTPConnection(host, config.watch.port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/readyz?verbose")
        answer = connection.getresponse()
        lines = answer.read().decode(errors="replace").splitlines()
        return {"is_ready": answer.status == http.client.OK, "lines": lines}
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        return {
            "is_ready": False,
            "lines": [f"[-]process failed: nobody answers on port {connection.port}: {why}"],
        }
    finally:
        connection.close()


def _over_the_socket(session: Session) -> dict[str, Any]:
    from catalog import Unavailable
    from node.control import ask, is_running

    if not is_running(session.home):
        return {"is_ready": False, "lines": ["[-]process failed: the node does not run"]}
    try:
        findings = ask(session.home, "readiness", timeout=_PATIENCE)
    except Unavailable as error:
        return {"is_ready": False, "lines": [f"[-]process failed: {error.what}"]}
    lines = [f"[-]{name} failed: {why}" if why else f"[+]{name} ok" for name, why in findings.items()]
    lines += [f"[!]{notice}" for notice in ask(session.home, "notices", timeout=_PATIENCE)]
    return {"is_ready": not any(findings.values()), "lines": lines}


@click.group("config")
@shared
def config_command(session: Session) -> None:
    """Look at the configuration. It is changed in peerpacs.toml, or by the environment.

    Example: peerpacs config show --origin
    """


@config_command.command("check")
@shared
def check_config(session: Session) -> int:
    """Say whether the configuration is right. What is wrong is named with its file.

    Example: peerpacs config check --home /var/lib/peerpacs
    """
    from node.config import FILE_NAME, load_config

    load_config(session.home)
    file = session.home / FILE_NAME
    session.say({"file": str(file), "is_right": True}, [f"✓ {file} is right"])
    return 0


@config_command.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@shared
def show_config(session: Session, origin: bool) -> int:
    """Print every setting with its value. With --origin also the file or variable it comes from.

    Example: peerpacs config show --origin --home /var/lib/peerpacs
    """
    from node.config import origins

    found = origins(session.home)
    rows = [(f"{of}.{key}", _written(value), source) for of, key, value, source in found]
    heads = ("setting", "value", "from")
    said = [{"section": of, "key": key, "value": value, "origin": source} for of, key, value, source in found]
    session.say(said, columns(rows, heads) if origin else (f"{name} = {value}" for name, value, _ in rows))
    return 0


def _written(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
