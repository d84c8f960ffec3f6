"""The web application (falcon): routes of every scope, one gate before them, one form for every error."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import falcon
from falcon.routing import CompiledRouter

from catalog import NotFound, PacsError
from node.closed import REMEDY
from node.contracts import Scope, Verdict
from node.rights import Right
from node.viewer_links import ViewerLink

from . import searching
from .bulkdata import retrieve_all_bulk_data, retrieve_bulk_data
from .capabilities import capabilities
from .exchange import Exchange, Services
from .frames import retrieve_frames, retrieve_pixel_data
from .gate import Refused, Visitor
from .gateway import trail
from .instances import retrieve_instances
from .metadata import retrieve_metadata
from .pages import is_open
from .problems import MEDIA_TYPE, Malformed, document, status_of
from .rendered import retrieve_rendered, retrieve_thumbnail
from .storing import store
from .wado_uri import retrieve_by_uri

logger = logging.getLogger(__name__)
Roots = Mapping[str, Callable[..., Scope | None]]
"""Path of a DICOMweb service → what opens its scope; `{names}` in the path are handed to it by name."""
Handler = Callable[[Exchange], None]
_UID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")
_OF_A_PATH: Final = ("study", "series", "instance")
_STUDY: Final = "/studies/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"


_STUDY_UID: Final = ("StudyInstanceUID", "0020000D", "0020000d", "studyUID")
"""What a question may call it: in QIDO-RS, and in WADO-URI."""
NOWHERE: Final = "?"
"""In place of the name of an archive that is not there."""
OPEN: Final = frozenset(
    (
        ("POST", "/api/session"),
        *(
            (method, path)
            for method in ("GET", "HEAD")
            for path in ("/api/session/oidc", "/api/session/oidc/callback")
        ),
        *((method, path) for method in ("GET", "HEAD") for path in ("/livez", "/readyz")),
    )
)
"""What nobody needs a right for: logging in, and whether the node lives."""
_TOLD_ANYHOW: Final = frozenset(("/api/session", "/api/status", "/metrics"))
"""What is told to who may ask it though nobody is answered anything else."""
_GUARDS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
        "img-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
        "frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "SAMEORIGIN",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Route(NamedTuple):
    """One transaction: its path below the service, what it needs, and who answers."""

    method: str
    path: str
    right: Right
    what: str
    handler: Handler


def _get(path: str, what: str, handler: Handler, right: Right = Right.RETRIEVE) -> Route:
    return Route("GET", path, right, what, handler)


ROUTES: Final = (
    _get("/studies", "search studies", searching.search_studies, Right.SEARCH),
    _get("/series", "search series", searching.search_series, Right.SEARCH),
    _get("/instances", "search instances", searching.search_instances, Right.SEARCH),
    _get(_STUDY + "/series", "search series", searching.search_series, Right.SEARCH),
    _get(_STUDY + "/instances", "search instances", searching.search_instances, Right.SEARCH),
    _get(_SERIES + "/instances", "search instances", searching.search_instances, Right.SEARCH),
    _get("/studies/count", "search studies, count", searching.count_studies, Right.SEARCH),
    _get("/series/count", "search series, count", searching.count_series, Right.SEARCH),
    _get("/instances/count", "search instances, count", searching.count_instances, Right.SEARCH),
    Route("POST", "/studies", Right.STORE, "store instances", store),
    Route("POST", _STUDY, Right.STORE, "store instances of a study", store),
    _get(_STUDY, "retrieve a study", retrieve_instances),
    _get(_SERIES, "retrieve a series", retrieve_instances),
    _get(_INSTANCE, "retrieve an instance", retrieve_instances),
    _get(_INSTANCE + "/frames/{frames}", "retrieve frames", retrieve_frames),
    _get(_INSTANCE + "/pixeldata", "retrieve pixel data", retrieve_pixel_data),
    _get(_INSTANCE + "/bulkdata", "retrieve all bulk data", retrieve_all_bulk_data),
    _get(_INSTANCE + "/bulkdata/{place}", "retrieve bulk data", retrieve_bulk_data),
    _get(_STUDY + "/rendered", "rendered study", retrieve_rendered),
    _get(_SERIES + "/rendered", "rendered series", retrieve_rendered),
    _get(_INSTANCE + "/rendered", "rendered instance", retrieve_rendered),
    _get(_INSTANCE + "/frames/{frames}/rendered", "rendered frames", retrieve_rendered),
    _get(_STUDY + "/thumbnail", "rendered study, thumbnail", retrieve_thumbnail),
    _get(_SERIES + "/thumbnail", "rendered series, thumbnail", retrieve_thumbnail),
    _get(_INSTANCE + "/thumbnail", "rendered instance, thumbnail", retrieve_thumbnail),
    _get(_INSTANCE + "/frames/{frames}/thumbnail", "rendered frames, thumbnail", retrieve_thumbnail),
    _get(_STUDY + "/metadata", "metadata of a study", retrieve_metadata),
    _get(_SERIES + "/metadata", "metadata of a series", retrieve_metadata),
    _get(_INSTANCE + "/metadata", "metadata of an instance", retrieve_metadata),
)


class PathResource:
    """What answers at one path; falcon finds its responders by their names."""

    def add(self, method: str, responder: Callable[..., None]) -> None:
        """Have the responder answer the method, and HEAD where it is GET: the gateway leaves its body out."""
        setattr(self, f"on_{method.lower()}", responder)
        if method == "GET":
            self.on_head = responder


class _Entrance:
    """Middleware: who asks is settled before anything else, and every answer has guarding headers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Let the caller in, or answer why not."""
        response.set_headers(_GUARDS)
        if (request.method, request.path) in OPEN or is_open(request.method, request.path):
            return
        visitor = self._services.gate.who(request)
        if not isinstance(visitor, Refused) and (left := self._crowd(request, visitor)):
            visitor = Refused(429, "Too many requests at a time.", "Ask for less at once.", retry=left)
        if not isinstance(visitor, Refused) and (why := self._services.closed()):
            visitor = visitor if request.path in _TOLD_ANYHOW else Refused(503, why, REMEDY, retry=5)
        if isinstance(visitor, Refused):
            turn_away(response, visitor)
            response.complete = True
        else:
            request.context.visitor = visitor

    def _crowd(self, request: falcon.Request, visitor: Visitor) -> int:
        """Take a place for the request; return after how many seconds there may be one, if there is none."""
        who = visitor.user.name if visitor.user else visitor.caller.address
        return self._services.crowd.enter(who, request.env)


def turn_away(response: falcon.Response, refused: Refused) -> None:
    """Answer that nobody is let in like that."""
    response.data = document(refused.status, refused.why, refused.remedy)
    response.content_type = MEDIA_TYPE
    response.status = refused.status
    response.set_header("Cache-Control", "no-store")
    if refused.status == 401:
        response.set_header("WWW-Authenticate", 'Bearer realm="PeerPACS"')
    if refused.retry:
        response.set_header("Retry-After", str(refused.retry))


def make_application(roots: Roots, services: Services, router: CompiledRouter) -> falcon.App[Any, Any]:
    """Return the WSGI application that serves these scopes; `router` is a new one."""
    application = falcon.App(middleware=[_Entrance(services)], router=router)
    application.req_options.strip_url_path_trailing_slash = True
    application.set_error_serializer(_serialize)
    application.add_error_handler(Exception, _tell)
    for root, resolve in roots.items():
        resources: dict[str, PathResource] = {}
        for route in ROUTES:
            resource = resources.setdefault(route.path, PathResource())
            resource.add(route.method, _responder(root, resolve, route, services))
        by_uri = PathResource()
        by_uri.add("GET", _responder(root, resolve, _BY_URI, services))
        application.add_route(root.removesuffix("/dicom-web") + "/wado", by_uri)
        top = resources.setdefault("", PathResource())
        top.add("OPTIONS", _responder(root, resolve, _CAPABILITIES, services))
        for path, resource in resources.items():
            application.add_route(root + path, resource)
    return application


_BY_URI: Final = Route("GET", "", Right.RETRIEVE, "retrieve by URI", retrieve_by_uri)
_CAPABILITIES: Final = Route(
    "OPTIONS",
    "",
    Right.SEARCH,
    "capabilities",
    lambda exchange: capabilities(exchange, [(route.method, route.path, route.what) for route in ROUTES]),
)


def _responder(
    root: str, resolve: Callable[..., Scope | None], route: Route, services: Services
) -> Callable[..., None]:
    def respond(request: falcon.Request, response: falcon.Response, **named: str) -> None:
        of_root = {name: named.pop(name) for name in tuple(named) if f"{{{name}}}" in root}
        scope = resolve(**of_root)
        visitor = request.context.visitor
        # Whoever may not look learns nothing here, not even which archives and projects there are.
        verdict = services.gate.may(visitor, route.right, scope.name if scope else NOWHERE)
        if visitor.link is not None and not is_within(visitor.link, route, named, request.params):
            verdict = Verdict(False, "This link opens one study, to read it.", "Log in for anything else.")
        if scope is None:
            if not verdict.is_allowed:
                raise falcon.HTTPForbidden(title=verdict.why, description=verdict.remedy)
            raise NotFound("There is no such archive here.", "Check the address.")
        for word in _OF_A_PATH:
            if word in named and not _UID.fullmatch(named[word]):
                raise Malformed(f"The {word} in the path is not a UID.", "Check the address.")
        caller = visitor.caller._replace(called_ae=scope.ae_title)
        if scope.seen_by is not None and verdict.is_allowed:
            scope = scope.seen_by(caller)
        exchange = Exchange(request, response, scope, caller, root.format(**of_root), named, services)
        if not verdict.is_allowed:
            exchange.record("refusal", "refused", why=verdict.why, service=route.right.value)
            raise falcon.HTTPForbidden(title=verdict.why, description=verdict.remedy)
        request.context.verdict = verdict
        route.handler(exchange)

    return respond


def is_within(link: ViewerLink, route: Route, named: Mapping[str, str], asked: Mapping[str, Any]) -> bool:
    """Say whether a request stays in the study that a viewer's link opens, and only reads."""
    if route.right not in (Right.SEARCH, Right.RETRIEVE):
        return False
    if route is _CAPABILITIES:
        return True
    studies = [named[_OF_A_PATH[0]]] if _OF_A_PATH[0] in named else []
    studies += [asked[name] for name in _STUDY_UID if name in asked]
    return bool(studies) and all(study == link.study for study in studies)


def _serialize(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    response.data = document(error.status_code, error.title or "", error.description or "")
    response.content_type = MEDIA_TYPE


def _forget_caching(response: falcon.Response) -> None:
    """Take back what was said about an answer that did not come."""
    response.delete_header("ETag")
    response.set_header("Cache-Control", "no-store")


def _tell(request: falcon.Request, response: falcon.Response, error: Exception, params: Any) -> None:
    if isinstance(error, falcon.HTTPError):
        response.status = error.status_code
        response.set_headers(error.headers or {})
        _serialize(request, response, error)
        return
    if isinstance(error, PacsError):
        response.status = status_of(error)
        if error.retry:
            response.set_header("Retry-After", "5")
        response.data = document(response.status_code, error.what, error.next)
    elif isinstance(error, OSError):
        # The connection broke: there is nobody to tell.
        raise error
    else:
        logger.error("A request for %s failed (%s).", request.method, trail(error))
        response.status = 500
        response.data = document(500, "The node failed; its log says more.", "Tell its operator.")
    response.content_type = MEDIA_TYPE
    response.stream = None
    _forget_caching(response)
