"""How many files a second one core de-identifies, beside other tools on the same files.

    python -m tests.anonymizer.bench_speed [--count 150] [--peers /path/to/venv/bin/python]

Files are CT instances of 512 KB with 250 elements, tags only (no pixel work). Reading, writing and,
where said, verification count. Beside files a second of the clock stand files a second of processor
time, which is what one core does that nothing else uses. The peers are never imported here: the
interpreter named with --peers has them installed (pip install dicognito deid dicom-anonymizer) and
runs the loop below.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from anonymizer import ProjectKey, load_policy, make_key, read_key
from anonymizer.worker import Known, Worker
from tests.anonymizer.conftest import sample, stored

PEER_LOOP = """
import sys, time, warnings, logging
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
from pathlib import Path
import pydicom
tool, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
files = sorted(source.iterdir())
target.mkdir(parents=True, exist_ok=True)
if tool == "dicognito":
    from dicognito.anonymizer import Anonymizer
    anonymizer = Anonymizer(seed="bench")
    def work(path):
        ds = pydicom.dcmread(path); anonymizer.anonymize(ds); ds.save_as(target / path.name)
elif tool == "dicom-anonymizer":
    from dicomanonymizer import anonymize_dicom_file
    def work(path): anonymize_dicom_file(str(path), str(target / path.name))
else:
    from deid.dicom import get_identifiers, replace_identifiers
    from deid.config import DeidRecipe
    recipe = DeidRecipe()
    def work(path):
        ids = get_identifiers([str(path)], expand_sequences=False)
        replace_identifiers(dicom_files=[str(path)], deid=recipe, ids=ids, save=True, overwrite=True,
                            output_folder=str(target), remove_private=True)
work(files[0])
start, begun = time.perf_counter(), time.process_time()
for path in files: work(path)
print(len(files) / (time.perf_counter() - start), len(files) / (time.process_time() - begun))
"""


def make_files(folder: Path, count: int) -> None:
    """CT instances of one subject."""
    folder.mkdir(parents=True)
    pixels = sample().PixelData * 16
    for number in range(count):
        dataset = sample(Rows=512, Columns=512, PixelData=pixels, InstanceNumber=str(number))
        dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.77.{number}"
        dataset.PatientName = "Featherstonehaugh^Cuthbert"
        dataset.StudyDescription = "CT CHEST FOR CUTHBERT FEATHERSTONEHAUGH 12/03/1970"
        dataset.ReferringPhysicianName = "Quillington^Prudence"
        (folder / f"{number:04d}.dcm").write_bytes(stored(dataset))


def rates(work: Callable[[Path], object], files: list[Path]) -> tuple[float, float]:
    """Files a second of the clock, and of processor time."""
    work(files[0])
    start, begun = time.perf_counter(), time.process_time()
    for path in files:
        work(path)
    return len(files) / (time.perf_counter() - start), len(files) / (time.process_time() - begun)


def ours(folder: Path, key: ProjectKey, staging: Path, *, verifies: bool) -> tuple[float, float]:
    """One worker's rate as the batch runs it: survey and de-identify, with or without verification."""
    files = sorted(folder.iterdir())
    worker = Worker(load_policy("research"), key, staging, verifies=verifies)

    def both(path: Path) -> None:
        surveyed = worker.survey(path)
        outcome = worker.process(path, Known(surveyed.subject.identifiers, surveyed.needles), surveyed)
        assert outcome.name, outcome.sentence

    return rates(both, files)


def main() -> None:
    """Prints one line a tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--peers", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder / "in", given.count)
        make_key(folder / "key", "BENCH")
        key = read_key(folder / "key")
        for name, verifies in (("ours, verified", True), ("ours, unverified", False)):
            tell(name, *ours(folder / "in", key, folder / name, verifies=verifies))
        for tool in ("dicognito", "dicom-anonymizer", "deid") if given.peers else ():
            command = [given.peers, "-c", PEER_LOOP, tool, str(folder / "in"), str(folder / tool)]
            told = subprocess.run(command, capture_output=True, text=True, timeout=600)
            if told.returncode == 0:
                tell(tool, *map(float, told.stdout.strip().splitlines()[-1].split()))
            else:
                print(told.stderr.strip()[-200:])


def tell(name: str, clock: float, processor: float) -> None:
    """One line."""
    print(f"{name + ':':18} {clock:6.0f} files/s, {processor:6.0f} per second of processor time")


if __name__ == "__main__":
    main()
