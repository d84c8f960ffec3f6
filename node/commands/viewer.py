"""`peerpacs viewer`: OHIF as an optional extra, from its npm package, without the internet too."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli import Session, shared


@click.group("viewer")
@shared
def viewer_command(session: Session) -> None:
    """Install the OHIF viewer beside the quick look, or remove it.

    Example: peerpacs viewer install
    """


@viewer_command.command("install")
@click.argument("package", required=False, type=click.Path(path_type=Path))
@shared
def install_viewer(session: Session, package: Path | None) -> int:
    """Install OHIF from PACKAGE, the npm tarball, or from the npm registry; its SHA-512 is checked.

    Example: peerpacs viewer install ohif-app-3.13.2.tgz --home /var/lib/peerpacs
    """
    from node.viewer import VERSION, install

    def tell(done: int, total: int) -> None:
        if not session.is_json:
            click.echo(f"\r{done / 1e6:.0f} of {total / 1e6:.0f} MB", nl=done == total, err=True)

    size = install(session.home, package, tell)
    lines = [f"✓ OHIF {VERSION} is installed ({size / 1e6:.0f} MB). Study pages have a button for it now."]
    lines.append("  It is investigational: not for diagnosis.")
    session.say({"version": VERSION, "bytes": size}, lines)
    return 0


@viewer_command.command("remove")
@shared
def remove_viewer(session: Session) -> int:
    """Remove OHIF. The quick look stays.

    Example: peerpacs viewer remove
    """
    from node.viewer import remove

    was_there = remove(session.home)
    session.say({"removed": was_there}, ["✓ OHIF was removed." if was_there else "There was none."])
    return 0
