"""A site with a project: a node in the test's own process, studies in it, and waits for what runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from node.app import Node
from tests.homes import EXPLICIT, Peer, RawInstance, phantoms

PROJECT = "TRIAL-7"


class Site:
    """Asks a node's desk as the command line does."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.verbs = node.desk.verbs()

    def ask(self, verb: str, **told: Any) -> Any:
        """Return what a verb answers."""
        return self.verbs[verb](**told)

    def project(self, name: str = PROJECT, **settings: Any) -> dict[str, Any]:
        """Make a project."""
        made: dict[str, Any] = self.ask("put_project", name=name, who="novak", is_new=True, **settings)
        return made

    def store(self, *seeds: int, **described: Any) -> list[RawInstance]:
        """Store a study for each seed; return the instances."""
        sent = [one for seed in seeds for one in phantoms(seed, size=4_000, **described)]
        assert set(Peer(self.node).store(*sent)) == {0}
        return sent

    def export(self, target: Path | str, query: list[str] | None = None, **more: Any) -> dict[str, Any]:
        """Order an export and return it when it is over or waits for somebody."""
        asked = {"project": PROJECT, "target": str(target), "who": "novak", **more}
        if "wanted" not in asked:
            asked["query"] = query or ["Modality="]
        return self.over(self.ask("order_export", **asked)["id"])

    def over(self, id: str, seconds: float = 90.0) -> dict[str, Any]:
        """Return an export when nothing goes on in it any more."""
        self.until(lambda: self.ask("export", id=id)["standing"] not in ("ready", "running"), seconds)
        export: dict[str, Any] = self.ask("export", id=id)
        return export

    def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, "that never came"
            time.sleep(0.05)


def picture(uid: str = "1.2.3.4.5.6.7") -> RawInstance:
    """Return a secondary capture, which often has a name burned in."""
    shot = Dataset()
    shot.SOPClassUID, shot.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", uid
    shot.StudyInstanceUID, shot.SeriesInstanceUID = "1.2.3.4.5", "1.2.3.4.5.6"
    shot.PatientName, shot.PatientID, shot.PatientBirthDate, shot.PatientSex = "NOVAK^JAN", "4711", "", ""
    shot.Modality, shot.ConversionType, shot.Manufacturer = "OT", "WSD", "Acme"
    shot.ManufacturerModelName = "Grabber"
    shot.StudyDate, shot.StudyTime, shot.StudyID, shot.AccessionNumber = "20240102", "120000", "", ""
    shot.ReferringPhysicianName, shot.SeriesNumber, shot.InstanceNumber = "", 1, 1
    shot.Rows, shot.Columns, shot.SamplesPerPixel = 64, 64, 1
    shot.PhotometricInterpretation, shot.PixelRepresentation = "MONOCHROME2", 0
    shot.BitsAllocated = shot.BitsStored = 8
    shot.HighBit = 7
    shot.PixelData = bytes(64 * 64)
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    shot["PixelData"].VR = "OB"
    write_dataset(out, shot)
    return RawInstance(shot.SOPClassUID, uid, EXPLICIT, out.getvalue())
