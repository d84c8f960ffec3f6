"""Plain experiments: storing with more and more associations, and fetching one study by each way there is."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import Final

from ..cases import CT_512_KB
from ..clients import ClientError
from ..pdu import ProtocolError
from ..phantoms import Study, instances, study
from ..targets import Target
from ..traffic.replay import count as count_instances
from .loading import load
from .outcome import Outcome, Plan, Say
from .retrieving import refuse_part

_MB: Final = 1e6


class Store:
    """C-STORE of CT images of 512 KB over one, four and eight associations."""

    name = "store"
    title = "C-STORE of 512 KB CT"
    paper = ""
    _BASE = 12_000_000
    _ASSOCIATIONS: Final = (1, 4, 8)

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Send new studies, and find all of them afterwards."""
        each = plan.some(4000, 128) // 16 * 16
        outcome.way = "C-STORE" if target.address else "STOW-RS"
        outcome.columns, outcome.unit = ("associations", "instances/s", "MB/s"), "instances"
        outcome.of = each * len(self._ASSOCIATIONS)
        for turn, associations in enumerate(self._ASSOCIATIONS):
            studies = self._studies(plan, turn, each)
            began = time.perf_counter()
            stored = load(target, studies, outcome, say, associations)
            seconds = time.perf_counter() - began
            outcome.done += stored
            with target.finder() as finder:
                found = sum(count_instances(finder.find, made.StudyInstanceUID) for made in studies)
            if found != stored:
                raise ProtocolError(f"{stored} instances were acknowledged and {found} are found.")
            outcome.rows.append((associations, stored / seconds, stored * CT_512_KB / seconds / _MB))
            outcome.summary[f"{associations} associations, instances/s"] = stored / seconds

    def _studies(self, plan: Plan, turn: int, count: int) -> list[Study]:
        first = self._BASE + turn * 10_000
        return [study(plan.seed, first + n, instances=16, size=CT_512_KB) for n in range(count // 16)]


class Stow:
    """STOW-RS of CT images of 512 KB, ten in a request."""

    name = "stow"
    title = "STOW-RS of 512 KB CT, ten in a request"
    paper = ""

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Send new instances over one connection, and find all of them afterwards."""
        outcome.of = count = plan.some(1000, 20)
        outcome.way, outcome.unit = "STOW-RS", "instances"
        outcome.columns = ("instances", "instances/s", "MB/s")
        made = study(plan.seed, 13_000_000, instances=count, size=CT_512_KB)
        whole = list(instances(made))
        began = time.perf_counter()
        for _ in target.stow(whole[start : start + 10] for start in range(0, count, 10)):
            outcome.done += 1
        seconds = time.perf_counter() - began
        with replace(target, address=None).finder() as finder:
            found = count_instances(finder.find, made.StudyInstanceUID)
        if found != count:
            raise ProtocolError(f"{count} instances were acknowledged and {found} are found.")
        outcome.rows.append((count, count / seconds, count * CT_512_KB / seconds / _MB))
        outcome.summary["instances/s"] = count / seconds


class _Fetch:
    """One study of 128 CT images of 512 KB, five times."""

    way: str
    paper = ""

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Load the study and fetch it again and again."""
        repetitions = 5
        outcome.way, outcome.unit, outcome.of = self.way, "retrieves", repetitions
        outcome.columns = ("instances", "median s", "instances/s", "MB/s")
        if self.way == "C-MOVE" and not target.destination:
            raise ClientError("No destination was given. Say where we may receive: --destination AE:port.")
        made = study(plan.seed, 14_000_000, instances=plan.some(128, 8), size=CT_512_KB)
        if not plan.is_loaded:
            load(target, [made], outcome, say)
        times: list[float] = []
        outcome.samples["seconds"] = times
        with target.retriever(self.way) as retriever:
            for _ in range(repetitions):
                fetched = retriever.study(made.StudyInstanceUID, made.total_size)
                refuse_part(fetched, made)
                times.append(fetched.seconds)
                outcome.done += 1
        rate = made.instances / median(times)
        outcome.rows.append((made.instances, median(times), rate, rate * CT_512_KB / _MB))
        outcome.summary["instances/s"] = rate


class Move(_Fetch):
    """The study by C-MOVE."""

    name, title, way = "move", "C-MOVE of one study", "C-MOVE"


class Get(_Fetch):
    """The study by C-GET."""

    name, title, way = "get", "C-GET of one study", "C-GET"


class Wado(_Fetch):
    """The study by WADO-RS."""

    name, title, way = "wado", "WADO-RS of one study", "WADO-RS"
