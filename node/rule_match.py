"""Whether a rule's `match` holds for a study of an archive: the archive's own catalog decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from catalog import Attributes, Catalog, Level, Matching, Query, understand
from catalog.attributes import BY_TAG
from node.keys import LEVEL, attributes_of

_STUDY: Final = "0020000D"
_ABOVE: Final = (Level.PATIENT, Level.STUDY)


def question_of(match: Iterable[str], study: str, wanted: Iterable[str] = ()) -> Attributes:
    """Return the Identifier that asks whether the keys hold for one series of a study.

    What is no attribute of patient, study or series is looked for in each instance. Raises as
    `keys.attributes_of`.
    """
    keys = attributes_of(match)
    known = [BY_TAG[tag].level for tag in keys if tag in BY_TAG]
    level = Level.IMAGE if Level.IMAGE in known else Level.SERIES
    if all(each in _ABOVE for each in known) and len(known) == len(keys):
        level = Level.STUDY
    asked = attributes_of([f"QueryRetrieveLevel={level}", f"StudyInstanceUID={study}", *wanted])
    return asked | keys | {LEVEL: asked[LEVEL], _STUDY: asked[_STUDY]}


def asked(match: Iterable[str], study: str) -> Query:
    """Return the question whether keys like `Modality=CT` hold for a study.

    Raises:
        BadRequest: a key names no attribute, or has a value that none can have.
    """
    return understand(
        question_of(match, study),
        patient_root=True,
        matching=Matching.RELATIONAL | Matching.COMBINED_DATE_TIME,
        is_lenient=True,
    )


def holds(catalog: Catalog, match: Iterable[str], study: str) -> bool:
    """Say whether keys like `Modality=CT` hold for a study."""
    return next(iter(catalog.find(asked(match, study))), None) is not None
