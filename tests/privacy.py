"""Words about patients: which of them no log may have, and which files have some."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pydicom
import pydicom.data

KEYWORDS = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "PatientBirthDate",
    "PatientAddress",
    "PatientComments",
    "AccessionNumber",
    "StudyDescription",
    "SeriesDescription",
    "ReferringPhysicianName",
)
PHANTOMS = re.compile(r"\bPP\d{12}\b|\bA\d{12}\b|Łukasiewicz|Yamada|Müller\^|Иванова|Nuñez|XiaoDong")
"""Patient IDs, accession numbers and names as the phantoms of `sim` carry them."""


@cache
def private_words() -> re.Pattern[str]:
    """Return what finds any value of these attributes in any test file, as a word of its own."""
    words: set[str] = set()
    folder = Path(pydicom.data.__file__).parent
    for path in [*folder.rglob("*.dcm"), *folder.glob("test_files/dicomdirtests/**/*")]:
        words |= _words_of(path) if path.is_file() else set()
    # Some are called nothing but "^^": that tells nothing, and Python marks places in its tracebacks so.
    words = {word for word in words if word.strip("^ ")}
    told = sorted(re.escape(word) for word in words if (len(word) >= 5 and not word.isalpha()) or "^" in word)
    return re.compile(rf"(?<![\w.])(?:{'|'.join(told)})(?![\w.])")


def _words_of(path: Path) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=[*KEYWORDS])
            return {str(dataset[keyword].value).strip() for keyword in KEYWORDS if keyword in dataset}
        except Exception:
            return set()  # Not a DICOM file, or one that is broken on purpose.


def leaks(log: str) -> list[str]:
    """Return the lines of a log that tell something of a patient."""
    found = private_words()
    return [line for line in log.splitlines() if PHANTOMS.search(line) or found.search(line)]


def files_with(words: Iterable[bytes], *folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield which files below the folders hold which of the words.

    A node may be at work there: what it removes meanwhile holds none.
    """
    wanted = tuple(words)
    for folder in folders:
        for place, _, names in os.walk(folder):
            for path in (Path(place, name) for name in names):
                content = b""
                with contextlib.suppress(FileNotFoundError):
                    content = path.read_bytes() if path.is_file() else b""
                yield from ((path, word) for word in wanted if word in content)
