"""What persons decided: written into the segments first, then applied, so that a rebuild repeats it.

A decision never changes stored bytes. Each has an id; applying one twice changes nothing.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from catalog import (
    BadRequest,
    CatalogWriter,
    Clock,
    Decision,
    NotFound,
    NotPermitted,
    ObjectStore,
    Selection,
    Verb,
)
from node.held import HeldShelf
from node.keys import keyword_of

logger = logging.getLogger(__name__)

_BATCH: Final = 256
_OF_THE_OBJECT: Final = re.compile(
    "0020000D|0020000E|00080018|00080016|00080005"
    "|00(00|02|04).{4}|....0000|0008005[2-6]|0008006[12]|002012..|002800(0[2-9]|1[0-4])|0028010.|04000561|7FE.{5}|FFF.{5}"
)
"""UIDs and character set, which make an object what it is; File Meta Information; what only a query says;
how the pixels are to be read; and what tells of corrections."""
_NEVER_EMPTY: Final = frozenset({"00080060"})
"""Type 1 in every IOD: Modality."""


class Decisions:
    """The one way a decision is made and applied on this node."""

    def __init__(
        self,
        store: ObjectStore,
        catalog: CatalogWriter,
        held: HeldShelf,
        clock: Clock,
        dispose: Callable[[Decision], None] = lambda decision: None,
        note: Callable[[Decision], None] = lambda decision: None,
        entrust: Callable[[str, bytes], None] = lambda id, text: None,
    ) -> None:
        """`dispose` has go what a person deletes or erases, in time; `note` takes a row of the state.

        `entrust` has peers keep a decision too.
        """
        self._store = store
        self._catalog = catalog
        self._held = held
        self._clock = clock
        self._dispose = dispose
        self._note = note
        self._entrust = entrust

    def make(
        self,
        verb: Verb,
        target: tuple[str, ...],
        *,
        reason: str,
        who: str,
        attributes: Mapping[str, dict[str, Any]] | None = None,
        detail: str = "",
        why: str = "",
    ) -> Decision:
        """Decide: durable in the segments, applied in the catalog.

        Raises:
            BadRequest: the decision makes no sense as it is.
            NotFound: it is about nothing that is here.
        """
        decision = Decision(
            id=uuid.uuid4().hex,
            verb=verb,
            target=target,
            reason=reason,
            who=who,
            when=int(self._clock() * 1000),
            attributes=attributes or {},
            detail=detail,
            why=why,
        )
        self._check(decision)
        self._keep(decision)
        self._apply(decision, self._catalog.decide)
        logger.info("%s by %s on %s: decision %s", verb, who, "/".join(target), decision.id)
        return decision

    def take(self, decision: Decision) -> None:
        """Make a decision effective that came from elsewhere: what it is about may still be on its way."""
        self._keep(decision)
        self._apply(decision, self._catalog.restore)

    def is_taken_back(self, decision: Decision) -> bool:
        """Say whether a person took a decision back."""
        made = self._catalog.decisions(decision.target[0])
        return any(each.verb is Verb.UNDO and each.detail == decision.id for each in made)

    def replay(self, decision: Decision) -> None:
        """Apply a decision that lies in the segments already; a second time changes nothing."""
        self._apply(decision, self._catalog.restore)

    def _keep(self, decision: Decision) -> None:
        text = msgspec.json.encode(decision)
        self._store.keep_decision(decision.id, text)
        self._entrust(decision.id, text)

    def _apply(self, decision: Decision, in_catalog: Callable[[Decision], None]) -> None:
        if decision.verb is Verb.NOTE:
            self._note(decision)
        elif decision.verb is Verb.RELEASE:
            self._release(frozenset(decision.detail.split()))
        elif decision.verb is Verb.DISCARD:
            self._discard(frozenset(decision.detail.split()))
        else:
            in_catalog(decision)
        if decision.verb in (Verb.DELETE, Verb.ERASE):
            self._dispose(decision)

    def _check(self, decision: Decision) -> None:
        if not decision.reason.strip():
            raise BadRequest("A decision needs a reason.", "Say why, with --reason.")
        if decision.verb is Verb.CORRECT and not decision.attributes:
            raise BadRequest("Nothing to correct.", "Name attributes, as Keyword=Value.")
        _check_attributes(decision.attributes)
        if decision.verb is Verb.UNDO:
            made = self._catalog.decisions(decision.target[0])
            if any(one.verb is Verb.UNDO and one.detail == decision.detail for one in made):
                what = f"Decision {decision.detail[:8]} was taken back before."
                raise BadRequest(what, "Nothing is to be done; decide anew if that was wrong.")
            if decision.detail not in {one.id for one in made}:
                raise NotFound(f"There is no decision {decision.detail}.", "List them with: peerpacs trace")
        elif decision.verb in (Verb.RELEASE, Verb.DISCARD):
            if not decision.detail:
                raise NotFound("Nothing of that waits to be released.", "See: peerpacs held list")
        elif not self._is_known(decision.target):
            raise NotFound(f"{'/'.join(decision.target)} is not here.", "Look it up with: peerpacs find")
        if decision.verb in (Verb.DELETE, Verb.ERASE) and self._catalog.doomed(decision).is_held:
            what = f"A legal hold keeps {'/'.join(decision.target)}, or a part of it."
            raise NotPermitted(what, "Have whoever ordered the hold lift it: peerpacs undo HOLD")

    def _is_known(self, target: tuple[str, ...]) -> bool:
        if any(self._catalog.decisions(target[0])):
            return True
        study, series, instance = (*((uid,) for uid in target), (), ())[:3]
        return bool(self._catalog.select(Selection(studies=study, series=series, instances=instance)))

    def _release(self, digests: frozenset[str]) -> None:
        waiting = [one for one in self._held.list() if one.entry.holding.sha256.hex() in digests]
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            self._catalog.record(batch)
            for arrival in batch:
                self._held.take(arrival)

    def _discard(self, digests: frozenset[str]) -> None:
        for arrival in list(self._held.list()):
            if arrival.entry.holding.sha256.hex() in digests:
                self._held.take(arrival)
                self._store.remove(arrival.entry.holding)


def _check_attributes(attributes: Mapping[str, dict[str, Any]]) -> None:
    """Raises BadRequest where what a decision says would make another object of it, or none at all."""
    touched = sorted(tag for tag in attributes if _OF_THE_OBJECT.fullmatch(tag))
    if touched:
        what = f"{', '.join(map(keyword_of, touched))} cannot be corrected."
        raise BadRequest(what, "Name other attributes, as Keyword=Value.", tuple(touched))
    empty = sorted(tag for tag in _NEVER_EMPTY & attributes.keys() if not attributes[tag].get("Value"))
    if empty:
        what = f"{', '.join(map(keyword_of, empty))} cannot be without a value."
        raise BadRequest(what, "Say which one is right.", tuple(empty))
