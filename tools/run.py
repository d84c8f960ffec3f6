"""What `make run` does: three hospitals and a cloud node on one machine, in one grid, with studies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(".peerpacs/grid")
BIN = Path(sys.executable).parent
PEERPACS = str(BIN / "peerpacs")
HOSPITALS = ("alpha", "beta", "gamma")
SITES = (*HOSPITALS, "cloud")
KEYS = ("peerpacsdemoaccess01", "peerpacs-demo-secret-of-nobody-01")
STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"
"""A CT study among the samples; it lies at beta."""
MADE = ROOT / "made.json"


def ports() -> dict[str, int]:
    """Return the ports of the grid: chosen once, because its members know each other by them."""
    path = ROOT / "ports.json"
    found: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    wanted = {"s3": 8086}
    for number, name in enumerate(SITES):
        wanted |= {f"{name} dicom": 11112 + number, f"{name} grid": 7443 + 10 * number}
        wanted |= {f"{name} join": 7444 + 10 * number, f"{name} web": 8080 + number}
    found = {name: free_port(port) for name, port in wanted.items() if name not in found} | found
    path.write_text(json.dumps(found))
    return found


def free_port(wanted: int) -> int:
    """Return the wanted port, or another one where something else listens on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say(name: str, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
    """Run a command at a node; return what it says as JSON."""
    done = subprocess.run(
        [PEERPACS, "--home", str(ROOT / name), *words, "--json"], capture_output=True, text=True
    )
    if done.returncode not in codes:
        sys.exit(f"peerpacs {' '.join(words)} at {name} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip().startswith(("{", "[")) else {}


def make_home(name: str, port: dict[str, int]) -> None:
    """Make a node's home folder the first time; the cloud node differs by where objects are kept."""
    if (ROOT / name / "peerpacs.toml").exists():
        return
    words = ["init", "--name", name, "--ae", name.upper(), "--dev", "--yes", "--tls-port", "0"]
    words += ["--web-port", "0", "--watch-port", "0", "--dicom-port", str(port[f"{name} dicom"])]
    words += ["--grid-port", str(port[f"{name} grid"])]
    if name == "cloud":
        keys = ROOT / "s3.keys"
        keys.touch(mode=0o600)
        keys.write_text("\n".join(KEYS) + "\n")
        words += ["--storage", "s3://cloud/objects", "--s3-endpoint", f"http://127.0.0.1:{port['s3']}"]
        words += ["--s3-keys", str(keys)]
    say(name, *words)
    # In the file and not in the environment of the node alone: commands look there where it listens.
    settings = ROOT / name / "peerpacs.toml"
    settings.write_text(settings.read_text().replace('host = "0.0.0.0"', 'host = "127.0.0.1"'))


def start(name: str, command: list[str], **environment: str) -> subprocess.Popen[str]:
    """Start a program whose log goes to a file; Ctrl-C here does not reach it."""
    with (ROOT / f"{name}.log").open("a") as log:
        return subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE if command[0] == PEERPACS else log,
            stderr=log,
            text=True,
            start_new_session=True,
        )


def start_bucket(port: dict[str, int]) -> subprocess.Popen[str]:
    """Start an S3 server over a folder, and wait until it answers."""
    (ROOT / "s3" / "cloud").mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{port['s3']}"
    command = [str(BIN / "rclone"), "serve", "s3", "--addr", address, "--auth-key", ",".join(KEYS)]
    command += ["--vfs-cache-mode", "off", str(ROOT / "s3")]
    server = start("s3", command, RCLONE_CONFIG=os.devnull)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port["s3"]), 0.1).close()
            return server
        except OSError:
            time.sleep(0.05)
    sys.exit(f"The S3 server did not start; see {ROOT / 's3.log'}")


def start_node(name: str, port: dict[str, int]) -> subprocess.Popen[str]:
    """Start a node and wait until it is ready."""
    join = str(port[f"{name} join"])
    node = start(
        name,
        [PEERPACS, "run", "--home", str(ROOT / name)],
        PEERPACS__DICOM__HOST="127.0.0.1",
        PEERPACS__GRID__HOST="127.0.0.1",
        PEERPACS__WEB__PLAIN_PORT=str(port[f"{name} web"]),
        PEERPACS__GRID__JOIN_PORT=join,
        PEERPACS__GRID__JOIN_ADDRESS=f"127.0.0.1:{join}",
    )
    assert node.stdout is not None
    line = node.stdout.readline()
    if not line.startswith("ready"):
        log = (ROOT / f"{name}.log").read_text()
        sys.exit(f"{name} did not start. Its log ends with:\n{log[-2000:]}")
    return node


def connected(name: str) -> set[str]:
    """Return the nodes that a node is connected with."""
    peers = say(name, "peers", codes=(0, 1, 3)).get("peers", [])
    return {peer["name"] for peer in peers if peer["state"] == "connected"}


def make_grid() -> None:
    """Have alpha found a grid, the others join, and each grant the others what it holds."""
    for name in SITES[1:]:
        if "alpha" in connected(name):
            continue
        ticket = say("alpha", "invite", "--site", name, "--grid", "DEMO")["ticket"]
        asked = say(name, "join", ticket, "--no-wait", codes=(3,))
        say("alpha", "approve", asked["request"])
        say(name, "join")
    # By approving them, alpha granted the others what it holds; what they hold they grant themselves.
    for name in SITES[1:]:
        others = set(SITES) - {name}
        while not others <= connected(name):
            time.sleep(0.2)
        for other in sorted(others):
            say(name, "grants", "add", other, "everything", "catalog", "find_live", "retrieve")


def load_samples() -> None:
    """Give each site other studies of those that come with pydicom."""
    import pydicom
    import pydicom.data

    # Some samples are wrong on purpose; what is odd about them is no news to who starts the grid.
    warnings.simplefilter("ignore")
    for path in (Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"):
        try:
            study = str(pydicom.dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
        except (AttributeError, OSError, ValueError, pydicom.errors.InvalidDicomError):
            continue
        site = "beta" if study == STUDY else SITES[hashlib.sha256(study.encode()).digest()[0] % len(SITES)]
        (ROOT / "samples" / site).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, ROOT / "samples" / site)
    for name in SITES:
        say(name, "import", str(ROOT / "samples" / name), codes=(0, 3))


def lines_to_paste(port: dict[str, int]) -> list[str]:
    """Return a find and a get on the whole grid in DCMTK's words, or in ours where DCMTK is not installed."""
    here = f"127.0.0.1 {port['alpha dicom']}"
    keys = "-k PatientName -k StudyDate -k StudyInstanceUID -k InstanceAvailability"
    get = f"-aec ALPHA_GRID -od got -k StudyInstanceUID={STUDY} {here}"
    if shutil.which("findscu"):
        return [
            f"findscu -S -aec ALPHA_GRID -k QueryRetrieveLevel=STUDY {keys} {here}",
            f"mkdir -p got && getscu -S -v -k QueryRetrieveLevel=STUDY {get}",
        ]
    return [f"{PEERPACS} find -aec ALPHA_GRID {keys} {here}", f"{PEERPACS} get {get}"]


def tell(port: dict[str, int]) -> None:
    """Say what runs, and what to try."""
    print(f"\n{'site':8}{'AE title':10}{'all sites':14}{'port':7}{'pages':24}objects")
    for name in SITES:
        pages = f"http://localhost:{port[f'{name} web']}"
        where = f"s3://cloud at 127.0.0.1:{port['s3']}" if name == "cloud" else "disk"
        print(
            f"{name:8}{name.upper():10}{name.upper() + '_GRID':14}{port[f'{name} dicom']:<7}{pages:24}{where}"
        )
    print("\nAlpha, asked as ALPHA_GRID, answers for all of them. Paste these into another terminal;")
    print("the second line gets a study that lies at beta:\n")
    print("\n".join(f"  {line}" for line in lines_to_paste(port)))
    web = f"http://127.0.0.1:{port['alpha web']}"
    print(f"\nIn a browser: {web}/   DICOMweb over all sites: {web}/grid/dicom-web/studies")
    print(
        f"\nHomes and logs are in {ROOT}. Ctrl-C stops everything; make run starts the same grid again.",
        flush=True,
    )


def main() -> int:
    """Run the grid until Ctrl-C."""
    ROOT.mkdir(parents=True, exist_ok=True)
    port = ports()
    running = [start_bucket(port)]
    try:
        for name in SITES:
            make_home(name, port)
            running.append(start_node(name, port))
        if not MADE.exists():
            print("This is the first time: making the grid, and giving each site other sample studies ...")
            make_grid()
            load_samples()
            MADE.write_text("{}")
        tell(port)
        while all(each.poll() is None for each in running):
            time.sleep(0.5)
        print("Something ended by itself; its log says why.")
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        # Nodes before the bucket that one of them keeps its objects in.
        for group in (running[1:], running[:1]):
            for each in group:
                each.send_signal(signal.SIGTERM)
            for each in group:
                each.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
