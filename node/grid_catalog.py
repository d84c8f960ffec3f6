"""The grid as one caller sees it: the union catalog with that device's rights, manners and patience."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context, copy_context
from threading import Event, Lock
from typing import Final, NamedTuple

from catalog import Attributes, Change, Entry, Head, Level, PatientKey, Query, Selection
from federation.choosing import choose
from federation.grid_answers import Answers
from federation.identities import Asker
from federation.links.channels import asking
from federation.live import LiveGrid, Mode
from federation.manifests import given_up
from federation.outcomes import Manners, Outcome, Part, decide, is_missing, warning
from federation.private_block import of_answer, set_apart
from federation.sight import Grid, Sight
from federation.trust.assertion import Asker as Behalf
from node.contracts import Caller, Device, GridAnswer
from node.measures import Sample

logger = logging.getLogger(__name__)
_OF_USERS: Final = "treatment"
_CALLERS: Final = 1000


class Tellings:
    """Tells the log which sites an answer lacked, once for each change of what one caller gets."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, Mode], tuple[str, str]] = OrderedDict()
        self._lock = Lock()

    def tell(self, ae_title: str, mode: Mode, missing: Sequence[str], silent: Sequence[str]) -> None:
        """Say what this answer may lack, unless the caller's last one lacked the same; and when it is over.

        A page that is left open asks again and again, and a site may be away for days. Answers from copies
        and answers of the owners are told apart: the ones may lack nothing while the others do.
        """
        who = ae_title, mode
        now = (", ".join(missing), ", ".join(silent))
        with self._lock:
            before = self._told.pop(who, ("", ""))
            if any(now):
                self._told[who] = now
                if len(self._told) > _CALLERS:
                    self._told.popitem(last=False)
        if now == before:
            return
        if any(now):
            logger.warning(
                "Answers to %s may lack what these sites have: %s; from copies, because they did not "
                "answer: %s. This is said again when it changes. See: peerpacs peers",
                ae_title, now[0] or "none", now[1] or "none",
            )  # fmt: skip
        else:
            logger.info("Answers to %s lack no site any more.", ae_title)


class Tallies:
    """How often each site took part how in the answers of this node."""

    def __init__(self) -> None:
        self._parts: Counter[tuple[str, str]] = Counter()
        self._incomplete: Counter[str] = Counter()

    def count(self, outcomes: Sequence[Outcome], manners: Manners) -> None:
        """Count one answer."""
        self._parts.update((outcome.site, outcome.part.value) for outcome in outcomes)
        self._incomplete.update(each.site for each in outcomes if is_missing(each, manners))

    def samples(self) -> Iterator[Sample]:
        """Yield what `/metrics` shows."""
        for (site, part), number in sorted(self._parts.items()):
            yield Sample("grid_answers_total", number, (site, part))
        for site, number in sorted(self._incomplete.items()):
            yield Sample("grid_answers_incomplete_total", number, (site,))


class GridParts(NamedTuple):
    """What the grid of this node is asked through."""

    grid: Grid
    live: LiveGrid
    tallies: Tallies
    tellings: Tellings
    issuer: str
    """Whose Patient IDs devices mean that have no issuer of their own."""
    pseudonym: Callable[[str], str]
    """Returns what stands for a user at peers."""


class DeviceGrid:
    """Satisfies `GridCatalog` for one caller."""

    def __init__(self, parts: GridParts, caller: Caller) -> None:
        device = caller.device or Device(ae_title=caller.ae_title)
        self._parts = parts
        self._caller = caller
        self._mode, self._purpose = device.grid_mode, device.purpose
        self._asker = Asker(device.issuer or parts.issuer, device.all_issuers, device.foreign_ids)
        self._manners = Manners(device.on_partial, device.on_incomplete, stale_after=device.stale_after)

    @property
    def asker(self) -> Asker:
        """Who asks, as far as it decides whose patients are meant and how they are shown."""
        return self._asker

    @property
    def behalf(self) -> Behalf:
        """Who asks, as peers are told."""
        user = self._caller.user
        if user:
            return Behalf(self._parts.pseudonym(user), role="user", purpose=_OF_USERS)
        return Behalf(role="ae", purpose=self._purpose, ae_title=_plain(self._caller.ae_title))

    def patient_of(self, StudyInstanceUID: str) -> PatientKey | None:
        """Return whose study it is, by all statements together; None for one that nobody states."""
        sight = Sight(self._parts.grid, self._asker, Query(level=Level.STUDY, keys={}))
        study = sight.study(StudyInstanceUID)
        return study.patient if study else None

    def find(self, query: Query) -> Iterator[Attributes]:
        """See `Catalog.find`; merged by UID, series counted once, never across patients."""
        return self.ask(query).matches

    def ask(self, query: Query) -> GridAnswer:
        """See `GridCatalog.ask`.

        Raises:
            BadRequest: a key has a value that its VR does not allow.
        """
        query, block = set_apart(query)
        with asking(self.behalf) as behalf:
            mode = self._mode_for(query)
            matches, outcomes = self._parts.live.ask(query, self._asker, mode, block=block)
            context, is_given_up = copy_context(), Event()
            context.run(given_up.set, is_given_up.is_set)
        self._parts.tallies.count(outcomes, self._manners)
        self._tell(mode, outcomes)
        found = _within(context, matches)
        if block:
            about = of_answer(block, outcomes, self._manners)
            found = ({**match, **about} for match in found)
        return GridAnswer(
            found,
            lambda: decide(outcomes, self._manners),
            outcomes,
            behalf.request_id,
            lambda: warning(outcomes, self._manners),
            is_given_up.set,
        )

    def _mode_for(self, query: Query) -> Mode:
        """Ask the owners for what no mirror knows: keys outside the fixed table."""
        if self._mode is not Mode.SYNCED:
            return self._mode
        grid = self._parts.grid
        return Mode.LIVE if Answers(query, grid.own, grid.manifest).unmirrored else Mode.SYNCED

    def _tell(self, mode: Mode, outcomes: Sequence[Outcome]) -> None:
        missing = [each.site for each in outcomes if is_missing(each, self._manners)]
        silent = [each.site for each in outcomes if each.part is Part.FALLBACK]
        self._parts.tellings.tell(self._caller.ae_title, mode, missing, silent)

    def select(self, selection: Selection) -> list[Entry]:
        """See `Catalog.select`; what nobody has who can be reached is in it, and fails when it is opened."""
        with asking(self.behalf):
            return choose(self._parts.grid, self._asker, selection).all()

    def changes(self, after: int, limit: int, share: int = 0) -> list[Change]:
        """See `Catalog.changes`: of what is held here, so that nothing travels in circles."""
        return self._parts.grid.own.changes(after, limit, share)

    def head(self, share: int = 0) -> Head:
        """See `Catalog.head`."""
        return self._parts.grid.own.head(share)


def _within(context: Context, matches: Iterator[Attributes]) -> Iterator[Attributes]:
    """Take each match on behalf of who asked: what is fetched meanwhile is fetched for it."""
    step: Callable[..., Attributes | None] = next
    try:
        while (match := context.run(step, matches, None)) is not None:
            yield match
    finally:
        close = getattr(matches, "close", None)
        if close:
            close()


def _plain(text: str) -> str:
    return "".join(c for c in text if " " <= c <= "~")[:64]
