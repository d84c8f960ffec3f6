"""`peerpacs retire`: the node of a hospital that closes has all its studies, whole, and a list of them."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from node.cli import FAILED, PARTIAL, Session, plural, shared, who

from .leaving import told_of_leaving, wait_until_home, what_hinders, what_waits
from .verifying import follow, told_of_reading

_COLUMNS: Final = (
    "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "TransferSyntaxUID",
    "IssuerOfPatientID", "PatientID", "PatientName", "StudyDate", "AccessionNumber", "bytes", "sha256",
    "received", "source",
)  # fmt: skip


@click.command("retire")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--off", is_flag=True, help="Take new instances again; the grid is joined again by a ticket.")
@shared
def retire_command(session: Session, folder: Path | None, yes: bool, off: bool) -> int:
    """Retire this node: it leaves its grid, takes nothing new, and what it has is read and listed in FOLDER.

    What lies at other sites alone comes home first, and the others sign for what they drop, as with leave.
    Then every object is read and compared with its SHA-256, and FOLDER gets a CSV file per archive with a
    line per instance. The node goes on to answer and to give what it has.

    Example: peerpacs retire /mnt/handover
    """
    with session.desk("retire") as ask:
        if off:
            ask("retire", who=who(), is_wanted=False)
            session.say({"retired": False}, ["✓ This node takes new instances again."])
            return 0
        if folder is None:
            raise click.UsageError("Where to? Name a folder for the lists: peerpacs retire FOLDER")
        if not yes and not session.is_json:
            click.confirm("Retire this node? It leaves its grid and takes nothing new.", abort=True)
        return _retire(session, ask, folder)


def _retire(session: Session, ask: Callable[..., Any], folder: Path) -> int:
    from catalog import NotFound
    from node.retirement import LOOK_EVERY

    # Before anything is done that cannot be taken back: the lists must have a place.
    _make(folder)
    try:
        left = wait_until_home(session, lambda: ask("leave_grid", who=who(), is_forced=False))
    except NotFound:
        left = None
    if left is not None and (waits := what_waits(left)):
        lines = [f"! {waits} Nothing more comes, so this node stays as it is.", f"  {what_hinders(left)}"]
        session.say({"left": left, "retired": False}, lines)
        return PARTIAL
    ask("retire", who=who(), is_wanted=True)
    # What came before every process of the node knows is listed too.
    time.sleep(LOOK_EVERY + 0.2)
    archives = {
        row["name"]: _hand_over(
            session, partial(_of_archive, ask, row["name"]), folder / f"{row['name']}.csv"
        )
        for row in ask("archives")
    }
    session.say({"left": left, "retired": True, "archives": archives}, _lines(left, archives))
    if not all(each["read"]["is_good"] and not each["read"]["failure"] for each in archives.values()):
        return FAILED
    return PARTIAL if left is not None and left["owing"] else 0


def _make(folder: Path) -> None:
    from catalog import BadRequest

    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadRequest(f"Nothing can be written into {folder}.", "Name another folder. Nothing was done.")


def _of_archive(ask: Callable[..., Any], archive: str, verb: str, **told: Any) -> Any:
    return ask(f"{archive}/{verb}", **told)


def _hand_over(session: Session, ask: Callable[..., Any], file: Path) -> dict[str, Any]:
    """Read all that an archive has, and list it."""
    read = follow(session, ask, ask("start_verify", who=who(), share=1.0, since=0, rate=0.0))
    return {"read": read, "listed": _write(file, partial(ask, "inventory")), "file": str(file)}


def _write(file: Path, page: Callable[..., dict[str, Any]]) -> int:
    """Write what an archive has, a line per instance; return how many."""
    count, after = 0, ""
    with file.open("w", newline="", encoding="utf-8") as written:
        writer = csv.DictWriter(written, _COLUMNS)
        writer.writeheader()
        while rows := (told := page(after=after))["rows"]:
            writer.writerows(rows)
            count, after = count + len(rows), told["after"]
    return count


def _lines(left: dict[str, Any] | None, archives: dict[str, dict[str, Any]]) -> Iterator[str]:
    if left is not None:
        yield from told_of_leaving(left)
    for name, found in archives.items():
        yield f"Archive {name}:"
        yield from told_of_reading(found["read"])
        yield f"✓ {plural(found['listed'], 'instance')} listed in {found['file']}"
    yield "✓ This node takes nothing new. To go on with it: peerpacs retire --off"
