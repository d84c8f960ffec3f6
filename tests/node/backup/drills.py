"""A hospital's days in small: what is stored and decided, and everything that a node answers afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node.app import Node, open_node
from node.contracts import Device, Service
from tests.homes import Peer, RawInstance, attribute, edited, phantoms, serving
from tests.running import PEERPACS

WHO = {"reason": "a drill", "who": "tester"}
CT = Device(ae_title="CT", services=(Service.ECHO, Service.STORE, Service.FIND, Service.GET))


def uid(instance: RawInstance, keyword: str = "StudyInstanceUID") -> str:
    return str(attribute(instance, keyword))


@contextmanager
def hospital(home: Path) -> Iterator[Node]:
    """Yield a serving node that knows the device CT and nobody else."""
    with serving(home, is_trusting=False) as node:
        node.devices.put(CT)
        yield node


def peerpacs(*words: str | Path, code: int = 0) -> str:
    """Run a command as a person would; return all it printed."""
    done = subprocess.run(
        [PEERPACS, *map(str, words)], capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


class Drill:
    """Studies by number, and the decisions about them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._verbs = node.desk.verbs()

    def store(self, *numbers: int, by: str = "CT") -> None:
        for number in numbers:
            assert set(Peer(self._node, by).store(*study(number))) == {0}

    def decide(self, verb: str, number: int, **more: Any) -> str:
        made = self._verbs[verb](target=uid(study(number)[0]), **more, **WHO)
        return str(made["decision"])

    def __getattr__(self, verb: str) -> Any:
        return lambda **told: self._verbs[verb](**told, **WHO)

    def first_days(self) -> dict[str, str]:
        """Before the backup: one of each kind of decision; return those that may be undone later."""
        self.store(0, 1, 2, 3, 4)
        self.store(5, 6, by="STRANGER")
        other = edited(study(4)[0], StudyDescription="OTHERWISE")
        assert Peer(self._node, "CT").store(other) == [0]
        version = self._verbs["conflict"](sop=other.SOPInstanceUID)["versions"][1]["sha256"]
        self.prefer(sop=other.SOPInstanceUID, sha256=version)
        kept = {
            "correct": self.decide("correct", 0, attributes=["PatientName=RIGHT^NAME"]),
            "reject": self.decide("reject", 1),
        }
        self.decide("delete", 2)
        gone = self.decide("reject", 3)
        self.undo(decision=gone)
        self.release(study=uid(study(5)[0]))
        return kept

    def later_days(self, kept: dict[str, str]) -> None:
        """After the backup: new studies, decisions about old and new ones, old ones taken back."""
        self.store(7, 8, 9)
        self.store(10, by="STRANGER")
        self.undo(decision=kept["correct"])
        self.undo(decision=kept["reject"])
        self.decide("correct", 4, attributes=["PatientName=LATER^NAME"])
        self.decide("reject", 3)
        self.decide("delete", 8)
        self.release(study=uid(study(6)[0]))
        self.discard(study=uid(study(10)[0]))
        self.store(2)


def study(number: int) -> list[RawInstance]:
    """Return a study of four small instances."""
    return phantoms(77, number, size=6000, series=2, instances=2)


def fingerprint(home: Path) -> dict[str, Any]:
    """Return everything that a node answers: at all levels, to its people, and of its decisions."""
    with open_node(home) as node:
        # What versions differ in is settled when they are indexed.
        while node.catalog.index(time.time()):
            pass
    with hospital(home) as node:
        peer, verbs = Peer(node, "CT"), node.desk.verbs()
        keys = dict.fromkeys(("PatientName", "PatientID", "StudyInstanceUID", "StudyDescription"), "")
        counts = dict.fromkeys(("NumberOfStudyRelatedInstances", "NumberOfStudyRelatedSeries"), "")
        studies = peer.find(**keys, **counts)
        series = [
            peer.find("SERIES", StudyInstanceUID=row["StudyInstanceUID"], SeriesInstanceUID="", Modality="")
            for row in studies
        ]
        images = [
            peer.find("IMAGE", **_unique(row), SOPInstanceUID="", InstanceNumber="")
            for found in series
            for row in found
        ]
        got = {
            one.SOPInstanceUID: str(attribute(one, "PatientName"))
            for row in studies
            for one in peer.get(row["StudyInstanceUID"])
        }
        uids = {number: uid(study(number)[0]) for number in range(12)}
        decisions = {number: list(node.catalog.decisions(uids[number])) for number in uids}
        totals = node.catalog.totals()
        told = {
            "studies": studies,
            "series": series,
            "images": images,
            "got": got,
            "conflicts": verbs["conflicts"](),
            "decided": verbs["conflicts"](resolved=True),
            "held": verbs["held"](),
            "decisions": decisions,
            "totals": (totals.studies, totals.series, totals.instances, totals.size, totals.stored),
            "register": sorted(key.decode() for key, _ in node.register.everything()),
        }
    return json.loads(json.dumps(told, default=str))  # type: ignore[no-any-return]


def _unique(row: dict[str, Any]) -> dict[str, str]:
    return {key: row[key] for key in ("StudyInstanceUID", "SeriesInstanceUID")}


def wipe_but_objects(home: Path) -> None:
    """Lose everything but the folders of objects."""
    for path in [*home.iterdir()]:
        if path.name != "archives":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in home.glob("archives/*/*"):
        if path.name != "objects":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
