"""Content negotiation, PS3.18 8.7: what an Accept header asks for, as tolerantly as clients need it.

Quotes around parameters are optional, `transfer-syntax` may be `*`, and what cannot be understood is passed
over as long as something else can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import falcon

from .problems import Malformed, NotAcceptable

DICOM: Final = "application/dicom"
JSON: Final = "application/dicom+json"
OCTETS: Final = "application/octet-stream"
RELATED: Final = "multipart/related"
RENDERED: Final = ("image/jpeg", "image/png", "image/gif")
"""What is rendered here, PS3.18 Table 8.7.4-1; the first is the default."""
_FOR_EYES: Final = frozenset((*RENDERED, "application/pdf", "text/html", "text/plain", "text/rtf"))
_LONGEST: Final = 4096
_MOST: Final = 64
_TYPE: Final = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+")
_PARAMETER: Final = re.compile(r'\s*;\s*([\w!#$&^.+-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*')
_Choice = TypeVar("_Choice")


class MediaRange(NamedTuple):
    """One alternative of an Accept header; types in lower case, "" where a parameter is absent."""

    kind: str
    """`type/subtype`, either of which may be `*`."""
    root: str
    """The `type` parameter of multipart/related, `*/*` if that has none."""
    transfer_syntax: str
    quality: float

    @property
    def is_multipart(self) -> bool:
        """Whether it asks for multipart/related."""
        return self.kind == RELATED

    @property
    def wanted(self) -> str:
        """The media type of the representation itself, in a multipart or alone."""
        return self.root if self.is_multipart else self.kind

    def covers(self, media_type: str) -> bool:
        """Say whether a media type is in the range, whatever it is packed in."""
        return _covers(self.wanted, media_type)


def _covers(pattern: str, media_type: str) -> bool:
    if pattern in ("*/*", media_type):
        return True
    return pattern.endswith("/*") and media_type.startswith(pattern[:-1])


def accepted(request: falcon.Request, *, default: str = "") -> list[MediaRange]:
    """Return what the request accepts, best first; `default` is for one that does not say.

    The query parameter `accept` goes before the header (PS3.18 8.3.3.1).

    Raises:
        NotAcceptable: it says nothing, or nothing that can be understood (PS3.18 8.7.5).
        Malformed: it asks for DICOM and for a rendering at once.
    """
    text = _from_query(request.query_string) or request.get_header("Accept") or default
    if not text:
        raise NotAcceptable("The request has no Accept header.", "Say what you take, at least */*.")
    ranges = parse(text)
    if not ranges:
        raise NotAcceptable("The Accept header names no media type.", "Say what you take, at least */*.")
    _refuse_mixture(ranges)
    return [each for each in ranges if each.quality > 0]


def _from_query(query: str) -> str:
    if "accept" not in query:
        return ""
    # A plus sign is part of a media type here, and never a space.
    pairs = parse_qsl(query.replace("+", "%2B"), max_num_fields=500)
    return ",".join(value for name, value in pairs if name == "accept")


def parse(text: str) -> list[MediaRange]:
    """Return the ranges of an Accept header: by quality, specific before general, then as written."""
    if len(text) > _LONGEST:
        raise Malformed(f"The Accept header has more than {_LONGEST} characters.", "Ask for less.")
    return list(_parsed(text))


@lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[MediaRange, ...]:
    """Clients say the same thing in each request."""
    found = [each for part in _parts(text)[:_MOST] if (each := _range(part))]
    return tuple(sorted(found, key=lambda each: (-each.quality, each.wanted.count("*"))))


def _parts(text: str) -> list[str]:
    """Divide at the commas outside quotes."""
    parts, start, is_quoted, is_escaped = [], 0, False, False
    for place, character in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif is_quoted and character == "\\":
            is_escaped = True
        elif character == '"':
            is_quoted = not is_quoted
        elif character == "," and not is_quoted:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _range(text: str) -> MediaRange | None:
    text = text.strip()
    match = _TYPE.match(text)
    if match is None:
        # Java's own client sends a lone star.
        return MediaRange("*/*", "", "", 1.0) if text.partition(";")[0].strip() == "*" else None
    kind = match[0].lower()
    parameters = parameters_of(text[match.end() :])
    try:
        quality = min(1.0, max(0.0, float(parameters.get("q", "1"))))
    except ValueError:
        return None
    if quality != quality:
        return None
    root = parameters.get("type", "*/*").lower() if kind == RELATED else ""
    return MediaRange(kind, root, parameters.get("transfer-syntax", ""), quality)


def parameters_of(text: str) -> dict[str, str]:
    """Return the parameters behind a media type, names in lower case; of several the first one counts."""
    found: dict[str, str] = {}
    place = 0
    while match := _PARAMETER.match(text, place):
        value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        found.setdefault(match[1].lower(), value)
        place = match.end()
    return found


def content_type(text: str) -> tuple[str, dict[str, str]]:
    """Return the media type of a Content-Type header in lower case, and its parameters."""
    match = _TYPE.match(text.strip())
    if match is None:
        return "", {}
    return match[0].lower(), parameters_of(text.strip()[match.end() :])


def _refuse_mixture(ranges: Iterable[MediaRange]) -> None:
    asked = {each.kind for each in ranges}
    is_dicom = any(kind in (RELATED, OCTETS) or kind.startswith(DICOM) for kind in asked)
    if is_dicom and not asked.isdisjoint(_FOR_EYES):
        raise Malformed(
            "The Accept header asks for DICOM and for a rendering at once.",
            "Ask for one of them: renderings are at …/rendered.",
        )


def choose(
    ranges: Sequence[MediaRange], offer: Callable[[MediaRange], _Choice | None], offered: str
) -> _Choice:
    """Return the first offer that the ranges allow, best first; `offered` says what there is.

    Raises:
        NotAcceptable: there is none.
    """
    for each in ranges:
        choice = offer(each)
        if choice is not None:
            return choice
    raise NotAcceptable("Nothing of what the Accept header allows can be given.", f"There is {offered}.")


def one_of(ranges: Sequence[MediaRange], types: Sequence[str]) -> str:
    """Return the media type, unpacked, that the ranges prefer.

    Raises:
        NotAcceptable: they allow none of them.
    """

    def offer(asked: MediaRange) -> str | None:
        if asked.is_multipart:
            return None
        return next((each for each in types if asked.covers(each)), None)

    return choose(ranges, offer, " or ".join(types))
