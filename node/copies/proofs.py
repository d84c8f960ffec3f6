"""Proofs: a keeper that says it has an object shows it, by the SHA-256 of a fresh nonce and all its bytes.

A receipt says what was true when it was given. Before anything rests on a copy alone, it is proved anew; who
cannot loses its receipts, and is sent the objects again.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections.abc import Callable, Sequence
from hashlib import sha256
from heapq import nlargest
from typing import Final

from catalog import Clock, Entry, PacsError, Reader
from federation.copying import CopyLink

from .carrier import Kept, Study, study_of
from .ledger import Ledger

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 64
_SAMPLE: Final = 3
"""Studies that a keeper proves when it is connected anew: of those it took last, and of all by chance."""
_NONCE: Final = 16
_PIECE: Final = 1 << 20
FRESH: Final = 3600.0
"""Seconds for which a proof may be relied on."""
AUDITED: Final = 30 * 86400.0
"""Seconds after which each keeper proves everything again."""


class Proofs:
    """Asks keepers for proofs, and takes receipts back where there is none."""

    def __init__(
        self,
        ledger: Ledger,
        link: CopyLink,
        catalog_of: Callable[[str], Kept | None],
        read: Callable[[str, Entry], Reader | None],
        clock: Clock,
        alarm: Callable[[str, str, str], None] = lambda node_id, what, remedy: None,
        withdrawn: Callable[[str], None] = lambda uid: None,
    ) -> None:
        """`read` opens an object of an archive here; None where its bytes are not here themselves.

        `withdrawn` hears of each study of which a keeper has lost something, be it what it was told.
        """
        self._ledger = ledger
        self._link = link
        self._catalog_of = catalog_of
        self._read = read
        self._clock = clock
        self._alarm = alarm
        self._withdrawn = withdrawn
        self._audited = ""
        self._returned: list[str] = []
        self._lock = threading.Lock()

    def is_fresh(self, uid: str, node_id: str, within: float = FRESH) -> bool:
        """Say whether a keeper proved all that it has of a study so many seconds ago at most."""
        return 0 <= self._clock() - self._ledger.receipts(uid, node_id).proved < within

    def have_all(self, archive: str, uid: str, nodes: Sequence[str], within: float = FRESH) -> bool:
        """Say whether each of these nodes has all of a study, proved freshly; asks those that have not."""
        catalog = self._catalog_of(archive)
        study = study_of(catalog, uid) if catalog else None
        if study is None or not nodes:
            return False
        for node_id in nodes:
            if study.digests - self._ledger.receipts(uid, node_id).all():
                return False
            if not self.is_fresh(uid, node_id, within) and not self.prove(archive, uid, node_id, study):
                return False
        return True

    def prove(self, archive: str, uid: str, node_id: str, study: Study | None = None) -> bool:
        """Have a keeper prove all it has of a study; say whether it did, and knows what was said of it.

        Raises:
            Unavailable: it cannot be asked now, which says nothing about its copies.
        """
        catalog = self._catalog_of(archive)
        if study is None:
            if catalog is None:
                return False
            study = study_of(catalog, uid)
        receipts = self._ledger.receipts(uid, node_id)
        known = receipts.all()
        entries = [entry for entry in study.entries if entry.holding.sha256 in known]
        failed: list[Entry] = []
        for start in range(0, len(entries), _AT_ONCE):
            failed += self._unproved(archive, uid, node_id, entries[start : start + _AT_ONCE])
        if failed:
            self._ledger.withdraw(uid, node_id, {entry.holding.sha256 for entry in failed})
            what = f"{len(failed)} of {len(entries)} copies of a study could not be proved."
            self._alarm(node_id, what, "They are sent there again; see: peerpacs copies lacking")
            self._withdrawn(uid)
            return False
        if entries:
            self._ledger.proved(uid, node_id)
        if receipts.said and not self._ledger.receipts(uid, node_id).said:
            self._withdrawn(uid)
            return False
        return True

    def _unproved(self, archive: str, uid: str, node_id: str, entries: list[Entry]) -> list[Entry]:
        nonce = secrets.token_bytes(_NONCE)
        salted: dict[bytes, bytes] = {}
        plain: list[Entry] = []
        for entry in entries:
            answer = self._salted(archive, entry, nonce)
            if answer is None:
                plain.append(entry)
            else:
                salted[entry.holding.sha256] = answer
        failed = self._ask(archive, uid, node_id, [e for e in entries if e not in plain], nonce, salted)
        expected = {entry.holding.sha256: b"\1" for entry in plain}
        return failed + self._ask(archive, uid, node_id, plain, b"", expected)

    def _ask(
        self,
        archive: str,
        uid: str,
        node_id: str,
        entries: list[Entry],
        nonce: bytes,
        expected: dict[bytes, bytes],
    ) -> list[Entry]:
        if not entries:
            return []
        digests = [entry.holding.sha256 for entry in entries]
        size = sum(entry.holding.size for entry in entries)
        answers, is_told = self._link.prove(node_id, archive, uid, digests, nonce, size)
        if not is_told:
            self._ledger.untold(uid, node_id)
        answers += [b""] * (len(digests) - len(answers))
        return [
            e for e, answer in zip(entries, answers, strict=False) if answer != expected[e.holding.sha256]
        ]

    def _salted(self, archive: str, entry: Entry, nonce: bytes) -> bytes | None:
        """Return what a keeper must answer; None where the bytes are not here to tell."""
        try:
            reader = self._read(archive, entry)
        except (PacsError, OSError):
            return None
        if reader is None:
            return None
        digest, at = sha256(nonce), 0
        buffer = memoryview(bytearray(min(_PIECE, max(reader.size, 1))))
        try:
            while at < reader.size:
                if not (count := reader.read_into(buffer[: min(len(buffer), reader.size - at)], at)):
                    return None
                digest.update(buffer[:count])
                at += count
        finally:
            reader.close()
        return digest.digest()

    def returned(self, node_id: str) -> None:
        """Hear that a keeper is connected anew: it may have lost something meanwhile; any thread may call."""
        with self._lock:
            self._returned.append(node_id)

    def _look_over(self, node_id: str) -> None:
        """Have a keeper prove a few studies, those it took last among them; everything if it cannot."""
        studies = self._ledger.proved_at(node_id)
        last = nlargest(_SAMPLE, studies, key=studies.__getitem__)
        sample = {*last, *random.sample([*studies], min(_SAMPLE, len(studies)))}
        proved = [self._prove_placed(uid, node_id) for uid in sample]
        if not all(proved):
            for uid in studies:
                if uid not in sample:
                    self._prove_placed(uid, node_id)

    def _prove_placed(self, uid: str, node_id: str) -> bool:
        placed = self._ledger.placed(uid)
        return placed is None or self.prove(placed.archive, uid, node_id)

    def audit_step(self) -> bool:
        """Have one keeper prove something: who has come back, or else what was proved long ago.

        Say whether there may be more.

        Raises:
            PacsError: it cannot be asked now.
        """
        with self._lock:
            returned = self._returned.pop() if self._returned else ""
        if returned:
            self._look_over(returned)
            return True
        for uid, placed in self._ledger.places():
            if uid <= self._audited:
                continue
            self._audited = uid
            for node_id in placed.nodes:
                if self._ledger.receipts(uid, node_id).digests and not self.is_fresh(uid, node_id, AUDITED):
                    self.prove(placed.archive, uid, node_id)
                    return True
        self._audited = ""
        return False
