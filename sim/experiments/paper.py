"""`python -m sim.experiments.paper`: the paper's experiments on us, Orthanc and dcmqrscp.

Each experiment has fresh servers, which take turns; medians go into a chapter of docs/benchmark.md.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import click
from rich.console import Console

from ..bench import facts
from ..filling import grow
from ..pdu import Address
from ..ports import free_port
from ..runner import FAILURES
from ..servers import Orthanc, PeerPACS, Server, StoreSCP, dcmtk_program, settle
from ..targets import Target
from ..web import WebOrthanc, WebPeerPACS, web_port
from . import chapter
from .catalogue import carry_out
from .command import known
from .comparison import partial as not_complete
from .curve import Curve
from .outcome import Outcome, Plan

SIZES: Final = {"fig8": 0.07, "fig9": 0.25, "fig10": 0.05, "table4": 1 / 32}
"""Experiment → share of the paper's size that two cores and twenty minutes allow."""
_GROWING: Final[Mapping[type[Server], float]] = {PeerPACS: 1.0, Orthanc: 0.1}
"""Who is asked while the archive grows, and up to how much of a million series."""


class DcmQRSCP(Server):
    """DCMTK's archive: files in a folder, an index file, a process for each association."""

    name = "dcmqrscp"
    _MOST_STUDIES: Final = 500
    """DCMTK's own limit for a storage area; older studies would be deleted."""

    def __init__(self, folder: Path, destination: Address) -> None:
        super().__init__(folder, "DCMQRSCP")
        (folder / "storage").mkdir()
        (folder / "dcmqrscp.cfg").write_text(
            f"NetworkTCPPort = {self.address.port}\n"
            "MaxPDUSize = 65536\nMaxAssociations = 64\n"
            f"HostTable BEGIN\nsink = ({destination.ae_title}, 127.0.0.1, {destination.port})\n"
            "HostTable END\n"
            "VendorTable BEGIN\nVendorTable END\nAETable BEGIN\n"
            f"DCMQRSCP {folder / 'storage'} RW ({self._MOST_STUDIES}, 1024mb) ANY\nAETable END\n"
        )

    def command(self) -> list[str]:
        return [dcmtk_program("dcmqrscp"), "-c", str(self.folder / "dcmqrscp.cfg")]


_CONTESTANTS: Final[Sequence[Callable[[Path, Address], Server]]] = (WebPeerPACS, WebOrthanc, DcmQRSCP)


def target_of(server: Server, destination: Address) -> Target:
    """Return the server as the experiments see it: an AE title, a URL, and where it may C-MOVE to."""
    has_web = isinstance(server, WebPeerPACS | WebOrthanc)
    web = f"http://127.0.0.1:{web_port(server)}/dicom-web" if has_web else ""
    # dcmqrscp loses or refuses instances when several associations store at once, so it is loaded by one.
    loaders = 1 if isinstance(server, DcmQRSCP) else 4
    return Target(name=server.name, address=server.address, web=web, destination=destination, loaders=loaders)


def measure(name: str, plan: Plan, runs: int, until: float, storage: Path, console: Console) -> list[Outcome]:
    """Carry out one experiment on every contestant, in turns; return one outcome each, of medians.

    The first run is always made, further ones while they end before `until` (of the monotonic clock). Whoever
    fails is told of in its outcome, and the others go on. Raises `FAILURES` if nothing can receive.
    """
    destination = Address("STORESCP", free_port())
    folder = Path(tempfile.mkdtemp(dir=storage))
    found: dict[str, list[Outcome]] = {}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        sink = StoreSCP(folder / "sink", destination)
        stack.callback(_stop, sink, console)
        sink.start()
        servers: list[Server] = []
        for number, make in enumerate(_CONTESTANTS):
            server = make(folder / str(number), destination)
            stack.callback(_stop, server, console)
            of_server = found.setdefault(server.name, [])
            try:
                server.start()
                servers.append(server)
            except FAILURES as error:
                of_server.append(Outcome(name, server.name, stopped=f"It did not start. {error}"))
        made = _in_turns(name, plan, runs, until, sink, servers, found, console)
    outcomes = [_medians(of_server) for of_server in found.values()]
    for each in outcomes if made < runs else ():
        each.notes.append(f"{made} of {runs} runs; for more there was no time.")
    return outcomes


def _in_turns(
    name: str, plan: Plan, runs: int, until: float, sink: StoreSCP, servers: Sequence[Server],
    found: dict[str, list[Outcome]], console: Console,
) -> int:  # fmt: skip
    """Have the servers take turns, as often as there is time; return how often."""
    longest = 0.0
    for run in range(runs):
        began = time.monotonic()
        if run and began + longest > until:
            return run
        for server in servers:
            settle([sink, *servers])
            before = found[server.name]
            planned = replace(plan, is_loaded=any(not each.stopped for each in before))
            outcome = carry_out(name, target_of(server, sink.address), planned, lambda line: None)
            words = not_complete(outcome) if outcome.stopped else f"done in {outcome.seconds:.1f} s"
            console.print(f"{name}: run {run + 1} of {runs}, {server.name}: {words}", highlight=False)
            before.append(outcome)
        longest = max(longest, time.monotonic() - began)
    return runs


def _stop(server: Server, console: Console) -> None:
    """Stop a server; one that ends badly does not take with it what was measured."""
    try:
        server.stop()
    except FAILURES as error:
        console.print(f"{server.name} did not end well. {error}", style="yellow", markup=False)


def growing(plan: Plan, scale: float, storage: Path, console: Console) -> list[Outcome]:
    """Carry out `curve`: our node's catalog is filled, Orthanc stores all that it is asked for."""
    found = []
    for make, share in _GROWING.items():
        folder = Path(tempfile.mkdtemp(dir=storage))
        server = make(folder / "server", Address("STORESCP", free_port()))  # type: ignore[arg-type]
        experiment = Curve(partial(grow, server) if isinstance(server, PeerPACS) else None)
        try:
            server.start()
            target = Target(name=server.name, address=server.address)
            say = partial(console.print, highlight=False)
            found.append(carry_out(experiment, target, replace(plan, share=share * scale), say))
        except FAILURES as error:
            found.append(Outcome("curve", server.name, stopped=f"It did not start. {error}"))
        finally:
            _stop(server, console)
            shutil.rmtree(folder)
        console.print(f"curve: {server.name}: {found[-1].seconds:.0f} s. {found[-1].stopped}")
    return found


def _each(
    names: Sequence[str], seed: int, scale: float, runs: int, minutes: float, storage: Path,
    console: Console, outcomes: list[Outcome],
) -> list[str]:  # fmt: skip
    """Carry out the experiments one after the other; return which were not, and why."""
    began, failures = time.monotonic(), list[str]()
    for place, name in enumerate(names, start=1):
        plan = Plan(seed=seed, share=SIZES.get(name, 1.0) * scale, pause=2.0)
        until = began + 60 * minutes * place / len(names)
        try:
            if name == "curve":
                outcomes += growing(plan, scale, storage, console)
            else:
                outcomes += measure(name, plan, runs, until, storage, console)
        except FAILURES as error:
            failures.append(f"{name} ({error})")
        except KeyboardInterrupt:
            return [*failures, f"{name} and what comes after it (ended by hand)"]
    return failures


def _medians(runs: Sequence[Outcome]) -> Outcome:
    whole = [each for each in runs if not each.stopped]
    if not whole:
        return runs[0]
    made = whole[-1]
    made.summary = {
        row: median(each.summary[row] for each in whole if row in each.summary) for row in made.summary
    }
    if len(whole) < len(runs):
        made.notes += [not_complete(each) for each in runs if each.stopped]
    return made


@click.command()
@click.option("--runs", default=3, show_default=True, help="Runs of each experiment.")
@click.option("--scale", default=1.0, show_default=True, help="Of the sizes that fit two cores.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same studies.")
@click.option(
    "--only", default="", help="Only these experiments, separated by commas; curve is never meant else."
)
@click.option("--storage", type=click.Path(path_type=Path), default=".cache/bench", show_default=True,
              help="Folder on the disk to measure.")  # fmt: skip
@click.option("--minutes", default=18.0, show_default=True,
              help="After so many, no further run of an experiment begins.")  # fmt: skip
@click.option("--page", type=click.Path(path_type=Path), default="docs/benchmark.md", show_default=True,
              help="The page whose chapter is written anew; pictures and JSON go beside it.")  # fmt: skip
@click.option("--remark", default="", help="A sentence for the page, for example that the machine was busy.")
def main(
    runs: int, scale: float, seed: int, only: str, storage: Path, minutes: float, page: Path, remark: str
) -> None:
    """Measure the paper's experiments on three servers; exit 3 if one of them was not measured to its end."""
    names = known(only.split(",")) if only else list(SIZES)
    storage.mkdir(parents=True, exist_ok=True)
    storage = storage.resolve()
    console = Console(stderr=True)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    try:
        told = facts((), storage)
    except FAILURES as error:
        raise click.ClickException(str(error)) from None
    failures = _each(names, seed, scale, runs, minutes, storage, console, outcomes)
    told |= {"runs": runs, "scale": scale, "minutes": f"{(time.monotonic() - began) / 60:.1f}"}
    told["storage"] = str(told["storage"]).rpartition(" on ")[2]
    told |= {"remark": remark} if remark else {}
    told |= {"not measured": "; ".join(failures)} if failures else {}
    chapter.write(page, outcomes, told, {name: SIZES[name] * scale for name in SIZES})
    sys.exit(3 if failures or any(each.stopped for each in outcomes) else 0)


if __name__ == "__main__":
    main()
