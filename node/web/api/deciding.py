"""What the REST API takes of a person's decisions about studies and series, as structs."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from catalog import RejectedFor
from node.retention import Basis

from .answers import Reason, Uid


class Rejecting(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why something is rejected."""

    reason: Reason
    why: RejectedFor = RejectedFor.QUALITY


class Correcting(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attributes as they are to be, `Keyword=Value` each; of a study, or of the series or instance named."""

    reason: Reason
    attributes: Annotated[list[str], Meta(min_length=1, max_length=100)]
    below: Annotated[str, Meta(max_length=130)] = ""
    """Empty for the whole study, or SeriesInstanceUID, or SeriesInstanceUID/SOPInstanceUID."""


class Decided(Struct, frozen=True, kw_only=True):
    """What a person decided about a study, or about something in it."""

    decision: str
    verb: str
    target: str
    """StudyInstanceUID, and behind slashes the series and instance, if it is about one."""
    who: str
    when: int
    """Milliseconds since 1970."""
    reason: str
    attributes: dict[str, str]
    """By keyword, as corrected; several values with a backslash between them."""
    to: str
    """For a moved series the study it went to."""
    is_undone: bool
    can_be_undone: bool


class Moving(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which series belong to which study."""

    series: Annotated[list[Uid], Meta(min_length=1, max_length=1000)]
    to: Annotated[str, Meta(max_length=64)] = ""
    """StudyInstanceUID; empty for a new study."""
    attributes: Annotated[list[str], Meta(max_length=100)] = []
    """`Keyword=Value` of a new study."""
    reason: Reason


class Joining(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Into which study another one goes."""

    into: Uid
    reason: Reason


class RuleOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A retention rule as it is to be; it lets something go once it is activated."""

    keys: Annotated[list[str], Meta(max_length=100)] = []
    """`Keyword=Value` that studies must match; empty: all."""
    years: Annotated[float, Meta(gt=0, le=1000)]
    basis: Basis = Basis.STUDY
    until_age: Annotated[float, Meta(ge=0, le=150)] = 0.0


class PlanQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which rule to count in besides the active ones, or to leave out."""

    name: Annotated[str, Meta(max_length=64)] = ""
    without: Annotated[str, Meta(max_length=64)] = ""
