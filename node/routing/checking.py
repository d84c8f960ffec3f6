"""What a route's target lacks of one study: it is asked itself where it can be, else its transfers tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from catalog import NotFound, PacsError, Selection
from node import stow
from node.bucket.client import Bucket
from node.dimse import Requestor
from node.listing import INSTANCE, SERIES, Listing, value
from node.standing import RouteRule

from . import filing
from .routes import Routing

_SHOWN: Final = 1000


class Ways(NamedTuple):
    """How targets are asked."""

    requestor: Callable[[str, str], Requestor]
    """Returns what asks the device of an AE title, for an archive."""
    title_of: Callable[[str], str]
    """Returns the AE title of a peer."""
    root: Callable[[RouteRule], stow.Root]
    bucket: Callable[[RouteRule], Bucket]


class RouteDesk:
    """The verbs about routes."""

    def __init__(self, routing: Routing, ways: Ways) -> None:
        self._routing = routing
        self._ways = ways

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        own = (self.routes, self.check_route, self.send_route)
        return {verb.__name__: verb for verb in own}

    def routes(self) -> list[dict[str, Any]]:
        """Return every rule, what it ordered last, and the studies of which its target lacks something."""
        return [self._routing.told(rule.name) for rule in self._routing.rules()]

    def check_route(self, rule: str, study: str) -> dict[str, Any]:
        """Say whether a rule is about a study, what was ordered of it, and what its target lacks."""
        found, router = self._routing.find(rule)
        entries = router.catalog().select(Selection(studies=(study,)))
        if not entries:
            raise NotFound(f"There is no study {study} here.", "Look for it with: peerpacs find")
        row = router.row(rule, study)
        sources = {entry.source for entry in entries}
        told: dict[str, Any] = {
            "name": rule,
            "to": found.to,
            "StudyInstanceUID": study,
            "is_from": router.is_from(found, sources),
            "matches": router.matches(found, study),
            "instances": len(entries),
            "ordered": {"when": row.when, "transfer": row.transfer} if row else None,
            "waiting": self._routing.lacking(row) if row else None,
            "asked": False,
            "why_not_asked": "",
            "lacks": [],
            "lacking": None,
        }
        try:
            there = self._there(found, study)
        except PacsError as error:
            told["why_not_asked"] = str(error)
            return told
        lacks = sorted({entry.SOPInstanceUID for entry in entries} - there)
        return told | {"asked": True, "lacks": lacks[:_SHOWN], "lacking": len(lacks)}

    def send_route(self, rule: str, study: str, who: str = "") -> dict[str, Any]:
        """Order a study to be sent as a rule says, all of it, whether or not the rule is about it."""
        found, router = self._routing.find(rule)
        transfer = router.order(found, study, again=True, who=who)
        if transfer is None:
            raise NotFound(f"There is no study {study} here.", "Look for it with: peerpacs find")
        return {"transfer": transfer.id, "destination": transfer.order.destination}

    def _there(self, rule: RouteRule, study: str) -> set[str]:
        """Return what the target has; raises PacsError when it cannot be asked."""
        if rule.profile:
            what = "What it was sent has other UIDs, because it is de-identified on its way."
            raise NotFound(what, "Its transfers tell what did not arrive.")
        scheme, _, rest = rule.to.partition(":")
        if scheme == "s3":
            return filing.instances_there(self._ways.bucket(rule), study)
        if scheme in ("http", "https"):
            return stow.instances_there(self._ways.root(rule), study)
        title = self._ways.title_of(rest) if scheme == "peer" else rest
        # What a list that was cut short does not name may be there all the same.
        listing = Listing(self._ways.requestor(title, rule.archive), is_whole=True)
        return {
            value(each, INSTANCE)
            for series in listing.series(study)
            for each in listing.instances(study, value(series, SERIES))
        }
