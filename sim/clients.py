"""DCMTK's command line clients, run to completion and timed: the same ones against every server.

A time is the wall clock from the first process started to the last one ended, the reading of files and
the negotiation included, because that is what a modality's user waits for.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from .pdu import Address
from .phantoms import Study, instances
from .servers import ENVIRONMENT, dcmtk_program


class ClientError(Exception):
    """A client ended with an error, or a retrieve did not bring everything."""


def write(studies: Iterable[Study], folder: Path, parts: int) -> list[Path]:
    """Write the studies as Part 10 files into `parts` folders, whole studies in turn; return the folders."""
    folders = [folder / str(part) for part in range(parts)]
    for path in folders:
        path.mkdir(parents=True)
    for n, study in enumerate(studies):
        for instance in instances(study):
            with (folders[n % parts] / instance.SOPInstanceUID).open("wb") as file:
                file.writelines(instance.chunks())
    return folders


def store(address: Address, folders: Sequence[Path]) -> float:
    """Send each folder with a storescu of its own, all at once; return seconds.

    Raises:
        ClientError: one of them did not get every instance accepted.
    """
    began = time.perf_counter()
    running = [_start("storescu", "-aec", address.ae_title, "+sd", address, folder) for folder in folders]
    outputs = [process.communicate()[0] for process in running]
    seconds = time.perf_counter() - began
    for process, output in zip(running, outputs, strict=True):
        if process.returncode:
            raise ClientError(f"storescu ended with {process.returncode}:\n{output[-2000:]}")
    return seconds


def move(address: Address, StudyInstanceUID: str, destination: Address) -> float:
    """Have a study sent to `destination` by C-MOVE; return seconds. The caller counts what arrived there.

    Raises:
        ClientError: the final status was not success.
    """
    options = ("-v", "-aec", address.ae_title, "-aem", destination.ae_title, *_keys(StudyInstanceUID))
    seconds, output = _run("movescu", *options, address)
    if "Received Final Move Response (Success)" not in output:
        raise ClientError(f"The C-MOVE from {address.ae_title} failed:\n{output[-2000:]}")
    return seconds


def get(address: Address, StudyInstanceUID: str, expected: int) -> float:
    """Fetch a study by C-GET and drop it; return seconds.

    Raises:
        ClientError: not exactly `expected` instances came.
    """
    options = ("-v", "-aec", address.ae_title, "--ignore", *_keys(StudyInstanceUID))
    seconds, output = _run("getscu", *options, address)
    if (count := output.count("Received C-STORE Request")) != expected:
        raise ClientError(f"C-GET brought {count} instances of {expected}:\n{output[-2000:]}")
    return seconds


def _keys(StudyInstanceUID: str) -> tuple[str, ...]:
    return ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={StudyInstanceUID}")


def _run(program: str, *arguments: object) -> tuple[float, str]:
    began = time.perf_counter()
    process = _start(program, *arguments)
    output = process.communicate()[0]
    if process.returncode:
        raise ClientError(f"{program} ended with {process.returncode}:\n{output[-2000:]}")
    return time.perf_counter() - began, output


def _start(program: str, *arguments: object) -> subprocess.Popen[str]:
    words = [dcmtk_program(program)]
    for argument in arguments:
        words += [argument.host, str(argument.port)] if isinstance(argument, Address) else [str(argument)]
    out, err = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(words, env=ENVIRONMENT, stdout=out, stderr=err, text=True, errors="replace")
