"""What this service can do, PS3.18 8.9: made from the very table of routes that serves it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from xml.sax.saxutils import quoteattr

import msgspec

from .exchange import Exchange
from .media import accepted, one_of

_WADL: Final = "application/vnd.sun.wadl+xml"
_TYPES: Final = (_WADL, "application/json")
_PARAMETERS: Final = {
    "search": "limit offset includefield fuzzymatching emptyvaluematching multiplevaluematching accept",
    "rendered": "viewport window quality accept",
}

Described = tuple[str, str, str]
"""Method, path below the service, and what it is, as words of the table of routes."""


def capabilities(exchange: Exchange, routes: Iterable[Described]) -> None:
    """Answer OPTIONS on the service."""
    media_type = one_of(accepted(exchange.request, default=_WADL), _TYPES)
    rows = list(routes)
    exchange.response.set_header("Allow", "GET, HEAD, OPTIONS, POST")
    if media_type == _WADL:
        exchange.reply(_wadl(exchange.service, rows), media_type)
    else:
        exchange.reply(msgspec.json.encode(_plain(exchange.service, rows)), media_type)


def _parameters(what: str) -> list[str]:
    return next((words.split() for key, words in _PARAMETERS.items() if what.startswith(key)), [])


def _plain(service: str, routes: list[Described]) -> dict[str, Any]:
    return {
        "service": service,
        "routes": [
            {"method": method, "path": path, "transaction": what, "parameters": _parameters(what)}
            for method, path, what in routes
        ],
    }


def _wadl(service: str, routes: list[Described]) -> bytes:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<application xmlns="http://wadl.dev.java.net/2009/02">',
        f"<resources base={quoteattr(service)}>",
    ]
    for method, path, what in routes:
        lines.append(f"<resource path={quoteattr(path.lstrip('/'))}>")
        lines.append(f"<method name={quoteattr(method)} id={quoteattr(what)}><request>")
        lines += (f'<param name="{name}" style="query"/>' for name in _parameters(what))
        lines.append("</request></method></resource>")
    return "\n".join([*lines, "</resources></application>"]).encode()
