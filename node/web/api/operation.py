"""One operation of the REST API: its row of the table, and one call of it as the handlers see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, get_origin, get_type_hints

import falcon
import msgspec

from catalog import BadRequest, NotFound
from node.accounts import Accounts
from node.archives import DEFAULT
from node.audit import Line, Verification
from node.contracts import Caller, Device, Scope
from node.devices import DeviceBook
from node.grid_view import GridView
from node.rights import Right
from node.watching import Page

from ..body import Body
from ..doorkeeper import Doorkeeper
from ..exchange import Exchange, Services
from ..gate import Visitor
from ..gateway import BODY
from ..problems import Malformed, TooLarge, UnsupportedType
from .idempotency import Remembered

_LONGEST: Final = 1 << 20
JSON: Final = "application/json"


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Operation(NamedTuple):
    """A row of the table: what is asked, what it takes, the right it needs, and who answers."""

    method: str
    path: str
    right: Right | None
    """None: whoever is logged in."""
    summary: str
    handler: Callable[[Call], Any]
    answer: Any = None
    """The type of the answer; None where nothing, or no JSON, comes back."""
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] | None = None
    status: int = 200
    is_node: bool = False
    """About the whole node; the others are there for each archive too."""
    media_type: str = JSON
    takes: str = JSON
    is_secret: bool = False
    """The answer holds what is told once and kept nowhere."""
    is_polled: bool = False
    """Pages ask it again and again: of one person's asking, what follows soon is not put on record again."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What the operations work with."""

    verbs: Mapping[str, Callable[..., Any]]
    """The node's desk: `verb` and `archive/verb`."""
    scope: Callable[..., Scope | None]
    devices: DeviceBook
    forget_refusals: Callable[[str], None]
    audit_lines: Callable[[str], Iterator[Line]]
    page: Callable[[str], Page]
    """What watchers read, by request target."""
    accounts: Accounts
    doorkeeper: Doorkeeper
    grid: Callable[[Caller], GridView]
    """The grid as a person sees it."""
    everywhere: Callable[[Caller], Scope]
    """The grid's catalog and door out, for a person."""
    echo: Callable[[Device], float]
    """Calls a device of the book; seconds until it answered."""
    verify_audit: Callable[[], Verification]
    remembered: Remembered
    """How POSTs with an Idempotency-Key were answered."""


class Call:
    """One call: who asks, in which archive, with what."""

    def __init__(
        self,
        operation: Operation,
        request: falcon.Request,
        response: falcon.Response,
        backing: Backing,
        services: Services,
        named: dict[str, str],
    ) -> None:
        self.operation = operation
        self.request = request
        self.response = response
        self.backing = backing
        self.services = services
        # The archive of a project is called as the project is.
        self.archive = named.pop("archive", named.get("project", DEFAULT).lower())
        self.named = named
        self.asked: msgspec.Struct | None = None
        """In place of what the URL says, where the operation is part of another answer."""
        self._text: bytes | None = None

    @property
    def visitor(self) -> Visitor:
        """Who asks."""
        visitor: Visitor = self.request.context.visitor
        return visitor

    @property
    def who(self) -> str:
        """Return who asks, for decisions and the audit."""
        return self.visitor.caller.user or f"somebody at {self.visitor.caller.address}"

    @property
    def person(self) -> str:
        """Return the name of the user who asks, whatever shows it: research projects name people."""
        user = self.visitor.user
        return user.name if user else self.who

    def may(self, right: Right) -> bool:
        """Say whether the caller has another right here; a refusal is remembered."""
        return self.services.gate.may(self.visitor, right, self.archive).is_allowed

    @property
    def scope(self) -> Scope:
        """Return the archive's catalog and doors.

        Raises:
            NotFound: there is no such archive.
        """
        scope = self.backing.scope(archive=self.archive)
        if scope is None:
            raise NotFound("There is no such archive here.", "Check the address.")
        return scope

    def exchange(self) -> Exchange:
        """Return this call as the handlers of DICOMweb see it."""
        root = "/dicom-web" if self.archive == DEFAULT else f"/archives/{self.archive}/dicom-web"
        caller = self.visitor.caller._replace(called_ae=self.scope.ae_title)
        return Exchange(self.request, self.response, self.scope, caller, root, self.named, self.services)

    def ask(self, verb: str, **told: Any) -> Any:
        """Return what a verb of the desk answers."""
        room = "" if self.operation.is_node or self.archive == DEFAULT else f"{self.archive}/"
        return self.backing.verbs[room + verb](**told)

    def query(self) -> Any:
        """Return the parameters of the URL.

        Raises:
            BadRequest: one is unknown or cannot be.
        """
        if self.asked is not None:
            return self.asked
        struct = self.operation.query
        kinds = get_type_hints(struct)
        told: dict[str, Any] = {}
        for name, value in self.request.params.items():
            is_list = get_origin(kinds.get(name)) is tuple
            told[name] = [value] if is_list and isinstance(value, str) else value
        try:
            return msgspec.convert(told, struct, strict=False)
        except msgspec.ValidationError as error:
            known = ", ".join(kinds) or "none"
            raise BadRequest(f"A parameter cannot be: {error}.", f"Known here: {known}.") from None

    def text(self) -> bytes:
        """Return the body as it came.

        Raises:
            TooLarge: it is longer than 1 MB.
        """
        if self._text is None:
            stream: Body = self.request.env[BODY]
            read = stream.read_all(_LONGEST)
            if read is None:
                raise TooLarge("The body is longer than 1 MB.", "Ask for less at a time.")
            self._text = bytes(read)
        return self._text

    def body(self) -> Any:
        """Return the body as the operation's struct.

        Raises:
            UnsupportedType: it is not JSON.
            TooLarge, Malformed: it is too long, or not what the operation takes.
        """
        kind = self.request.get_header("Content-Type", default="").partition(";")[0].strip().lower()
        if kind != JSON:
            raise UnsupportedType("The body must be JSON.", f"Send Content-Type: {JSON}.")
        text = self.text()
        assert self.operation.body is not None
        try:
            return msgspec.json.decode(text, type=self.operation.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Malformed(f"The body cannot be: {error}.", "See /openapi.json.") from None


def verb(name: str, *, who: bool = False, **renamed: str) -> Callable[[Call], Any]:
    """Return a handler that asks a verb of the desk with what path, query and body say."""

    def handle(call: Call) -> Any:
        told: dict[str, Any] = dict(call.named)
        told |= msgspec.structs.asdict(call.query())
        if call.operation.body is not None:
            told |= msgspec.structs.asdict(call.body())
        told = {renamed.get(key, key): value for key, value in told.items()}
        return call.ask(name, **told, **({"who": call.who} if who else {}))

    return handle
