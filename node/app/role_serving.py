"""Roles on hosts of their own: what this process answers to others, and waiting for those it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from catalog import BadRequest, Busy, Entry, Recorded
from node.roles import catalog, storage
from node.roles.answering import THREADS, Answer, RoleServer
from node.roles.calls import Question, RoleClient, guest_keys, is_there, server_keys
from node.roles.plan import has
from node.sections import Config, Role
from node.storage import VolumeStore

from .background import Background

if TYPE_CHECKING:
    from .node import Node

_NEXT: Final = "Name an address and a free port of this host in peerpacs.toml, as all hosts reach it."


def serve_role(
    role: str,
    url: str,
    home: Path,
    answers: Mapping[Question, Answer],
    background: Background,
    opened: ExitStack,
    *,
    may_make_keys: bool,
) -> None:
    """Listen for other roles at a URL, on threads of the background, until `opened` is closed.

    Raises:
        Busy, BadRequest: the address cannot be had; the sentence names the setting.
        NotFound: the node's keys were not copied here.
    """
    keys = server_keys(home, url, may_make=may_make_keys)
    try:
        server = RoleServer(url, keys, answers)
    except (Busy, BadRequest) as error:
        raise type(error)(f"roles.{role}: {error.what}", _NEXT) from None
    opened.callback(server.close)
    background.run(f"{role} for others", lambda: server.route(background.stopping), server.wake)
    for number in range(THREADS):
        background.run(f"{role} for others {number}", lambda: server.answer(background.stopping))


def serve_roles(node: Node, background: Background, opened: ExitStack) -> None:
    """Answer for the catalog, and for the storage if it is here too, where the configuration says so.

    Raises as `serve_role`.
    """
    roles, archives = node.config.roles, node.archives

    def on_recorded(archive: str, entry: Entry, recorded: Recorded) -> None:
        archives[archive].ingest.on_new(entry, recorded)

    def open_store(archive: str) -> VolumeStore:
        store = node.archive(archive).segments
        if not isinstance(store, VolumeStore):
            what = f"The archive {archive} lies in a bucket, which gateways elsewhere do not reach."
            raise BadRequest(what, "Send to the process that has the catalog.")
        return store

    if roles.catalog:
        service = catalog.CatalogService(
            lambda: {name: archive.catalog for name, archive in tuple(archives.items())},
            node.state,
            node.audit,
            node.clock,
            on_recorded,
        )
        answers = service.answers()
        serve_role("catalog", roles.catalog, node.home, answers, background, opened, may_make_keys=True)
    if roles.storage and has(node.config, Role.STORAGE):
        answers = storage.StorageService(open_store, node.clock, is_replayed=True).answers()
        serve_role("storage", roles.storage, node.home, answers, background, opened, may_make_keys=True)


def needed(config: Config) -> dict[str, tuple[str, Question]]:
    """Return the roles that this process asks, with where they are and how they say that they are there."""
    needs: dict[str, tuple[str, Question]] = {}
    if not has(config, Role.CATALOG) and has(config, Role.GATEWAY):
        needs["catalog"] = config.roles.catalog, catalog.PRESENT
    if not has(config, Role.STORAGE):
        needs["storage"] = config.roles.storage, storage.PRESENT
    return needs


def wait_for_roles(
    home: Path, config: Config, is_stopping: Callable[[], bool], tell: Callable[[str, str], None]
) -> bool:
    """Return when the roles that this process asks are there, or False when told to stop.

    Who is not there at once is told of, once, with its URL.

    Raises:
        NotFound: this host has no key of the node.
    """
    for role, (url, question) in needed(config).items():
        if has(config, Role.CATALOG):
            server_keys(home, url, may_make=True)
        client = RoleClient(role, url, guest_keys(home, url))
        try:
            is_told = False
            while not is_there(client, question):
                if is_stopping():
                    return False
                if not is_told:
                    tell(role, url)
                is_told = True
        finally:
            client.close()
    return True
