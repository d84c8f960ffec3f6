"""Standing rules of `peerpacs.toml`: `[[route]]`, `[[prefetch]]` and `[[old_pacs]]`, each with its line.

They are tables in lists, so they lie beside the sections; what is wrong with one is said with the file and
the line, by `peerpacs check` as at the start.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from catalog import BadRequest, Matching, compile_matcher
from node.hours import read_hours
from node.rule_match import asked
from node.sections import Count, Megabytes, Name, Seconds

T = TypeVar("T", "RouteRule", "PrefetchRule", "OldPacs")
Lane = Literal["now", "normal", "bulk"]
Words = tuple[str, ...]
FileText = Annotated[str, Meta(max_length=400)]
_SCHEMES: Final = ("ae:", "http://", "https://", "s3://", "peer:")


class RouteRule(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"senders": "from"}
):
    """What becomes complete, matches, and came from one of the senders, is sent to one place."""

    name: Name
    to: Annotated[str, Meta(min_length=1, max_length=400)]
    """ae:TITLE, https://host/dicom-web, s3://bucket/prefix or peer:NAME."""
    match: Words = ()
    """`Keyword=Value`; all of them must hold for one series of the study."""
    senders: Words = ()
    """AE titles; empty = all but those that the archive was moved in from."""
    profile: Annotated[str, Meta(max_length=64)] = ""
    """The research project by whose key and policy it is de-identified on its way; empty = as it is."""
    archive: Name = "main"
    lane: Lane = "normal"
    token_file: FileText = ""
    """Of a web server: the file with the bearer token."""
    endpoint: Annotated[str, Meta(max_length=200)] = ""
    access_key_file: FileText = ""
    secret_key_file: FileText = ""
    """Of a bucket; empty = as [s3] says."""


class PrefetchRule(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"senders": "from"}
):
    """When a study arrives, earlier ones of its patient are fetched from the grid."""

    name: Name
    match: Words = ()
    senders: Words = ()
    most: Annotated[int, Meta(ge=1, le=1000)] = 5
    """Studies, the newest first."""
    modalities: Words = ()
    """Of the earlier study; `same` = one of the new study's; empty = any."""
    same_body_part: bool = False
    """Only those of which a series has a Body Part Examined of the new study; where that says none, all."""
    years: Annotated[float, Meta(ge=0, le=150)] = 0.0
    """At most so many years older than the new study; 0 = of any age."""
    lane: Lane = "normal"


class OldPacs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A PACS that is asked and fetched from, and never changed: its studies appear in the grid."""

    name: Name
    ae_title: Name
    """Of its row in the device book."""
    receive_as: Annotated[str, Meta(min_length=1, max_length=16)]
    """Our AE title to which it sends what is fetched from it; it must know it as a C-MOVE destination."""
    issuer: Annotated[str, Meta(max_length=64)] = ""
    """Whose Patient IDs its own are; empty = the node's."""
    associations: Count = 2
    hours: Annotated[str, Meta(max_length=16)] = ""
    """As 19-06; outside of them it is neither asked nor fetched from. Empty = at any hour."""
    patience: Seconds = 5.0
    """Seconds that a question waits for one of the associations."""
    cache_mb: Megabytes = 20_000


class Standing(NamedTuple):
    """All standing rules, in the order of the file."""

    routes: tuple[RouteRule, ...] = ()
    prefetch: tuple[PrefetchRule, ...] = ()
    old_pacs: tuple[OldPacs, ...] = ()


LISTS: Final[dict[str, type[msgspec.Struct]]] = {
    "route": RouteRule,
    "prefetch": PrefetchRule,
    "old_pacs": OldPacs,
}
"""What `[[...]]` may say."""


def load_standing(path: Path) -> Standing:
    """Read the rules of a home's file, which `load_config` has read. Raises as `read_standing`."""
    return read_standing(path.read_text(encoding="utf-8"), str(path))


def read_standing(text: str, source: str) -> Standing:
    """Understand the rules of a configuration's text.

    Raises:
        BadRequest: one says what none can; the sentence names its line.
    """
    raw = tomllib.loads(text)
    return Standing(
        tuple(_read(raw, text, source, "route", RouteRule)),
        tuple(_read(raw, text, source, "prefetch", PrefetchRule)),
        tuple(_read(raw, text, source, "old_pacs", OldPacs)),
    )


def _read(raw: dict[str, Any], text: str, source: str, word: str, kind: type[T]) -> Iterator[T]:
    tables = raw.get(word, [])
    if not isinstance(tables, list):
        raise BadRequest(f"[{word}] in {source} must be [[{word}]].", "There may be several of them.")
    seen: set[str] = set()
    for number, table in enumerate(tables):
        try:
            rule = msgspec.convert(table, kind)
            _check(rule)
        except msgspec.ValidationError as error:
            at = _line(text, word, number, _key_of(str(error)))
            what = f"Line {at} of {source}, [[{word}]]: {str(error).replace(' - at `$.', ' in `')}."
            raise BadRequest(what, _suggestion(str(error), kind)) from None
        except BadRequest as error:
            at = _line(text, word, number, error.tags[0] if error.tags else "")
            raise BadRequest(f"Line {at} of {source}, [[{word}]]: {error.what}", error.next) from None
        if rule.name in seen:
            at = _line(text, word, number, "name")
            what = f"Line {at} of {source}: there are two [[{word}]] of the name {rule.name!r}."
            raise BadRequest(what, "Give each its own.")
        seen.add(rule.name)
        yield rule


def _check(rule: RouteRule | PrefetchRule | OldPacs) -> None:
    """Raises BadRequest, its key in `tags`."""
    key = "hours"
    try:
        if isinstance(rule, OldPacs):
            read_hours(rule.hours)
            return
        key = "match"
        if any("=" not in pair for pair in rule.match):
            raise BadRequest("A match is not Keyword=Value.", "For example: match = ['Modality=CT']")
        compile_matcher(asked(rule.match, "1.2").keys, Matching.RELATIONAL)
        key = "to"
        if isinstance(rule, RouteRule) and not (
            rule.to.startswith(_SCHEMES) and rule.to.partition(":")[2].strip("/")
        ):
            remedy = "Write ae:TITLE, https://host/dicom-web, s3://bucket/prefix or peer:NAME."
            raise BadRequest(f"{rule.to!r} is no place to send to.", remedy)
    except BadRequest as error:
        raise BadRequest(error.what, error.next, (key,)) from None


def _key_of(said: str) -> str:
    match = re.search(r"\$\.(\w+)", said) or re.search(r"unknown field `(\w+)`", said)
    return match[1] if match else ""


def _suggestion(said: str, kind: type[msgspec.Struct]) -> str:
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    close = difflib.get_close_matches(_key_of(said), known, n=1) if "unknown field" in said else []
    return f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(known)}."


def _line(text: str, word: str, number: int, key: str) -> int:
    """Return the line of a key in the `number`-th table of a list, or of the table's beginning."""
    head = re.compile(rf"\s*\[\[\s*{word}\s*\]\]")
    begin, seen = 1, -1
    for at, line in enumerate(text.splitlines(), 1):
        if head.match(line):
            seen += 1
            begin = at if seen == number else begin
        elif seen == number and key and re.match(rf"\s*[\"']?{key}[\"']?\s*=", line):
            return at
    return begin
