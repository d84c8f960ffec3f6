"""`peerpacs conformance`: what the node is and does, as documents for those who connect to it."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli import Session, shared


@click.command("conformance")
@click.option("--write", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write it to a file.")
@shared
def conformance_command(session: Session, file: Path | None) -> int:
    """Print the DICOM Conformance Statement. With --home it is that of this one node.

    Example: peerpacs conformance --home /var/lib/peerpacs --write CONFORMANCE.md
    """
    from node.config import load_config
    from node.conformance import any_node, statement

    text = statement(load_config(session.home) if session.named_home else any_node())
    if file is not None:
        file.write_text(text, encoding="utf-8")
    said = {"statement": text, "file": str(file) if file else None}
    session.say(said, [f"✓ {file}"] if file else text.splitlines())
    return 0
