"""Everything that lies at other sites alone comes home, because this hospital is about to leave them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from catalog import PacsError, Unavailable

from .ledger import Ledger
from .returning import Returning

logger = logging.getLogger(__name__)


class Homecoming:
    """One archive's; `step` from the thread in which things come home."""

    def __init__(
        self,
        ledger: Ledger,
        returning: Returning,
        connected: Callable[[], list[str]],
        name: Callable[[str], str],
    ) -> None:
        self._ledger = ledger
        self._returning = returning
        self._connected = connected
        self._name = name
        self.is_on = False
        """Whether all is to come home, so that nothing may go."""
        self.came = 0
        """How many objects did."""

    def begin(self) -> int:
        """Have everything come home; return how many bytes are still away.

        Raises:
            Unavailable: nobody who has some of it is connected.
        """
        there = set(self._connected())
        missing = [
            each for each in self._ledger.lying_away() if not there & self._ledger.keepers(each).keys()
        ]
        if missing:
            who = {self._name(each) for study in missing for each in self._ledger.keepers(study)}
            where = ", ".join(sorted(who))
            what = f"{len(missing)} studies of this hospital lie alone at {where}, not connected now."
            raise Unavailable(what, "Try again when they are: peerpacs peers. To lose those studies: --force")
        self.is_on = True
        return self._ledger.away_bytes

    def end(self) -> None:
        """Let things go again that others have."""
        self.is_on, self.came = False, 0

    def step(self) -> bool:
        """Bring one study home; say whether anything of it came."""
        if not self.is_on:
            return False
        for study in self._ledger.lying_away():
            try:
                came = self._returning.fetch_back(study)
            except PacsError as error:
                logger.warning("A study does not come home yet: %s", error)
                continue
            self.came += came
            if came:
                return True
        return False
