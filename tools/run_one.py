"""What `make run-one` does: a node in `.peerpacs/alpha` with pydicom's sample studies, and lines to paste."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

HOME = Path(".peerpacs/alpha")
LOG = Path(".peerpacs/alpha.log")
PEERPACS = str(Path(sys.executable).with_name("peerpacs"))
STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"
"""A CT study among the samples."""


def free_port(wanted: int) -> int:
    """Return the wanted port, or another one where something else listens on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_node() -> None:
    """Make the home folder, if this is the first time."""
    if (HOME / "peerpacs.toml").exists():
        return
    ports = ["--dicom-port", "11112", "--tls-port", "0", "--web-port", "0", "--grid-port", "0"]
    ports += ["--watch-port", "0"]
    who = ["--home", str(HOME), "--name", "alpha", "--ae", "ALPHA", "--dev", "--yes"]
    subprocess.run([PEERPACS, "init", *who, *ports], check=True, stdout=subprocess.DEVNULL)
    # In the file and not in the environment of the node alone: commands look there where it listens.
    settings = HOME / "peerpacs.toml"
    settings.write_text(settings.read_text().replace('host = "0.0.0.0"', 'host = "127.0.0.1"'))


def start_node(port: int, web: int) -> subprocess.Popen[str]:
    """Start the node and wait until it is ready; its log goes to a file."""
    settings = {"DICOM__PORT": str(port), "DICOM__HOST": "127.0.0.1", "WEB__PLAIN_PORT": str(web)}
    environment = {**os.environ, **{f"PEERPACS__{name}": value for name, value in settings.items()}}
    with LOG.open("a") as log:
        node = subprocess.Popen(
            [PEERPACS, "run", "--home", str(HOME)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert node.stdout is not None
    line = node.stdout.readline()
    if not line.startswith("ready"):
        sys.exit(f"The node did not start. Its log, {LOG}, ends with:\n{LOG.read_text()[-2000:]}")
    print(line, end="")
    return node


def import_samples() -> None:
    """Import the studies that come with pydicom; a second time changes nothing."""
    import pydicom.data

    samples = Path(pydicom.data.__file__).parent / "test_files"
    done = subprocess.run(
        [PEERPACS, "import", "--home", str(HOME), "--json", str(samples)], capture_output=True, text=True
    )
    if done.returncode not in (0, 3):
        print(f"The samples were not imported: {done.stderr.strip()}")
        return
    result: dict[str, Any] = json.loads(done.stdout)
    left_out = len(result["not_stored"])
    print(
        f"{result['stored']} sample instances imported; {left_out} files are broken on purpose or not DICOM"
    )
    print(f"({os.path.relpath(PEERPACS)} rejected list --home {HOME} shows those that were refused).")


def lines_to_paste(port: int) -> list[str]:
    """Return an echo, a find and a get in DCMTK's words, or in ours where DCMTK is not installed."""
    here = f"127.0.0.1 {port}"
    keys = "-k PatientName -k StudyDate -k ModalitiesInStudy"
    if shutil.which("findscu"):
        return [
            f"echoscu -v -aec ALPHA {here}",
            f"findscu -S -aec ALPHA -k QueryRetrieveLevel=STUDY {keys} -k StudyInstanceUID {here}",
            f"mkdir -p got && getscu -S -v -aec ALPHA -od got -k QueryRetrieveLevel=STUDY "
            f"-k StudyInstanceUID={STUDY} {here}",
        ]
    return [
        f"{PEERPACS} echo -aec ALPHA {here}",
        f"{PEERPACS} find -aec ALPHA {keys} {here}",
        f"{PEERPACS} get -aec ALPHA -od got -k StudyInstanceUID={STUDY} {here}",
    ]


def main() -> int:
    """Run the node until Ctrl-C."""
    port, web = free_port(11112), free_port(8080)
    make_node()
    node = start_node(port, web)
    import_samples()
    print("\nPaste these into another terminal:\n")
    print("\n".join(f"  {line}" for line in lines_to_paste(port)))
    print(f"\nIn a browser: http://127.0.0.1:{web}/")
    print(f"\nThe node's log is {LOG}. Ctrl-C stops the node.", flush=True)
    try:
        return node.wait()
    except KeyboardInterrupt:
        return node.wait()


if __name__ == "__main__":
    sys.exit(main())
