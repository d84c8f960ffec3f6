"""`peerpacs backup` and `restore`: everything but the images, or they as well, in a folder and back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli import FAILED, PARTIAL, Session, plural, readable, shared

if TYPE_CHECKING:
    from node.app import Node
    from node.backup import BackedUp, Manifest, Proof, Restored

_KEYS = (
    "! Keep this folder as you keep a safe. The key in identity/ is the hospital: who has it speaks for you",
    "  in the grid; lose it and you must be invited again. secrets/ has what opens your buckets, and",
    "  secrets/objects-*.key is what their contents are encrypted with: without it they are noise.",
)


@click.command("backup")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--objects", "has_objects", is_flag=True, help="The images too; only what is new is copied.")
@click.option("--rejected", "has_rejected", is_flag=True, help="Data sets that could not be taken, too.")
@click.option("--keep", type=click.IntRange(1), help="Remove all but the newest so many backups.")
@click.option("--check", "is_check", is_flag=True, help="Make none; check the newest in FOLDER, or this one.")
@shared
def backup_command(
    session: Session, folder: Path, has_objects: bool, has_rejected: bool, keep: int | None, is_check: bool
) -> int:
    """Copy a node's databases, keys, configuration and audit into FOLDER, while the node runs or not.

    Images are not in it, unless you add --objects: the tar files in archives/*/objects never change once they
    are full, so rsync copies them well, and a bucket keeps its own. Without --archive it is of all archives.

    Example: peerpacs backup /mnt/backup/alpha --objects --keep 14 --home /var/lib/peerpacs
    """
    if is_check:
        return _check(session, folder)
    from node.backup import Wish, make_backup
    from node.storage import has_objects as has_any

    wish = Wish(session.archive, has_objects, has_rejected, keep or 0)
    began = time.monotonic()
    with _counting("copied", is_shown=not session.is_json and sys.stderr.isatty()) as show:
        made = make_backup(session.home, folder, time.time(), wish, show)
    _note_in_audit(session.home, made)
    is_lacking = not has_objects and any(
        not each.bucket and has_any(session.home / "archives" / each.name) for each in made.manifest.archives
    )
    told = {"backup": str(made.path), "seconds": round(time.monotonic() - began, 2), **_told(made.manifest)}
    told |= {"copied_bytes": made.copied, "removed": list(made.removed)}
    session.say(told, _what_was_made(made, told["seconds"], is_lacking=is_lacking))
    return 0


def _note_in_audit(home: Path, made: BackedUp) -> None:
    from node.audit import AuditLog
    from node.cli import who

    audit = AuditLog(home / "audit", time.time)
    audit.record("backup", None, "ok", {"who": who(), "backup": made.path.name})
    audit.close()


def _told(manifest: Manifest) -> dict[str, Any]:
    archives = [
        {
            "name": each.name,
            "instances": each.instances,
            "epoch": each.epoch,
            "seq": each.seq,
            "bucket": each.bucket,
            "segments": len(each.segments),
            "object_bytes": sum(each.segments.values()),
        }
        for each in manifest.archives
    ]
    return {"node": manifest.name, "node_id": manifest.node_id, "taken": manifest.taken, "archives": archives}


def _what_was_made(made: BackedUp, seconds: float, *, is_lacking: bool) -> Iterator[str]:
    files = made.manifest.files
    size = readable(sum(stored.size for stored in files.values()))
    yield f"✓ {made.path}: node {made.manifest.name}, {plural(len(files), 'file')}, {size} in {seconds:.1f} s"
    for each in made.manifest.archives:
        yield f"✓ archive {each.name}: {plural(each.instances, 'instance')}{_objects_of(each)}"
    if made.copied:
        yield f"✓ {readable(made.copied)} of objects were new or changed since the last backup"
    if made.removed:
        yield f"  removed: {', '.join(made.removed)}"
    if is_lacking:
        yield "! The images are not in it. Copy archives/*/objects too (rsync -a --sparse), or add --objects."
    yield from _KEYS
    yield f"Check it with:  peerpacs backup --check {made.path.parent}"


def _objects_of(archived: Any) -> str:
    if archived.bucket:
        return f", whose objects are in {archived.bucket}"
    if archived.segments:
        size = readable(sum(archived.segments.values()))
        return f", objects in {plural(len(archived.segments), 'tar file')} of {size}"
    return ""


def _check(session: Session, folder: Path) -> int:
    from node.backup import chosen, prove

    backup = chosen(folder)
    with _counting("read", is_shown=not session.is_json and sys.stderr.isatty()) as show:
        proof = prove(backup, show)
    told = {"backup": str(backup), "is_good": not proof.faults, "faults": list(proof.faults)}
    session.say({**told, **_told(proof.manifest)}, _verdict(backup, proof))
    return FAILED if proof.faults else 0


def _verdict(backup: Path, proof: Proof) -> Iterator[str]:
    yield from (f"✗ {fault}" for fault in proof.faults)
    age = readable_age(time.time() - proof.manifest.taken / 1000)
    if proof.faults:
        yield f"{backup} is damaged. Make a new one, and look at its disk."
    else:
        files = plural(proof.files, "file")
        yield f"✓ {backup}: {files}, {readable(proof.bytes)}, all as they were written {age} ago"


def readable_age(seconds: float) -> str:
    """Return a length of time as people say it."""
    for length, noun in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            return plural(int(seconds // length), noun)
    return plural(max(int(seconds), 0), "second")


@click.command("restore")
@click.argument("backup", type=click.Path(exists=True, path_type=Path))
@click.option("--replace", "may_replace", is_flag=True, help="Move aside what is in the home; objects stay.")
@shared
def restore_command(session: Session, backup: Path, may_replace: bool) -> int:
    """Make a node again in --home from BACKUP: the newest in that folder, or the one you name.

    The node must not run. Objects that are in the home stay and are used: put them there before, if you
    copied them by other means. What they, or the bucket, have that came after the backup is taken in: images,
    corrections, rejections, deletions. All else (devices, users) is as it was when the backup was made.

    Example: peerpacs restore /mnt/backup/alpha --home /var/lib/peerpacs
    """
    from node.backup import restore

    with _counting("restored", is_shown=not session.is_json and sys.stderr.isatty()) as show:
        done = restore(backup.resolve(), session.home, time.time(), may_replace=may_replace, on_copied=show)
    lines = [*_what_was_restored(done, session.home)]
    told: dict[str, Any] = {"backup": str(done.backup), "files": done.files, "segments": done.segments}
    told |= {"aside": str(done.aside) if done.aside else None, "altered": list(done.altered)}
    code = _catch_up(session, told, lines)
    code = code or (PARTIAL if done.altered else 0)
    lines += ["", f"Next:  peerpacs run --home {session.home}"]
    session.say({**told, **_told(done.manifest)}, lines)
    return code


def _what_was_restored(done: Restored, home: Path) -> Iterator[str]:
    age = readable_age(time.time() - done.manifest.taken / 1000)
    yield f"✓ node {done.manifest.name} is in {home} as it was {age} ago ({done.backup.name})"
    if done.segments:
        yield f"✓ {plural(done.segments, 'tar file')} of objects copied from the backup"
    yield from (f"✗ objects/{name} of the backup is gone or not what was written" for name in done.altered)
    if done.altered:
        yield f"  Find out which images are damaged:  peerpacs verify --home {home}"
    if done.aside:
        yield f"  what was there before lies in {done.aside}; delete it when you are sure"


def _catch_up(session: Session, told: dict[str, Any], lines: list[str]) -> int:
    """Open the node once, so that what came after the backup is taken in before it serves."""
    from catalog import PacsError
    from node.app import open_node
    from node.cli import who

    try:
        with open_node(session.home, purpose="peerpacs restore") as node:
            node.audit.record("restore", None, "ok", {"who": who(), "backup": told["backup"]})
            told["caught_up"] = [_taken_in(node, name, lines) for name in node.archives]
    except PacsError as error:
        told["caught_up"] = None
        told["problem"] = error.what
        lines += [
            f"! What came after the backup could not be taken in yet: {error.what}",
            f"  {error.next} The node does it before it serves anybody.",
        ]
        return PARTIAL
    return PARTIAL if any(each["missing"] for each in told["caught_up"]) else 0


def _taken_in(node: Node, name: str, lines: list[str]) -> dict[str, Any]:
    caught = node.archives[name].caught_up
    missing = sum(1 for row in node.archives[name].care.book)
    counts = {"instances": 0, "held": 0, "decisions": 0}
    if caught:
        counts = {key: getattr(caught.recovered, key) for key in counts}
    new, decisions = plural(counts["instances"], "instance"), plural(counts["decisions"], "decision")
    lines.append(f"✓ archive {name}: {new} and {counts['held']} held came later and are in; {decisions} read")
    if missing:
        lines.append(
            f"✗ archive {name}: {plural(missing, 'instance')} without whole bytes here, not sent to anybody "
            "(peerpacs verify --list). Put their tar files into its objects folder, or send them again."
        )
    return {"archive": name, **counts, "missing": missing}


@contextmanager
def _counting(what: str, *, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """Yield what adds to the bytes that are shown."""
    if not is_shown:
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

    columns = (SpinnerColumn(), DownloadColumn(), TextColumn(what), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda size: bar.advance(task, size)
