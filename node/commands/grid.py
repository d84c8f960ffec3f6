"""`peerpacs invite`, `join`, `approve`, `peers`, `revoke`: this node among the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from node.cli import FAILED, PARTIAL, Session, by_default, columns, plural, shared, who

_UNITS: Final = {"m": 60, "h": 3600, "d": 86400}
_MARKS: Final = {"good": "✓", "warning": "!", "failure": "✗"}
_LOOK_EVERY: Final = 2.0
Ask = Callable[..., Any]


def _seconds(context: click.Context, parameter: click.Parameter, text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdigit():
        raise click.BadParameter("Write it like 30m, 24h or 7d.")
    return float(int(number) * _UNITS[unit])


@click.command("invite")
@click.option("--site", required=True, help="Hospital or campus of the node that is to join.")
@click.option("--ttl", default="24h", callback=_seconds, help="How long it counts, like 30m, 24h or 7d.")
@click.option(
    "--template",
    default="peer",
    show_default=True,
    help="What approval grants here: none, peer (list, query, retrieve), replica-peer (keep copies too).",
)
@click.option("--replace", default="", metavar="NODE-ID", help="The node whose place the joiner takes.")
@click.option("--address", default="", metavar="HOST:PORT", help="Where the joiner reaches this node.")
@click.option("--grid", "name", default="", help="Name of the grid, when this invitation founds it.")
@shared
def invite_command(session: Session, **said: Any) -> int:
    """Make a ticket with which one node may ask to join; the first one founds the grid.

    Example: peerpacs invite --site HOSP-B
    """
    with session.desk("invite") as ask:
        made = ask("invite", who=who(), **said)
    lines = (
        [f"✓ This node founded the grid {made['grid']!r}, id {made['grid_id']}."]
        if made["is_new_grid"]
        else []
    )
    hours = made["ttl"] / 3600
    lines += [
        f"Ticket for one node of {made['site']}, once, within {hours:.0f} hours. It is not shown again:",
        f"  {made['ticket']}",
        "There: peerpacs join TICKET",
        session.pasteable("Then compare the words on the phone, and here: peerpacs approve"),
    ]
    session.say(made, lines)
    return 0


@click.command("join")
@click.argument("ticket", required=False, default="")
@click.argument("token", required=False, default="")
@click.option("--no-wait", is_flag=True, help="Ask, and do not wait for the answer; look again with: join")
@click.option("--at", default="", metavar="HOST:PORT", help="Come back by this authority's joining port.")
@shared
def join_command(session: Session, ticket: str, token: str, no_wait: bool, at: str) -> int:
    """Ask to join a grid with a ticket from one of its admins; without one, look how the request stands.

    A node whose certificate ended while it was off asks to come back so, without a ticket for 14 days.

    Example: peerpacs join pp1-praha.example:7444-h3vd9...
    """
    text = f"pp1-{ticket}-{token.rpartition('-')[2]}" if token else ticket
    with session.desk("join") as ask:
        asked = ask("join", ticket=text, at=at, who=who())
        lines = (
            f"This is the grid {asked['grid']!r} at {asked['site']}, id {asked['grid_id']}.",
            f"Words to compare on the phone:  {' '.join(asked['words'])}",
            f"Asked to join. Somebody at {asked['site']} decides about it.",
        )
        if not session.is_json:
            for line in lines:
                click.echo(line)
        is_in = ask("joined", who=who())
        while not is_in and not no_wait:
            time.sleep(_LOOK_EVERY)
            is_in = ask("joined", who=who())
        is_news = is_in and ask("book")["differences"]
    said = f"✓ {asked['site']} accepted." if is_in else "It waits for approval. Look again: peerpacs join"
    lines_said = [said, "It publishes devices and settings. See: peerpacs book diff"] if is_news else [said]
    session.say({**asked, "is_member": is_in}, map(session.pasteable, lines_said))
    return 0 if is_in else PARTIAL


@click.command("approve")
@click.argument("request", required=False, default="")
@click.option("--deny", is_flag=True, help="Refuse it instead.")
@click.option("--reason", default="", help="What the other side is told, when it is refused.")
@shared
def approve_command(session: Session, request: str, deny: bool, reason: str) -> int:
    """Take a node into the grid after its words were compared on the phone; without a request, list them.

    Example: peerpacs approve 3fa8
    """
    with session.desk("approve") as ask:
        if not request:
            waiting = ask("requests")
            session.say(waiting, _waiting(waiting))
            return 0
        verb = "deny" if deny else "approve"
        more = {"reason": reason} if deny else {}
        row = ask(verb, request=request, who=who(), **more)
    done = "was refused" if deny else "is in the grid"
    session.say(row, [f"✓ {row['name']} of {row['site']} {done}."])
    return 0


def _waiting(requests: list[dict[str, Any]]) -> Iterator[str]:
    if not requests:
        yield "Nobody waits."
    for row in requests:
        asks = (
            "comes back"
            if row["is_return"]
            else "takes the place of an old node"
            if row["replace"]
            else "joins"
        )
        yield f"{row['request']}  {row['name']} of {row['site']} {asks}, id {row['node_id']}"
        yield f"  words: {' '.join(row['words'])}"
        yield f"  Only if the other admin reads out the same: peerpacs approve {row['request'][:6]}"


class _Peers(click.Group):
    """Takes a word that is no command as the name of a peer."""

    def resolve_command(
        self, context: click.Context, words: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or have the peer shown."""
        if words and words[0] not in self.commands and not words[0].startswith("-"):
            words = ["show", *words]
        return super().resolve_command(context, words)


@click.group("peers", cls=_Peers, invoke_without_command=True)
@shared
def peers_command(session: Session) -> None:
    """Show the other nodes of the grid, how they are reached, and what they may do here.

    Example: peerpacs peers olomouc
    """
    by_default(list_peers)


@peers_command.command("list")
@shared
def list_peers(session: Session) -> int:
    """Show the other nodes of the grid.

    Example: peerpacs peers list
    """
    with session.desk("peers") as ask:
        found = {**ask("peers"), "conflicts": ask("grid_conflicts")}
    session.say(found, _peers(found))
    cut = [row for row in found["peers"] if row["state"] == "disconnected"]
    return FAILED if cut and len(cut) == len(found["peers"]) else PARTIAL if cut else 0


@peers_command.command("show")
@click.argument("peer")
@shared
def show_peer(session: Session, peer: str) -> int:
    """Look one node over: its addresses, session, certificate, clock, catalogs, and what each may do.

    Example: peerpacs peers show olomouc
    """
    with session.desk("peers") as ask:
        found = ask("peer", peer=peer)
    titles = ", ".join(found["ae_titles"]) or "no AE title"
    lines = [f"{found['name']} of {found['site']}, {titles}, id {found['node_id']}, is {found['state']}."]
    for each in found["lines"]:
        can = f" {each['next']}" if each["next"] else ""
        lines.append(f"{_MARKS[each['mark']]} {each['what']}{can}")
    session.say(found, map(session.pasteable, lines))
    wrong = {each["mark"] for each in found["lines"]} - {"good"}
    return FAILED if "failure" in wrong else PARTIAL if wrong else 0


@peers_command.command("address")
@click.argument("peer")
@click.argument("addresses", nargs=-1)
@shared
def peer_address(session: Session, peer: str, addresses: tuple[str, ...]) -> int:
    """Say where to reach a node, before what it says itself; without an address, forget what was said.

    Example: peerpacs peers address olomouc pacs.olomouc.example:7443
    """
    with session.desk("peers") as ask:
        row = ask("peer_address", peer=peer, addresses=list(addresses), who=who())
    session.say(row, [f"✓ {row['name']} is tried at {', '.join(row['addresses']) or 'no address'}."])
    return 0


def _peers(found: dict[str, Any]) -> Iterator[str]:
    role = ", an authority of it" if found["is_authority"] else ""
    yield f"This node is {found['site']} in the grid {found['grid']!r}, id {found['grid_id']}{role}."
    yield f"Its certificate counts for {found['certificate_days']:.0f} more days, and renews itself."
    rows = found["peers"]
    if not rows:
        yield "No other node is known yet. Invite one: peerpacs invite --site NAME"
        return
    titles = ("NAME", "SITE", "STATE", "BEHIND IT", "BEHIND US", "REACHED AT", "MAY HERE", "ID")
    yield from columns((_peer(row) for row in rows), titles)
    yield from _conflicts(found)
    for row in rows:
        if row["why"]:
            yield f"{row['name']}: {row['why']} {row['next']}".rstrip()
        if held := sum(lag["held"] for lag in row["lag"]):
            yield (
                f"{row['name']}: {plural(held, 'study')} would vanish from what it states, and stay for now. "
                f"If they are really gone: peerpacs peers allow {row['name']}"
            )
        if row["skew"] is not None and abs(row["skew"]) > 300:
            yield f"{row['name']}: its clock is {row['skew']:+.0f} s off this node's."


def _conflicts(found: dict[str, Any]) -> Iterator[str]:
    names = {row["node_id"]: row["name"] for row in found["peers"]} | {"": "this node"}
    for each in found["conflicts"]:
        others = ", ".join(names.get(node_id, node_id) for node_id in each["nodes"])
        if each["instances"]:
            what = f"of {len(each['instances'])} instances, other bytes are kept by {others}."
        else:
            what = f"another patient is stated under this UID by {others}."
        yield f"Study {each['StudyInstanceUID']}: {what}"


def _peer(row: dict[str, Any]) -> tuple[object, ...]:
    through = [f"through {address}" for address in row["relays"]]
    where = through if row["is_dial_only"] else row["addresses"]
    return (
        row["name"],
        row["site"],
        row["state"],
        _behind(row["lag"]),
        _behind(row["their_lag"]),
        ", ".join(where) or "-",
        _may(row["may"]),
        row["node_id"],
    )


def _may(words: list[str]) -> str:
    """Return rights with those together that are on the same share, under the same conditions."""
    shares: dict[str, list[str]] = {}
    for op, on in (each.split(" on ", 1) for each in words):
        shares.setdefault(on, []).append(op)
    return "; ".join(f"{', '.join(ops)} on {on}" for on, ops in shares.items()) or "nothing"


def _behind(lags: list[dict[str, Any]]) -> str:
    """Return how far somebody is behind a catalog: changes, and seconds since it had all."""
    if not lags:
        return "-"
    changes = sum(lag["behind"] for lag in lags)
    known = [lag["seconds"] for lag in lags]
    if None in known:
        return f"{changes}, never level"
    return f"{changes}, {max(known):.0f} s"


@peers_command.command("allow")
@click.argument("peer")
@shared
def peer_allow(session: Session, peer: str) -> int:
    """Let studies vanish that a node states no more: so many at once wait for a person's word.

    Example: peerpacs peers allow olomouc
    """
    with session.desk("peers") as ask:
        done = ask("peer_allow", peer=peer, who=who())
    session.say(done, [f"✓ {plural(done['studies'], 'study')} may vanish from what {peer} states."])
    return 0


@click.command("revoke")
@click.argument("peer")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
def revoke_command(session: Session, peer: str, yes: bool) -> int:
    """Expel a node from the grid: its connections end everywhere within seconds.

    What it has copied already stays with it. Revoke also what is lost for good: no receipt of it is
    waited for any more, and others are given at once what it kept.

    Example: peerpacs revoke olomouc
    """
    if not yes and not session.is_json:
        click.confirm(f"Expel {peer} from the grid?", abort=True)
    with session.desk("revoke") as ask:
        row = ask("revoke", peer=peer, who=who())
    lines = [
        f"✓ {row['name']} of {row['site']} is expelled.",
        f"To let it come back: peerpacs invite --site {row['site']} --replace {row['node_id']}",
    ]
    session.say(row, lines)
    return 0
