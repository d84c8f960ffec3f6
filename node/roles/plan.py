"""Which roles of the node a process has, and whether that makes sense together."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from catalog import BadRequest
from node.sections import Config, Role

_ONE_FILE: Final = "Set it in the peerpacs.toml of every host: tcp://ADDRESS:PORT of the host that has it."


def check_roles(config: Config, source: str) -> None:
    """Make sure that a process knows where the roles are that it has not.

    Raises:
        BadRequest: it does not, or has roles that do not go together.
    """
    run, roles = set(config.roles.run), config.roles
    if not run:
        raise BadRequest(
            f"roles.run in {source} is empty.", "Name gateway, catalog, storage, or all of them."
        )
    if Role.CATALOG not in run and len(run) > 1:
        what = f"roles.run in {source} is gateway and storage without the catalog."
        raise BadRequest(what, "Run them as two processes, each with a home folder of its own.")
    if Role.CATALOG not in run and not roles.catalog and Role.GATEWAY in run:
        raise BadRequest(f"roles.catalog in {source} is empty, and the catalog does not run here.", _ONE_FILE)
    if Role.STORAGE not in run and not roles.storage:
        raise BadRequest(f"roles.storage in {source} is empty, and the storage does not run here.", _ONE_FILE)
    if run == {Role.STORAGE} and not roles.storage:
        raise BadRequest(f"roles.storage in {source} is empty: nobody could reach it.", _ONE_FILE)
    if config.processes.count > 1 and (roles.catalog or roles.storage):
        what = f"processes.count in {source} is above 1, and roles.catalog or roles.storage is set."
        raise BadRequest(what, "Leave it 1, and run as many gateways as you like instead.")


def demand_catalog(config: Config, home: Path) -> None:
    """Make sure that this is where the node's state is and commands count.

    Raises:
        BadRequest: the process of this home has not the catalog.
    """
    if not has(config, Role.CATALOG):
        what = f"The process of {home} is {' and '.join(config.roles.run)} only, without the catalog."
        raise BadRequest(what, f"Run this on the host that has the catalog ({config.roles.catalog}).")


def has(config: Config, role: Role) -> bool:
    """Say whether this process has a role."""
    return role in config.roles.run
