"""`python -m sim.bench`: our node and Orthanc side by side, doing the same work for the same clients."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console

from .bucket_cases import on_buckets
from .capacity import Loaded, Memory
from .cases import Case, Retrieve, storing
from .committing import Commitment
from .copying import copying
from .correcting import RetrieveCorrected, RetrieveUncorrected
from .experiments import command as experiments
from .finding import Find
from .gridcases import on_grids
from .listing import StudyList
from .report import Report
from .runner import FAILURES, Runner
from .servers import dcmtk_program, orthanc_program
from .sustained import Sustained
from .webcases import web_cases


def all_cases(is_quick: bool) -> list[Case]:
    """Return every case, at its full size or at one for trying out."""
    share = 0.1 if is_quick else 1.0
    return [
        *storing(share),
        Retrieve(repetitions=2 if is_quick else 5),
        RetrieveCorrected(repetitions=2 if is_quick else 5),
        RetrieveUncorrected(repetitions=2 if is_quick else 5, others=5 if is_quick else 20),
        Commitment(count=round(1000 * share)),
        Find(studies=2000 if is_quick else 20_000, repetitions=5 if is_quick else 15),
        Loaded(count=round(500_000 * share), sent=round(4000 * share)),
        Memory(frames=round(2048 * share)),
        *web_cases(share),
        StudyList(studies=round(100_000 * share), repetitions=3 if is_quick else 9),
        *on_buckets(share),
        *on_grids(share),
        Sustained(seconds=180.0 * share),
        *copying(share),
    ]


def facts(names: Sequence[str], storage: Path) -> dict[str, object]:
    """Return the machine, the kind of disk and the versions, for the report."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "machine": f"{os.cpu_count()} cores ({_processor()}), {memory >> 30} GB, {platform.platform()}",
        "storage": f"{storage} on {_file_system(storage)}",
        "Python": platform.python_version(),
        "DCMTK": _first_line(dcmtk_program("storescu"), "--version"),
    }
    if not names or "PeerPACS" in names:
        found["PeerPACS"] = version("peerpacs")
    if not names or "Orthanc" in names:
        found["Orthanc"] = _first_line(orthanc_program(), "--version")
    return found


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    around = [(place, kind) for place, kind in mounts if folder.is_relative_to(place)]
    return max(around, key=lambda mount: len(mount[0]))[1]


def _first_line(*command: str) -> str:
    """What a program says of its version, without the folder it is in."""
    done = subprocess.run(command, capture_output=True, text=True)
    return Path(done.stdout.partition("\n")[0].strip("$ ")).name


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


@click.command()
@click.option("--runs", default=5, show_default=True, help="Runs of each case; the medians are compared.")
@click.option("--cases", default="", help="Only these, by name, separated by commas.")
@click.option("--only", default="", help="Only these contestants, for example PeerPACS.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), show_default="bench-DATE-TIME.json",
    default=lambda: time.strftime("bench-%Y%m%d-%H%M.json"), help="File for the figures of every run.",
)  # fmt: skip
@click.option(
    "--profile", type=click.Path(path_type=Path),
    help="Run one case on our node alone under py-spy and write where its time went to this file.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="A tenth of the work and one run: to see that it works.")
@click.option(
    "--storage", type=click.Path(path_type=Path), default=".cache/bench", show_default=True,
    help="Folder on the disk to measure.",
)  # fmt: skip
def main(
    runs: int,
    cases: str,
    only: str,
    json_file: Path,
    profile: Path | None,
    quick: bool,
    storage: Path,
) -> None:
    """Measure PeerPACS and Orthanc side by side with DCMTK's clients; exit 3 if a case was not measured."""
    chosen = _chosen(cases, quick)
    storage.mkdir(parents=True, exist_ok=True)
    storage = storage.resolve()
    progress = Console(stderr=True)
    names = ["PeerPACS"] if profile else [name for name in only.split(",") if name]
    if profile and len(chosen) != 1:
        raise click.UsageError("A profile is of one case. Name it with --cases.")
    if profile:
        profile.unlink(missing_ok=True)
    try:
        report = Report(facts(names, storage))
    except FAILURES as error:
        raise click.ClickException(str(error)) from None
    runner = Runner(storage, _roomy(), 2 if profile else 1 if quick else runs, progress, names, profile)
    for case in chosen:
        try:
            report.measured += runner.measure(case)
        except Exception as error:  # one case that cannot be measured must not cost the figures of the others
            report.failures.append(f"{case.name}: {type(error).__name__}: {error}")
            progress.print(f"[red]{case.name} could not be measured[/]: {error}", highlight=False)
    report.facts["configuration"] = runner.configurations
    out = Console()
    report.print(out if out.is_terminal else Console(width=120))
    json_file.write_text(json.dumps(report.as_json(), indent=2))
    progress.print(f"All figures are in {json_file}.", highlight=False)
    sys.exit(3 if report.failures else 0)


def run(words: list[str]) -> object:
    """Run the benchmark that a command line means: experiments against a target, or our cases."""
    named = {word.partition("=")[0] for word in words}
    is_experiment = bool(named.intersection(experiments.OPTIONS) or (words and not words[0].startswith("-")))
    command = experiments.main if is_experiment else main
    return command.main(args=words, prog_name="peerpacs bench", standalone_mode=False)


def _chosen(names: str, is_quick: bool) -> list[Case]:
    every = {case.name: case for case in all_cases(is_quick)}
    wanted = [name for name in names.split(",") if name] or list(every)
    if unknown := [name for name in wanted if name not in every]:
        raise click.UsageError(f"There is no case {', '.join(unknown)}. There are: {', '.join(every)}.")
    return [every[name] for name in wanted]


def _roomy() -> Path:
    """Where files to send lie: in memory if 3 GB are free there, else in the temporary folder."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 3 << 30:
        return memory
    return Path(tempfile.gettempdir())


if __name__ == "__main__":
    main()
