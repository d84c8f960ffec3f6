"""What a project assigns beside the policy: whose the Patient IDs are, subject ids, and time points."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Label(NamedTuple):
    """Clinical Trial Subject ID (0012,0040) and Time Point ID (0012,0050); empty = none was assigned."""

    subject_id: str = ""
    time_point: str = ""


UNLABELLED = Label()


@dataclass(frozen=True)
class Assignment:
    """By subject identity (`keys.identity_of`) the subject id, by Study Instance UID the time point.

    `issuer` is whose Patient IDs are that come without one, so that sites agree on who somebody is; `issuers`
    says so for single studies, by Study Instance UID. `same` says which identities people linked: the one by
    which the person goes, by each of the others.
    """

    issuer: str = ""
    subject_ids: Mapping[str, str] = field(default_factory=dict, hash=False)
    time_points: Mapping[str, str] = field(default_factory=dict, hash=False)
    issuers: Mapping[str, str] = field(default_factory=dict, hash=False)
    same: Mapping[str, str] = field(default_factory=dict, hash=False)

    def label(self, identity: str, study: str) -> Label:
        """What was assigned to this subject and study."""
        return Label(self.subject_ids.get(identity, ""), self.time_points.get(study, ""))

    def issuer_of(self, study: str) -> str:
        """Whose the Patient ID of a study is that does not say so."""
        return self.issuers.get(study, self.issuer)

    @property
    def texts(self) -> set[str]:
        """Everything that was assigned, as it will stand in files."""
        return {text for text in (*self.subject_ids.values(), *self.time_points.values()) if text}

    @property
    def digest(self) -> str:
        """Tells assignments apart without telling what they hold."""
        tables = (self.issuers, self.subject_ids, self.time_points, self.same)
        parts = (self.issuer, *(sorted(table.items()) for table in tables))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


NOTHING = Assignment()
