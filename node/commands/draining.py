"""`peerpacs drain`: the node finishes what is under way and takes nothing new, before it is stopped."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from node.cli import PARTIAL, Session, plural, shared, who

_LOOK_EVERY: Final = 0.5


@click.command("drain")
@click.option("--off", is_flag=True, help="Take work again.")
@click.option(
    "--wait", "seconds", type=float, default=600.0, show_default=True, help="Longest wait, seconds."
)
@shared
def drain_command(session: Session, off: bool, seconds: float) -> int:
    """Take no new work and wait until what is under way is finished. Exit 0 when it is.

    Devices are told to come again (A-ASSOCIATE-RJ, transient), the web answers 503, /readyz fails, and what
    is to be sent, or moved in, waits on disk. What somebody at another site waits for is finished too. A node
    that is started takes work again.

    Example: peerpacs drain --wait 300 && systemctl restart peerpacs
    """
    from catalog import Unavailable
    from node.control import is_running

    if not is_running(session.home):
        raise Unavailable("This node does not run, so there is nothing to finish.", "peerpacs run")
    with session.desk("drain") as ask:
        found: dict[str, Any] = ask("drain", who=who(), is_wanted=not off)
        until = time.monotonic() + seconds
        while not off and any(found["under_way"].values()) and time.monotonic() < until:
            time.sleep(_LOOK_EVERY)
            found = ask("drain")
    left = ", ".join(plural(count, noun) for noun, count in found["under_way"].items() if count)
    if off:
        session.say(found, ["✓ The node takes work again."])
        return 0
    if left:
        session.say(found, [f"It takes nothing new, and still under way: {left}.", "See: peerpacs status"])
        return PARTIAL
    session.say(found, ["✓ Nothing is under way, and nothing new is taken. It can be stopped."])
    return 0
