"""The case of corrections: a study that a person corrected leaves beside the same one as it was stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from . import clients
from .cases import CT_512_KB, Contestant, Retrieve
from .phantoms import Study, study
from .report import Goal, Row
from .servers import PeerPACS, Server

_OTHERS: Final = 77
"""Seed of the studies that are corrected beside the one that is fetched."""


class Corrected(PeerPACS):
    """Our node, after a person corrected its study."""

    name = "corrected"

    def correct(self, StudyInstanceUID: str) -> None:
        """Have everything of the study leave under another patient."""
        right = ("PatientID=RIGHT-1", "PatientName=RIGHT^PERSON", "PatientBirthDate=19610412")
        self._set_up("correct", StudyInstanceUID, *right, "--reason", "wrong worklist entry")


class AsStored(PeerPACS):
    """Our node, with the study as it came."""

    name = "as stored"


@dataclass(slots=True)
class RetrieveCorrected(Retrieve):
    """C-MOVE to storescp and C-GET to getscu of one study, corrected and as it was stored."""

    name: str = "corrected"

    @property
    def title(self) -> str:
        return f"Retrieving a study of {self.instances} x 512 KB, corrected and as stored"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("C-MOVE to storescp", "/s", more_is_better=True, goal=Goal(at_least=0.5)),
            Row("C-GET to getscu", "/s", more_is_better=True, goal=Goal(at_least=0.5)),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"corrected": Corrected, "as stored": AsStored}

    def load(self, server: Server) -> None:
        clients.store(server.address, self._folders)
        if isinstance(server, Corrected):
            server.correct(self._study().StudyInstanceUID)


class BesideCorrected(PeerPACS):
    """Our node, with its study as it came, and corrections of others."""

    name = "others corrected"

    def correct(self, StudyInstanceUID: str) -> None:
        """Have everything of another study leave under another patient."""
        self._set_up(
            "correct", StudyInstanceUID, "PatientName=RIGHT^PERSON", "--reason", "wrong worklist entry"
        )


@dataclass(slots=True)
class RetrieveUncorrected(Retrieve):
    """C-MOVE to storescp and C-GET to getscu of a study that nobody corrected, beside others that were."""

    name: str = "uncorrected"
    others: int = 20

    @property
    def title(self) -> str:
        return (
            f"Retrieving a study of {self.instances} x 512 KB that nobody corrected, with {self.others} "
            "others corrected and with none"
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("C-MOVE to storescp", "/s", more_is_better=True, goal=Goal(at_least=0.95)),
            Row("C-GET to getscu", "/s", more_is_better=True, goal=Goal(at_least=0.95)),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"others corrected": BesideCorrected, "none corrected": AsStored}

    def held(self) -> list[Study]:
        return [self._study(), *self._beside()]

    def _beside(self) -> list[Study]:
        return [study(_OTHERS, number, instances=2, size=CT_512_KB) for number in range(self.others)]

    def load(self, server: Server) -> None:
        clients.store(server.address, self._folders)
        if isinstance(server, BesideCorrected):
            for each in self._beside():
                server.correct(each.StudyInstanceUID)
