"""Both ends of the Copies service: what owners ask of the nodes that keep copies for them.

A keeper answers each owner about that owner's copies alone; who calls is what its certificate says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

import grpc

from catalog import BadRequest, Clock, NotFound, PacsError, Reader, Unavailable
from protos import copies_pb2 as pb
from protos import copies_pb2_grpc as services
from protos import objects_pb2 as objects

from .links.gate import Gate, Visitor
from .links.rpc import letters
from .links.session import Spawn
from .objects import begin_return, error_of, failure_of
from .owners import Owner
from .pieces import PIECE

AT_ONCE: Final = 256
"""Objects that one call may ask a keeper to take."""
_ANSWER: Final = 20.0
"""Seconds within which a keeper answers what needs no reading."""
_SILENT: Final = 60.0
"""Seconds without a word after which a keeper that takes objects is given up, however long it takes them;
and that one is given to prove each 64 MB."""


class CopyItem(NamedTuple):
    """One object that an owner has kept elsewhere; `received` in milliseconds since 1970."""

    SeriesInstanceUID: str
    SOPInstanceUID: str
    SOPClassUID: str
    TransferSyntaxUID: str
    sha256: bytes
    size: int
    source: str
    received: int


class Order(NamedTuple):
    """What an owner wants kept of one study, and what it says of it."""

    owner: Owner
    StudyInstanceUID: str
    items: tuple[CopyItem, ...]
    decisions: tuple[bytes, ...] = ()
    statement: bytes = b""
    readable: bytes = b""
    """What readers are given of it, see `readable`; none: as before."""


class Told(NamedTuple):
    """What became of objects of an order, by their index: durable here, or not and why."""

    kept: tuple[int, ...] = ()
    failed: tuple[tuple[int, PacsError], ...] = ()


class Proved(NamedTuple):
    """What a keeper answers when it is to prove copies of a study."""

    answers: list[bytes]
    """One for each; nothing where there is no proof."""
    is_told: bool
    """Whether it still knows what the owner said of the study besides its objects."""


class Keeper(Protocol):
    """The node that keeps copies, as the service needs it."""

    def keep(self, visitor: Visitor, order: Order) -> Iterator[Told]:
        """Fetch what an owner wants kept; tell what is durable, and now and then nothing.

        Raises:
            NotPermitted: this node keeps nothing for that one.
        """

    def drop(self, owner: bytes, study: str, digests: Iterable[bytes]) -> int:
        """Forget copies, all of the study if none are named; return how many there were."""

    def prove(self, owner: bytes, study: str, sha256: bytes, nonce: bytes) -> bytes:
        """Return what proves that a copy is whole, or nothing."""

    def is_told(self, owner: bytes, study: str) -> bool:
        """Say whether what an owner said about a study is still known."""

    def listing(self, owner: bytes, after: str, only: str) -> Iterator[Order]:
        """Yield what is kept for an owner, behind a study, or of one."""

    def give(self, owner: bytes, study: str, sha256: bytes) -> Reader:
        """Open a copy; raises NotFound, Damaged."""

    def allow(self, owner: bytes, readers: bytes) -> None:
        """Hear from an owner who may read what is kept for it; raises BadRequest."""

    def readable(self, visitor: Visitor, owner: Owner, study: str) -> bytes:
        """Return what another node than the owner may read of a study now, packed; or nothing."""

    def lend(
        self, visitor: Visitor, owner: Owner, request: objects.FetchRequest, is_wanted: Callable[[], bool]
    ) -> Iterator[bytes]:
        """Give another node than the owner what it may read, as `ObjectService.give` does."""


class CopyService(services.CopiesServicer):
    """The keeper's handlers."""

    def __init__(self, gate: Gate, keeper: Keeper) -> None:
        self._gate = gate
        self._keeper = keeper

    def register(self, server: Any) -> None:
        """Add the servicer to a server."""
        services.add_CopiesServicer_to_server(self, server)

    def _owner(self, context: Any, archive: str) -> Owner:
        if not archive:
            raise BadRequest("Copies are of an archive; none is named.")
        return Owner(self._gate.visitor(context).identity.node_id, archive)

    def Keep(self, request: pb.KeepRequest, context: Any) -> Iterator[pb.KeepReply]:
        """Have objects fetched and kept."""
        visitor = self._gate.visitor(context)
        order = _order(self._owner(context, request.archive), request)
        for kept, failed in self._keeper.keep(visitor, order):
            if not context.is_active():
                return
            yield pb.KeepReply(kept=kept, failures=[failure_of(at, error) for at, error in failed])

    def Drop(self, request: pb.DropRequest, context: Any) -> pb.DropReply:
        """Forget copies."""
        owner = self._owner(context, request.archive).name
        return pb.DropReply(dropped=self._keeper.drop(owner, request.study, request.sha256))

    def Prove(self, request: pb.ProveRequest, context: Any) -> pb.ProveReply:
        """Prove that copies are whole."""
        owner = self._owner(context, request.archive).name
        study, nonce = request.study, request.nonce
        return pb.ProveReply(
            answers=[self._keeper.prove(owner, study, each, nonce) for each in request.sha256[:AT_ONCE]],
            is_untold=not self._keeper.is_told(owner, study),
        )

    def List(self, request: pb.ListRequest, context: Any) -> Iterator[pb.ListReply]:
        """List what is kept for the caller."""
        owner = self._owner(context, request.archive).name
        for order in self._keeper.listing(owner, request.after, request.study):
            for start in range(0, max(len(order.items), 1), AT_ONCE):
                items = [_item(each) for each in order.items[start : start + AT_ONCE]]
                decisions = order.decisions if not start else ()
                yield pb.ListReply(study=order.StudyInstanceUID, items=items, decisions=decisions)

    def Return(self, request: pb.ReturnRequest, context: Any) -> Iterator[objects.FetchReply]:
        """Give copies back."""
        visitor = self._gate.visitor(context)
        node_id, _, archive = request.owner.partition("/")
        owner = Owner(node_id, archive)
        if node_id != visitor.identity.node_id:
            lent = self._keeper.lend(visitor, owner, request.fetch, context.is_active)
            yield from map(objects.FetchReply.FromString, lent)
            return
        for index, item in enumerate(request.fetch.items[:AT_ONCE]):
            try:
                reader = self._keeper.give(owner.name, item.study, item.sha256)
                yield from _pieces(index, reader, item.offset)
            except PacsError as error:
                yield objects.FetchReply(failure=failure_of(index, error))

    def Allow(self, request: pb.AllowRequest, context: Any) -> pb.AllowReply:
        """Hear who may read copies."""
        self._keeper.allow(self._owner(context, request.archive).name, request.readers)
        return pb.AllowReply()

    def Readable(self, request: pb.ReadableRequest, context: Any) -> pb.ReadableReply:
        """Say what the caller may read of an owner's study."""
        node_id, _, archive = request.owner.partition("/")
        visitor = self._gate.visitor(context)
        return pb.ReadableReply(
            readable=self._keeper.readable(visitor, Owner(node_id, archive), request.study)
        )


def _pieces(index: int, reader: Reader, at: int) -> Iterator[objects.FetchReply]:
    begin: objects.ObjectBegin | None = objects.ObjectBegin(index=index, size=reader.size)
    try:
        while True:
            piece = bytearray(max(0, min(PIECE, reader.size - at)))
            if reader.read_into(memoryview(piece), at) != len(piece):
                raise NotFound("A copy is shorter than when it came.", "Its owner copies it again.")
            at += len(piece)
            is_end = at >= reader.size
            yield objects.FetchReply(begin=begin, data=bytes(piece), is_end=is_end)
            if is_end:
                return
            begin = None
    finally:
        reader.close()


def _order(owner: Owner, request: pb.KeepRequest) -> Order:
    if not request.study or len(request.items) > AT_ONCE:
        raise BadRequest(f"An order to keep copies names a study and at most {AT_ONCE} objects.")
    items = tuple(map(_read_item, request.items))
    if any(len(each.sha256) != 32 for each in items):
        raise BadRequest("A SHA-256 has 32 bytes.")
    return Order(owner, request.study, items, tuple(request.decisions), request.statement, request.readable)


def _item(item: CopyItem) -> pb.CopyItem:
    return pb.CopyItem(
        series=item.SeriesInstanceUID,
        instance=item.SOPInstanceUID,
        sha256=item.sha256,
        size=item.size,
        source=item.source,
        received=item.received,
        sop_class=item.SOPClassUID,
        syntax=item.TransferSyntaxUID,
    )


def _read_item(item: pb.CopyItem) -> CopyItem:
    return CopyItem(
        item.series,
        item.instance,
        item.sop_class,
        item.syntax,
        item.sha256,
        item.size,
        item.source,
        item.received,
    )


class _Watch:
    """Cancels a call that brings nothing for too long; `look` runs in a thread of its own."""

    def __init__(self, call: Any, monotonic: Clock) -> None:
        self.gave_up = False
        self._call = call
        self._is_over = threading.Event()
        self._monotonic = monotonic
        self._heard = monotonic()

    def heard(self) -> None:
        """Hear that something came."""
        self._heard = self._monotonic()

    def end(self) -> None:
        """Look no more."""
        self._is_over.set()

    def look(self) -> None:
        """Look until the call ends."""
        while not self._is_over.wait(_SILENT / 8):
            if self._monotonic() - self._heard > _SILENT:
                self.gave_up = True
                self._call.cancel()
                return


class CopyLink:
    """The owner's side: calls the Copies service of keepers."""

    def __init__(
        self, channel: Callable[[str], Any], name: Callable[[str], str], spawn: Spawn, monotonic: Clock
    ) -> None:
        """`channel` returns the channel to a connected node, `name` says how it is called in sentences."""
        self._channel = channel
        self._name = name
        self._spawn = spawn
        self._monotonic = monotonic

    def keep(self, node_id: str, order: Order) -> Iterator[Told]:
        """Have a keeper take objects; yield what is durable there, and now and then nothing.

        It may take as long as it needs, while it says that the work goes on.

        Raises:
            Unavailable: it is not connected, broke off, or says nothing any more.
            NotPermitted, OutOfSpace: it takes none.
        """
        request = pb.KeepRequest(
            archive=order.owner.archive,
            study=order.StudyInstanceUID,
            items=map(_item, order.items),
            decisions=order.decisions,
            statement=order.statement,
            readable=order.readable,
        )
        with letters(self._name(node_id)):
            call = services.CopiesStub(self._channel(node_id)).Keep(request)
            watch = _Watch(call, self._monotonic)
            self._spawn("patience", watch.look)
            try:
                for reply in call:
                    watch.heard()
                    yield Told(tuple(reply.kept), tuple(map(_failure, reply.failures)))
                    watch.heard()
            except grpc.RpcError:
                if not watch.gave_up:
                    raise
                what = f"{self._name(node_id)} said nothing for {_SILENT:.0f} seconds while it took copies."
                raise Unavailable(what, "What it has stays there; the rest is tried again.") from None
            finally:
                watch.end()
                call.cancel()

    def drop(self, node_id: str, archive: str, study: str, digests: Sequence[bytes] = ()) -> int:
        """Have a keeper forget copies. Raises as `keep`."""
        request = pb.DropRequest(archive=archive, study=study, sha256=digests)
        with letters(self._name(node_id)):
            reply = services.CopiesStub(self._channel(node_id)).Drop(request, timeout=_ANSWER)
        return int(reply.dropped)

    def prove(
        self, node_id: str, archive: str, study: str, digests: Sequence[bytes], nonce: bytes, size: int
    ) -> Proved:
        """Return a keeper's proofs; `size` bytes are to be read for them. Raises as `keep`."""
        request = pb.ProveRequest(archive=archive, study=study, sha256=digests, nonce=nonce)
        seconds = _SILENT * (1 + size / (64 << 20))
        with letters(self._name(node_id)):
            reply = services.CopiesStub(self._channel(node_id)).Prove(request, timeout=seconds)
        return Proved(list(reply.answers), not reply.is_untold)

    def listing(self, node_id: str, archive: str, after: str = "", study: str = "") -> Iterator[Order]:
        """Yield what a keeper has of an archive of ours, study by study in parts. Raises as `keep`."""
        request = pb.ListRequest(archive=archive, after=after, study=study)
        with letters(self._name(node_id)):
            call = services.CopiesStub(self._channel(node_id)).List(request, timeout=3600.0)
            try:
                for reply in call:
                    items = tuple(map(_read_item, reply.items))
                    yield Order(Owner(node_id, archive), reply.study, items, tuple(reply.decisions))
            finally:
                call.cancel()

    def allow(self, node_id: str, archive: str, readers: bytes) -> None:
        """Tell a keeper who may read copies of an archive. Raises as `keep`."""
        request = pb.AllowRequest(archive=archive, readers=readers)
        with letters(self._name(node_id)):
            services.CopiesStub(self._channel(node_id)).Allow(request, timeout=_ANSWER)

    def readable(self, node_id: str, owner: bytes, study: str, timeout: float) -> bytes:
        """Return what a node keeps of an owner's study and lets this one read. Raises as `keep`."""
        request = pb.ReadableRequest(owner=owner.decode(), study=study)
        with letters(self._name(node_id)):
            reply = services.CopiesStub(self._channel(node_id)).Readable(request, timeout=timeout)
        return bytes(reply.readable)

    def give_back(self, node_id: str, owner: bytes, fetch: objects.FetchRequest, timeout: float) -> Any:
        """Begin a Return; return the call, which yields replies as they are on the wire and can be cancelled.

        Raises:
            Unavailable: the node is not connected.
        """
        return begin_return(self._channel(node_id), owner.decode(), fetch, timeout)


def _failure(failure: objects.ObjectFailure) -> tuple[int, PacsError]:
    return failure.index, error_of(failure)
