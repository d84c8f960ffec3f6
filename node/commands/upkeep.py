"""`peerpacs audit`, `bench` and `completion`: what keeps a node honest, and its user quick."""

from __future__ import annotations

import importlib
from typing import Any

import click

from node.cli import FAILED, Session, peerpacs, plural, shared


@click.group("audit")
@shared
def audit_command(session: Session) -> None:
    """Look after the record of who did what.

    Example: peerpacs audit verify
    """


@audit_command.command("verify")
@click.option("--anchor", default="", help="Hash that an earlier verify ended with; finds a cut end.")
@shared
def verify_audit(session: Session, anchor: str) -> int:
    """Check that nobody changed, removed or put in a line of the audit.

    Example: peerpacs audit verify --anchor 5c62e091...
    """
    from node.audit import START, verify
    from node.config import load_config

    load_config(session.home)
    found = verify(session.home / "audit", anchor or START)
    said = {"lines": found.lines, "last": found.last, "breaks": [each._asdict() for each in found.breaks]}
    lines = [f"✗ {each.file} line {each.line}: {each.why}" for each in found.breaks]
    if not lines:
        lines = [f"✓ {plural(found.lines, 'line')}, the chain holds. It ends with {found.last}"]
    session.say(said, lines)
    return FAILED if found.breaks else 0


@click.command("bench", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def bench_command(words: tuple[str, ...]) -> Any:
    """Measure any PACS, or a node of this machine beside Orthanc.

    With --target AE@host:port or --dicomweb URL, experiments are carried out against that system: fig8, fig9,
    fig10, table4, week, store, find, move, get, stow, wado, sync, replicate, curve. They store synthetic
    studies there, which stay. What each does, and all options: peerpacs bench fig8 --help

    Without, this program and Orthanc are set up on this machine and compared: peerpacs bench -- --help

    Example: peerpacs bench fig9 --target ORTHANC@pacs:4242 --dicomweb http://pacs:8042/dicom-web
    """
    # The simulator stands above the node, so it is found by name when it is wanted, never imported.
    bench = importlib.import_module("sim.bench")
    return bench.run(list(words))


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@shared
def completion_command(session: Session, shell: str) -> int:
    """Print what teaches a shell to complete peerpacs.

    Example: peerpacs completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(peerpacs, {}, "peerpacs", "_PEERPACS_COMPLETE").source())
    return 0
