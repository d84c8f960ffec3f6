"""What `make run` does: a node in `.peerpacs/alpha` with pydicom's sample studies, and lines to paste."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

HOME = Path(".peerpacs/alpha")
PEERPACS = str(Path(sys.executable).with_name("peerpacs"))


def free_port(wanted: int) -> int:
    """Return the wanted port, or another one where something else listens on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lines_to_paste(port: int) -> list[str]:
    """Return an echo, a find and a get in DCMTK's words, or in ours where DCMTK is not installed."""
    if shutil.which("findscu"):
        return [
            f"echoscu -v -aec ALPHA 127.0.0.1 {port}",
            f"findscu -S -aec ALPHA -k QueryRetrieveLevel=STUDY -k PatientName -k StudyDate "
            f"-k ModalitiesInStudy -k StudyInstanceUID 127.0.0.1 {port}",
            f"mkdir -p got && getscu -S -aec ALPHA -od got -k QueryRetrieveLevel=STUDY "
            f"-k StudyInstanceUID=1.3.6.1.4.1.5962.1.2.1.20040119072730.12322 127.0.0.1 {port}",
        ]
    return [
        f"{PEERPACS} echo -aec ALPHA 127.0.0.1 {port}",
        f"{PEERPACS} find -aec ALPHA -k PatientName -k StudyDate -k ModalitiesInStudy 127.0.0.1 {port}",
        f"{PEERPACS} get -aec ALPHA -od got -k StudyInstanceUID=1.3.6.1.4.1.5962.1.2.1.20040119072730.12322 "
        f"127.0.0.1 {port}",
    ]


def main() -> int:
    """Make the node if it is not there, start it, import the samples, print what to paste; then wait."""
    import pydicom.data

    port = free_port(11112)
    if not (HOME / "peerpacs.toml").exists():
        init = [PEERPACS, "init", "--home", str(HOME), "--name", "alpha", "--ae", "ALPHA", "--dev", "--yes"]
        ports = ["--dicom-port", "11112", "--tls-port", "0", "--web-port", "0", "--grid-port", "0"]
        subprocess.run([*init, *ports], check=True)
    environment = {"PEERPACS__DICOM__PORT": str(port)}
    node = subprocess.Popen(
        [PEERPACS, "run", "--home", str(HOME)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert node.stdout is not None
    for line in node.stdout:
        print(line, end="")
        if line.startswith("ready"):
            break
    else:
        return node.wait()
    samples = Path(pydicom.data.__file__).parent / "test_files"
    subprocess.run([PEERPACS, "import", "--home", str(HOME), str(samples)], check=False)
    print("\nPaste these into another terminal:\n")
    print("\n".join(f"  {line}" for line in lines_to_paste(port)))
    print("\nCtrl-C stops the node.", flush=True)
    try:
        return node.wait()
    except KeyboardInterrupt:
        return node.wait()


if __name__ == "__main__":
    sys.exit(main())
