"""What the segments know and the catalog lacks: after a crash, after a restore, or when it is made again.

The segments are the truth. Each object's member says where it came from and whether it is held; the
decisions lie between them in the order they were made. Replay and rebuild end in the same rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from catalog import Arrival, Decision, Holding, PacsError, Recorded
from node.decisions import Decisions
from node.ingest import NodeIngest
from node.reading import first_bytes, header_of
from node.reception import Origin
from node.register import Register
from node.storage import Damage, Item, Kept, KeptDecision, SegmentEnd, read_meta

logger = logging.getLogger(__name__)

_HEAD: Final = 1 << 16
_BATCH: Final = 256


class Recovered(msgspec.Struct):
    """What a replay or a rebuild found and brought back."""

    objects: int = 0
    bytes: int = 0
    instances: int = 0
    """Of these, how many the catalog lacked."""
    held: int = 0
    decisions: int = 0
    unreadable: int = 0
    lost: int = 0
    """Rows without bytes that were taken back."""
    damaged: list[str] = []


class Recovery:
    """Turns what a store says into catalog rows; `issuer_of` knows a device's assigning authority."""

    def __init__(
        self,
        ingest: NodeIngest,
        decisions: Decisions,
        register: Register,
        issuer_of: Callable[[str], str],
    ) -> None:
        self._ingest = ingest
        self._decisions = decisions
        self._register = register
        self._issuer_of = issuer_of
        self._batch: list[Arrival] = []

    def take(
        self,
        found: Iterable[Item],
        on_progress: Callable[[Recovered], None] = lambda so_far: None,
        on_known: Callable[[str, Holding], None] = lambda uid, holding: None,
    ) -> Recovered:
        """Record everything found, in its order; what is known already changes nothing, and is told."""
        recovered = Recovered()
        for item in found:
            if isinstance(item, Kept):
                recovered.bytes += item.holding.size
                self._take_object(item, recovered, on_known)
            elif isinstance(item, KeptDecision):
                self._take_decision(item, recovered)
            elif isinstance(item, Damage):
                recovered.damaged.append(item.what)
                logger.error("%s", item.what)
            else:
                self._forget_behind(item, recovered)
            on_progress(recovered)
        self._flush(recovered)
        return recovered

    def _take_object(
        self, kept: Kept, recovered: Recovered, on_known: Callable[[str, Holding], None]
    ) -> None:
        recovered.objects += 1
        try:
            arrival = self._arrival(kept)
        except PacsError as error:
            recovered.unreadable += 1
            logger.error("A stored object (%s) is not catalogued: %s", kept.holding.sha256.hex()[:16], error)
            return
        uid, sha256 = arrival.entry.SOPInstanceUID, kept.holding.sha256
        if self._ingest.catalog.holds(uid, sha256) or self._ingest.held.holds(uid, sha256):
            on_known(uid, kept.holding)
            return
        if kept.origin.is_held:
            recovered.held += 1
            self._ingest.held.put(arrival)
            return
        self._batch.append(arrival)
        if len(self._batch) >= _BATCH:
            self._flush(recovered)

    def _take_decision(self, kept: KeptDecision, recovered: Recovered) -> None:
        self._flush(recovered)
        recovered.decisions += 1
        try:
            decision = msgspec.json.decode(kept.text, type=Decision)
            self._decisions.replay(decision)
            self._register.remember(decision)
        except (PacsError, msgspec.MsgspecError) as error:
            recovered.unreadable += 1
            logger.error("Decision %s cannot be applied: %s", kept.id, error)

    def _forget_behind(self, end: SegmentEnd, recovered: Recovered) -> None:
        lost = self._ingest.catalog.forget_lost(end.covers)
        recovered.lost += len(lost)
        if lost:
            logger.warning("%d rows are taken back: their bytes are not on the disk", len(lost))

    def _flush(self, recovered: Recovered) -> None:
        batch, self._batch = self._batch, []
        if batch:
            recorded = self._ingest.catalog.record(batch)
            # What lies in the segments twice counts once.
            recovered.instances += sum(each is not Recorded.SAME for each in recorded)

    def _arrival(self, kept: Kept) -> Arrival:
        reader = self._ingest.store.open(kept.holding)
        try:
            meta = read_meta(first_bytes(reader, _HEAD).tobytes())
            header = header_of(reader, meta.offset, meta.TransferSyntaxUID)
        finally:
            reader.close()
        origin = Origin(kept.origin.source, kept.origin.received, kept.origin.is_held)
        issuer = self._issuer_of(origin.source)
        return self._ingest.arrival(header, meta.TransferSyntaxUID, kept.holding, origin, issuer)
