"""What this node tells its followers: where the logs end that they may follow, and who is how far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from catalog import BadRequest, Clock, Head
from federation.links.roll import Standing
from federation.trust.names import Identity
from federation.trust.policy import Caller
from protos import trust_pb2 as wire

from .granting import GrantBook, Offer

_CHAIN_BYTES = 8


class Follower(NamedTuple):
    """How far a follower of one share is, as it says itself."""

    archive: str
    share: int
    behind: int
    """Changes it has not applied yet."""
    seconds: float
    """Since it was last known to have all; 0 while it has."""


class Announcer:
    """Says where logs end, in heartbeats and as soon as one moves; hears what followers have seen."""

    def __init__(
        self,
        book: GrantBook,
        connected: Callable[[], dict[str, Standing]],
        tell: Callable[[wire.Head, Iterable[str]], None],
        now: Clock,
    ) -> None:
        """`connected` returns the live sessions; `tell` sends a head to nodes; `now` is monotonic."""
        self._book = book
        self._connected = connected
        self._tell = tell
        self._now = now
        self._told: dict[tuple[str, int], tuple[int, int]] = {}
        self._seen: dict[tuple[str, str, int], tuple[int, int, float]] = {}

    def heads(self, identity: Identity) -> list[wire.Head]:
        """Return the heads of what a node may follow."""
        offers = self._book.offers(Caller(identity.node_id, identity.site))
        return [_message(offer, offer.owner.head(offer.share)) for offer in offers]

    def granted(self, identity: Identity) -> list[str]:
        """Return what a node may do here, in words for its admin."""
        return self._book.told(Caller(identity.node_id, identity.site))

    def heard(self, identity: Identity, seen: Iterable[wire.Seen]) -> None:
        """Take in what a follower has of this node; history that it knows and this node lost ends here."""
        offers = {
            (offer.archive, offer.share): offer
            for offer in self._book.offers(Caller(identity.node_id, identity.site))
        }
        for each in seen:
            offer = offers.get((each.archive, each.share))
            if offer is None:
                continue
            at = Head(each.epoch, each.applied, each.chain.to_bytes(_CHAIN_BYTES, "big"))
            try:
                offer.owner.heed(offer.share, at)
            except BadRequest:
                continue
            self._note(identity.node_id, offer, at)

    def _note(self, node_id: str, offer: Offer, at: Head) -> None:
        head = offer.owner.head(offer.share)
        name = node_id, offer.archive, offer.share
        is_level = (head.epoch, head.seq) == (at.epoch, at.seq)
        _, _, since = self._seen.get(name, (0, 0, self._now()))
        self._seen[name] = at.epoch, at.seq, self._now() if is_level else since

    def followers(self, node_id: str) -> list[Follower]:
        """Return how far a node is with what it may follow, as it said last."""
        found = []
        for (name, archive, share), (epoch, applied, since) in list(self._seen.items()):
            head = self._head(archive, share) if name == node_id else None
            if head is not None:
                behind = head.seq - applied if epoch == head.epoch else head.seq
                seconds = self._now() - since if behind else 0.0
                found.append(Follower(archive, share, max(behind, 0), seconds))
        return found

    def acknowledged(self, archive: str, callers: Iterable[Caller]) -> dict[int, int]:
        """Return by share what every one of these has applied that may follow it; 0 for who never said."""
        found: dict[int, int] = {}
        for caller in callers:
            for offer in self._book.offers(caller):
                if offer.archive == archive:
                    epoch, applied, _ = self._seen.get((caller.node_id, archive, offer.share), (0, 0, 0.0))
                    heard = applied if epoch == offer.owner.head(offer.share).epoch else 0
                    found[offer.share] = min(found.get(offer.share, heard), heard)
        return found

    def _head(self, archive: str, share: int) -> Head | None:
        owner = self._book.owner(archive)
        return owner.head(share) if owner else None

    def step(self) -> None:
        """Tell who is connected of every head that moved since the last step."""
        moved: dict[tuple[str, int], tuple[wire.Head, list[str]]] = {}
        for node_id, standing in self._connected().items():
            for offer in self._book.offers(Caller(node_id, standing.identity.site)):
                name = offer.archive, offer.share
                if name not in moved:
                    moved[name] = _message(offer, offer.owner.head(offer.share)), []
                moved[name][1].append(node_id)
        for name, (head, nodes) in moved.items():
            if self._told.get(name) != (head.epoch, head.head):
                self._told[name] = head.epoch, head.head
                self._tell(head, nodes)


def _message(offer: Offer, head: Head) -> wire.Head:
    return wire.Head(
        share=offer.share, epoch=head.epoch, head=head.seq, archive=offer.archive, hash_key=offer.hash_key
    )
