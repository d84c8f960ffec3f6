"""The first rows of the study list, in the page's own HTML: what a person sees before any script runs.

The script draws the same list again from the same answer, and goes on from there; a test compares the two.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import falcon

from .files import Files

STEP: Final = 50
"""Rows that are shown at first; one more is asked for, to know whether there are more."""
_FIELDS: Final = {
    "PatientName": "Patient name",
    "PatientID": "Patient ID",
    "StudyDate": "Study date",
    "ModalitiesInStudy": "Modality",
    "AccessionNumber": "Accession number",
    "StudyDescription": "Description",
}
_NARROW: Final = {"StudyDate": "narrow", "ModalitiesInStudy": "narrow"}
_SHOWN: Final = (
    "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "NumberOfStudyRelatedSeries",
    "InstanceAvailability",
)  # fmt: skip
_UNESCAPED: Final = "-_.!~*'()"
"""What encodeURIComponent leaves as it is."""
_AVAILABLE: Final = {
    "ONLINE": ("good", "●", "here"),
    "NEARLINE": ("moving", "◐", "at another site"),
    "OFFLINE": ("waiting", "○", "site not reachable"),
    "UNAVAILABLE": ("bad", "✕", "not available"),
}
_HEADS: Final[tuple[tuple[str, str], ...]] = (
    ("Patient", ""), ("Date", "nowrap"), ("Modality", ""), ("Description", ""), ("Images", "number"),
    ("Sites", ""), ("Availability", "nowrap"),
)  # fmt: skip
Lookup = Callable[[falcon.Request, falcon.Response, str, bool, list[str], int], Any]
"""Asks as REST does: archive, of all sites or not, keys, most; None if it may not."""


class First(NamedTuple):
    """The answer to the page's first question."""

    path: str
    """What the script would ask."""
    answer: Any


def first(
    request: falcon.Request, response: falcon.Response, archive: str, has_grid: bool, lookup: Lookup
) -> First | None:
    """Return what the page's address asks for; None where the script is to ask, and to tell of trouble."""
    keys = [*_asked(request), *_SHOWN]
    is_everywhere = has_grid and request.get_param("here") != "true"
    answer = lookup(request, response, archive, is_everywhere, keys, STEP + 1)
    if answer is None:
        return None
    root = "/api" if archive == "main" else f"/api/archives/{archive}"
    query = "".join(f"key={quote(key, safe=_UNESCAPED)}&" for key in keys) + f"limit={STEP + 1}"
    return First(f"{'/api/grid' if is_everywhere else root}/studies?{query}", answer)


def _asked(request: falcon.Request) -> list[str]:
    asked = []
    for name in _FIELDS:
        text = (request.get_param(name) or "").strip()
        if not text:
            continue
        if name in ("PatientName", "StudyDescription") and not set(text) & {"*", "?"}:
            text = f"{text}*" if name == "PatientName" else f"*{text}*"
        asked.append(f"{name}={text.upper() if name == 'ModalitiesInStudy' else text}")
    return asked


class Words:
    """The sentences of a language, as the scripts say them."""

    def __init__(self, files: Files, language: str) -> None:
        file = files.get(f"{language}.json")
        self._sentences: dict[str, Any] = json.loads(file.content) if file else {}
        self._gap = {"cs": "\u00a0"}.get(language, ",")

    def __call__(self, sentence: str, **values: Any) -> str:
        """Return a sentence, escaped for HTML; `{n}` in it chooses its form."""
        found = self._sentences.get(sentence, sentence)
        if isinstance(found, dict):
            n = values["n"]
            form = "one" if n == 1 else "few" if 2 <= n <= 4 and "few" in found else "other"
            found = found[form]
        for name, value in values.items():
            found = found.replace(f"{{{name}}}", self.count(value) if isinstance(value, int) else str(value))
        return html.escape(found)

    def count(self, number: Any) -> str:
        """Return a number as the language groups it."""
        return f"{int(number or 0):,}".replace(",", self._gap)


def drawn(found: First, words: Words, archive: str) -> str:
    """Return the HTML of the page's content: its heading, its fields, and the first rows."""
    studies = found.answer["studies"] if isinstance(found.answer, dict) else found.answer
    is_of_grid = isinstance(found.answer, dict)
    heads = [head for head in _HEADS if is_of_grid or head[0] != "Sites"]
    rows = "".join(_row(row, heads, words, archive) for row in studies[:STEP])
    fields = "".join(
        f'<label class="field {_NARROW.get(name, "")}"><span>{words(label)}</span><input></label>'
        for name, label in _FIELDS.items()
    )
    table = "".join(f'<th class="{kind}" scope="col">{words(head)}</th>' for head, kind in heads)
    return (
        '<header class="top"></header><nav class="places"></nav>'
        f'<main id="main"><h1>{words("Studies")}</h1><form class="filters">{fields}</form>'
        f'<p class="answered">\u00a0</p><div class="scroll"><table><thead><tr>{table}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></main>"
    )


def _row(row: Mapping[str, Any], heads: Sequence[tuple[str, str]], words: Words, archive: str) -> str:
    tail = "" if archive == "main" else f"?archive={quote(archive)}"
    link = html.escape(f"/study/{row.get('StudyInstanceUID', '')}{tail}")
    born = " ".join(filter(None, (_day(row.get("PatientBirthDate")), str(row.get("PatientSex") or ""))))
    whose = _identity(row.get("PatientID"), row.get("IssuerOfPatientID"))
    kind, mark, says = _AVAILABLE.get(row.get("InstanceAvailability") or "ONLINE", _AVAILABLE["UNAVAILABLE"])
    name = html.escape(_person(row.get("PatientName"))) or words("(no name)")
    badges = "".join(_badge(site, words) for site in row.get("sites") or ())
    cells = {
        "Patient": f'<a href="{link}">{name}</a> '
        f'<span class="aside">{html.escape(born)}</span>{_under(whose)}',
        "Date": html.escape(_day(row.get("StudyDate"), row.get("StudyTime"))),
        "Modality": html.escape(_list(row.get("ModalitiesInStudy"))),
        "Description": html.escape(_list(row.get("StudyDescription"))) + _under(row.get("AccessionNumber")),
        "Images": _images(row, words),
        "Sites": f'<span class="badges">{badges}</span>',
        "Availability": f'<span class="state {kind}"><span aria-hidden="true">{mark}</span> '
        f"{words(says)}</span>",
    }
    shown = "".join(
        f'<td class="{kind}" data-head="{words(head)}">{cells[head]}</td>' for head, kind in heads
    )
    return f"<tr>{shown}</tr>"


def _images(row: Mapping[str, Any], words: Words) -> str:
    whole, here = row.get("NumberOfStudyRelatedInstances"), row.get("here")
    series = row.get("NumberOfStudyRelatedSeries")
    under = [words("{n} series", n=int(series))] if series else []
    if here and int(here) < int(whole or 0):
        under.append(words("{k} here", k=int(here)))
    return f'{words.count(whole)}<span class="under">{" · ".join(under)}</span>'


def _badge(site: Mapping[str, Any], words: Words) -> str:
    kinds = f"badge {'whole' if site['is_whole'] else 'part'}{'' if site['is_reachable'] else ' away'}"
    part = "" if site["is_whole"] else f" {words.count(site['instances'])}"
    return f'<span class="{kinds}">{html.escape(site["site"])}{part}</span>'


def _under(text: Any) -> str:
    return f'<span class="under">{html.escape(str(text))}</span>' if text else ""


def _list(value: Any) -> str:
    return ", ".join(str(each) for each in (value if isinstance(value, list) else [value]) if each)


def _day(DA: Any, TM: Any = "") -> str:
    found = re.fullmatch(r"(\d{4})(\d\d)(\d\d)", str(DA or ""), re.ASCII)
    if not found:
        return str(DA or "")
    shown, time = "-".join(found.groups()), str(TM or "")
    return f"{shown} {time[:2]}:{time[2:4]}" if re.match(r"\d{4}", time, re.ASCII) else shown


def _person(PN: Any) -> str:
    family, given, middle, prefix, suffix = (*str(PN or "").split("=")[0].split("^"), *[""] * 5)[:5]
    before, rest = (" ".join(filter(None, each)) for each in ((prefix, family), (given, middle)))
    return ", ".join(filter(None, (before, rest, suffix)))


def _identity(PatientID: Any, IssuerOfPatientID: Any) -> str:
    known, issuer = str(PatientID or ""), str(IssuerOfPatientID or "")
    is_said = not issuer or known.startswith(f"{issuer}/")
    return " ".join(filter(None, (known, "" if is_said else f"({issuer})")))
