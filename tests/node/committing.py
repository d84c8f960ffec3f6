"""Devices that ask for Storage Commitment, and pynetdicom as what listens for the results."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from queue import SimpleQueue
from typing import Any

from msgspec.structs import replace
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from catalog import NotPermitted
from node.dimse import Limits
from node.dimse.association import Association
from node.dimse.commands import Command, encode_command
from node.dimse.dialing import Peer, dial
from node.dimse.negotiation import Context
from node.dimse.pdu import RELEASE_REQUEST
from node.dimse.tls import Security
from node.dimse.transport import Ended
from sim.ports import free_port
from tests.homes import RawInstance
from tests.running import until

PUSH = str(StorageCommitmentPushModel)
PUSH_INSTANCE = "1.2.840.10008.1.20.1.1"
LOOPBACK = "127.0.0.1"
Pair = tuple[str, str]


def pairs(*instances: RawInstance) -> list[Pair]:
    """Return the references of instances."""
    return [(one.SOPClassUID, one.SOPInstanceUID) for one in instances]


def action(references: Iterable[Pair], transaction: str = "") -> Dataset:
    """Return the Action Information of a request."""
    asked = Dataset()
    asked.TransactionUID = transaction or generate_uid()
    asked.ReferencedSOPSequence = [_item(*each) for each in references]
    return asked


def _item(SOPClassUID: str, SOPInstanceUID: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SOPClassUID, SOPInstanceUID
    return item


class Results:
    """What N-EVENT-REPORTs said: (event type, information), and what they are answered."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, Dataset]] = []
        self.statuses: list[int] = []
        """Answered in turn; 0000 when there is none left."""
        self.refused = 0

    def handle(self, event: Any) -> tuple[int, None]:
        """Take one from pynetdicom."""
        return self.take(event.event_type, event.event_information), None

    def take(self, kind: int, said: Dataset) -> int:
        """Take one and return the status to answer."""
        status = self.statuses.pop(0) if self.statuses else 0x0000
        if status:
            self.refused += 1
        else:
            self.taken.append((kind, said))
        return status

    def only(self) -> tuple[int, set[str], dict[str, int]]:
        """Wait for one result: its event type, what is committed, and the reasons of what is not."""
        until(lambda: self.taken)
        assert len(self.taken) == 1
        return self.read(0)

    def read(self, place: int) -> tuple[int, set[str], dict[str, int]]:
        """Return event type, committed and failed SOP Instance UIDs of one result."""
        kind, said = self.taken[place]
        committed = [str(item.ReferencedSOPInstanceUID) for item in said.get("ReferencedSOPSequence", [])]
        failed = {
            str(item.ReferencedSOPInstanceUID): int(item.FailureReason)
            for item in said.get("FailedSOPSequence", [])
        }
        assert len(committed) == len(set(committed)), "a reference is told twice"
        return kind, set(committed), failed


class Scu:
    """An open association for Storage Commitment over which results may come; a thread of its own reads it.

    pynetdicom as SCU deadlocks now and then when a notification comes beside its own requests; so the
    messages are ours, and the data sets pydicom's.
    """

    def __init__(self, association: Association, results: Results) -> None:
        self._association = association
        [self._context] = association.contexts.values()
        self._results = results
        self._answers: SimpleQueue[Command | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def ask(self, asked: Dataset | bytes | None, kind: int | None = 1, instance: str = PUSH_INSTANCE) -> int:
        """Send an N-ACTION and return the status of its response."""
        data = encode(asked, False, True) if isinstance(asked, Dataset) else asked
        return self.say(
            Command(CommandField=0x0130, RequestedSOPInstanceUID=instance, ActionTypeID=kind), data
        )

    def say(self, command: Command, data: bytes | None = None) -> int:
        """Send a request for the class and return the status of its response."""
        kind = 0x0101 if data is None else 0x0000
        whole = replace(command, MessageID=7, RequestedSOPClassUID=PUSH, CommandDataSetType=kind)
        self._association.send(self._context, encode_command(whole), data)
        answer = self._answers.get(timeout=60)
        assert answer is not None, "the association ended"
        assert answer.CommandField == command.CommandField | 0x8000
        assert answer.MessageIDBeingRespondedTo == 7
        return answer.Status or 0

    def close(self) -> None:
        """Release the association."""
        with self._association.lock, contextlib.suppress(Ended):
            self._association.connection.send([RELEASE_REQUEST])
        self._thread.join()
        self._association.connection.close()

    def _read(self) -> None:
        try:
            while True:
                context, command = self._association.receive_command(60.0)
                data = b""
                if command.has_data_set:
                    data = self._association.receive_data_set(context, 1 << 24) or b""
                if command.CommandField & 0x8000:
                    self._answers.put(command)
                else:
                    self._take(context, command, data)
        except Ended:
            self._answers.put(None)

    def _take(self, context: Context, command: Command, data: bytes) -> None:
        assert command.CommandField == 0x0100
        assert command.AffectedSOPInstanceUID == PUSH_INSTANCE
        said = read_dataset(BytesIO(data), False, True)
        status = self._results.take(command.EventTypeID or 0, said)
        answer = Command(
            CommandField=0x8100,
            MessageIDBeingRespondedTo=command.MessageID,
            AffectedSOPClassUID=PUSH,
            AffectedSOPInstanceUID=PUSH_INSTANCE,
            EventTypeID=command.EventTypeID,
            Status=status,
        )
        self._association.send(context, encode_command(answer))


@contextmanager
def asking(
    port: int,
    results: Results,
    ae_title: str = "CT1",
    called: str = "ALPHA",
    security: Security | None = None,
) -> Iterator[Scu]:
    """Open an association that may be told results as well, over TLS if `security` says how."""
    peer = Peer(called, LOOPBACK, port, ae_title, security)
    association = dial(peer, [(PUSH, ["1.2.840.10008.1.2.1"])], Limits())
    if not association.contexts:
        association.connection.close()
        raise NotPermitted("It does not accept Storage Commitment.")
    scu = Scu(association, results)
    try:
        yield scu
    finally:
        scu.close()


@contextmanager
def listening(
    results: Results, ae_title: str = "CT1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Listen for results at a port of its own, as the user of the service."""
    entity = AE(ae_title=ae_title)
    entity.add_supported_context(PUSH, scu_role=True, scp_role=True)
    port = port or free_port()
    handlers = [(evt.EVT_N_EVENT_REPORT, results.handle)]
    address = (LOOPBACK, port)
    server = entity.start_server(address, block=False, evt_handlers=handlers, ssl_context=tls)  # type: ignore[arg-type]
    try:
        yield port
    finally:
        assert server is not None
        server.shutdown()
