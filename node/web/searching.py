"""QIDO-RS, PS3.18 10.6: searching at every level, answered by the catalog's find as C-FIND is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from catalog import UNIQUE_KEY, Attributes, Level, OutOfSpace, Selection, answer
from node.contracts import GridAnswer
from node.keys import keyword_of, text_of

from .exchange import Exchange
from .media import JSON, accepted, one_of
from .metadata import headers
from .problems import Malformed
from .questions import MOST, Question, understand

_RETRIEVE_URL: Final = "00081190"
_ABOUT_THE_EXCHANGE: Final = frozenset(("00080052", "00080054"))
_CSV: Final = "text/csv"
_TYPES: Final = (JSON, "application/json", _CSV)
_encode: Final = msgspec.json.Encoder().encode


def search_studies(exchange: Exchange) -> None:
    """Answer /studies."""
    _search(exchange, Level.STUDY)


def search_series(exchange: Exchange) -> None:
    """Answer /series and /studies/{study}/series."""
    _search(exchange, Level.SERIES)


def search_instances(exchange: Exchange) -> None:
    """Answer /instances, /studies/{study}/instances and /studies/{study}/series/{series}/instances."""
    _search(exchange, Level.IMAGE)


def count_studies(exchange: Exchange) -> None:
    """Answer /studies/count."""
    _count(exchange, Level.STUDY)


def count_series(exchange: Exchange) -> None:
    """Answer /series/count."""
    _count(exchange, Level.SERIES)


def count_instances(exchange: Exchange) -> None:
    """Answer /instances/count."""
    _count(exchange, Level.IMAGE)


def _search(exchange: Exchange, level: Level) -> None:
    media_type = one_of(accepted(exchange.request, default=JSON), _TYPES)
    question = _understood(exchange, level)
    found = _matches(exchange, question)
    most = MOST if question.limit is None else min(question.limit, MOST)
    page = list(islice(found, question.offset, question.offset + most)) if most else []
    remaining = 0
    if len(page) == MOST and question.limit != MOST and exchange.scope.grid is None:
        remaining = sum(1 for _ in found)
    answers = [_told(exchange, question, match) for match in page]
    if question.is_everything:
        answers = [_whole(exchange, each) for each in answers]
    for warning in question.warnings:
        exchange.warn(warning)
    if remaining:
        exchange.warn(f"There are {remaining} additional results that can be requested.")
    exchange.record("find", level=level.value, answers=len(answers))
    exchange.response.set_header("Cache-Control", "private, no-cache")
    if not answers:
        exchange.response.status = 204
    elif media_type == _CSV:
        exchange.reply(_table(answers), "text/csv; charset=utf-8; header=present")
    else:
        exchange.reply(_encode(answers), media_type)


def _count(exchange: Exchange, level: Level) -> None:
    media_type = one_of(accepted(exchange.request, default="application/json"), ("application/json", JSON))
    question = _understood(exchange, level)
    count = sum(1 for _ in _matches(exchange, question))
    for warning in question.warnings:
        exchange.warn(warning)
    exchange.record("find", level=level.value, answers=count)
    exchange.response.set_header("Cache-Control", "private, no-cache")
    exchange.reply(_encode({"count": count}), media_type)


def _understood(exchange: Exchange, level: Level) -> Question:
    named = {
        UNIQUE_KEY[at]: exchange.named[word]
        for at, word in ((Level.STUDY, "study"), (Level.SERIES, "series"))
        if word in exchange.named
    }
    question = understand(exchange.request.query_string, level, named, is_below_root=not named)
    if question.empties & {UNIQUE_KEY[each] for each in Level}:
        raise Malformed("A UID is never empty.", "Ask for another attribute.")
    return question


def _matches(exchange: Exchange, question: Question) -> Iterator[Attributes]:
    grid = exchange.scope.grid
    if grid is None:
        found = exchange.scope.catalog.find(question.query)
    else:
        found = _of_grid(exchange, grid.ask(question.query))
    if not question.empties:
        return found
    return (each for each in found if not any(each.get(tag, {}).get("Value") for tag in question.empties))


def _of_grid(exchange: Exchange, asked: GridAnswer) -> Iterator[Attributes]:
    """Yield what the grid answers; the client is told what may be missing.

    That is where it has more than one answer may hold, and where sites are missing, of which more may be
    known behind the last match than before the first.
    """
    told = ""
    for matches in (iter(()), asked.matches):
        try:
            yield from matches
        except OutOfSpace as error:
            exchange.warn(f"{error.what} {error.next}".rstrip())
        if (warning := asked.warning()) != told:
            exchange.warn(warning)
            told = warning


def _told(exchange: Exchange, question: Question, match: Attributes) -> Attributes:
    """Return what goes out of a match: the keys asked for, those nobody knows left out."""
    told = answer(question.query, match, ae_title=exchange.scope.ae_title)
    kept = {tag: told[tag] for tag in told if tag in match and tag not in _ABOUT_THE_EXCHANGE}
    kept["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    if "00080054" in question.query.keys:
        kept["00080054"] = told["00080054"]
    if "00080056" in question.query.keys:
        kept.setdefault("00080056", {"vr": "CS", "Value": ["ONLINE"]})
    kept[_RETRIEVE_URL] = {"vr": "UR", "Value": [_url(exchange, question.query.level, match)]}
    return dict(sorted(kept.items()))


def _url(exchange: Exchange, level: Level, match: Attributes) -> str:
    uids = [
        match[UNIQUE_KEY[at]]["Value"][0]
        for at in (Level.STUDY, Level.SERIES, Level.IMAGE)
        if at is level or UNIQUE_KEY[at] in match
    ]
    return exchange.url(*uids[: {Level.STUDY: 1, Level.SERIES: 2, Level.IMAGE: 3}[level]])


def _whole(exchange: Exchange, told: Attributes) -> Attributes:
    """Return an instance's answer with every attribute that its own header has."""
    uid = told[UNIQUE_KEY[Level.IMAGE]]["Value"][0]
    entries = exchange.scope.catalog.select(Selection(instances=(uid,)))
    if not entries:
        return told
    header: dict[str, Any] = msgspec.json.decode(headers(exchange, entries)[0])
    return dict(sorted({**header, **told}.items()))


def _table(answers: list[Attributes]) -> bytes:
    """Return the answers as RFC 4180: keywords, then a line each; several values divided by backslashes."""
    tags = sorted({tag for each in answers for tag in each} - {"00080005"})
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(keyword_of(tag) for tag in tags)
    writer.writerows([text_of(each.get(tag, {})) for tag in tags] for each in answers)
    return out.getvalue().encode()
