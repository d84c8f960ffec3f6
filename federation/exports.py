"""Both ends of the Exports service: an owner's handlers, and the calls by which a site orders and gathers.

Who calls is what TLS says; what a call may do is decided by whoever answers it. Of an export nothing but the
files of a release ever crosses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from catalog import BadRequest
from protos import exports_pb2 as pb
from protos import exports_pb2_grpc as services

from .export_messages import (
    Accepted,
    Name,
    Offer,
    Order,
    Preview,
    ReleaseName,
    Standing,
    Withdrawal,
    Withdrawn,
)
from .links.channels import asking
from .links.gate import Gate, Visitor
from .links.rpc import letters
from .trust.assertion import Asker

T = TypeVar("T", bound=msgspec.Struct)
_PIECE: Final = 1 << 20
_LARGEST: Final = 3 << 20
"""Bytes of a question; a list of about 30 000 lines."""
_SOON: Final = 20.0
_PATIENT: Final = 120.0
"""Seconds within which a peer counts what an order would bring."""


class Given(NamedTuple):
    """A release as an owner gives it."""

    folder: Path
    names: tuple[str, ...]
    pace: Callable[[int], None]
    """Waits as the grant's rate wants before so many bytes go."""


class Owner(Protocol):
    """What answers peers; each method is told who calls, and raises PacsError."""

    def certificate(self) -> bytes:
        """Return the node's certificate, DER."""

    def offer(self, visitor: Visitor, told: Offer) -> Accepted:
        """Keep an offer until a person decides."""

    def preview(self, visitor: Visitor, told: Order) -> Preview:
        """Say what an order would bring."""

    def order(self, visitor: Visitor, told: Order) -> Standing:
        """Take an order in; the same twice is one."""

    def stand(self, visitor: Visitor, told: Name) -> Standing:
        """Say how an order stands."""

    def stop(self, visitor: Visitor, told: Name) -> Standing:
        """Stop an order."""

    def release(self, visitor: Visitor, told: ReleaseName) -> Given:
        """Return what a release holds."""

    def took(self, visitor: Visitor, told: ReleaseName) -> None:
        """Hear that the caller has all of a release."""

    def withdraw(self, visitor: Visitor, told: Withdrawal) -> Withdrawn:
        """Take a subject out of a project, and bar it."""


class ExportService(services.ExportsServicer):
    """Serves peers; the gate in front of it turns PacsErrors into statuses. Method names are the wire's."""

    def __init__(self, gate: Gate, owner: Callable[[], Owner]) -> None:
        """`owner` is asked for when somebody calls: most nodes never have a project."""
        self._gate = gate
        self._owner = owner

    def register(self, server: Any) -> None:
        """Add the servicer to a server."""
        services.add_ExportsServicer_to_server(self, server)

    def Certify(self, request: pb.CertifyRequest, context: Any) -> pb.CertifyReply:
        """See `Owner.certificate`."""
        return pb.CertifyReply(certificate=self._owner().certificate())

    def Offer(self, request: pb.ProjectOffer, context: Any) -> pb.OfferReply:
        """See `Owner.offer`."""
        return _wire(self._owner().offer(self._who(context), _read(request, Offer)), pb.OfferReply())

    def Preview(self, request: pb.ExportOrder, context: Any) -> pb.ExportPreview:
        """See `Owner.preview`."""
        return _wire(self._owner().preview(self._who(context), _read(request, Order)), pb.ExportPreview())

    def Order(self, request: pb.ExportOrder, context: Any) -> pb.ExportStanding:
        """See `Owner.order`."""
        return _wire(self._owner().order(self._who(context), _read(request, Order)), pb.ExportStanding())

    def Stand(self, request: pb.ExportName, context: Any) -> pb.ExportStanding:
        """See `Owner.stand`."""
        return _wire(self._owner().stand(self._who(context), _read(request, Name)), pb.ExportStanding())

    def Stop(self, request: pb.ExportName, context: Any) -> pb.ExportStanding:
        """See `Owner.stop`."""
        return _wire(self._owner().stop(self._who(context), _read(request, Name)), pb.ExportStanding())

    def Fetch(self, request: pb.ReleaseRequest, context: Any) -> Iterator[pb.ReleasePiece]:
        """See `Owner.release`."""
        told = _read(request, ReleaseName)
        given = self._owner().release(self._who(context), told)
        have = frozenset(told.have)
        for name in given.names:
            if name not in have:
                yield from pieces(given, name)

    def Took(self, request: pb.ReleaseRequest, context: Any) -> pb.TookReply:
        """See `Owner.took`."""
        self._owner().took(self._who(context), _read(request, ReleaseName))
        return pb.TookReply()

    def Withdraw(self, request: pb.SubjectWithdrawal, context: Any) -> pb.SubjectWithdrawn:
        """See `Owner.withdraw`."""
        told = _read(request, Withdrawal)
        return _wire(self._owner().withdraw(self._who(context), told), pb.SubjectWithdrawn())

    def _who(self, context: Any) -> Visitor:
        return self._gate.visitor(context)


def pieces(given: Given, name: str) -> Iterator[pb.ReleasePiece]:
    """Yield one file of a release, in pieces of at most 1 MiB."""
    with (given.folder / name).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        begin: dict[str, Any] = {"name": name, "size": size}
        left = size
        while True:
            data = file.read(min(_PIECE, left))
            left -= len(data)
            given.pace(len(data))
            yield pb.ReleasePiece(**begin, data=data, is_end=not left or not data)
            if not left or not data:
                return
            begin = {}


class PeerExports:
    """Calls the Exports service of peers; `channel` returns the channel to a connected node by its id."""

    def __init__(self, channel: Callable[[str], Any], name: Callable[[str], str]) -> None:
        """`name` says how a node is called in sentences."""
        self._channel = channel
        self._name = name

    def certificate(self, node_id: str) -> bytes:
        """Return a peer's certificate, DER; raises PacsError, as all of these do."""
        with letters(self._name(node_id)):
            reply = self._stub(node_id).Certify(pb.CertifyRequest(), timeout=_SOON)
        return bytes(reply.certificate)

    def offer(self, node_id: str, asker: Asker, told: Offer) -> Accepted:
        """Offer a project."""
        return self._ask(node_id, "Offer", asker, _wire(told, pb.ProjectOffer()), Accepted, _SOON)

    def preview(self, node_id: str, asker: Asker, told: Order) -> Preview:
        """Ask what an order would bring."""
        return self._ask(node_id, "Preview", asker, _wire(told, pb.ExportOrder()), Preview, _PATIENT)

    def order(self, node_id: str, asker: Asker, told: Order) -> Standing:
        """Order."""
        return self._ask(node_id, "Order", asker, _wire(told, pb.ExportOrder()), Standing, _PATIENT)

    def stand(self, node_id: str, asker: Asker, order: str) -> Standing:
        """Ask how an order stands."""
        return self._ask(node_id, "Stand", asker, pb.ExportName(order=order), Standing, _SOON)

    def stop(self, node_id: str, asker: Asker, order: str) -> Standing:
        """Stop an order."""
        return self._ask(node_id, "Stop", asker, pb.ExportName(order=order), Standing, _SOON)

    def took(self, node_id: str, asker: Asker, order: str, export: str) -> None:
        """Say that all of a release is here."""
        with asking(asker), letters(self._name(node_id)):
            self._stub(node_id).Took(pb.ReleaseRequest(order=order, export=export), timeout=_SOON)

    def withdraw(self, node_id: str, asker: Asker, told: Withdrawal) -> Withdrawn:
        """Have a subject taken out of a project there."""
        return self._ask(node_id, "Withdraw", asker, _wire(told, pb.SubjectWithdrawal()), Withdrawn, _PATIENT)

    def fetch(
        self, node_id: str, asker: Asker, order: str, export: str, have: Sequence[str]
    ) -> Iterator[tuple[str, bytes, bool]]:
        """Yield files that are not here yet: name where one begins, bytes, whether it ends."""
        request = pb.ReleaseRequest(order=order, export=export, have=have)
        with asking(asker), letters(self._name(node_id)):
            call = self._stub(node_id).Fetch(request)
        with letters(self._name(node_id)):
            for piece in call:
                yield piece.name, piece.data, piece.is_end

    def _stub(self, node_id: str) -> services.ExportsStub:
        return services.ExportsStub(self._channel(node_id))

    def _ask(
        self, node_id: str, call: str, asker: Asker, request: Message, kind: type[T], timeout: float
    ) -> T:
        if request.ByteSize() > _LARGEST:
            raise BadRequest("The list is too long for one order to a peer.", "Divide it into several.")
        with asking(asker), letters(self._name(node_id)):
            reply = getattr(self._stub(node_id), call)(request, timeout=timeout)
        return _read(reply, kind)


M = TypeVar("M", bound=Message)


def _wire(told: msgspec.Struct, message: M) -> M:
    """Fill a message with a struct of the same fields."""
    return ParseDict(msgspec.to_builtins(told), message)


def _read(message: Message, kind: type[T]) -> T:
    """Return a message as the struct of the same fields.

    Raises:
        BadRequest: it cannot be.
    """
    told = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    try:
        return msgspec.convert(told, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"A peer said what cannot be: {error}.") from None
