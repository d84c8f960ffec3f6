"""`peerpacs bench EXPERIMENT... --target AE@host:port`: measures any PACS and writes what it found."""

from __future__ import annotations

import json
import platform
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from ..pdu import Address
from ..servers import StoreSCP
from ..targets import Target
from ..traffic import scenario
from .addressing import authorization, named, secured, trusting
from .catalogue import EXPERIMENTS, carry_out
from .comparison import partial, remarks
from .findings import said
from .outcome import Outcome, Plan, Say, figure
from .results import earlier, unlike, write

_PARTIAL: Final = 3
PAPERS: Final = ("fig8", "fig9", "fig10", "table4")
"""The experiments that are meant if none is named."""
OPTIONS: Final = ("--target", "--dicomweb", "--elsewhere", "--scenario", "--compare")
"""Options that only the experiments have."""


_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_MORE_THAN_0: Final = click.FloatRange(0, min_open=True)
_NAMES: Final = "\n".join(f"  {name:<10} {each.title}" for name, each in EXPERIMENTS.items())


@click.command(epilog=f"\b\nExperiments:\n{_NAMES}")
@click.argument("experiments", nargs=-1)
@click.option("--target", "targets", multiple=True, metavar="[NAME=]AE@HOST:PORT", help="A PACS to measure.")
@click.option("--dicomweb", "webs", multiple=True, metavar="[NAME=]URL", help="The root of its DICOMweb.")
@click.option("--token-file", type=_FILE, help="A bearer token for DICOMweb.")
@click.option("--password-file", type=_FILE, help="NAME:PASSWORD for DICOMweb with Basic authentication.")
@click.option("--ca-file", type=_FILE, help="Whom to trust at https, as PEM; else whom this machine trusts.")
@click.option(
    "--tls", "is_tls", is_flag=True, help="DICOM over TLS 1.2 or 1.3 (PS3.15 B.12), to all targets."
)
@click.option("--tls-ca", type=_FILE, help="Whom to trust then, as PEM: CAs, or the PACS's own certificate; "
              "else whom this machine trusts.")  # fmt: skip
@click.option("--tls-cert", type=_FILE, help="Our certificate, for a PACS that wants to know who calls.")
@click.option("--tls-key", type=_FILE, help="Its key, without a password, if it is in another file.")
@click.option(
    "--destination", metavar="AE@PORT",
    help="Where we receive what the target is told to C-MOVE: it must know this AE, with this machine and "
    "port. Otherwise studies are fetched by C-GET.",
)  # fmt: skip
@click.option("--destination-tls", is_flag=True, help="Receive it over TLS, with --tls-cert and --tls-key.")
@click.option("--elsewhere", "elsewheres", multiple=True, metavar="[NAME=]AE@HOST:PORT",
              help="Another site of the target, where sync and replicate look for what it took.")  # fmt: skip
@click.option("--calling", default="BENCHSCU", show_default=True, help="Our AE title.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same traffic.")
@click.option("--share", default=0.01, show_default=True, type=_MORE_THAN_0,
              help="Of the paper's size; fig10 stores 0.4 GB at 0.01, and 43 GB at 1.")  # fmt: skip
@click.option(
    "--scenario",
    "scenario_file",
    type=_FILE,
    help="The traffic of week: TOML.",
)
@click.option("--loaded", is_flag=True, help="The target has the studies of this seed and share already.")
@click.option(
    "--pause",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds between the passes of fig9.",
)
@click.option(
    "--loaders",
    default=4,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Associations that load at once.",
)
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    type=_MORE_THAN_0,
    help="Seconds of silence, or of next to nothing, that count as hanging.",
)
@click.option("--patience", default=30.0, show_default=True, help="Seconds of refusals till week ends.")
@click.option("--out", type=click.Path(path_type=Path), show_default="bench-DATE-TIME",
              default=lambda: time.strftime("bench-%Y%m%d-%H%M%S"), help="For the results.")  # fmt: skip
@click.option("--compare", multiple=True, type=_FILE,
              help="Add the results.json of an earlier run to the report.")  # fmt: skip
@click.option("--json", "is_json", is_flag=True, help="Print the results as JSON.")
def main(
    experiments: tuple[str, ...],
    targets: tuple[str, ...],
    webs: tuple[str, ...],
    elsewheres: tuple[str, ...],
    token_file: Path | None,
    password_file: Path | None,
    ca_file: Path | None,
    is_tls: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    destination: str | None,
    destination_tls: bool,
    calling: str,
    compare: tuple[Path, ...],
    out: Path,
    is_json: bool,
    timeout: float,
    loaders: int,
    scenario_file: Path | None,
    **planned: Any,
) -> None:
    """Measure any PACS that speaks DICOM or DICOMweb; exit 3 if something was not measured to its end.

    The target takes synthetic studies of invented patients, which stay there: try a PACS that treats nobody.
    Without a name, fig8, fig9, fig10 and table4 are carried out, the cloud PACS paper's experiments.

    Example: peerpacs bench fig8 fig9 --target ORTHANC@pacs:4242 --dicomweb http://pacs:8042/dicom-web
    """
    chosen = known(experiments or (("week",) if scenario_file else PAPERS))
    if not targets and not webs and not compare:
        raise click.UsageError("Name a target: --target AE@host:port, or --dicomweb URL, or both.")
    plan = Plan(scenario=str(scenario_file or ""), is_loaded=planned.pop("loaded"), **planned)
    if scenario_file:
        scenario.read(scenario_file).bursts()
    how: dict[str, Any] = {
        "authorization": authorization(token_file, password_file), "tls": trusting(ca_file),
        "secure": secured(is_tls, tls_ca, tls_cert, tls_key),
        "calling": calling, "timeout": timeout, "loaders": loaders,
    }  # fmt: skip
    if destination_tls and not tls_cert:
        raise click.UsageError("--destination-tls needs a certificate to show: --tls-cert and --tls-key.")
    own = (tls_cert, tls_key or tls_cert) if destination_tls and tls_cert else None
    progress = Console(stderr=True)
    found = named(targets, webs, elsewheres)
    outcomes = earlier(compare, [each.name for each in found])
    out.mkdir(parents=True, exist_ok=True)
    try:
        with _ended_by_signal(), receiving(destination, out, own) as receiver:
            for target in found:
                there = replace(target, destination=receiver.address if receiver else None, **how)
                measure(there, chosen, plan, progress, outcomes, receiver)
    except KeyboardInterrupt:
        progress.print("You ended it; the report tells what was measured until then.", style="yellow")
    facts = {"date": time.strftime("%Y-%m-%d %H:%M"), "seed": plan.seed, "share": plan.share,
             "machine of the bench": platform.platform(), "PeerPACS": version("peerpacs")}  # fmt: skip
    facts |= not_begun(found, chosen, outcomes) | unlike(compare, plan)
    write(out, outcomes, facts)
    if is_json:
        click.echo(json.dumps([each.as_json() for each in outcomes], indent=2))
    else:
        screen = Console() if sys.stdout.isatty() else Console(width=110)
        show(outcomes, screen)
        for sentence in remarks(facts):
            screen.print(sentence, style="yellow", highlight=False, markup=False)
        progress.print(f"Report, figures and pictures are in {out}.", highlight=False)
    sys.exit(_PARTIAL if any(each.stopped for each in outcomes) else 0)


def not_begun(found: Sequence[Target], names: Sequence[str], outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return, as a fact, which experiments were not begun with which targets; nothing if all were."""
    begun = {(each.target, each.experiment) for each in outcomes}
    left = {each.name: [name for name in names if (each.name, name) not in begun] for each in found}
    told = [f"{target}: {', '.join(of_it)}" for target, of_it in left.items() if of_it]
    return {"not begun": "; ".join(told)} if told else {}


def known(names: Sequence[str]) -> list[str]:
    """Return the names of experiments.

    Raises:
        UsageError: one is not known; the nearest is suggested.
    """
    for name in names:
        if name not in EXPERIMENTS:
            close = get_close_matches(name, EXPERIMENTS, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(EXPERIMENTS)}."
            raise click.UsageError(f"There is no experiment {name!r}. {hint}")
    return list(dict.fromkeys(names))


@contextmanager
def receiving(
    destination: str | None, out: Path, own: tuple[Path, Path] | None = None
) -> Iterator[StoreSCP | None]:
    """Run a receiver that keeps nothing, if one is wanted, with TLS if it has a certificate and key.

    Raises:
        ServerError: it does not start.
    """
    if not destination:
        yield None
        return
    try:
        address = Address.read(destination)
        socket.create_server(("", address.port)).close()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(
            f"We cannot receive at port {address.port}: {error.strerror}. Choose another for --destination."
        ) from None
    with ExitStack() as stack:
        receiver = StoreSCP(out / "receiver", address, own=own)
        stack.callback(receiver.remove)
        receiver.start()
        yield receiver


def measure(
    target: Target, names: Sequence[str], plan: Plan, progress: Console, found: list[Outcome],
    receiver: StoreSCP | None = None,
) -> None:  # fmt: skip
    """Carry out the experiments with one target, one after the other; those that fail tell why.

    Each outcome is in `found` from its beginning on. What `receiver` never saw was not moved to us.
    """
    for name in names:
        outcome = Outcome(name, target.name)
        found.append(outcome)
        with progress.status(f"{name}: {target.name}") as status:
            say = _Saying(progress, status.update)
            say(f"{name}: {target.name} begins", is_always=True)
            before = receiver.received() if receiver else 0
            carry_out(name, target, plan, say, outcome)
        if receiver and receiver.received() == before:
            _refuse_moves(outcome, receiver.address)
        words = (
            partial(outcome) if outcome.stopped else f"{name}: {target.name}, done in {outcome.seconds:.1f} s"
        )
        progress.print(words, style="yellow" if outcome.stopped else "dim", highlight=False, markup=False)


def _refuse_moves(outcome: Outcome, here: Address) -> None:
    """Take the figures from an outcome whose C-MOVEs were said to be done, when none came."""
    if outcome.way == "C-MOVE" and not outcome.stopped:
        outcome.summary.clear()
        outcome.stopped = (
            f"It said that all was moved to {here.ae_title}, and nothing came to us. See which machine and "
            f"port it knows of that AE title; we are at port {here.port}."
        )


class _Saying(Say):
    """On a terminal a line that changes; elsewhere a line now and then."""

    def __init__(self, console: Console, update: Any) -> None:
        self._console, self._update, self._last = console, update, 0.0

    def __call__(self, line: str, is_always: bool = False) -> None:
        self._update(line)
        now = time.monotonic()
        if not self._console.is_terminal and (is_always or now - self._last > 10):
            self._last = now
            self._console.print(line, style="dim", highlight=False, markup=False)


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print a table for each experiment: its summary, a column for each target."""
    for name in dict.fromkeys(each.experiment for each in outcomes):
        of_it = [each for each in outcomes if each.experiment == name]
        console.print(f"\n{EXPERIMENTS[name].title}", style="bold", highlight=False)
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for each in of_it:
            table.add_column(f"{each.target} ({each.way})" if each.way else each.target, justify="right")
        for row in dict.fromkeys(key for each in of_it for key in each.summary):
            table.add_row(row, *(figure(each.summary[row]) if row in each.summary else "" for each in of_it))
        console.print(table)
        for sentence in said(of_it):
            console.print(sentence, highlight=False, markup=False)
        for each in of_it:
            if each.stopped:
                console.print(partial(each), style="yellow", highlight=False, markup=False)
            for note in each.notes:
                console.print(f"{each.target}: {note}", highlight=False, markup=False)


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Have SIGTERM, as of `timeout`, end a run as Ctrl-C does: with a report."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
