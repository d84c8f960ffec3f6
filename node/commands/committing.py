"""`peerpacs commit`: asking another system to commit to instances, and what others said before."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli import FAILED, PARTIAL, Session, columns, plural, shared
from node.commands.moving import sendable_files
from node.commands.peers import Called, TlsOptions, called, titles

if TYPE_CHECKING:
    from node.commitment import Asked, Inquiries
    from node.contracts import Reference

_SHOWN: Final = 20


@click.command("commit")
@click.argument("words", nargs=-1, metavar="HOST PORT | NAME  FILES...")
@click.option("--study", "studies", multiple=True, metavar="UID", help="Everything of a study kept here.")
@click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for the result.")
@click.option("--list", "is_list", is_flag=True, help="Show what was asked before, and what came of it.")
@titles
@shared
def commit_command(
    session: Session,
    words: tuple[str, ...],
    studies: tuple[str, ...],
    wait: float,
    is_list: bool,
    calling_ae: str | None,
    called_ae: str | None,
    tls: TlsOptions,
) -> int:
    """Ask another system to commit to instances (Storage Commitment).

    Its result may come over this call or, later, to the node of --home, which keeps it.

    Example: peerpacs commit PACS --study 1.2.3.4
    """
    if is_list:
        return _tell_all(session)
    there = called(session, words, calling_ae, called_ae, tls)
    references = _references(session, there, studies)
    with _inquiries(session) as inquiries:
        asked = _ask(inquiries, there, references, wait)
    session.say(_row(asked), _sentences(asked))
    if not asked.reported:
        return FAILED
    return (PARTIAL if asked.committed else FAILED) if asked.failed else 0


def _references(session: Session, there: Called, studies: tuple[str, ...]) -> list[Reference]:
    """Return what files and studies name, each once."""
    from catalog import NotFound
    from node.contracts import Reference
    from node.dimse import Part10File

    if not there.rest and not studies:
        raise click.UsageError("Commit to what? Name files or folders, or --study UID.")
    found: dict[Reference, None] = {}
    files, unreadable = sendable_files(Path(word) for word in there.rest)
    for each in files:
        file = Part10File(each.path)
        found[Reference(file.SOPClassUID, file.SOPInstanceUID)] = None
        file.close()
    if studies:
        with session.desk("commit") as ask:
            for study in studies:
                found |= {Reference(*pair): None for pair in ask("references", study=study)}
    for path, why in unreadable:
        click.echo(f"✗ {path}: {why}", err=True)
    if not found:
        raise NotFound("There is no instance to ask about.", "Name DICOM files, or a study that is here.")
    return list(found)


@contextmanager
def _inquiries(session: Session) -> Iterator[Inquiries]:
    """Yield where requests and results are kept: in the node's home, or nowhere for long without one."""
    from node.commitment import Inquiries
    from node.config import FILE_NAME
    from node.state import State

    home = Path(session.named_home).expanduser() if session.named_home else None
    with tempfile.TemporaryDirectory() as nowhere:
        has_home = home is not None and (home / FILE_NAME).exists()
        with State(session.home / "state" if has_home else Path(nowhere)) as state:
            yield Inquiries(state, time.time)


def _ask(inquiries: Inquiries, there: Called, references: list[Reference], wait: float) -> Asked:
    from catalog import PacsError
    from node.dimse import Limits, Peer, ask_commitment

    asked = inquiries.begin(there.called_ae, there.host, there.port, references)
    deadline = time.monotonic() + wait

    def left() -> float:
        """Whoever answers by an association of its own reaches the node, which writes into the same table."""
        row = inquiries.get(asked.transaction)
        return 0.0 if row and row.reported else deadline - time.monotonic()

    peer = Peer(there.called_ae, there.host, there.port, there.calling_ae, there.security)
    try:
        ask_commitment(
            peer,
            asked.transaction,
            asked.references,
            Limits(),
            lambda: inquiries.answered(asked.transaction),
            lambda result: inquiries.take(there.called_ae, result),
            left,
        )
    except PacsError as error:
        row = inquiries.get(asked.transaction)
        if row is None or not row.is_accepted:
            inquiries.answered(asked.transaction, error.what)
            raise
    # The association is over; what was accepted can still be answered by another one.
    while left() > 0:
        time.sleep(min(0.2, max(0.0, left())))
    return inquiries.get(asked.transaction) or asked


def _tell_all(session: Session) -> int:
    with _inquiries(session) as inquiries:
        rows = list(inquiries)
    titles = ("ASKED", "OF", "INSTANCES", "COMMITTED", "STATE", "TRANSACTION")
    table = [
        (
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row.asked)),
            row.ae_title,
            len(row.references),
            len(row.committed) if row.reported else "-",
            _state(row),
            row.transaction,
        )
        for row in rows
    ]
    empty = ["Nothing was asked yet. Ask with: peerpacs commit NAME --study UID"]
    session.say([_row(row) for row in rows], columns(table, titles) if table else empty)
    return 0


def _state(row: Asked) -> str:
    if row.refusal:
        return "refused"
    if not row.reported:
        return "waits for its result" if row.is_accepted else "not answered"
    return "some failed" if row.failed else "committed"


def _row(row: Asked) -> dict[str, Any]:
    return {
        "transaction": row.transaction,
        "ae_title": row.ae_title,
        "asked": row.asked,
        "state": _state(row),
        "why": row.refusal,
        "reported": row.reported or None,
        "committed": [each.SOPInstanceUID for each in row.committed],
        "failed": {uid: f"{reason:04X}" for uid, reason in row.failed.items()},
        "retrieve_ae": row.RetrieveAETitle,
    }


def _sentences(row: Asked) -> list[str]:
    if not row.reported:
        return [
            f"{row.ae_title} took the request about {plural(len(row.references), 'instance')}, "
            "but has not said yet what it commits to.",
            "When its result reaches this node it is kept: peerpacs commit --list",
        ]
    lines = [f"✗ {uid}: {_reason(reason)}" for uid, reason in list(row.failed.items())[:_SHOWN]]
    if len(row.failed) > _SHOWN:
        lines.append(f"{len(row.failed) - _SHOWN} more are not committed: --json names them all.")
    committed = plural(len(row.committed), "instance")
    return [*lines, f"{row.ae_title} commits to {committed}, and not to {len(row.failed)}."]


_REASONS: Final = {
    0x0000: "the result does not mention it",
    0x0110: "processing failure",
    0x0112: "it does not have it",
    0x0119: "it has it under another SOP Class",
    0x0122: "it does not support the SOP Class",
    0x0131: "the Transaction UID was used before",
    0x0213: "resource limitation",
}
"""Failure Reason (0008,1197), PS3.3 C.14.1.1."""


def _reason(reason: int) -> str:
    known = _REASONS.get(reason, "it gives no known reason")
    return f"{known} ({reason:04X})" if reason else known
