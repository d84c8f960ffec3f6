"""Reads what lies at other sites alone: fetched from whoever keeps it, into the cache of what peers have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from catalog import Availability, Clock, Damaged, Entry, Holding, PacsError, Reader, Unavailable
from federation.copying import CopyLink
from federation.lanes import SOON, URGENT
from federation.objects import copies_of
from federation.owners import Owner, place_at
from federation.sourcing import Source
from federation.trust.assertion import Asker
from node.nearline import Fetches
from node.nearline_way import Wish
from node.storage.elsewhere import names_of

from .ledger import Ledger
from .proofs import AUDITED

_STATE: Final = b"own"
"""What an owner says of its own objects is not fetched with them."""
_AHEAD: Final = 48


class Away:
    """Satisfies `Elsewhere` for one archive; `sources` is what `Fetches` asks."""

    def __init__(
        self,
        owner: Owner,
        ledger: Ledger,
        link: CopyLink,
        fetches: Callable[[], Fetches],
        site_of: Callable[[str], str],
        connected: Callable[[], Iterable[str]],
        clock: Clock,
    ) -> None:
        self._owner = owner
        self._ledger = ledger
        self._link = link
        self._fetches = fetches
        self._site_of = site_of
        self._connected = connected
        self._clock = clock

    def open(self, holding: Holding) -> Reader:
        """Fetch a file and open it.

        Raises:
            NotFound, Damaged, OutOfSpace, Unavailable: no keeper gave it.
        """
        return self._fetches().get(self._entry(holding), Wish(Asker()), URGENT)

    def prefetch(self, holdings: Sequence[Holding]) -> None:
        """Have fetched what will be opened soon."""
        self._fetches().expect([self._entry(each) for each in holdings[:_AHEAD]], Wish(Asker()), SOON)

    def verify(self, holding: Holding) -> None:
        """Have a keeper prove it, unless one did lately.

        Raises:
            Damaged: nobody has it whole.
            Unavailable: who has it cannot be asked now.
        """
        study, sha256 = names_of(holding).StudyInstanceUID, holding.sha256
        there, is_away = set(self._connected()), False
        for node_id in self._ledger.holders(study, sha256):
            if 0 <= self._clock() - self._ledger.receipts(study, node_id).proved < AUDITED:
                return
            if node_id not in there:
                is_away = True
                continue
            archive = self._owner.archive
            try:
                proved = self._link.prove(node_id, archive, study, [sha256], b"", holding.size)
                if proved.answers == [b"\1"]:
                    return
            except PacsError:
                is_away = True
        if is_away:
            raise Unavailable("The sites that keep it cannot be asked now.", "See: peerpacs peers")
        raise Damaged("No other site has it whole any more.", "See: peerpacs copies lacking")

    def availability(self, holding: Holding) -> Availability:
        """Return NEARLINE where somebody who has it is connected, else UNAVAILABLE."""
        holders = self._ledger.holders(names_of(holding).StudyInstanceUID, holding.sha256)
        is_there = set(holders) & set(self._connected())
        return Availability.NEARLINE if is_there else Availability.UNAVAILABLE

    def sources(self, entry: Entry) -> list[Source]:
        """Return who keeps an object of this archive."""
        there = set(self._connected())
        return [
            Source(self._there(node_id), self._site_of(node_id), node_id in there, _STATE)
            for node_id in self._ledger.holders(entry.StudyInstanceUID, entry.holding.sha256)
        ]

    def _there(self, node_id: str) -> bytes:
        return Owner(node_id, copies_of(self._owner)).name

    def _entry(self, holding: Holding) -> Entry:
        names = names_of(holding)
        return Entry(
            **names._asdict(),
            SOPClassUID="",
            TransferSyntaxUID="",
            holding=Holding(holding.sha256, place_at(self._owner.name), holding.size),
            received=0,
            source="",
        )
