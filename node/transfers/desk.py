"""What a person can ask about transfers, as verbs that take and return what JSON can say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from catalog import BadRequest, CatalogWriter, NotFound, Selection
from node.contracts import Audit
from node.devices import DeviceBook
from node.targets import target_of

from .model import Kind, Lane, Order, Standing, Transfer
from .queue import TransferQueue
from .telling import told

_SHOWN: Final = 1000
"""Failed instances that are told one by one."""


class TransferDesk:
    """The verbs about the transfers of one archive; those of another cannot be seen or changed by them."""

    def __init__(
        self,
        queue_of: Callable[[], TransferQueue],
        archive: str,
        catalog: CatalogWriter,
        devices: DeviceBook,
        audit: Audit,
    ) -> None:
        """Take what opens the queue when it is first needed, and the archive's name and parts."""
        self._queue_of = queue_of
        self._archive = archive
        self._catalog = catalog
        self._devices = devices
        self._audit = audit

    def verbs(self) -> tuple[Callable[..., Any], ...]:
        """Return the verbs."""
        return (
            self.forward,
            self.transfers,
            self.transfer,
            self.pause_transfer,
            self.resume_transfer,
            self.cancel_transfer,
            self.retry_transfer,
            self.raise_transfer,
        )

    @property
    def _queue(self) -> TransferQueue:
        return self._queue_of()

    def forward(
        self,
        target: str,
        destination: str,
        lane: str = Lane.NORMAL,
        reason: str = "",
        who: str = "",
    ) -> dict[str, Any]:
        """Send a study, series or instance to a device of the book; what is under way is not begun twice."""
        device = self._devices.find(destination)
        if not device.port:
            what = f"{device.ae_title} is in the device book without a port, so nothing can be sent to it."
            raise BadRequest(what, f"peerpacs devices edit {device.ae_title} --address HOST --port PORT")
        study, series, instance = (*target_of(self._catalog, target), "", "")[:3]
        order = Order(
            kind=Kind.DELIVER,
            destination=device.ae_title,
            archive=self._archive,
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUIDs=(instance,) if instance else (),
        )
        if not self._catalog.select(
            Selection(studies=(study,), series=(series,) if series else (), instances=order.SOPInstanceUIDs)
        ):
            raise NotFound(f"Nothing of {target} can be sent.", "Look for it with: peerpacs find")
        return self._did("forward", self._queue.enqueue(order, _lane(lane), who, reason, again=True), who)

    def transfers(self, is_over_too: bool = True) -> list[dict[str, Any]]:
        """Return all transfers, the oldest first, or only those that are not done or cancelled."""
        quiet = () if is_over_too else (Standing.DONE, Standing.CANCELLED)
        return [
            self._told(each)
            for each in self._queue.transfers()
            if each.standing not in quiet and each.order.archive == self._archive
        ]

    def transfer(self, id: str) -> dict[str, Any]:
        """Return one transfer with the instances that failed; a beginning of its id is enough."""
        transfer = self._find(id)
        failures = [
            {
                "SeriesInstanceUID": item.SeriesInstanceUID,
                "SOPInstanceUID": item.SOPInstanceUID,
                "why": item.why,
            }
            for item in self._queue.failures(transfer.id)[:_SHOWN]
        ]
        return {**self._told(transfer), "failures": failures}

    def pause_transfer(self, id: str, who: str = "") -> dict[str, Any]:
        """Let a transfer rest after the instance under way."""
        return self._did("pause", self._queue.pause(self._find(id).id), who)

    def resume_transfer(self, id: str, who: str = "") -> dict[str, Any]:
        """Go on with a transfer that was paused."""
        return self._did("resume", self._queue.resume(self._find(id).id), who)

    def cancel_transfer(self, id: str, who: str = "") -> dict[str, Any]:
        """Give a transfer up."""
        return self._did("cancel", self._queue.cancel(self._find(id).id), who)

    def retry_transfer(self, id: str, who: str = "") -> dict[str, Any]:
        """Send what failed once more, and only that."""
        return self._did("retry", self._queue.retry(self._find(id).id), who)

    def raise_transfer(self, id: str, lane: str = Lane.NOW, who: str = "") -> dict[str, Any]:
        """Move a transfer to another lane, the most urgent one unless said otherwise."""
        return self._did("raise", self._queue.hasten(self._find(id).id, _lane(lane)), who)

    def _find(self, id: str) -> Transfer:
        transfer = self._queue.find(id)
        if transfer.order.archive != self._archive:
            raise NotFound(f"There is no transfer {id!r}.", "List them with: peerpacs transfers list")
        return transfer

    def _did(self, what: str, transfer: Transfer, who: str) -> dict[str, Any]:
        detail = {
            "what": what,
            "who": who,
            "transfer": transfer.id,
            "destination": transfer.order.destination,
            "StudyInstanceUID": [transfer.order.StudyInstanceUID],
            "lane": transfer.lane.value,
        }
        self._audit.record("transfer", None, "success", detail)
        return self._told(transfer)

    def _told(self, transfer: Transfer) -> dict[str, Any]:
        return told(transfer, self._queue.hold_on(transfer.order.destination), self._queue.clock())


def _lane(name: str) -> Lane:
    try:
        return Lane(name)
    except ValueError:
        raise BadRequest(f"{name!r} is not a lane.", f"Name one of: {', '.join(Lane)}") from None
