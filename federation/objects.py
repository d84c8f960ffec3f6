"""Both ends of the Objects service: files as they are stored, under the owner's policy, many in a stream.

The bytes are those that were stored, so that their SHA-256 says whether they came whole; the corrections in
force travel beside them, and whoever sends the object on applies them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from catalog import Attributes, Clock, Decision, Entry, NotFound, NotPermitted, PacsError, Reader, Selection
from catalog.order import decoded
from catalog.statements import Stated
from protos import copies_pb2 as copies
from protos import objects_pb2 as pb

from .lanes import BULK, Lanes
from .links.channels import asking
from .links.gate import Gate, Visitor
from .links.rpc import CODES, letters, serve_stream
from .owners import Owner
from .pieces import PIECE, read, written
from .trust.assertion import Asker
from .trust.policy import Op, Permission, Policy, Throttle, first_admitting

AT_ONCE: Final = 32
"""Objects of one call."""
_MOST: Final = 1024
"""Objects of a call that is still answered."""
_KINDS: Final = {each.__name__: each for each in CODES}
_SERVICE: Final = "peerpacs.v1.Objects"
_RETURN: Final = "/peerpacs.v1.Copies/Return"
_encode: Final = msgspec.msgpack.Encoder().encode
_read_decision: Final = msgspec.msgpack.Decoder(Decision).decode


def failure_of(index: int, error: PacsError) -> pb.ObjectFailure:
    """Return why one object does not come, as it goes over the wire."""
    kind = next((name for name, each in _KINDS.items() if isinstance(error, each)), "")
    return pb.ObjectFailure(index=index, kind=kind, what=error.what, next=error.next)


def error_of(failure: pb.ObjectFailure) -> PacsError:
    """Return why one object does not come, as a letter."""
    return _KINDS.get(failure.kind, NotFound)(failure.what, failure.next)


class Shelf(Protocol):
    """One archive's objects, as much of it as peers are given objects from."""

    @property
    def system(self) -> str:
        """The name under which corrections are told."""

    def select(self, selection: Selection) -> list[Entry]:
        """See `Catalog.select`."""

    def versions(self, target: tuple[str, ...]) -> list[Entry]:
        """Return every stored version of a study or series: hidden ones and those not preferred too."""

    def stated(self, StudyInstanceUID: str) -> Stated | None:
        """Return what the log would state about a study now."""

    def whole(self, entry: Entry) -> Reader:
        """Open a stored file as it is; raises what `Retriever.open` raises."""

    def corrections(self, entry: Entry) -> Sequence[Decision]:
        """Return the corrections in force for an instance, oldest first."""


class Given(NamedTuple):
    """What one call was given, for the audit."""

    visitor: Visitor
    archive: str
    studies: tuple[str, ...]
    objects: int
    size: int
    refused: int


class Outside(NamedTuple):
    """What the service needs of the node around it."""

    policy: Callable[[], Policy]
    shelf: Callable[[str], Shelf]
    """By archive; raises NotFound."""
    clock: Clock
    monotonic: Clock
    rest: Callable[[float], object]
    """Waits so many seconds, for a grant that allows no more bytes in a second."""
    lanes: Lanes
    told: Callable[[Given], None] = lambda given: None


class ObjectService:
    """Gives peers what this node holds, and nothing that it only keeps a copy of."""

    def __init__(self, gate: Gate, outside: Outside) -> None:
        self._gate = gate
        self._outside = outside
        self._throttles: dict[tuple[str, str, bool], Throttle] = {}

    def register(self, server: Any) -> None:
        """Add the servicer to a server."""
        serve_stream(server, _SERVICE, "Fetch", self.Fetch, pb.FetchRequest.FromString)

    def Fetch(self, request: pb.FetchRequest, context: Any) -> Iterator[bytes]:
        """Answer with every object that is here and granted; the others fail, each for itself.

        The replies are as they go over the wire, see `pieces`.

        Raises:
            NotPermitted: nothing of the archive is granted to the caller.
        """
        yield from self.give(self._gate.visitor(context), request, context.is_active)

    def give(
        self, visitor: Visitor, request: pb.FetchRequest, is_wanted: Callable[[], bool]
    ) -> Iterator[bytes]:
        """Answer somebody as `Fetch` does, for as long as it is wanted. Raises as `Fetch`."""
        outside = self._outside
        permissions = self._permissions(visitor, request)
        if not permissions:
            what = f"Nothing of the archive {request.archive!r} is granted to {visitor.identity.name}."
            raise NotPermitted(what, "Its owner's admin can: peerpacs grants add")
        giving = _Giving(outside.shelf(request.archive), permissions, request.priority)
        sent = size = refused = 0
        try:
            with outside.lanes.call(visitor.identity.node_id, request.priority) as lane:
                for index, item in enumerate(request.items[:_MOST]):
                    try:
                        for length, reply in giving.replies(index, item):
                            lane.turn()
                            self._pace(visitor, giving, length)
                            size += length
                            if not is_wanted():
                                return
                            yield reply
                        sent += 1
                    except PacsError as error:
                        refused += 1
                        failed = pb.FetchReply(failure=failure_of(index, error))
                        yield failed.SerializeToString()
        finally:
            studies = tuple(sorted({item.study for item in request.items}))
            outside.told(Given(visitor, request.archive, studies, sent, size, refused))

    def _permissions(self, visitor: Visitor, request: pb.FetchRequest) -> list[Permission]:
        """Return what is granted; copies are made under the grants to keep them, at their rates and hours."""
        policy, now = self._outside.policy(), self._outside.clock()
        found: list[Permission] = []
        if request.priority >= BULK:
            found = policy.permissions(visitor.caller, Op.HOST_REPLICAS, now)
        found = found or policy.check(visitor.caller, Op.RETRIEVE, now)
        return [each for each in found if each.share.archive == request.archive]

    def _pace(self, visitor: Visitor, giving: _Giving, size: int) -> None:
        permission = giving.permission
        if permission is None or not permission.grant.rate or not size:
            return
        name = visitor.identity.node_id, permission.share.name, giving.is_copying
        throttle = self._throttles.setdefault(name, Throttle(permission.grant.rate))
        if wait := throttle.wait(size, self._outside.monotonic()):
            self._outside.rest(wait)


class _Giving:
    """One call: what was looked up for one item serves the next ones of the same series."""

    def __init__(self, shelf: Shelf, permissions: list[Permission], priority: int) -> None:
        self._shelf = shelf
        self._permissions = permissions
        self.is_copying = priority >= BULK
        """Copies are made of every version, whatever was decided about it."""
        self._series = "", ""
        self._entries: dict[tuple[str, bytes], Entry] = {}
        self.permission: Permission | None = None

    def replies(self, index: int, item: pb.ObjectItem) -> Iterator[tuple[int, bytes]]:
        """Yield an object from the item's offset on: the length of each piece, and the reply that has it.

        Raises:
            PacsError: it is not here, not granted, or cannot be read.
        """
        entry = self._find(item)
        shelf = self._shelf
        reader = shelf.whole(entry)
        try:
            corrections = [_encode(each) for each in shelf.corrections(entry)]
            begin: pb.ObjectBegin | None = pb.ObjectBegin(
                index=index,
                size=reader.size,
                corrections=corrections,
                system=shelf.system,
                is_limited=self.permission is not None and bool(self.permission.grant.limits()),
            )
            at, size = item.offset, reader.size
            while True:
                length = max(0, min(PIECE, size - at))
                head = pb.FetchReply(begin=begin, is_end=at + length >= size)
                reply = written(head, length, partial(reader.read_into, offset=at))
                if reply is None:
                    raise NotFound("It is shorter than when it was stored.", "Run: peerpacs verify")
                at += length
                yield length, reply
                if at >= size:
                    return
                begin = None
        finally:
            reader.close()

    def _find(self, item: pb.ObjectItem) -> Entry:
        series = item.study, item.series
        if series != self._series:
            self._series, self._entries, self.permission = series, {}, None
            self.permission = self._permission(*series)
            if self.permission is not None:
                chosen = (
                    self._shelf.versions(series)
                    if self.is_copying
                    else self._shelf.select(Selection(studies=(item.study,), series=(item.series,)))
                )
                self._entries = {(each.SOPInstanceUID, each.holding.sha256): each for each in chosen}
        entry = self._entries.get((item.instance, item.sha256))
        # What is not granted is as if it were not there.
        if entry is None:
            what = f"{item.instance} is not here (any more), or not with these bytes."
            raise NotFound(what, "Its catalog follows in a moment; ask again.")
        return entry

    def _permission(self, study: str, series: str) -> Permission | None:
        stated = self._shelf.stated(study)
        row = (
            next((each for each in stated.series if each.SeriesInstanceUID == series), None)
            if stated
            else None
        )
        if stated is None or row is None:
            # Nothing of it is seen any more; a copy of what was rejected is made where everything is granted.
            everything = (each for each in self._permissions if self.is_copying and not each.share.match)
            return next(everything, None)
        attributes: Attributes = {**decoded(stated.study.attributes), **decoded(row.attributes)}
        return first_admitting(self._permissions, attributes)


class Wanted(NamedTuple):
    """One object to be fetched, and how much of it is here already."""

    entry: Entry
    offset: int = 0


class Receiver(Protocol):
    """Where the objects of one call go; an item is named by its index."""

    def begin(
        self, index: int, size: int, corrections: list[Decision], system: str, *, is_limited: bool
    ) -> None:
        """Hear that an object comes, from its offset on, and the corrections in force for it.

        A limited one is given to who asks in this role for this purpose, and to nobody else.
        """

    def data(self, piece: memoryview) -> None:
        """Take the next bytes of the object that was begun; they do not change any more."""

    def end(self, index: int) -> None:
        """Hear that it is whole, as the owner says."""

    def failed(self, index: int, error: PacsError) -> None:
        """Hear that it does not come."""


def request_of(archive: str, wanted: Sequence[Wanted], priority: int = 0) -> pb.FetchRequest:
    """Return a call for these objects; priority 0 is the most urgent."""
    items = [
        pb.ObjectItem(
            study=entry.StudyInstanceUID,
            series=entry.SeriesInstanceUID,
            instance=entry.SOPInstanceUID,
            sha256=entry.holding.sha256,
            offset=offset,
        )
        for entry, offset in wanted
    ]
    return pb.FetchRequest(archive=archive, items=items, priority=priority)


_COPIES: Final = "copies:"


def kept_for(archive: str) -> Owner:
    """Return the owner whose copies an archive's name means, see `copies_of`."""
    node_id, _, name = archive.removeprefix(_COPIES).partition("/")
    return Owner(node_id, name)


def copies_of(owner: Owner) -> str:
    """Return the name of the archive in which other nodes keep an owner's copies, as `PeerLink` knows it."""
    return f"{_COPIES}{owner.name.decode()}"


class PeerLink:
    """Calls the Objects service of peers; `channel` returns the channel to a connected node by its id."""

    def __init__(self, channel: Callable[[str], Any], name: Callable[[str], str]) -> None:
        """`name` says how a node is called in sentences."""
        self._channel = channel
        self._name = name

    def fetch(
        self, node_id: str, asker: Asker, request: pb.FetchRequest, timeout: float, *, patient: bool = False
    ) -> Any:
        """Begin a Fetch on behalf of an asker; return the call, which yields replies and can be cancelled.

        The replies are as they go over the wire. A `patient` call waits while the connection is made anew:
        the node has said that it is there.

        Raises:
            Unavailable: the node is not connected.
        """
        with asking(asker):
            channel = self._channel(node_id)
            if request.archive.startswith(_COPIES):
                owner = request.archive.removeprefix(_COPIES)
                return begin_return(channel, owner, request, timeout, patient=patient)
            fetch = channel.unary_stream(f"/{_SERVICE}/Fetch", request_serializer=_bytes_of)
            return fetch(request, timeout=timeout, wait_for_ready=patient)

    def letters(self, node_id: str) -> AbstractContextManager[None]:
        """Turn what a call raises inside into PacsErrors."""
        return letters(self._name(node_id))


def begin_return(
    channel: Any, owner: str, fetch: pb.FetchRequest, timeout: float, *, patient: bool = False
) -> Any:
    """Begin a Return of what a node keeps for an owner; return the call, whose replies are as on the wire."""
    asked = copies.ReturnRequest(owner=owner, fetch=fetch)
    call = channel.unary_stream(_RETURN, request_serializer=_bytes_of)
    return call(asked, timeout=timeout, wait_for_ready=patient)


def _bytes_of(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def receive(replies: Iterator[bytes], receiver: Receiver) -> None:
    """Hand an owner's answer to the receiver, piece by piece; raises what the channel and `read` raise."""
    index = 0
    for reply, data in map(read, replies):
        if reply.HasField("failure"):
            receiver.failed(reply.failure.index, error_of(reply.failure))
            continue
        if reply.HasField("begin"):
            begin = reply.begin
            index = begin.index
            corrections = [_read_decision(each) for each in begin.corrections]
            receiver.begin(index, begin.size, corrections, begin.system, is_limited=begin.is_limited)
        if data:
            receiver.data(data)
        if reply.is_end:
            receiver.end(index)
