"""Serves the pages: who is not logged in is led to where that is done, everybody else gets a shell."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import falcon

from node.archives import DEFAULT
from node.rights import EVERY, OF_THE_NODE, Right, rights_in
from node.viewer import ROOT as OHIF

from ..exchange import Services
from ..gate import Visitor
from .files import Files
from .listing import First, Lookup, Words, drawn, first
from .ohif import Ohif
from .shell import AGAIN, CSP, LANGUAGES, reader_of, shell


class PageRow(NamedTuple):
    """One page: where it is, the module that draws it, and the right it is of no use without."""

    path: str
    module: str
    right: Right | None


LOGIN: Final = "/login"
HOME: Final = "/"
PAGES: Final = (
    PageRow(LOGIN, "login", None),
    PageRow(HOME, "studies", Right.SEARCH),
    PageRow("/study/{study}", "study", Right.SEARCH),
    PageRow("/view/{study}", "view", Right.RETRIEVE),
    PageRow("/open/{study}", "open", Right.RETRIEVE),
    PageRow("/transfers", "transfers", Right.TRANSFER),
    PageRow("/waiting", "waiting", Right.DECIDE),
    PageRow("/traffic", "traffic", Right.SEARCH),
    PageRow("/sites", "sites", Right.MANAGE),
    PageRow("/peers", "peers", Right.MANAGE),
    PageRow("/devices", "devices", Right.MANAGE),
    PageRow("/research", "research", Right.RESEARCH),
    PageRow("/rules", "rules", Right.MANAGE),
    PageRow("/users", "people", Right.MANAGE),
    PageRow("/imports", "imports", Right.MANAGE),
    PageRow("/retention", "retention", Right.DECIDE),
    PageRow("/audit", "audit", Right.AUDIT),
    PageRow("/help", "help", None),
)
OPEN_PATHS: Final = frozenset((LOGIN, "/favicon.ico"))
STATIC: Final = "/pages/"
_SHARED: Final = ("preact", "words", "api", "parts", "frame")
"""Modules that every page imports: named to the browser before it finds out."""


class Pages(NamedTuple):
    """What the pages are told of the node."""

    name: str
    ae_title: str
    is_in_grid: Callable[[], bool]
    archives: Callable[[], list[str]]
    viewer: Path
    """Where OHIF is, if it is installed."""


class _Static:
    def __init__(self, files: Files) -> None:
        self._files = files

    def on_get(self, request: falcon.Request, response: falcon.Response, digest: str, name: str) -> None:
        """Answer with a file; one of another release is looked up by its name alone, and not kept."""
        file = self._files.get(name)
        if file is None:
            raise falcon.HTTPNotFound(title="There is no such file.", description="Reload the page.")
        response.data, response.content_type = file.content, file.media_type
        is_this = digest == self._files.digest
        response.set_header("Cache-Control", "public, max-age=31536000, immutable" if is_this else "no-store")

    on_head = on_get


class _Page:
    def __init__(
        self, row: PageRow, files: Files, pages: Pages, ohif: Ohif, services: Services, lookup: Lookup | None
    ) -> None:
        self._row, self._files, self._pages, self._services = row, files, pages, services
        self._ohif, self._lookup = ohif, lookup
        self._words = {language: Words(files, language) for language in LANGUAGES}

    def on_get(self, request: falcon.Request, response: falcon.Response, **named: str) -> None:
        """Answer with the shell of the page."""
        visitor = self._services.gate.known(request)
        response.set_header("Cache-Control", "no-store")
        response.set_header("Content-Security-Policy", CSP)
        is_login = self._row.path == LOGIN
        if visitor is None and request.get_header("Sec-Fetch-Site") == "cross-site":
            response.data, response.content_type = AGAIN, "text/html; charset=utf-8"
            return
        if visitor is None and not is_login:
            query = f"?{request.query_string}" if request.query_string else ""
            response.status = 303
            response.location = f"{LOGIN}?{urlencode({'next': quote(request.path) + query})}"
            return
        if visitor is not None and visitor.user and visitor.user.one_time_until and not is_login:
            response.status = 303
            response.location = LOGIN
            return
        reader, files = reader_of(request), self._files
        archive = request.get_param("archive", default=DEFAULT)
        modules = (*_SHARED, self._row.module)
        told = self._told(visitor, archive, named, reader.language)
        found = self._first(visitor, request, response, told)
        content = ""
        if found is not None:
            told["first"] = found._asdict()
            content = drawn(found, self._words[reader.language], archive)
        response.content_type = "text/html; charset=utf-8"
        response.data = shell(
            reader,
            f"{self._pages.name} · PeerPACS",
            told,
            {
                "icon": files.url("icon.svg"),
                "style": files.url("style.css"),
                "sentences": files.url(f"{reader.language}.json"),
                "script": files.url(f"{self._row.module}.js"),
            },
            [files.url(f"{module}.js") for module in modules],
            content,
        )

    on_head = on_get

    def _first(
        self,
        visitor: Visitor | None,
        request: falcon.Request,
        response: falcon.Response,
        told: dict[str, Any],
    ) -> First | None:
        """Return what the study list asks at first, if it is this page and whoever looks may see it."""
        if visitor is None or self._lookup is None or self._row.path != HOME or request.method != "GET":
            return None
        if Right.SEARCH not in told["rights"]:
            return None
        request.context.visitor = visitor
        has_grid = told["is_in_grid"] and told["archive"] == DEFAULT
        return first(request, response, told["archive"], has_grid, self._lookup)

    def _told(
        self, visitor: Visitor | None, archive: str, named: dict[str, str], language: str
    ) -> dict[str, Any]:
        """Return what the page's script reads before it asks anything."""
        if visitor is None:
            shown = {"node": self._pages.name, "page": self._row.module, "language": language}
            return {**shown, "has_provider": self._services.gate.has_provider}
        user = visitor.user
        grants = user.grants if user else ("admin@*",)
        here = (rights_in(grants, archive) - OF_THE_NODE) | (rights_in(grants, EVERY) & OF_THE_NODE)
        return {
            "node": self._pages.name,
            "ae_title": self._pages.ae_title,
            "page": self._row.module,
            "language": language,
            "named": named,
            "archive": archive,
            "archives": [each for each in self._pages.archives() if rights_in(grants, each)],
            "rights": sorted(here),
            "user": user.name if user else "",
            "is_one_time": bool(user and user.one_time_until),
            "csrf": self._services.gate.csrf(visitor),
            "is_in_grid": self._pages.is_in_grid(),
            "has_ohif": self._ohif.is_installed(),
        }


class _Icon:
    def __init__(self, files: Files) -> None:
        self._files = files

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer what browsers ask for by themselves."""
        response.status, response.location = 303, self._files.url("icon.svg")

    on_head = on_get


def is_open(method: str, path: str) -> bool:
    """Say whether anybody may ask for this: files tell nothing, and pages look who asks by themselves."""
    if method not in ("GET", "HEAD"):
        return False
    if path in OPEN_PATHS or path.startswith((STATIC, OHIF)):
        return True
    return _A_PAGE.fullmatch(path.rstrip("/") or "/") is not None


def _shape(path: str) -> str:
    """Return the expression for the path of a page, whatever is named in it."""
    words = path.split("/")
    return "/".join("[^/]*" if word.startswith("{") else re.escape(word) for word in words)


_A_PAGE: Final = re.compile("|".join(_shape(row.path) for row in PAGES))


def add_pages(
    application: falcon.App[Any, Any], pages: Pages, services: Services, lookup: Lookup | None = None
) -> None:
    """Add every page, and the files that they are made of; with `lookup` the study list comes with rows."""
    files = Files()
    application.add_route(STATIC + "{digest}/{name}", _Static(files))
    application.add_route("/favicon.ico", _Icon(files))
    ohif = Ohif(pages.viewer, pages.is_in_grid, services)
    for path in (OHIF, OHIF + "{path:path}"):
        application.add_route(path, ohif)
    for row in PAGES:
        application.add_route(row.path, _Page(row, files, pages, ohif, services, lookup))
