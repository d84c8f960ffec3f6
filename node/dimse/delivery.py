"""C-STORE as SCU to one Application Entity: contexts as they are needed, associations as they break."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from catalog import NotFound, PacsError, Unavailable
from node.contracts import Outgoing, StoreResult

from .association import Association
from .commands import C_STORE_RQ, MEDIUM, RESPONSE, Command, encode_command
from .dialing import MAX_CONTEXTS, Peer, Proposed, dial, hang_up
from .limits import Limits
from .negotiation import Context
from .outgoing import Convert, Sender
from .pdu import UNEXPECTED_PARAMETER, Violation
from .syntaxes import UNCOMPRESSED
from .transport import Ended, Silent

logger = logging.getLogger(__name__)
Pair = tuple[str, str]
"""SOP Class and transfer syntax: one presentation context each, so that the receiver need not choose."""
LOOK: Final = 0.5
"""Seconds between two looks at the caller while the receiver thinks."""
DEATHS: Final = 3
"""Associations that may break one after the other before the receiver counts as dead."""


class Originator(NamedTuple):
    """On whose behalf a C-MOVE sends, PS3.7 9.1.1.1: its AE title and the Message ID of its C-MOVE-RQ."""

    ae_title: str
    message_id: int


class NotAccepted(PacsError):
    """The receiver accepted no presentation context that the instance could go in."""


class Delivery:
    """Sends instances to a peer: `begin` one, `prepare` the next, `end` the first."""

    def __init__(
        self,
        peer: Peer,
        limits: Limits,
        convert: Convert,
        *,
        expected: Iterable[Pair] = (),
        transfer_syntaxes: Collection[str] = (),
        priority: int = MEDIUM,
        originator: Originator | None = None,
    ) -> None:
        """Prepare to send; `expected` pairs are proposed together, `transfer_syntaxes` narrow them."""
        self.peer = peer
        self._limits = limits
        self._convert = convert
        self._pairs = dict.fromkeys(expected)
        self._allowed = transfer_syntaxes
        self._priority = priority
        self._originator = originator
        self._sender = Sender()
        self._association: Association | None = None
        self._proposed: set[Pair] = set()
        self._contexts: dict[Pair, Context] = {}
        self._message_id = 0
        self._deaths = 0
        self.last_word: PacsError | None = None
        """Why nothing more can be sent."""

    def expect(self, pairs: Iterable[Pair]) -> None:
        """Have further pairs proposed together with the others when an association is opened next."""
        self._pairs |= dict.fromkeys(pairs)

    def prepare(self, outgoing: Outgoing) -> None:
        """Read the beginning of the next instance while the peer still works on the last one."""
        self._sender.load(outgoing)

    def begin(self, outgoing: Outgoing) -> None:
        """Send an instance; its answer comes with `end`.

        Raises:
            NotAccepted: the peer takes no such instance; the next one may do.
            Damaged, NotFound, Unavailable, Busy, NotPermitted: see `PacsError.what`.
        """
        association, context, converted = self._place(outgoing)
        self._sender.load(converted)
        self._message_id = self._message_id % 0xFFFF + 1
        command = store_request(converted, self._message_id, self._priority, self._originator)
        try:
            self._sender.send(association, context, command, converted)
        except Ended as error:
            raise self._died(error) from None
        except PacsError:
            self.close(release=False)
            raise
        finally:
            if converted is not outgoing:
                converted.close()

    def end(self, is_unwanted: Callable[[], bool] = bool) -> StoreResult:
        """Return the answer to the last `begin`; `is_unwanted` is asked while waiting, and shortens it.

        Raises:
            Unavailable: the peer died or said nothing.
        """
        association = self._association
        if association is None:
            raise Unavailable(f"{self.peer} is gone.")
        try:
            self._await(association, is_unwanted)
            _, command = association.receive_command()
            if (command.CommandField, command.MessageIDBeingRespondedTo) != (
                C_STORE_RQ | RESPONSE,
                self._message_id,
            ):
                raise Violation(UNEXPECTED_PARAMETER, "it answered something else")
        except Ended as error:
            raise self._died(error) from None
        self._deaths = 0
        return StoreResult(0xC000 if command.Status is None else command.Status, command.ErrorComment or "")

    def close(self, *, release: bool = True) -> None:
        """End the association, if there is one."""
        if self._association:
            hang_up(self._association, release=release)
            self._association = None

    def _await(self, association: Association, is_unwanted: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._limits.response
        while not association.connection.has_input(LOOK):
            if is_unwanted():
                deadline = min(deadline, time.monotonic() + 2 * LOOK)
            if time.monotonic() > deadline:
                raise Silent(f"no answer to a C-STORE within {self._limits.response:g} s")

    def _died(self, error: Ended) -> Unavailable:
        self.close(release=False)
        self._deaths += 1
        if self._deaths >= DEATHS:
            self.last_word = Unavailable(f"{self.peer} broke {DEATHS} associations one after the other.")
        return Unavailable(f"{self.peer} broke the association: {error}.")

    def _place(self, outgoing: Outgoing) -> tuple[Association, Context, Outgoing]:
        pair = (outgoing.SOPClassUID, outgoing.TransferSyntaxUID)
        self._pairs.setdefault(pair)
        association = self._association
        if association is None or pair not in self._proposed:
            association = self._reopen(pair)
        context = self._contexts.get(pair)
        if context:
            return association, context, outgoing
        accepted = {syntax: context for (uid, syntax), context in self._contexts.items() if uid == pair[0]}
        converted = self._convert(outgoing, accepted) if accepted else None
        if converted is None:
            raise NotAccepted(f"{self.peer.ae_title} accepts no {pair[1]} for {pair[0]}.")
        return association, accepted[converted.TransferSyntaxUID], converted

    def _reopen(self, first: Pair) -> Association:
        if self.last_word:
            raise self.last_word
        self.close()
        proposed = self._proposal(first)
        try:
            association = dial(self.peer, proposed, self._limits)
        except PacsError as error:
            self.last_word = error
            raise
        self._association = association
        self._contexts = {
            (context.abstract_syntax, context.transfer_syntax): context
            for context in reversed(list(association.contexts.values()))
            if context.peer_is_scp
        }
        return association

    def _proposal(self, first: Pair) -> list[Proposed]:
        """Return a context per pair from `first` on, then a default one per SOP Class while there is room."""
        pairs = list(self._pairs)
        place = pairs.index(first)
        pairs = (pairs[place:] + pairs[:place])[:MAX_CONTEXTS]
        self._proposed = set(pairs)
        proposal: list[Proposed] = [
            (uid, (syntax,)) for uid, syntax in pairs if not self._allowed or syntax in self._allowed
        ]
        defaults: list[Proposed] = []
        for uid in dict.fromkeys(uid for uid, _ in pairs):
            syntaxes = tuple(
                syntax
                for syntax in UNCOMPRESSED
                if (uid, syntax) not in pairs and (not self._allowed or syntax in self._allowed)
            )
            if syntaxes:
                defaults.append((uid, syntaxes))
        proposal = [*proposal, *defaults][:MAX_CONTEXTS]
        if not proposal:
            raise NotFound(f"The device book leaves no transfer syntax to propose to {self.peer}.")
        return proposal


def store_request(outgoing: Outgoing, message_id: int, priority: int, originator: Originator | None) -> bytes:
    """Return the command set of a C-STORE-RQ, PS3.7 9.3.1.1."""
    return encode_command(
        Command(
            CommandField=C_STORE_RQ,
            MessageID=message_id,
            CommandDataSetType=0x0001,
            Priority=priority,
            AffectedSOPClassUID=outgoing.SOPClassUID,
            AffectedSOPInstanceUID=outgoing.SOPInstanceUID,
            MoveOriginatorApplicationEntityTitle=originator.ae_title if originator else None,
            MoveOriginatorMessageID=originator.message_id if originator else None,
        )
    )
