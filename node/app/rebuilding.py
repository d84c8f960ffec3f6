"""Making a catalog again from what is stored, and putting it in the place of the old one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from catalog import Clock
from node.archives import DEFAULT
from node.catching_up import MARKER
from node.recovery import Recovered
from node.storage.volumes import VolumeList

CATALOG: Final = "catalog"
_REBUILDING: Final = "catalog.rebuilding"
_WHOLE: Final = "WHOLE"
"""Marks a rebuilt catalog that lacks nothing."""


def rebuild(
    home: Path,
    clock: Clock = time.time,
    on_progress: Callable[[Recovered], None] = lambda so_far: None,
    archive: str = DEFAULT,
) -> Recovered:
    """Make an archive's catalog again from its objects, decisions included, in the place of the old one.

    The old catalog stays in use until the new one is whole; a rebuild that was stopped is begun anew.

    Raises:
        Busy: the node runs; stop it first.
    """
    from .opening import open_node

    folder = home / "archives" / archive
    finish_swap(folder)
    for name in (_REBUILDING, search_of(_REBUILDING)):
        shutil.rmtree(folder / name, ignore_errors=True)
    with open_node(home, clock, "rebuild", catalog=_REBUILDING, only=archive) as node:
        recovered = node.recovery.take(node.store.scan(), on_progress)
        # Above every epoch of the old catalog, whatever the clock says.
        node.catalog.renew_epoch(node.main.rollback.findings().epoch)
        told = {"instances": recovered.instances, "held": recovered.held, "decisions": recovered.decisions}
        told |= {"unreadable": recovered.unreadable, "damaged": len(recovered.damaged)}
        node.audit.record("rebuild", None, "ok", {"archive": archive, **told})
    (folder / _REBUILDING / _WHOLE).touch()
    finish_swap(folder)
    # Everything was taken in, also what a restore had left to be.
    (folder / MARKER).unlink(missing_ok=True)
    return recovered


def bytes_to_read(home: Path, archive: str) -> int:
    """Return how much lies on the disks of an archive for a rebuild to read."""
    objects = home / "archives" / archive / "objects"
    if not objects.is_dir():
        return 0
    folders = [volume.folder(objects) for volume in VolumeList(objects, "").read().volumes]
    present = [folder for folder in folders if folder.is_dir()]
    return sum(path.stat().st_blocks * 512 for folder in present for path in folder.glob("??/*.tar"))


def finish_swap(archive: Path) -> None:
    """Put a catalog that was rebuilt to its end in the place of the old one; may be cut short anywhere."""
    if not (archive / _REBUILDING / _WHOLE).exists():
        return
    for name in (search_of(CATALOG), search_of(_REBUILDING), CATALOG):
        # The search index grows back by itself.
        shutil.rmtree(archive / name, ignore_errors=True)
    (archive / _REBUILDING).rename(archive / CATALOG)
    (archive / CATALOG / _WHOLE).unlink()


def search_of(catalog: str) -> str:
    """Return the name of the folder of the search index that belongs to a catalog's folder."""
    return "search" if catalog == CATALOG else f"{catalog}-search"
