"""The HTML around every page: what a browser must know before any script runs, in the reader's language."""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Mapping
from string import Template
from typing import Any, Final, NamedTuple

import falcon

LANGUAGES: Final = ("en", "cs")
LOOKS: Final = ("auto", "light", "dark")
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Of the pages: stricter than what the rest of the server says. Nothing inline, nothing from elsewhere."""
_SHELL: Final = Template("""<!doctype html>
<html lang="$language" data-look="$look">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<meta name="peerpacs" content="$told">
<title>$title</title>
<link rel="icon" href="$icon" type="image/svg+xml">
<link rel="stylesheet" href="$style">
<link rel="preload" href="$sentences" as="fetch" crossorigin>
$preloads
<script type="module" src="$script"></script>
</head>
<body><noscript><p class="notice">$noscript</p></noscript><div id="page">$content</div></body>
</html>
""")
AGAIN: Final = (
    b'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0"><title>PeerPACS</title>'
)
"""Has a browser that came by a link of another site ask once more, as from here, with its cookie."""
_NO_SCRIPT: Final = {
    "en": "These pages need JavaScript. The same can be asked with curl: see /openapi.json.",
    "cs": "Tyto stránky potřebují JavaScript. Totéž lze získat přes curl, viz /openapi.json.",
}


class Reader(NamedTuple):
    """How whoever looks wants to see pages."""

    language: str
    look: str


def reader_of(request: falcon.Request) -> Reader:
    """Return what the reader chose here, else what the browser prefers."""
    chosen = (request.get_cookie_values("language") or [""])[0]
    look = (request.get_cookie_values("look") or [""])[0]
    preferred = request.get_header("Accept-Language", default="")
    wanted = (part.split(";")[0].strip().lower()[:2] for part in preferred.split(","))
    language = chosen if chosen in LANGUAGES else next((each for each in wanted if each in LANGUAGES), "en")
    return Reader(language, look if look in LOOKS else "auto")


def shell(
    reader: Reader,
    title: str,
    told: Mapping[str, Any],
    urls: Mapping[str, str],
    preloads: Collection[str],
    content: str = "",
) -> bytes:
    """Return the HTML of a page; `told` is what its script reads, `urls` names what it is made of.

    `content` is HTML that stands there until the script draws the page.
    """
    quoted = {name: html.escape(url) for name, url in urls.items()}
    return _SHELL.substitute(
        quoted,
        language=reader.language,
        look=reader.look,
        title=html.escape(title),
        told=html.escape(json.dumps(told, ensure_ascii=False)),
        preloads="\n".join(f'<link rel="modulepreload" href="{html.escape(url)}">' for url in preloads),
        noscript=_NO_SCRIPT[reader.language],
        content=content,
    ).encode()
