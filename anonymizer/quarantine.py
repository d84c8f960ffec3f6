"""Why an instance is not released: a reason code for programs and a sentence for the curator."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The reasons to hold an instance back; LEAK_FOUND holds its whole subject."""

    UNREADABLE = "UNREADABLE"
    UNSUPPORTED_SOP_CLASS = "UNSUPPORTED_SOP_CLASS"
    UNSUPPORTED_TS_FOR_REQUIRED_PIXEL_WORK = "UNSUPPORTED_TS_FOR_REQUIRED_PIXEL_WORK"
    NO_SUBJECT_IDENTITY = "NO_SUBJECT_IDENTITY"
    IDENTITY_CONFLICT = "IDENTITY_CONFLICT"
    DUPLICATE_INSTANCE = "DUPLICATE_INSTANCE"
    BURNED_IN_RISK = "BURNED_IN_RISK"
    FACE_RISK = "FACE_RISK"
    SR_WITHOUT_OPTION = "SR_WITHOUT_OPTION"
    ENCAPSULATED = "ENCAPSULATED"
    UI_ROLE_UNKNOWN = "UI_ROLE_UNKNOWN"
    CHARSET_UNDECODABLE = "CHARSET_UNDECODABLE"
    TEXT_REVIEW_PENDING = "TEXT_REVIEW_PENDING"
    LEAK_FOUND = "LEAK_FOUND"
    IOD_REGRESSION = "IOD_REGRESSION"
    DANGLING_REFERENCE = "DANGLING_REFERENCE"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class Quarantined(Exception):
    """This instance cannot be vouched for; `sentence` names no attribute value."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(f"{reason}: {sentence}")
        self.reason = reason
        self.sentence = sentence
