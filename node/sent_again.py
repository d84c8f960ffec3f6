"""What is sent again after a person decided about it, by that decision; and rejections that devices send.

What was rejected is taken and stays rejected, what was corrected is taken and stays corrected, with an alarm
each; what was deleted or expired comes back as new; what was erased is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Final

from catalog import Clock, Decision, Header, NotPermitted, RejectedFor, Standing, Verb
from node.contracts import Audit, Caller, Service
from node.iocm import KEY_OBJECTS, RejectionNote, read_note

logger = logging.getLogger(__name__)

_QUIET: Final = 3600.0
"""Seconds in which one alarm about a study and its sender is enough."""
_MOST: Final = 10_000
_WORDS: Final = {
    Standing.REJECTED: "was rejected; it is stored and stays rejected",
    Standing.CORRECTED: "was corrected; it is stored and stays corrected",
    Standing.ERASED: "was erased; it is refused",
}


class SentAgain:
    """Satisfies `Judgement` for one archive."""

    def __init__(
        self,
        standing: Callable[..., Standing],
        is_erased: Callable[[str], bool],
        take: Callable[[Decision], bool],
        audit: Audit,
        clock: Clock,
    ) -> None:
        """`take` makes a decision effective that a device sent, and says whether it holds."""
        self._standing = standing
        self._is_erased = is_erased
        self._take = take
        self._audit = audit
        self._clock = clock
        self._lock = Lock()
        self._told: dict[tuple[str, str, Standing], float] = {}

    def admit(self, header: Header, caller: Caller) -> None:
        """Let an instance in, with an alarm if something was decided about it.

        Raises:
            NotPermitted: it was erased.
        """
        study = header.StudyInstanceUID
        below = header.SeriesInstanceUID, header.SOPInstanceUID
        standing = Standing.ERASED if any(map(self._is_erased, below)) else self._standing(study, *below)
        if standing is Standing.PLAIN:
            return
        self._alarm(study, caller, standing)
        if standing is Standing.ERASED:
            raise _erased()

    def refuse_erased(self, uids: Iterable[str], caller: Caller) -> None:
        """See `Judgement.refuse_erased`: also what is not whole enough to be let in names its patient."""
        found = next((uid for uid in uids if self._is_erased(uid)), None)
        if found is not None:
            self._alarm(found, caller, Standing.ERASED, "UID")
            raise _erased()

    def stored(self, header: Header, caller: Caller, part10: Callable[[], bytes]) -> None:
        """Do what a Key Object says that rejects instances, if its sender may (IHE RAD TF-2 4.66).

        Raises:
            PacsError: it could not be done; the sender is to send it again.
        """
        if header.SOPClassUID != KEY_OBJECTS:
            return
        note = read_note(part10(), header)
        if note is None:
            return
        may = caller.device is not None and Service.REJECT in caller.device.services
        detail = {
            "StudyInstanceUID": header.StudyInstanceUID,
            "SOPInstanceUID": header.SOPInstanceUID,
            "why": note.why.value,
            "instances": note.instances,
        }
        if not may:
            logger.warning(
                "A Key Object from %s rejects %d instances, which it may not. To allow it: "
                "peerpacs devices edit %s --services +reject",
                caller.ae_title, note.instances, caller.ae_title,
            )  # fmt: skip
            self._audit.record("reject", caller, "refused", detail)
            return
        holding = [self._take(decision) for decision in self._decisions(note, caller)]
        if not all(holding):
            logger.warning(
                "A Key Object from %s came again, and what a person took back of it is not rejected again. "
                "To reject it after all: peerpacs reject.",
                caller.ae_title,
            )
            self._audit.record("reject", caller, "taken back before", detail)
            return
        logger.info("A Key Object from %s rejected %d instances.", caller.ae_title, note.instances)
        self._audit.record("reject", caller, "success", detail)

    def _decisions(self, note: RejectionNote, caller: Caller) -> list[Decision]:
        when = int(self._clock() * 1000)
        return [
            Decision(
                id=note.id_for(target),
                verb=Verb.REJECT,
                target=target,
                reason=f"Key Object: {_MEANINGS[note.why]}",
                who=caller.ae_title,
                when=when,
                detail=" ".join(uids),
                why=note.why.value,
            )
            for target, uids in note.rejected.items()
        ]

    def _alarm(self, uid: str, caller: Caller, standing: Standing, keyword: str = "StudyInstanceUID") -> None:
        key, now = (uid, caller.ae_title, standing), self._clock()
        with self._lock:
            if 0 <= now - self._told.get(key, float("-inf")) < _QUIET:
                return
            if len(self._told) >= _MOST:
                self._told.clear()
            self._told[key] = now
        logger.warning("%s sent %s again, which %s.", caller.ae_title, uid, _WORDS[standing])
        outcome = "refused" if standing is Standing.ERASED else "sent again"
        detail = {keyword: uid, "what": f"sent again: it {_WORDS[standing]}"}
        self._audit.record("alarm", caller, outcome, detail)


def _erased() -> NotPermitted:
    return NotPermitted("It was erased here and is not taken again.", "Ask the archive's admin.")


_MEANINGS: Final = {
    RejectedFor.QUALITY: "Rejected for Quality Reasons",
    RejectedFor.SAFETY: "Rejected for Patient Safety Reasons",
    RejectedFor.WORKLIST: "Incorrect Modality Worklist Entry",
    RejectedFor.EXPIRED: "Data Retention Policy Expired",
}
"""Code Meanings, PS3.16 CID 7011."""
