"""Databases that are damaged are noticed before they are opened, put aside, and told with what to do."""

from __future__ import annotations

import logging
from pathlib import Path

from catalog import Damaged, check_environment, set_aside
from node.storage import has_objects

logger = logging.getLogger(__name__)

_STATE = "state"
_LOST = (
    "The folder state/ of %s is gone, and with it the device book and the list of what is held. "
    "It is begun anew. Restore it from a backup, or enter the devices again and run "
    "peerpacs rebuild, which finds again what is held and what was decided."
)
_COPIES = {
    "rows": "What is kept here for others is found again in its objects, which are all read now.",
    "ledger": "Who keeps copies of this node's studies is asked of the other nodes.",
}


def refuse_damaged_catalog(home: Path, folder: Path, catalog: str, now: float) -> None:
    """Look at an archive's catalog before it is opened.

    Raises:
        Damaged: it is damaged, and now lies under another name.
    """
    try:
        _check(folder / catalog, is_used=has_objects(folder))
    except Damaged as error:
        aside = set_aside(folder / catalog, now)
        what = f"{error.what} It was moved to {aside}, and nothing in it was changed."
        name = "" if folder.name == "main" else f" --archive {folder.name}"
        remedy = (
            f"Make it again from the objects: peerpacs rebuild{name} --home {home}; "
            f"or go back to a backup: peerpacs restore BACKUP --home {home} --replace"
        )
        raise Damaged(what, remedy) from None


def look_at_state(home: Path, now: float, *, may_begin_anew: bool) -> None:
    """Look at the node's state before it is opened; `may_begin_anew` if a person asked for that.

    One that is gone without a trace is begun anew, and that is told.

    Raises:
        Damaged: it is damaged, and now lies under another name.
    """
    folder, has_any = home / _STATE, any(map(has_objects, home.glob("archives/*")))
    what = ""
    try:
        _check(folder, is_used=has_any)
    except Damaged as error:
        aside = set_aside(folder, now)
        what = f"{error.what} It was moved to {aside}, and nothing in it was changed."
    if not folder.exists():
        before = sorted(home.glob(f"{_STATE}.damaged-*"))
        if before and not may_begin_anew:
            what = what or f"The node's state was damaged and lies in {before[-1]}."
            remedy = (
                f"Go back to a backup: peerpacs restore BACKUP --home {home} --replace; or begin without "
                f"devices and users: peerpacs rebuild --all --home {home}, which finds decisions and what is "
                "held again in the objects."
            )
            raise Damaged(what, remedy)
        if has_any:
            logger.error(_LOST, home)


def look_at_copies(folder: Path, now: float) -> None:
    """Look at the databases of copies before they are opened; what is damaged gets another name, and is told.

    Nothing is lost with them: rows of what is kept for others are made again from the objects, and what is
    kept elsewhere is asked of those who keep it.
    """
    ledgers = [path.name for path in sorted(folder.glob("ledger-*")) if ".damaged-" not in path.name]
    for name, told in [*_COPIES.items(), *((each, _COPIES["ledger"]) for each in ledgers)]:
        try:
            _check(folder / name, is_used=has_objects(folder))
        except Damaged as error:
            aside = set_aside(folder / name, now)
            logger.error("%s It was moved to %s. %s Nobody needs to do anything.", error.what, aside, told)


def _check(folder: Path, *, is_used: bool) -> None:
    check_environment(folder)
    data = folder / "data.mdb"
    if is_used and data.exists() and not data.stat().st_size:
        raise Damaged(f"{data} is empty.", "")
