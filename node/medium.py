"""A DICOMDIR from headers alone (PS3.10 8, PS3.3 F): which file it names how, whoever brings the files.

pydicom's FileSet makes it. What Type 1 attributes of a directory record have no value for get one that says
nothing, as toolkits do when asked to invent it.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

INVENTED: Final = {
    "StudyDate": "19000101",
    "StudyTime": "000000",
    "StudyID": "1",
    "Modality": "OT",
    "SeriesNumber": "1",
    "InstanceNumber": "1",
}
DICOMDIR: Final = "DICOMDIR"
_PREFIX: Final = "medium-"


def aside(folder: Path | None) -> TemporaryDirectory[str]:
    """Return a new folder in one that `sweep` knows."""
    return TemporaryDirectory(dir=folder, prefix=_PREFIX)


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left: headers, which name patients."""
    for path in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


class Medium:
    """A File-set in the making; `write` ends it."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is where its headers lie meanwhile, see `sweep`; if None, wherever temporary files do."""
        from pydicom.fileset import FileSet

        self._files: Any = FileSet()
        self._stages = [self._files._stage["t"]]
        if folder is not None:
            stage = aside(folder)
            self._stages.append(stage)
            self._files._stage |= {"t": stage, "path": Path(stage.name)}

    def add(self, header: Any) -> str:
        """Take in one instance, by its header with file meta; return its SOP Instance UID.

        Empty when there is no directory record for what it is. The header is changed.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for keyword, value in INVENTED.items():
                if not header.get(keyword):
                    setattr(header, keyword, value)
            for tag in [element.tag for element in header if element.VR in ("OB", "OW", "UN")]:
                del header[tag]
            try:
                return str(self._files.add(header).SOPInstanceUID)
            except OSError:
                raise
            except Exception:
                return ""

    def write(self, into: Path) -> dict[str, str]:
        """Write the DICOMDIR into a folder; return the file's name for each SOP Instance UID.

        Under those names lie headers then, which whoever called puts the files in place of.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._files.write(into)
            return {str(each.SOPInstanceUID): Path(each.FileID).as_posix() for each in self._files}

    def close(self) -> None:
        """Remove its folders of headers; left to themselves, they would go with a warning."""
        for stage in {id(each): each for each in (*self._stages, self._files._stage["t"])}.values():
            stage.cleanup()
