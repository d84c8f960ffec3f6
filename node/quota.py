"""An archive's quota: a warning when it is nearly used up, and then no more objects."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from catalog import Clock, OutOfSpace

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 1.0
"""Seconds for which the bytes in use are counted here instead of being asked for."""
_USUAL: Final = 1_000_000
"""Bytes of an object as most are."""


class Quota:
    """What one archive may fill, in bytes; 0 is without limit. `used` says what it has filled."""

    def __init__(
        self, archive: str, limit: int, warn_percent: float, used: Callable[[], int], clock: Clock
    ) -> None:
        self._archive = archive
        self.limit = limit
        self._warn_share = warn_percent / 100
        self._look_up = used
        self._clock = clock
        self._looked = float("-inf")
        self._used = 0
        self._has_warned = False

    def limit_to(self, limit: int) -> None:
        """Have another limit from now on."""
        self.limit = limit

    @property
    def is_nearly_full(self) -> bool:
        """Whether more is used than the share from which people are warned."""
        return bool(self.limit) and self.used() > self.limit * self._warn_share

    def used(self) -> int:
        """Return the bytes in use now."""
        return self._look_up()

    def claim(self, size: int) -> None:
        """Count on `size` more bytes.

        Raises:
            OutOfSpace: they would be more than the archive may have.
        """
        if not self.limit:
            return
        now = self._clock()
        if not 0 <= now - self._looked < _LOOK_EVERY:
            self._used, self._looked = self._look_up(), now
        if self._used + size > self.limit:
            raise self._refusal()
        self._used += size
        self._warn()

    def make_sure_of_room(self) -> None:
        """Raise OutOfSpace where not even an object of usual size may come; nothing is counted on."""
        if self.limit and self.used() + _USUAL > self.limit:
            raise self._refusal()

    def _refusal(self) -> OutOfSpace:
        return OutOfSpace(
            f"The archive {self._archive} has used up its quota of {self.limit // 1_000_000} MB.",
            f"Nothing more is taken in. Raise it: peerpacs archives edit {self._archive} --quota-mb N",
        )

    def _warn(self) -> None:
        is_above = self._used > self.limit * self._warn_share
        if is_above and not self._has_warned:
            text = "The archive %s has used %d of the %d MB of its quota; beyond it C-STORE gets A700."
            logger.warning(text, self._archive, self._used // 1_000_000, self.limit // 1_000_000)
        self._has_warned = is_above
