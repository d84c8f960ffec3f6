"""`python -m sim.experiments.paper`: the paper's experiments on us, Orthanc and dcmqrscp.

Each experiment has fresh servers, which take turns; medians go into a page beside the paper's figures.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
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
from .catalogue import EXPERIMENTS, carry_out
from .comparison import partial as not_complete
from .curve import Curve
from .figures import draw
from .outcome import Outcome, Plan, figure

SIZES: Final = {"fig8": 0.07, "fig9": 0.25, "fig10": 0.03, "table4": 1 / 32}
"""Experiment → share of the paper's size that two cores and twenty minutes allow."""
_GROWING: Final[Mapping[type[Server], float]] = {PeerPACS: 1.0, Orthanc: 0.1}
"""Who is asked while the archive grows, and up to how much of a million series."""

PAPERS_OWN: Final[dict[str, dict[str, str]]] = {
    "fig8": {"mean, s": "0.099", "standard deviation, s": "0.02", "slowest, s": "about 0.2"},
    "fig9": {"second pass is shorter by, %": "15"},
    "fig10": {"all instances of a series, mean s": "0.105 (Dcm4chee: 0.104)"},
    "table4": {
        "4 threads, median Mbps": "87-126",
        "8 threads, median Mbps": "181-293",
        "16 threads, median Mbps": "284-449",
    },
}
"""Experiment → row → what the paper measured, on hardware of its own (AWS, 2022)."""


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


def measure(name: str, plan: Plan, runs: int, storage: Path, console: Console) -> list[Outcome]:
    """Carry out one experiment on every contestant, in turns; return one outcome each, of medians."""
    destination = Address("STORESCP", free_port())
    folder = Path(tempfile.mkdtemp(dir=storage))
    servers: list[Server] = [StoreSCP(folder / "sink", destination)]
    found: dict[str, list[Outcome]] = {}
    try:
        servers[0].start()
        for number, make in enumerate(_CONTESTANTS):
            servers.append(make(folder / str(number), destination))
            servers[-1].start()
        for run in range(runs):
            for server in servers[1:]:
                settle(servers)
                target = target_of(server, destination)
                outcome = carry_out(name, target, replace(plan, is_loaded=run > 0), lambda line: None)
                words = not_complete(outcome) if outcome.stopped else f"done in {outcome.seconds:.1f} s"
                console.print(f"{name}: run {run + 1} of {runs}, {server.name}: {words}", highlight=False)
                found.setdefault(server.name, []).append(outcome)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder)
    return [_medians(of_server) for of_server in found.values()]


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
        finally:
            server.stop()
            shutil.rmtree(folder)
        console.print(f"curve: {server.name}: {found[-1].seconds:.0f} s. {found[-1].stopped}")
    return found


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


_HEAD: Final = """# The cloud PACS paper's experiments, here

Made by `make bench-paper`: the experiments of sections 4.1 to 4.3 at a size for two cores, on this
node, on Orthanc and on DCMTK's dcmqrscp, in one session on one machine, each with fresh storage.
Figures are medians; runs: {runs}. The paper's own, of a cluster in a cloud, are beside:
they say what is to be compared, not who is faster. Clients and servers share the cores.
"""
_HEAD_OF_CURVE: Final = """# Query time by the size of the archive

Made by `make bench-curve`: seven questions by C-FIND, each with as many matches at any size, asked
fifteen times while the archive grows. Studies have five series of one small instance. Orthanc stores
all of it; our node's catalog is filled with rows that share the bytes of one object, and is searched
as if they had come one by one. One run; medians.
"""


def page(outcomes: Sequence[Outcome], told: Mapping[str, object], pictures: Mapping[str, str]) -> str:
    """Return the page in Markdown."""
    scale = float(str(told["scale"]))
    head = _HEAD_OF_CURVE if {each.experiment for each in outcomes} == {"curve"} else _HEAD
    lines = [
        *head.format(runs=told["runs"]).splitlines(),
        "",
        *(f"- {name}: {value}" for name, value in told.items() if name not in ("runs",)),
    ]
    for name in dict.fromkeys(each.experiment for each in outcomes):
        lines += _section(name, [each for each in outcomes if each.experiment == name], scale)
        drawn = [picture for picture in pictures if name in (picture, picture.replace("figure", "fig"))]
        folder = "benchmark-curve" if head is _HEAD_OF_CURVE else "benchmark-paper"
        lines += [f"\n![{picture}]({folder}/{picture}.svg)" for picture in drawn]
    return "\n".join(lines) + "\n"


def _section(name: str, of_it: Sequence[Outcome], scale: float) -> list[str]:
    papers = PAPERS_OWN.get(name, {})
    heads = [*(each.target for each in of_it), "the paper"]
    lines = ["", f"## {EXPERIMENTS[name].title}", ""]
    size = f"Size: {scale * SIZES[name]:.2g} of the paper's. " if name in SIZES else ""
    lines += [f"{size}The paper: {EXPERIMENTS[name].paper}.", ""]
    lines += ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines.append("| asked by | " + " | ".join(each.way for each in of_it) + " | |")
    for row in dict.fromkeys(row for each in of_it for row in each.summary):
        cells = [figure(each.summary[row]) if row in each.summary else "" for each in of_it]
        lines.append(f"| {row} | " + " | ".join(cells) + f" | {papers.get(row, '')} |")
    told = [not_complete(each) for each in of_it if each.stopped]
    told += [note for each in of_it for note in each.notes]
    return lines + [f"\n{line}" for line in told]


@click.command()
@click.option("--runs", default=3, show_default=True, help="Runs of each experiment.")
@click.option("--scale", default=1.0, show_default=True, help="Of the sizes that fit two cores.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same studies.")
@click.option(
    "--only", default="", help="Only these experiments, separated by commas; curve is never meant else."
)
@click.option("--storage", type=click.Path(path_type=Path), default=".cache/bench", show_default=True,
              help="Folder on the disk to measure.")  # fmt: skip
@click.option("--page", "target", type=click.Path(path_type=Path), default="docs/benchmark-paper.md",
              show_default=True, help="The page to write; pictures and JSON go beside it.")  # fmt: skip
@click.option("--remark", default="", help="A sentence for the page, for example that the machine was busy.")
def main(runs: int, scale: float, seed: int, only: str, storage: Path, target: Path, remark: str) -> None:
    """Measure the paper's experiments on three servers; exit 3 if one of them was not measured to its end."""
    storage.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    try:
        told = facts((), storage.resolve())
        for name in only.split(",") if only else SIZES:
            plan = Plan(seed=seed, share=SIZES.get(name, 1.0) * scale, pause=2.0)
            if name == "curve":
                outcomes += growing(plan, scale, storage.resolve(), console)
            else:
                outcomes += measure(name, plan, runs, storage.resolve(), console)
    except FAILURES as error:
        raise click.ClickException(str(error)) from None
    told |= {"runs": runs, "scale": scale, "minutes": f"{(time.monotonic() - began) / 60:.1f}"}
    told["storage"] = str(told["storage"]).rpartition(" on ")[2]
    if remark:
        told["remark"] = remark
    pictures = draw(outcomes)
    beside = target.with_suffix("")
    beside.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures.items():
        (beside / f"{name}.svg").write_text(svg, encoding="utf-8")
    results = {"facts": told, "outcomes": [each.as_json() for each in outcomes]}
    (beside / "results.json").write_text(json.dumps(results))
    target.write_text(page(outcomes, told, pictures), encoding="utf-8")
    sys.exit(3 if any(each.stopped for each in outcomes) else 0)


if __name__ == "__main__":
    main()
