"""PACS that we did not write, as a hospital's old one: Orthanc, and DCMTK's dcmqrscp."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from node.dimse import Requestor
from sim.ports import free_port
from sim.servers import orthanc_program
from tests.homes import RawInstance
from tests.running import until

CONFIGURATION = """
NetworkTCPPort = {port}
MaxPDUSize = 131072
MaxAssociations = 16
HostTable BEGIN
{hosts}
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
{areas}
AETable END
"""
AREAS = ("OLD", "OLD1", "OLD2", "OLD3")
"""AE titles of dcmqrscp, each with a storage area of its own: one holds at most 500 studies."""


class Known(NamedTuple):
    """An AE title that the old PACS knows as a destination."""

    ae_title: str
    port: int


class Old(Protocol):
    """An old PACS, by its AE title OLD."""

    port: int

    def store(self, *instances: RawInstance, area: str = "OLD") -> None:
        """Have it keep instances."""

    def start(self) -> None:
        """Serve, with what was kept before."""

    def kill(self) -> None:
        """End it as a crash does."""


class _Server:
    def __init__(self, command: list[str], port: int) -> None:
        self.port = port
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        until(self._answers, 60)

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            # One that is killed may leave connections behind which keep the port for a while.
            quiet = subprocess.DEVNULL
            self._process = subprocess.Popen(
                self._command, stdout=quiet, stderr=quiet, start_new_session=True
            )
        try:
            Requestor("TEST", "127.0.0.1", self.port, "OLD").echo()
        except Exception:
            return False
        return True

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def store(self, *instances: RawInstance, area: str = "OLD") -> None:
        answers = list(Requestor("TEST", "127.0.0.1", self.port, area).store(instances))
        assert {each.status for each in answers} == {0}


@contextlib.contextmanager
def orthanc(folder: Path, *known: Known) -> Iterator[Old]:
    """Run Orthanc; it knows these destinations."""
    port = free_port()
    folder.mkdir(parents=True)
    settings = {
        "DicomAet": "OLD",
        "DicomPort": port,
        "HttpServerEnabled": False,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomModalities": {each.ae_title.lower(): [each.ae_title, "127.0.0.1", each.port] for each in known},
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "TranscodeDicomProtocol": False,
    }
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(settings))
    yield from _run(_Server([orthanc_program(), str(configuration)], port))


@contextlib.contextmanager
def dcmqrscp(folder: Path, *known: Known) -> Iterator[Old]:
    """Run DCMTK's archive; it knows these destinations."""
    program = shutil.which("dcmqrscp")
    if program is None:
        pytest.skip("dcmqrscp of DCMTK is not installed")
    port = free_port()
    for area in AREAS:
        (folder / area).mkdir(parents=True)
    areas = "\n".join(f"{area} {folder / area} RW (500, 1024mb) ANY" for area in AREAS)
    hosts = "\n".join(
        f"host{at} = ({each.ae_title}, localhost, {each.port})" for at, each in enumerate(known)
    )
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(CONFIGURATION.format(port=port, areas=areas, hosts=hosts))
    yield from _run(_Server([program, "-c", str(configuration), "--fork"], port))


def _run(server: _Server) -> Iterator[Old]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


KINDS = {"orthanc": orthanc, "dcmqrscp": dcmqrscp}
