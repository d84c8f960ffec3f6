"""The private block PEERPACS 1.0 of grid answers: who holds a study, how old that is, and who did not answer.

It is answered to who asks for it: a question that reserves a block of group 0077 by its Private Creator
(PS3.5 7.8.1) is given as many of the elements as it names. No key of it is matched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from catalog import Attributes, Query, texts

from .merging import HERE, Merged
from .outcomes import Manners, Outcome, is_fresh, is_missing

CREATOR: Final = "PEERPACS 1.0"
_GROUP: Final = "0077"
ELEMENTS: Final = (
    (1, "Home Site", "LO", "1", "who received the study first"),
    (2, "Holder Sites", "LO", "1-n", "who holds it, or a part of it"),
    (
        3,
        "Holder Ages",
        "IS",
        "1-n",
        "seconds since each one's statement was known to be right, in that order",
    ),
    (
        4,
        "Identity Conflict",
        "CS",
        "1",
        "YES where its UIDs are stated with other patients or bytes too, or NO",
    ),
    (5, "Sites Missing", "LO", "1-n", "sites whose studies may be missing from this answer"),
    (6, "Sites Not Up To Date", "LO", "1-n", "sites of which an older copy was asked"),
    (7, "Their Ages", "IS", "1-n", "seconds, in that order"),
)
"""Element, name, VR, VM and meaning; the element stands behind the block's number."""
_HOME, _HOLDERS, _AGES, _CONFLICT, _MISSING, _STALE, _STALE_AGES = (row[0] for row in ELEMENTS)
KEYS: Final[Attributes] = {
    f"{_GROUP}0010": {"vr": "LO", "Value": [CREATOR]},
    **{f"{_GROUP}10{element:02X}": {"vr": "UN"} for element, *_ in ELEMENTS},
}
"""Keys that ask for the whole block."""


class Known(NamedTuple):
    """What is known of one owner: its site, and how old that is in seconds, None for never right."""

    site: str
    age: float | None


def set_apart(query: Query) -> tuple[Query, str]:
    """Return the question without the block, and which one it reserved, like `10`; empty for none."""
    for tag, key in query.keys.items():
        if tag.startswith(f"{_GROUP}00") and texts(key) == [CREATOR]:
            block = tag[6:]
            own = (tag, *(each for each in query.keys if each.startswith(_GROUP + block)))
            rest = {each: value for each, value in query.keys.items() if each not in own}
            return msgspec.structs.replace(query, keys=rest), block
    return query, ""


def of_study(block: str, study: Merged, known: Callable[[bytes], Known]) -> Attributes:
    """Return what the block says of a study; `known` says of an owner what is known."""
    home = min(study.holders, key=lambda each: (not each.states_identity, each.stated.study.received))
    holders = [known(each.owner) for each in study.holders]
    return {
        f"{_GROUP}00{block}": {"vr": "LO", "Value": [CREATOR]},
        **_element(block, _HOME, "LO", [known(home.owner).site]),
        **_element(block, _HOLDERS, "LO", [each.site for each in holders]),
        **_element(block, _AGES, "IS", [_seconds(each.age) for each in holders]),
        **_element(block, _CONFLICT, "CS", ["YES" if study.has_conflict else "NO"]),
    }


def of_answer(block: str, outcomes: Sequence[Outcome], manners: Manners) -> Attributes:
    """Return what the block says of the whole answer, the same in each match."""
    missing = [each for each in outcomes if is_missing(each, manners)]
    stale = [each for each in outcomes if each not in missing and not is_fresh(each, manners)]
    return {
        **_element(block, _MISSING, "LO", [each.site for each in missing]),
        **_element(block, _STALE, "LO", [each.site for each in stale]),
        **_element(block, _STALE_AGES, "IS", [_seconds(each.age) for each in stale]),
    }


def owners(known: Iterable[tuple[bytes, Known]], own_site: str) -> Callable[[bytes], Known]:
    """Return what `of_study` asks, from what is known of peers."""
    table = {HERE: Known(own_site, 0.0), **dict(known)}
    return lambda owner: table.get(owner, Known("", None))


def _element(block: str, element: int, vr: str, values: list[Any]) -> Attributes:
    tag = f"{_GROUP}{block}{element:02X}"
    plain = [each.replace("\\", "/")[:64] if isinstance(each, str) else each for each in values]
    return {tag: {"vr": vr, "Value": plain} if plain else {"vr": vr}}


def _seconds(age: float | None) -> int | None:
    return None if age is None else int(age)
