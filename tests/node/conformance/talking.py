"""An SCU that says anything on any context, and hears every status: what a statement is compared with."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from catalog import Attributes, encode_identifier
from node.app import Node
from node.dimse import Limits
from node.dimse.commands import C_CANCEL_RQ, C_STORE_RQ, N_EVENT_REPORT_RQ, RESPONSE, Command, encode_command
from node.dimse.dialing import Peer, dial, hang_up
from tests.homes import EXPLICIT, RawInstance


class Talk:
    """One association; `contexts` by abstract syntax."""

    def __init__(self, node: Node, *uids: str, roles: tuple[str, ...] = (), ae_title: str = "PEER") -> None:
        peer = Peer(node.config.node.ae_title, "127.0.0.1", node.ports["dicom"], ae_title)
        proposed = [(uid, (EXPLICIT,)) for uid in uids]
        self.association = dial(peer, proposed, Limits(), dict.fromkeys(roles, (False, True)))
        self.contexts = {each.abstract_syntax: each for each in self.association.contexts.values()}

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hang_up(self.association, release=error is None)

    def ask(
        self,
        field: int,
        context: str,
        data: bytes | Attributes | None = None,
        *,
        uid: str = "",
        instance: str | None = None,
        destination: str | None = None,
        is_cancelled: bool = False,
        **fields: Any,
    ) -> list[int]:
        """Send a request on the context of an abstract syntax; return all statuses, the final one last."""
        on = self.contexts[context]
        usual = {
            "MessageID": 1,
            "Priority": 0,
            "CommandDataSetType": 0x0101 if data is None else 1,
            "AffectedSOPClassUID": uid or context,
            "AffectedSOPInstanceUID": instance,
            "MoveDestination": destination,
        }
        command = Command(CommandField=field, **(usual | fields))
        if isinstance(data, dict):
            data = encode_identifier(data, EXPLICIT)
        said = self.association.message(on, encode_command(command), data)
        if is_cancelled:
            # In one piece with the request: a node that is quick may have answered before a second one came.
            cancel = Command(CommandField=C_CANCEL_RQ, MessageIDBeingRespondedTo=1)
            said += self.association.message(on, encode_command(cancel))
        with self.association.lock:
            self.association.connection.send(said)
        return self._statuses(field)

    def store(self, raw: RawInstance, *, data: bytes | None = b"", **told: str) -> int:
        """Send an instance, or other data under its name; return the status."""
        sent = raw.data if data == b"" else data
        return self.ask(C_STORE_RQ, raw.SOPClassUID, sent, **{"instance": raw.SOPInstanceUID, **told})[-1]  # type: ignore[arg-type]

    def _statuses(self, field: int) -> list[int]:
        heard: list[int] = []
        while not heard or heard[-1] in (0xFF00, 0xFF01):
            context, command = self.association.receive_command(20)
            if command.has_data_set:
                self.association.skip_data_set(context)
            if command.CommandField in (C_STORE_RQ, N_EVENT_REPORT_RQ):
                answer = Command(
                    CommandField=command.CommandField | RESPONSE,
                    MessageIDBeingRespondedTo=command.MessageID,
                    AffectedSOPClassUID=command.AffectedSOPClassUID,
                    AffectedSOPInstanceUID=command.AffectedSOPInstanceUID,
                    Status=0,
                )
                self.association.send(context, encode_command(answer))
                continue
            assert command.CommandField == field | RESPONSE
            assert command.Status is not None
            heard.append(command.Status)
        return heard
