"""What a person can ask about copies: rules, who has what, what lacks, what is pinned; verbs for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import Any, Final, Protocol

import msgspec

from catalog import BadRequest, NotFound
from federation.placement import CopyRule, Rules, check_rule
from node.audit import AuditLog
from node.keys import attributes_of
from node.state import Table

from .ledger import Ledger
from .members import Members
from .pins import Pin, Pins
from .store import CopyStore

_CHANGE: Final = "change"
_SHOWN: Final = 1000


class Around(Protocol):
    """As much of the node as is asked."""

    rules: Table[CopyRule]

    @property
    def is_open(self) -> bool:
        """Whether the node runs, so that there is more to say than the rules."""

    @property
    def archives(self) -> Collection[str]:
        """The names of the archives."""

    @property
    def ledgers(self) -> list[Ledger]:
        """What others keep for this node, by archives."""

    @property
    def store(self) -> CopyStore:
        """What this node keeps for others."""

    @property
    def pins(self) -> Pins:
        """Which studies stay on this node's disk."""

    def has_study(self, StudyInstanceUID: str) -> bool:
        """Say whether any archive has something of a study."""

    def name(self, node_id: str) -> str:
        """Return how a node is called."""

    @property
    def members(self) -> Members:
        """Which members of the grid there are."""


class CopiesDesk:
    """The verbs about copies."""

    def __init__(self, around: Around, audit: AuditLog) -> None:
        self._around = around
        self._audit = audit

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        rules = (self.copy_rules, self.put_copy_rule, self.remove_copy_rule)
        own = (*rules, self.copies, self.copies_lacking, self.pins, self.pin, self.unpin)
        return {verb.__name__: verb for verb in own}

    def copy_rules(self) -> list[dict[str, Any]]:
        """Return the rules in the order in which they are tried."""
        return [_told(rule) for rule in Rules(rule for _, rule in self._around.rules.scan()).all]

    def put_copy_rule(self, name: str, keys: list[str], who: str, **said: Any) -> dict[str, Any]:
        """Make a rule, or put another in its place; it counts within a second."""
        told = {"name": name, "match": attributes_of(keys), **said}
        try:
            rule = check_rule(msgspec.convert(told, CopyRule))
        except msgspec.ValidationError as error:
            raise BadRequest(f"That cannot be a rule: {error}.", "See: peerpacs copies add --help") from None
        if rule.archive and rule.archive not in self._around.archives:
            raise NotFound(f"There is no archive {rule.archive!r}.", "List them with: peerpacs archives list")
        self._around.rules.put(name.encode(), rule)
        self._audit.record(_CHANGE, None, "rule for copies made", {"who": who, **_told(rule)})
        return _told(rule)

    def remove_copy_rule(self, name: str, who: str) -> None:
        """Remove a rule: copies that no rule asks for are dropped, as long as there is any other rule."""
        if not self._around.rules.delete(name.encode()):
            raise NotFound(f"There is no rule {name!r}.", "List them with: peerpacs copies rules")
        self._audit.record(_CHANGE, None, "rule for copies removed", {"who": who, "rule": name})

    def copies(self) -> dict[str, Any]:
        """Say how many studies have their copies, what this node keeps for others, and what is in the way."""
        around = self._around
        told: dict[str, Any] = {"rules": self.copy_rules(), "is_running": around.is_open}
        told["pinned"] = len(around.pins.all())
        if not around.is_open:
            return told
        met: Counter[str] = Counter()
        lacking: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for _, placed in chain.from_iterable(each.places() for each in around.ledgers):
            (met if placed.is_met else lacking)[placed.rule] += 1
            if placed.lacking:
                reasons[placed.lacking] += 1
        names = sorted({*met, *lacking})
        told["studies"] = {name: {"met": met[name], "lacking": lacking[name]} for name in names}
        told["reasons"] = dict(reasons)
        told["lost"] = [around.name(node_id) for node_id in around.members.lost()]
        store = around.store
        told["kept_for_others"] = {
            "objects": store.objects,
            "bytes": store.size,
            "owners": [around.name(owner.decode().partition("/")[0]) for owner in store.owners()],
        }
        return told

    def copies_lacking(self) -> list[dict[str, Any]]:
        """Return the studies that do not have all copies their rule asks for, and why; at most a thousand."""
        if not self._around.is_open:
            return []
        found: list[dict[str, Any]] = []
        for row in self._lacking():
            if len(found) == _SHOWN:
                break
            found.append(row)
        return found

    def _lacking(self) -> Iterator[dict[str, Any]]:
        for ledger in self._around.ledgers:
            for uid, placed in ledger.places():
                if not placed.is_met:
                    yield {
                        "StudyInstanceUID": uid,
                        "archive": placed.archive,
                        "rule": placed.rule,
                        "why": placed.lacking,
                        "nodes": [self._node(ledger, uid, node_id) for node_id in placed.nodes],
                    }

    def pins(self) -> list[dict[str, Any]]:
        """Return the studies that stay on this node's disk, who said so, and where they are now."""
        return [self._pinned(uid, pin) for uid, pin in self._around.pins.all().items()]

    def pin(self, study: str, who: str) -> dict[str, Any]:
        """Have a study stay on this node's disk whatever the fill mark says; what of it is away comes home.

        Raises:
            NotFound: no archive of this node has it.
        """
        if not self._around.has_study(study):
            what = f"No archive of this node has a study {study!r}, so it cannot stay on its disk."
            raise NotFound(what, "Look for its StudyInstanceUID: peerpacs find")
        pin = self._around.pins.add(study, who)
        self._audit.record(_CHANGE, None, "study pinned", {"who": who, "StudyInstanceUID": [study]})
        return self._pinned(study, pin)

    def unpin(self, study: str, who: str) -> None:
        """Let a study go from the disk like any other.

        Raises:
            NotFound: it is not pinned.
        """
        if not self._around.pins.remove(study):
            raise NotFound(f"The study {study!r} is not pinned.", "List what is: peerpacs copies pins")
        self._audit.record(
            _CHANGE, None, "study not pinned any more", {"who": who, "StudyInstanceUID": [study]}
        )

    def _pinned(self, study: str, pin: Pin) -> dict[str, Any]:
        where = "here" if self._around.has_study(study) else "nowhere"
        if self._around.is_open and any(each.is_away(study) for each in self._around.ledgers):
            where = "away"
        return {"StudyInstanceUID": study, **msgspec.to_builtins(pin), "where": where}

    def _node(self, ledger: Ledger, uid: str, node_id: str) -> dict[str, Any]:
        receipts = ledger.receipts(uid, node_id)
        return {
            "name": self._around.name(node_id),
            "objects": len(receipts.all()),
            "proved": receipts.proved,
        }


def _told(rule: CopyRule) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(rule)
    return told
