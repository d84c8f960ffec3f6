"""How an old PACS is called: never more associations at once than agreed, and only at its hours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Final

from catalog import Attributes, Busy, Clock, PacsError, Unavailable
from node.dimse import Requestor
from node.dimse.requestor import Retrieved
from node.dimse.statuses import DESTINATION_UNKNOWN, SUBOPERATIONS_WITH_FAILURES, SUCCESS
from node.hours import read_hours
from node.listing import Listing
from node.standing import OldPacs

_TURN: Final = 600.0
"""Seconds to wait for one of the associations."""


class Reach:
    """One old PACS; any thread may call."""

    def __init__(self, pacs: OldPacs, requestor: Callable[[], Requestor], clock: Clock) -> None:
        """`requestor` returns what calls it, by its row in the device book at that moment."""
        self.pacs = pacs
        self.hours = read_hours(pacs.hours)
        self._requestor = requestor
        self._clock = clock
        self._places = BoundedSemaphore(pacs.associations)
        self.trouble: PacsError | None = None
        """Why it did not answer when it was last called; None when it did."""
        self.unsent: PacsError | None = None
        """Why it did not send when it was last told to; None when it did."""
        self.answered = 0.0
        """When it last answered."""

    @property
    def is_reachable(self) -> bool:
        """Say whether something can be had from it now, as far as is known."""
        return self.hours.holds(self._clock()) and self.trouble is None

    def check(self) -> None:
        """Make sure that it may be called now.

        Raises:
            Unavailable: it may not at this hour.
        """
        now = self._clock()
        if not self.hours.holds(now):
            minutes = int(self.hours.opens_in(now) / 60) + 1
            what = f"{self.pacs.name} is called at {self.hours} only; that is in {minutes} min."
            raise Unavailable(what, "Widen its hours in peerpacs.toml if it must be sooner.")

    @contextmanager
    def asking(self, patience: float = _TURN) -> Iterator[Listing]:
        """Yield what asks it, within its limits.

        Raises:
            Unavailable: it does not answer, or not at this hour.
            Busy: all its associations stayed in use for so many seconds.
        """
        with self._place(patience) as requestor:
            yield Listing(requestor)

    def move(self, identifier: Attributes, priority: int) -> Retrieved:
        """Have it send what an Identifier names to our own AE title for it.

        Raises:
            Unavailable: it does not answer, or not at this hour, or could not send.
        """
        title = self.pacs.receive_as
        with self._place(_TURN) as requestor:
            moved = requestor.move(identifier, title, priority=priority)
        self.unsent = None
        if moved.failed or moved.status not in (SUCCESS, SUBOPERATIONS_WITH_FAILURES):
            said = f"{moved.status:04X} {moved.comment}".strip()
            what = f"{self.pacs.name} did not send what it was asked for: its answer was {said}."
            if moved.status == DESTINATION_UNKNOWN:
                what = f"{self.pacs.name} does not know the AE title {title}, so it cannot send to it."
            remedy = f"It must know {title} with this node's address and DICOM port; its log tells more."
            self.unsent = Unavailable(what, remedy)
            raise self.unsent
        return moved

    @contextmanager
    def _place(self, patience: float) -> Iterator[Requestor]:
        self.check()
        if not self._places.acquire(timeout=patience):
            raise Busy(f"All {self.pacs.associations} associations to {self.pacs.name} are in use.")
        try:
            yield self._requestor()
            self.trouble, self.answered = None, self._clock()
        except PacsError as error:
            self.trouble = error
            raise
        finally:
            self._places.release()
