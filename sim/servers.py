"""PACS processes under test, each with fresh storage: start, stop, and what the kernel knows of them.

Every server is started with `TCP_NODELAY=1` in its environment, without which DCMTK, and so Orthanc, waits
44 ms for each delayed acknowledgement.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from .association import VERIFICATION, Association
from .pdu import Address, ProtocolError
from .ports import free_port
from .secure import Secure

ENVIRONMENT: Final = {**os.environ, "TCP_NODELAY": "1"}
_ROOT: Final = Path(__file__).resolve().parent.parent
_DEADLINE: Final = 120.0
"""Seconds a server may take until it is ready, or to end after SIGTERM."""


class ServerError(Exception):
    """A server did not start, died or refused what it was told; the text ends with what it said last."""


class Server:
    """One process with its storage under `folder`; a context manager runs it until the block is left.

    Raises:
        ServerError: a program is missing, or the server cannot be set up.
    """

    name: ClassVar[str]
    ends_with: ClassVar[tuple[int, ...]] = (0, -signal.SIGTERM)
    """Exit codes that SIGTERM may lead to."""

    def __init__(self, folder: Path, ae_title: str) -> None:
        self.folder = folder
        self.address = Address(ae_title, free_port())
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def configuration(self) -> str:
        """What was set, for the report."""
        return ""

    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return what its environment has besides what all servers' have."""
        return {}

    def is_ready(self) -> bool:
        """Say whether the server answers."""
        return answers_echo(self.address)

    def start(self) -> float:
        """Start the server; return the seconds until it was ready.

        Raises:
            ServerError: it ended, or was not ready in time and was killed.
        """
        began = time.perf_counter()
        with self._log.open("wb") as log:
            environment = {**ENVIRONMENT, **self.environment()}
            process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=environment)
        try:
            self._wait_until_ready(process, began + _DEADLINE)
        except BaseException:
            process.kill()
            process.wait()
            raise
        self._process = process
        return time.perf_counter() - began

    def _wait_until_ready(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        while not self.is_ready():
            if process.poll() is not None:
                raise ServerError(f"{self.name} ended before it was ready:\n{self._last_words()}")
            if time.perf_counter() > deadline:
                raise ServerError(f"{self.name} was not ready in {_DEADLINE:.0f} s:\n{self._last_words()}")
            time.sleep(0.005)

    def stop(self) -> None:
        """Send SIGTERM and wait for the end.

        Raises:
            ServerError: it had to be killed, or ended as a server that failed.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerError(f"{self.name} did not end after SIGTERM and was killed.") from None
        if process.returncode not in self.ends_with:
            raise ServerError(f"{self.name} ended with {process.returncode}:\n{self._last_words()}")

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped or killed since."""
        return self._process is not None

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()

    def remove(self) -> None:
        """Stop the server and delete its storage."""
        self.stop()
        shutil.rmtree(self.folder)

    def cpu_seconds(self) -> float:
        """Return the processor time the server has used, its threads included."""
        return cpu_seconds_of(self.pid)

    def anonymous_memory(self) -> int:
        """Return RssAnon in bytes: what the server holds besides mapped files."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise ServerError("This kernel does not tell RssAnon; Linux 4.5 or newer does.")

    @property
    def _log(self) -> Path:
        return self.folder / "output.log"

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


class PeerPACS(Server):
    """Our node, as `peerpacs init --dev` makes it."""

    name = "PeerPACS"
    ends_with = (0,)
    _program: Final = Path(sys.executable).parent / "peerpacs"

    def __init__(self, folder: Path, destination: Address) -> None:
        super().__init__(folder, "BENCH")
        self.home = folder / "home"
        off = [f"--{door}-port=0" for door in ("tls", "web", "grid", "watch")]
        port = f"--dicom-port={self.address.port}"
        who = ("--name", "bench", "--ae", self.address.ae_title)
        self._set_up("init", *who, port, *off, *self.init_options(), "--dev", "--yes")
        where = ("--address", "127.0.0.1", "--port", str(destination.port))
        self._set_up("devices", "add", destination.ae_title, *where, "--services", "echo,store")

    def init_options(self) -> list[str]:
        """Return what `peerpacs init` is told besides names and ports."""
        return []

    def command(self) -> list[str]:
        return [str(self._program), "run", "--home", str(self.home)]

    def is_ready(self) -> bool:
        return any(line.startswith("ready") for line in self._log.read_text(errors="replace").splitlines())

    @property
    def configuration(self) -> str:
        lines = (self.home / "peerpacs.toml").read_text().splitlines()
        return "\n".join(line for line in lines if line and not line.startswith("#"))

    def _set_up(self, *arguments: str) -> None:
        if not self._program.exists():
            raise ServerError(f"{self._program} is missing. Install the project: make test does.")
        command = [str(self._program), *arguments, "--home", str(self.home)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ServerError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


class Gateways(PeerPACS):
    """Our node with two gateways beside the process that writes the catalog."""

    name = "3 processes"

    def __init__(self, folder: Path, destination: Address) -> None:
        super().__init__(folder, destination)
        path = self.home / "peerpacs.toml"
        text = path.read_text()
        path.write_text(text[: text.rindex("count = 1")] + "count = 3\n")

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes."""
        children = Path(f"/proc/{self.pid}/task").glob("*/children")
        pids = [int(word) for path in children for word in path.read_text().split()]
        return super().cpu_seconds() + sum(map(cpu_seconds_of, pids))


class Orthanc(Server):
    """Orthanc in its default configuration but for ports, folders and who may do what."""

    name = "Orthanc"

    def __init__(self, folder: Path, destination: Address) -> None:
        super().__init__(folder, "ORTHANC")
        self._destination = destination
        self._http_port = free_port()
        (folder / "orthanc.json").write_text(self.configuration)

    def settings(self) -> dict[str, Any]:
        """Return what is in its configuration file."""
        destination = self._destination
        return {
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "DicomPort": self.address.port,
            "HttpPort": self._http_port,
            "DicomModalities": {destination.ae_title: [destination.ae_title, "127.0.0.1", destination.port]},
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
        }

    def command(self) -> list[str]:
        return [orthanc_program(), str(self.folder / "orthanc.json")]

    @property
    def configuration(self) -> str:
        return json.dumps(self.settings(), indent=2)


class StoreSCP(Server):
    """DCMTK's storescp, receiving and keeping nothing: the ceiling of what a client can send."""

    name = "storescp"

    def __init__(
        self, folder: Path, address: Address, forks: bool = True, own: tuple[Path, Path] | None = None
    ) -> None:
        """With certificate and key of its `own` it speaks TLS alone, with whoever comes."""
        super().__init__(folder, address.ae_title)
        self.address = address
        self._options = ["--fork"] if forks else []
        if own:
            self._options += ["+tls", str(own[1]), str(own[0]), "--ignore-peer-cert"]
        self._secure = Secure(own[0]) if own else None

    def is_ready(self) -> bool:
        return answers_echo(self.address, self._secure)

    def command(self) -> list[str]:
        options = ["-v", "--ignore", "-aet", self.address.ae_title, *self._options]
        return [dcmtk_program("storescp"), *options, str(self.address.port)]

    def received(self) -> int:
        """Return how many C-STORE requests have come since the start."""
        return self._log.read_bytes().count(b"Received Store Request")


def cpu_seconds_of(pid: int) -> float:
    """Return the processor time a process has used, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settle(servers: Sequence[Server], limit: float = 20.0) -> None:
    """Wait until the disk has what it was given and no server works on something of its own."""
    os.sync()
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        before = sum(server.cpu_seconds() for server in servers)
        time.sleep(0.3)
        if sum(server.cpu_seconds() for server in servers) - before <= 0.02:
            return


def wait(is_so: Callable[[], object], seconds: float = _DEADLINE, pause: float = 0.01) -> float:
    """Wait until something is so; return the seconds it took.

    Raises:
        ServerError: it did not become so in time.
    """
    began = time.perf_counter()
    while not is_so():
        if time.perf_counter() - began > seconds:
            raise ServerError(f"What was waited for was not so after {seconds:.0f} s.")
        time.sleep(pause)
    return time.perf_counter() - began


def answers_echo(address: Address, secure: Secure | None = None) -> bool:
    """Say whether an Application Entity answers a C-ECHO there."""
    try:
        with Association(address, [VERIFICATION], timeout=5.0, secure=secure) as association:
            return association.echo() == 0
    except (OSError, ProtocolError):
        return False


def dcmtk_program(name: str) -> str:
    """Return the path of a program of DCMTK.

    pynetdicom installs programs of the same names beside Python, which are not meant here.

    Raises:
        ServerError: DCMTK is not on this machine.
    """
    beside_python = {str(Path(sys.executable).parent), sysconfig.get_path("scripts")}
    folders = [path for path in os.get_exec_path() if path not in beside_python]
    path = shutil.which(name, path=os.pathsep.join([*folders, str(_ROOT / ".cache" / "dcmtk" / "bin")]))
    if not path:
        raise ServerError(f"DCMTK's {name} is missing. Run tools/dcmtk.sh, which brings it.")
    return path


def orthanc_program(package: str = "orthanc") -> str:
    """Return the path of Orthanc: the one `ORTHANC` names, or one unpacked by tools/orthanc.sh.

    `package` is Debian's, or that of a plugin, which is unpacked together with its own Orthanc.

    Raises:
        ServerError: it could not be brought here; the text says why.
    """
    named = os.environ.get("ORTHANC")
    if named and package == "orthanc":
        return named
    done = subprocess.run([_ROOT / "tools" / "orthanc.sh", package], capture_output=True, text=True)
    if done.returncode:
        raise ServerError(f"Orthanc is not here and could not be fetched:\n{done.stderr}")
    return done.stdout.strip()
