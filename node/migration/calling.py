"""The source as it is called: lists that are whole or an error, and an end to what never ends."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from catalog import Attributes, Clock, NotPermitted, Unavailable
from node.dimse import Requestor
from node.dimse.commands import LOW
from node.dimse.requestor import Retrieved
from node.dimse.statuses import DESTINATION_UNKNOWN, SUCCESS
from node.listing import Listing, where

_STUCK: Final = 600.0
"""Seconds in which nothing of a C-MOVE is sent, although it says that it is under way."""


class Calling:
    """Calls one source; every method raises what `Requestor` raises where nobody is there."""

    def __init__(self, requestor: Callable[[], Requestor], source: str, ae_title: str, clock: Clock) -> None:
        """`ae_title` is ours, to which the source sends."""
        self._requestor = requestor
        self._source = source
        self._ae_title = ae_title
        self._clock = clock

    def listing(self) -> Listing:
        """Return what asks for its lists; raises BadRequest where it cuts one short."""
        return Listing(self._requestor(), is_whole=True)

    def send(
        self, study: str, series: str, instances: Collection[str] = (), *, is_at_once: bool = False
    ) -> Retrieved:
        """Have a series sent, or some of its instances, one by one or at once; return the worst answer.

        Raises:
            NotPermitted: the source does not know our AE title.
        """
        worst = Retrieved(SUCCESS)
        single = [where(study, series, uid) for uid in instances] if not is_at_once else []
        for identifier in single or [where(study, series, *instances)]:
            answer = self._move(identifier)
            if answer.status == DESTINATION_UNKNOWN:
                raise _unknown(self._source, self._ae_title)
            if answer.status or answer.comment:
                worst = answer
            if answer.comment and not answer.status:
                break
        return worst

    def _move(self, identifier: Attributes) -> Retrieved:
        """Ask once; where the source breaks it off but still answers, the series is what is wrong."""
        try:
            return self._requestor().move(
                identifier, self._ae_title, priority=LOW, on_progress=_Patience(self._source, self._clock)
            )
        except Unavailable as error:
            # One that is not there is waited for.
            with suppress(NotPermitted):
                self._requestor().echo()
            return Retrieved(SUCCESS, comment=error.what)

    def remedy(self) -> str:
        """Return what a person does where nothing comes."""
        return _remedy(self._source, self._ae_title)


class _Patience:
    """Sees that the counters of a C-MOVE go on."""

    def __init__(self, source: str, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._last: Retrieved | None = None
        self._since = clock()

    def __call__(self, told: Retrieved) -> None:
        now = self._clock()
        if told != self._last or now < self._since:
            self._last, self._since = told, now
        elif now - self._since > _STUCK:
            what = f"{self._source} says that it sends, and sends nothing for {_STUCK / 60:.0f} min."
            raise Unavailable(what)


def said(moved: Retrieved) -> str:
    """Return what the source said of a C-MOVE after which something lacks."""
    if moved.status:
        return f"{moved.status:04X} {moved.comment}".strip()
    return moved.comment or "0000, as if all had been sent."


def _unknown(source: str, ae_title: str) -> NotPermitted:
    what = f"{source} does not know the AE title {ae_title}, so it cannot send to it."
    return NotPermitted(what, _remedy(source, ae_title))


def _remedy(source: str, ae_title: str) -> str:
    return (
        f"Register {ae_title} at {source} with this node's address and DICOM port, see that {source} may "
        f"store here, then: peerpacs migrate --from {source} --resume"
    )
