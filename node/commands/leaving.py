"""`peerpacs leave`: this node goes out of the grid, and the others drop what they have of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from node.cli import PARTIAL, Session, plural, readable, shared, who


@click.command("leave")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Although objects here are damaged.")
@shared
def leave_command(session: Session, yes: bool, force: bool) -> int:
    """Leave the grid: every other node drops what it has of this one and signs a receipt for it.

    All that this node holds stays here. What it keeps for others is dropped; their owners copy it elsewhere.

    Example: peerpacs leave
    """
    if not yes and not session.is_json:
        click.confirm("Leave the grid? The others drop their copies of what this node holds.", abort=True)
    with session.desk("leave") as ask:
        done = ask("leave_grid", who=who(), is_forced=force)
    session.say(done, _lines(done))
    return PARTIAL if done["owing"] else 0


def _lines(done: dict[str, Any]) -> Iterator[str]:
    for each in done["receipts"]:
        yield f"✓ {each['name']} of {each['site']} dropped {_what(each)}."
    for each in done["owing"]:
        late = f"owes its receipt, and drops all when it is back: {each['why']}"
        yield f"! {each['name']} of {each['site']} {late}"
    own = _what(done["dropped_here"])
    yield f"✓ This node left the grid {done['grid']!r}, and dropped {own} of the others."
    yield f"  The receipts are in {done['file']}"


def _what(each: dict[str, Any]) -> str:
    copies = f"{plural(each['copies'], 'copy').replace('copys', 'copies')} ({readable(each['copy_bytes'])})"
    fetched = plural(each["cached"], "fetched object")
    return f"the catalog of {plural(each['studies'], 'study')}, {copies}, {fetched}"
