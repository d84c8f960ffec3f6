"""The case of corrections: a study that a person corrected leaves beside the same one as it was stored."""

from __future__ import annotations

from dataclasses import dataclass

from . import clients
from .cases import Contestant, Retrieve
from .report import Goal, Row
from .servers import PeerPACS, Server


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
