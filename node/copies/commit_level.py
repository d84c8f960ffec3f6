"""At how many sites an object must be before Storage Commitment says that it is safe, and whether it is.

A rule may ask for more than this site. Receipts count, each site once; a site that is away only delays the
answer. What is not there at the rule's time is not committed to; a new request is judged afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from catalog import Clock, Entry
from catalog.order import decoded
from catalog.statements import Stated
from federation.placement import CopyRule, Rules
from node.commitment import AWAITING, COMMITTED, PROCESSING_FAILURE

from .ledger import Ledger


class CommitLevel:
    """Judges what other sites have of one archive."""

    def __init__(
        self,
        ledger: Ledger,
        rules: Callable[[], Rules],
        stated: Callable[[str], Stated | None],
        site_of: Callable[[str], str],
        own_site: Callable[[], str],
        clock: Clock,
        place: Callable[[str], None],
    ) -> None:
        """`site_of` returns nothing for a node that does not count; `place` has a study copied soon."""
        self._ledger = ledger
        self._rules = rules
        self._stated = stated
        self._site_of = site_of
        self._own_site = own_site
        self._clock = clock
        self._place = place

    def of(self, entries: Sequence[Entry], asked: float) -> list[int]:
        """Return COMMITTED, AWAITING or the Failure Reason for each version; see `Elsewhere`."""
        rules = self._rules()
        if not any(rule.commit_sites > 1 for rule in rules.all):
            return [COMMITTED] * len(entries)
        studies: dict[str, _Study] = {}
        found = []
        for entry in entries:
            uid = entry.StudyInstanceUID
            if uid not in studies:
                studies[uid] = self._study(uid, rules)
            found.append(studies[uid].judge(entry.holding.sha256, self._clock() - asked))
        for uid, study in studies.items():
            if study.is_awaited:
                self._place(uid)
        return found

    def _study(self, uid: str, rules: Rules) -> _Study:
        stated, rule = self._stated(uid), None
        if stated is not None:
            attributes = decoded(stated.study.attributes)
            rule = rules.of([{**attributes, **decoded(each.attributes)} for each in stated.series])
        sites: dict[str, set[bytes]] = {}
        for node_id, receipts in self._ledger.keepers(uid).items():
            if site := self._site_of(node_id):
                sites.setdefault(site, set()).update(receipts.all())
        sites.pop(self._own_site(), None)
        return _Study(rule, list(sites.values()))


class _Study:
    """What other sites have of one study, and what is asked for."""

    def __init__(self, rule: CopyRule | None, sites: list[set[bytes]]) -> None:
        self._rule = rule
        self._sites = sites
        self.is_awaited = False

    def judge(self, sha256: bytes, seconds: float) -> int:
        """Judge one version, so many seconds after commitment was asked for."""
        rule = self._rule
        if rule is None or 1 + sum(sha256 in site for site in self._sites) >= rule.commit_sites:
            return COMMITTED
        if seconds >= rule.commit_timeout:
            return PROCESSING_FAILURE
        self.is_awaited = True
        return AWAITING
