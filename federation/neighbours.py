"""The peers whose catalogs this node follows: what each lets it follow, how far it is, and how they stand.

Sessions tell what peers say, and `step` does what follows from it; each exchange runs on its own, so that a
slow peer holds up nobody. What a peer no longer grants is answered no more at once, and forgotten a day
later, or at once when it was expelled.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Final, NamedTuple

import msgspec

from catalog import Clock, Head, NotFound, PacsError
from federation.links.session import Spawn
from federation.trust.projection import ExactHashes
from federation.trust.rows import PeerRow, Rows
from protos import trust_pb2 as wire

from .following import HELD, NEW_EPOCH, Follower, exchange
from .messages import Owner
from .mirror import Mirror
from .owners import Owner as Named
from .sight import Standing

logger = logging.getLogger(__name__)

KEPT: Final = 86_400
"""Seconds for which rows that are granted no more are kept, unanswered, in case the grant comes back."""
_CHAIN_BYTES: Final = 8


class Followed(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One share of one archive of a peer."""

    node_id: str
    archive: str
    share: int
    hash_key: bytes = b""
    """Of a share that shows only hashes."""
    withdrawn: int = 0
    """Since when the peer grants it no more, seconds since 1970; 0 while it does."""

    @property
    def owner(self) -> bytes:
        """The owner as mirrors name it."""
        return Named(self.node_id, self.archive).name

    @property
    def key(self) -> bytes:
        """The key of the row."""
        return self.owner + b"/%d" % self.share


class Lag(NamedTuple):
    """How far this node is behind a share of a peer."""

    archive: str
    share: int
    behind: int
    seconds: float | None
    """Since it was known to have all; 0 while it is level; None if it never was."""
    held: int
    """Studies that would vanish, and wait for a person's word."""
    studies: int


class Around(NamedTuple):
    """What following needs of the node around it."""

    clock: Clock
    now: Clock
    """Monotonic."""
    is_connected: Callable[[str], bool]
    is_expelled: Callable[[str], bool]
    reach: Callable[[str, str], Owner]
    """Takes a node and an archive; raises Unavailable while it is not connected."""
    spawn: Spawn
    tell: Callable[[str, str, str], None]
    """Takes a node, what happened and what a person can do."""


class _Source:
    def __init__(self, number: int, row: Followed, follower: Follower) -> None:
        self.number, self.row, self.follower = number, row, follower
        self.hashes = ExactHashes(row.hash_key) if row.hash_key else None
        self.is_busy = False


class Neighbours:
    """All that is followed."""

    def __init__(self, mirror: Mirror, rows: Rows[Followed], peers: Rows[PeerRow], around: Around) -> None:
        """Take up what was followed before; `peers` says how nodes and sites are called."""
        self._mirror, self._rows, self._peers, self._around = mirror, rows, peers, around
        self._chance = Random()
        self._lock = threading.Lock()
        self._news: list[tuple[str, list[wire.Head], bool]] = []
        self._connected: set[str] = set()
        self._sources: dict[bytes, _Source] = {}
        self._names: dict[str, PeerRow] = {}
        for _, row in rows.scan():
            self._take_up(row)

    def _take_up(self, row: Followed) -> _Source:
        number = self._mirror.source(row.owner, row.share)
        follower = Follower(self._mirror, number, now=self._around.now(), chance=self._chance)
        source = self._sources[row.key] = _Source(number, row, follower)
        return source

    def _put(self, row: Followed) -> None:
        self._rows.put(row.key, row)
        known = self._sources.get(row.key)
        if known is not None:
            known.row = row
            known.hashes = ExactHashes(row.hash_key) if row.hash_key else None

    def heard(self, node_id: str, heads: Iterable[wire.Head], is_all: bool) -> None:
        """A peer says where logs end that this node may follow; `is_all`: it may follow no others."""
        with self._lock:
            self._news.append((node_id, list(heads), is_all))

    def seen(self, node_id: str) -> list[wire.Seen]:
        """Return what this node has of a peer."""
        found = []
        for source in list(self._sources.values()):
            row, state = source.row, source.follower.state
            if row.node_id == node_id and not row.withdrawn and state.epoch:
                chain = int.from_bytes(state.chain, "big")
                found.append(
                    wire.Seen(
                        share=row.share,
                        epoch=state.epoch,
                        applied=state.applied,
                        chain=chain,
                        archive=row.archive,
                    )
                )
        return found

    def step(self) -> None:
        """Take in what was heard, and ask whoever has something new, each on its own."""
        with self._lock:
            news, self._news = self._news, []
        for node_id, heads, is_all in news:
            self._hear(node_id, heads, is_all)
        now = self._around.now()
        for source in list(self._sources.values()):
            row = source.row
            if source.is_busy:
                continue
            if self._is_over(row):
                self._drop(source)
            elif not row.withdrawn and self._is_up(source, now) and source.follower.wants(now) is not None:
                source.is_busy = True
                self._around.spawn(f"following {row.node_id}", lambda source=source: self._exchange(source))  # type: ignore[misc]
        self._connected = {
            each.row.node_id for each in self._sources.values() if self._around.is_connected(each.row.node_id)
        }

    def _hear(self, node_id: str, heads: list[wire.Head], is_all: bool) -> None:
        offered = set()
        for head in heads:
            row = Followed(node_id=node_id, archive=head.archive, share=head.share, hash_key=head.hash_key)
            offered.add(row.key)
            source = self._sources.get(row.key)
            if source is None:
                self._rows.put(row.key, row)
                source = self._take_up(row)
                source.follower.connected(self._around.now())
            elif source.row != row:
                self._put(row)
            source.follower.told(Head(head.epoch, head.head, b""), self._around.now())
        if is_all:
            for key, source in list(self._sources.items()):
                row = source.row
                if row.node_id == node_id and key not in offered and not row.withdrawn:
                    self._put(msgspec.structs.replace(row, withdrawn=int(self._around.clock()) or 1))
                    logger.info("The node %s lets this one follow its catalog no more.", node_id)

    def _is_over(self, row: Followed) -> bool:
        since = row.withdrawn
        is_stale = since > 0 and abs(self._around.clock() - since) > KEPT
        return is_stale or self._around.is_expelled(row.node_id)

    def _drop(self, source: _Source) -> None:
        """Forget all that a peer stated."""
        self._sources.pop(source.row.key, None)
        self._mirror.drop(source.number)
        self._rows.delete(source.row.key)
        logger.info("What %s stated of its catalog is forgotten.", source.row.node_id)

    def forget(self, node_id: str) -> int:
        """Forget all that a peer stated; return of how many studies."""
        gone = [each for each in list(self._sources.values()) if each.row.node_id == node_id]
        studies = sum(each.follower.state.studies for each in gone)
        for each in gone:
            self._drop(each)
        return studies

    def _is_up(self, source: _Source, now: float) -> bool:
        node_id = source.row.node_id
        if not self._around.is_connected(node_id):
            return False
        if node_id not in self._connected:
            source.follower.connected(now)
        return True

    def _exchange(self, source: _Source) -> None:
        row, follower = source.row, source.follower
        try:
            exchange(follower, self._around.reach(row.node_id, row.archive), self._around.now())
        except PacsError as error:
            logger.info("The catalog of %s could not be followed: %s", row.node_id, error.what)
        except Exception:
            follower.failed(self._around.now())
            logger.exception("The catalog of %s could not be followed", row.node_id)
        finally:
            self._tell(source)
            source.is_busy = False

    def _tell(self, source: _Source) -> None:
        node_id = source.row.node_id
        name = self.name(node_id)
        found, source.follower.findings = source.follower.findings, []
        for finding in found:
            if finding.kind == HELD:
                what = f"{finding.number} studies would vanish from what {name} states; they stay for now."
                self._around.tell(node_id, what, f"If they are really gone: peerpacs peers allow {name}")
            elif finding.kind == NEW_EPOCH:
                what = f"{name} began a new history of its catalog: it was restored, or lost something."
                self._around.tell(node_id, what, "Its rows count again once they are compared.")
            else:
                logger.warning(
                    "%d rows mirrored from %s were wrong and are right again.", finding.number, name
                )

    def allow(self, node_id: str) -> int:
        """Say yes to what would vanish from what a peer states; return how many studies.

        Raises:
            NotFound: nothing waits.
        """
        held = [each for each in self._sources.values() if each.row.node_id == node_id]
        held = [each for each in held if self._mirror.state(each.number).held]
        if not held:
            raise NotFound(f"Nothing of {self.name(node_id)} waits for a word.", "See: peerpacs peers")
        studies = sum(self._mirror.state(each.number).held for each in held)
        for each in held:
            self._mirror.allow(each.number)
            each.follower.connected(self._around.now())
        return studies

    def name(self, node_id: str) -> str:
        """Return how a peer is called."""
        row = self._peers.get(node_id.encode())
        return row.name if row else node_id

    def standing(self) -> Mapping[int, Standing]:
        """Return how every source stands whose rows are answered."""
        now, wall = self._around.now(), self._around.clock()
        found: dict[int, Standing] = {}
        for source in list(self._sources.values()):
            row = source.row
            if row.withdrawn or self._around.is_expelled(row.node_id):
                continue
            peer = self._peers.get(row.node_id.encode())
            site = (peer.site or peer.name) if peer else row.node_id
            found[source.number] = Standing(
                site,
                row.owner,
                self._around.is_connected(row.node_id),
                source.follower.age(now, wall),
                source.hashes,
                site,
            )
        return found

    def source(self, number: int) -> Followed | None:
        """Return what a source of the mirror is."""
        return next((each.row for each in self._sources.values() if each.number == number), None)

    def lags(self, node_id: str) -> list[Lag]:
        """Return how far this node is behind a peer."""
        now, wall = self._around.now(), self._around.clock()
        found = []
        for each in list(self._sources.values()):
            if each.row.node_id != node_id or each.row.withdrawn:
                continue
            state, behind = each.follower.state, each.follower.behind
            age = each.follower.age(now, wall)
            is_level = not behind and state.is_whole and self._around.is_connected(node_id)
            seconds = 0.0 if is_level and age is not None else age
            found.append(Lag(each.row.archive, each.row.share, behind, seconds, state.held, state.studies))
        return found
