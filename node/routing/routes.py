"""Standing routes: what becomes complete and matches is ordered to be sent, once; what grows is completed.

The order is a transfer, so it is tried for as long as it takes; what was ordered of each study is a row, so
that of a study which grows later only what is new is sent.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from catalog import Clock, Entry, NotFound, PacsError, Selection
from node.contracts import Scope
from node.rule_match import holds
from node.standing import RouteRule
from node.state import State
from node.study_events import StudyComplete
from node.transfers import Kind, Lane, Order, Standing, Transfer, TransferQueue

logger = logging.getLogger(__name__)

_KEPT: Final = 400 * 86400.0
"""Seconds for which it is remembered what was ordered of a study."""
BY_RULE: Final = "a rule"
"""Who asked, of what nobody did."""
_KINDS: Final = {"ae": Kind.DELIVER, "http": Kind.WEB, "https": Kind.WEB, "s3": Kind.FILE, "peer": Kind.PEER}
_ALIVE: Final = (Standing.WAITING, Standing.PAUSED)


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an order of a route says beside what is sent and where."""

    route: str
    profile: str = ""
    after: int = 0
    """Milliseconds since 1970: what had arrived by then was ordered before."""


class Routed(msgspec.Struct, frozen=True, array_like=True):
    """What a rule ordered of a study last."""

    study: str
    transfer: str
    latest: int
    """When the newest instance of it had arrived, in milliseconds since 1970."""
    when: float
    before: tuple[str, ...] = ()
    """Earlier transfers of the same study."""


def detail_of(order: Order) -> Detail | None:
    """Return what a route's order says; None for an order of anybody else."""
    if not order.detail.startswith("{"):
        return None
    try:
        return msgspec.json.decode(order.detail, type=Detail)
    except msgspec.MsgspecError:
        return None


class Router:
    """Follows one archive's studies; the chore of events calls `take`."""

    def __init__(
        self,
        rules: Iterable[RouteRule],
        scope: Callable[[], Scope],
        state: State,
        queue: Callable[[], TransferQueue],
        is_moved_in: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        """`is_moved_in` says of an AE title that the archive is, or was, moved in from there."""
        self.rules = tuple(rules)
        self._scope = scope
        self._rows = state.table("routed", Routed)
        self._queue = queue
        self._is_moved_in = is_moved_in
        self._clock = clock

    def take(self, event: StudyComplete) -> None:
        """Order what the rules want of a study that became complete; twice is harmless."""
        for rule in self.rules:
            try:
                if self.is_from(rule, event.sources) and self.matches(rule, event.StudyInstanceUID):
                    self.order(rule, event.StudyInstanceUID)
            except PacsError as error:
                if error.retry:
                    raise
                # One rule that cannot be followed holds up no other.
                logger.warning("The route %s could not be followed: %s", rule.name, error.what)

    def is_from(self, rule: RouteRule, sources: Iterable[str]) -> bool:
        """Say whether one of the senders is one of the rule's."""
        if rule.senders:
            return any(source in rule.senders for source in sources)
        return not all(self._is_moved_in(source) for source in sources)

    def matches(self, rule: RouteRule, study: str) -> bool:
        """Say whether the rule is about a study."""
        return holds(self._scope().catalog, rule.match, study)

    def order(self, rule: RouteRule, study: str, *, again: bool = False, who: str = "") -> Transfer | None:
        """Have a study sent, or what of it was not ordered yet; None if that is nothing."""
        entries = self._scope().catalog.select(Selection(studies=(study,)))
        key = f"{rule.name}\0{study}".encode()
        row = None if again else self._rows.get(key)
        new = [entry for entry in entries if row is None or entry.received > row.latest]
        if not new or (row is not None and self._will_go(row)):
            return None
        latest = max(entry.received for entry in new)
        transfer = self._queue().enqueue(
            _order(rule, study, new if row else [], row.latest if row else 0),
            Lane(rule.lane),
            who or BY_RULE,
            f"route {rule.name}",
            again=again,
        )
        before = () if row is None else (*row.before, row.transfer)
        self._rows.put(key, Routed(study, transfer.id, latest, self._clock(), before))
        return transfer

    def _will_go(self, row: Routed) -> bool:
        """Say whether a transfer that has not begun takes what came later with it."""
        try:
            transfer = self._queue().find(row.transfer)
        except NotFound:
            return False
        return transfer.standing in _ALIVE and not transfer.order.SOPInstanceUIDs

    def tidy(self) -> None:
        """Forget what was ordered long ago: what grows then is sent whole."""
        before = self._clock() - _KEPT
        for key in [key for key, row in self._rows.scan() if row.when < before]:
            self._rows.delete(key)

    def rows(self, rule: str) -> list[Routed]:
        """Return what a rule ordered, the newest last."""
        rows = [row for _, row in self._rows.scan(f"{rule}\0".encode())]
        return sorted(rows, key=lambda row: row.when)

    def row(self, rule: str, study: str) -> Routed | None:
        """Return what a rule ordered of a study."""
        return self._rows.get(f"{rule}\0{study}".encode())

    def catalog(self) -> Any:
        """Return the archive's catalog."""
        return self._scope().catalog


def _order(rule: RouteRule, study: str, some: list[Entry], after: int) -> Order:
    scheme, _, rest = rule.to.partition(":")
    return Order(
        kind=_KINDS[scheme],
        destination=rest if scheme == "ae" else rule.to,
        archive=rule.archive,
        StudyInstanceUID=study,
        SOPInstanceUIDs=tuple(sorted(entry.SOPInstanceUID for entry in some)),
        detail=msgspec.json.encode(Detail(rule.name, rule.profile, after)).decode(),
    )


class Routing:
    """The routes of all archives, by name."""

    def __init__(self, routers: Iterable[Router], queue: Callable[[], TransferQueue]) -> None:
        self._by_name = {rule.name: (rule, router) for router in routers for rule in router.rules}
        self._queue = queue

    def rules(self) -> list[RouteRule]:
        """Return all rules."""
        return [rule for rule, _ in self._by_name.values()]

    def find(self, name: str) -> tuple[RouteRule, Router]:
        """Return a rule and who follows it.

        Raises:
            NotFound: there is none of that name.
        """
        if name not in self._by_name:
            known = ", ".join(self._by_name) or "none"
            raise NotFound(f"There is no route {name!r}.", f"The routes are: {known}.")
        return self._by_name[name]

    def told(self, name: str) -> dict[str, Any]:
        """Return a rule, what it ordered last, and how many studies its target lacks."""
        rule, router = self.find(name)
        rows = router.rows(name)
        lacking = [
            lack
            for each in self._queue().transfers()
            if each.standing is not Standing.DONE
            and (detail := detail_of(each.order)) is not None
            and detail.route == name
            and (lack := _lack(each))
        ]
        return {
            "name": name,
            "archive": rule.archive,
            "match": list(rule.match),
            "from": list(rule.senders),
            "to": rule.to,
            "profile": rule.profile,
            "lane": rule.lane,
            "studies": len(rows),
            "last": {"when": rows[-1].when, "StudyInstanceUID": rows[-1].study} if rows else None,
            "lacking": lacking,
        }

    def lacking(self, row: Routed) -> dict[str, Any] | None:
        """Return what of a study did not arrive yet, as its transfers say; None when all did."""
        for id in (row.transfer, *reversed(row.before)):
            try:
                transfer = self._queue().find(id)
            except NotFound:
                continue  # Done so long ago that it was forgotten.
            if transfer.standing is not Standing.DONE:
                return _lack(transfer)
        return None

    def waiting(self) -> dict[str, int]:
        """Return of how many studies each target lacks something."""
        found: Counter[str] = Counter()
        for each in self._queue().transfers() if self._by_name else ():
            detail = detail_of(each.order)
            if detail is not None and each.standing not in (Standing.DONE, Standing.CANCELLED):
                found[detail.route] += 1
        return dict(found)


def _lack(transfer: Transfer) -> dict[str, Any]:
    planned = sum(each.planned for each in transfer.series)
    done = sum(each.done for each in transfer.series)
    return {
        "StudyInstanceUID": transfer.order.StudyInstanceUID,
        "transfer": transfer.id,
        "standing": transfer.standing.value,
        "instances": planned - done if planned else None,
        "why": transfer.why,
    }
