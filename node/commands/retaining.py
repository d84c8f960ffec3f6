"""`peerpacs retention`: how long studies are kept, what would go, and whether the clock is believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from node.cli import Session, by_default, columns, plural, shared, who


@click.group("retention", invoke_without_command=True)
@shared
def retention_command(session: Session) -> None:
    """Show and change how long studies are kept. Nothing goes without a rule, or under a legal hold.

    Example: peerpacs retention add ten-years --years 10
    """
    by_default(list_rules)


@retention_command.command("list")
@shared
def list_rules(session: Session) -> int:
    """List the rules.

    Example: peerpacs retention list
    """
    with session.desk("retention") as ask:
        told = ask("retention")
    session.say(told, _rules(told))
    return 0


def _rules(told: dict[str, Any]) -> Iterator[str]:
    rows = [
        (
            rule["name"],
            "some" if rule["match"] else "all",
            f"{rule['years']:g} years after {rule['basis']}",
            f"{rule['until_age']:g} years" if rule["until_age"] else "-",
            "yes" if rule["is_active"] else "no",
        )
        for rule in told["rules"]
    ]
    if rows:
        yield from columns(rows, ("NAME", "STUDIES", "KEPT", "UNTIL AGE", "ACTIVE"))
    else:
        yield "No rule: every study is kept. Begin with: peerpacs retention add --help"
    if told["clock"]:
        yield f"! Nothing is deleted: {told['clock']} If the clock is right: peerpacs retention clock"


@retention_command.command("add")
@click.argument("name")
@click.argument("keys", nargs=-1)
@click.option("--years", type=float, required=True, help="How long they are kept at least.")
@click.option(
    "--from",
    "basis",
    type=click.Choice(["study", "access"]),
    default="study",
    show_default=True,
    help="From the study's date, or from when it was last fetched from this node.",
)
@click.option("--until-age", type=float, default=0.0, help="And until the patient is so many years old.")
@shared
def add(session: Session, name: str, keys: tuple[str, ...], **said: Any) -> int:
    """Make a rule for the studies that match all keys, or for all; it lets nothing go before it is activated.

    One of the same name is replaced, and works again once it is activated. Of several rules that match a
    study the longest counts, activated or not.

    Example: peerpacs retention add children 'PatientBirthDate=20080101-' --years 10 --until-age 28
    """
    with session.desk("retention") as ask:
        ask("put_retention", name=name, keys=list(keys), who=who(), **said)
        plan = ask("retention_plan", name=name)
    lines = [
        *_plan(plan),
        session.pasteable(f"It lets nothing go yet. To let it: peerpacs retention activate {name}"),
    ]
    session.say(plan, lines)
    return 0


@retention_command.command("plan")
@click.argument("name", default="")
@shared
def plan_command(session: Session, name: str) -> int:
    """Say what would go now by the active rules, and by NAME if it were active; nothing is done.

    Example: peerpacs retention plan children
    """
    with session.desk("retention") as ask:
        plan = ask("retention_plan", name=name)
    session.say(plan, _plan(plan))
    return 0


def _plan(plan: dict[str, Any]) -> Iterator[str]:
    for name, row in plan["rules"].items():
        besides = [f"{row['held']} kept by a legal hold"] if row["held"] else []
        besides += [f"{row['undated']} kept because a date is not known"] if row["undated"] else []
        yield ", ".join([f"{name}: {plural(row['due'], 'study')} would go", *besides])
        yield from (f"  {each['StudyInstanceUID']}  since {each['until']}" for each in row["examples"])
        if (more := row["due"] - len(row["examples"])) > 0:
            yield f"  and {more} more"
    if plan["clock"]:
        yield f"! Nothing is deleted: {plan['clock']} If the clock is right: peerpacs retention clock"
    yield f"Today at most {max(plan['left_today'], 0)} more may go."


@retention_command.command("activate")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
def activate(session: Session, name: str, yes: bool) -> int:
    """Let a rule work: what is due is deleted from now on, a part of it each day.

    Example: peerpacs retention activate ten-years
    """
    with session.desk("retention") as ask:
        plan = ask("retention_plan", name=name)
        if not yes:
            for line in _plan(plan):
                click.echo(line, err=True)
            click.confirm(f"Let {name} work?", abort=True, err=True)
        told = ask("activate_retention", name=name, who=who())
    session.say(told, [f"✓ {name} works from now on."])
    return 0


@retention_command.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
def remove(session: Session, name: str, yes: bool) -> int:
    """Remove a rule: what only it would let go is kept, and what only it kept goes by the other rules.

    Example: peerpacs retention remove ten-years
    """
    with session.desk("retention") as ask:
        plan = ask("retention_plan", without=name)
        if plan["rules"] and not yes:
            click.echo(f"Without {name}:", err=True)
            for line in _plan(plan):
                click.echo(line, err=True)
            click.confirm(f"Remove {name}?", abort=True, err=True)
        ask("remove_retention", name=name, who=who())
    session.say({"removed": name}, [f"✓ The rule {name} is gone."])
    return 0


@retention_command.command("clock")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
def clock(session: Session, yes: bool) -> int:
    """Say that this machine's clock is right, though it was doubted.

    Example: peerpacs retention clock
    """
    with session.desk("retention") as ask:
        told = ask("retention")
        if told["clock"] and not yes:
            click.confirm(f"{told['clock']} Is it right all the same?", abort=True, err=True)
        ask("believe_clock", who=who())
    session.say({"clock": "believed"}, ["✓ The clock is believed."])
    return 0
