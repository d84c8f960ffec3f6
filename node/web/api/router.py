"""Has each operation of the table answer at its paths: the right, then the work, all of it on record."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, Final

import falcon
import msgspec

from catalog import BadRequest, Clock, PacsError
from node.archives import DEFAULT

from ..application import PathResource
from ..exchange import Services
from ..gate import Visitor
from ..problems import status_of
from .answers import StudyQuery
from .idempotency import HEADER
from .openapi import document
from .operation import JSON, Backing, Call, Operation

ROOT: Final = "/api"
_ARCHIVE: Final = ROOT + "/archives/{archive}"
_TOP: Final = ("/livez", "/readyz", "/metrics", "/openapi.json", "/conformance")
"""What has its place at the top, where others look for it."""


_SOON: Final = 300.0
"""Seconds for which asking the same again is one access, where pages poll."""
_KEPT: Final = 4096


class Polls:
    """Knows who asked what a short while ago, so that a page left open does not fill the audit."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._lock = Lock()

    def is_repetition(self, *asked: str) -> bool:
        """Say whether this is on record already; if not, it is to be put there now."""
        now = self._clock()
        with self._lock:
            before = self._told.get(asked)
            if before is not None and 0 <= now - before < _SOON:
                return True
            self._told[asked] = now
            self._told.move_to_end(asked)
            if len(self._told) > _KEPT:
                self._told.popitem(last=False)
        return False


def paths_of(operation: Operation) -> Iterator[str]:
    """Yield the paths at which an operation answers."""
    if operation.path in _TOP:
        yield operation.path
        return
    yield ROOT + operation.path
    if not operation.is_node:
        yield _ARCHIVE + operation.path


def add_api(
    application: falcon.App[Any, Any], table: tuple[Operation, ...], backing: Backing, services: Services
) -> None:
    """Add every operation, and the OpenAPI document of all of them."""
    resources: dict[str, PathResource] = {}
    polls = Polls(services.clock)
    for operation in table:
        for path in paths_of(operation):
            responder = _responder(operation, backing, services, polls)
            resources.setdefault(path, PathResource()).add(operation.method, responder)
    written = msgspec.json.encode(document((path, each) for each in table for path in paths_of(each)))

    def describe(request: falcon.Request, response: falcon.Response) -> None:
        response.data = written
        response.content_type = JSON

    resources.setdefault("/openapi.json", PathResource()).add("GET", describe)
    for path, resource in resources.items():
        application.add_route(path, resource)


class Lookup:
    """Asks for studies while a page is made, as REST does: by the same right, and on record."""

    def __init__(self, table: tuple[Operation, ...], backing: Backing, services: Services) -> None:
        rows = {each.path: each for each in table if each.method == "GET"}
        self._here, self._everywhere = rows["/studies"], rows["/grid/studies"]
        self._backing, self._services = backing, services

    def __call__(
        self,
        request: falcon.Request,
        response: falcon.Response,
        archive: str,
        is_everywhere: bool,
        keys: list[str],
        limit: int,
    ) -> Any:
        """Return what the operation answers; None if it would not: the page's script asks and tells why."""
        operation = self._everywhere if is_everywhere else self._here
        call = Call(operation, request, response, self._backing, self._services, {"archive": archive})
        call.asked = StudyQuery(tuple(keys), limit)
        visitor, right = call.visitor, operation.right
        who = visitor.user.name if visitor.user else visitor.caller.address
        if self._services.closed() or self._services.crowd.enter(who, request.env) or right is None:
            return None
        try:
            if not self._services.gate.may(visitor, right, archive).is_allowed:
                return None
            call.scope  # noqa: B018
            answer = operation.handler(call)
        except PacsError:
            return None
        _record(call, "ok")
        return msgspec.to_builtins(answer)


def _responder(
    operation: Operation, backing: Backing, services: Services, polls: Polls
) -> Callable[..., None]:
    def respond(request: falcon.Request, response: falcon.Response, **named: str) -> None:
        call = Call(operation, request, response, backing, services, named)
        response.set_header("Cache-Control", "no-store")
        if operation.right is not None:
            visitor: Visitor = call.visitor
            verdict = services.gate.may(visitor, operation.right, call.archive)
            if not verdict.is_allowed:
                _record(call, "refused", why=verdict.why)
                raise falcon.HTTPForbidden(title=verdict.why, description=verdict.remedy)
            request.context.verdict = verdict
            if not operation.is_node:
                # Whoever may not look learns nothing here, not even which archives there are.
                call.scope  # noqa: B018
        try:
            _do(call)
        except PacsError as error:
            if operation.right is not None:
                _record(call, f"failed, {status_of(error)}")
            raise
        if operation.right is not None and not (operation.is_polled and _is_poll(call, polls)):
            _record(call, "ok")

    return respond


def _is_poll(call: Call, polls: Polls) -> bool:
    caller = call.visitor.caller
    return polls.is_repetition(caller.user, caller.address, call.request.relative_uri)


def _do(call: Call) -> None:
    """Have the work done and answered: once, if the caller says by a key which request it is."""
    operation, request = call.operation, call.request
    key = request.get_header(HEADER) if operation.method == "POST" and operation.takes == JSON else None
    if key is None or operation.right is None:
        _answer(call, operation.handler(call))
        return
    if operation.is_secret:
        what = "This answer holds a secret that is kept nowhere, so it cannot be repeated."
        raise BadRequest(what, f"Leave {HEADER} out.")

    def work() -> None:
        _answer(call, operation.handler(call))

    call.backing.remembered.once(call.who, key, request, call.text(), call.response, work)


def _answer(call: Call, value: Any) -> None:
    operation, response = call.operation, call.response
    if operation.status != 200 and response.status_code == 200:
        response.status = operation.status
    if operation.answer is not None and value is not None:
        told = msgspec.convert(msgspec.to_builtins(value), operation.answer, strict=False)
        response.data = msgspec.json.encode(told)
        response.content_type = JSON


def _record(call: Call, outcome: str, **detail: str) -> None:
    """Put one access on record: who, from where, what, and how it ended."""
    caller = call.visitor.caller
    what = f"{call.operation.method} {call.operation.path}"
    archive = {} if call.operation.is_node or call.archive == DEFAULT else {"archive": call.archive}
    event = "refusal" if outcome == "refused" else "access"
    told = {**detail, "via": "web", "what": what, **archive, **call.named}
    call.services.audit.record(event, caller, outcome, told)
