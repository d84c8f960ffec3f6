"""A keeper lends exactly what the owner last said, to whom it said, and for as long as its word counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from catalog import Selection
from federation.owners import Owner
from federation.readable import TOLD_FOR, Readers, packed, packed_readers, unpacked
from federation.sourcing import Source
from federation.trust.policy import ALL, Caller, Grant, Op, Share
from node.copies.borrowing import Around, Borrowing
from node.copies.carrier import readable_of
from node.copies.lending import Lending, ahead_of_utc
from tests.homes import phantoms
from tests.node.keepers import Keeper, pair

GAMMA = Caller("gamma", "GAMMA")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Keeper, Keeper]]:
    """Alpha with studies, and beta that keeps copies."""
    yield from pair(tmp_path_factory.mktemp("lending"))


class Lent:
    """What beta lends of one study of alpha's."""

    def __init__(self, alpha: Keeper, beta: Keeper, seed: int) -> None:
        self.alpha, self.beta = alpha, beta
        self.uid = alpha.store(phantoms(seed, instances=3, size=30_000))
        assert alpha.copied(beta, self.uid) == (3, [])
        self.owner = Owner(alpha.peer.node_id, "main")
        self.now = time.time()
        self.lending = Lending(beta.copies, lambda: self.now, beta.gate, beta.outside)
        beta.keeping.lending = self.lending

    def tell(self) -> None:
        """Have alpha say what is readable."""
        order = self.alpha.order(self.uid)
        said = packed(readable_of(self.alpha.node.catalog, self.uid))
        list(self.alpha.link.keep(self.beta.peer.node_id, order._replace(items=(), readable=said)))

    def allow(
        self, *ops: Op, hours: str = "*", shares: tuple[Share, ...] = (), share: str = ALL.name
    ) -> None:
        """Have alpha say that gamma may do so."""
        grants = (Grant(peer="node:gamma", share=share, ops=ops, hours=hours),) if ops else ()
        readers = Readers(shares=shares, grants=grants, system="ALPHA", ahead=ahead_of_utc(self.now))
        self.alpha.link.allow(self.beta.peer.node_id, "main", packed_readers(readers))

    @property
    def given(self) -> int:
        """How many instances gamma may read."""
        found = self.lending.readable(GAMMA, self.owner, self.uid)
        return len(found.rows) if found else 0


def test_nothing_is_lent_that_nobody_said_or_allowed(two: tuple[Keeper, Keeper]) -> None:
    lent = Lent(*two, 1)
    lent.allow(Op.RETRIEVE)
    assert lent.given == 0
    lent.tell()
    assert lent.given == 3
    lent.allow(Op.CATALOG, Op.FIND_LIVE)
    assert lent.given == 0
    lent.allow()
    assert lent.given == 0


def test_hours_shares_and_the_age_of_the_owners_word_hold(two: tuple[Keeper, Keeper]) -> None:
    lent = Lent(*two, 2)
    lent.tell()
    hour = datetime.fromtimestamp(lent.now).hour
    lent.allow(Op.RETRIEVE, hours=f"{hour}-{(hour + 1) % 24}")
    assert lent.given == 3
    lent.now += timedelta(hours=2).total_seconds()
    assert lent.given == 0
    other = Share(name="other", number=1, match={"00100020": {"vr": "LO", "Value": ["NOBODY"]}})
    lent.allow(Op.RETRIEVE, shares=(other,), share="other")
    assert lent.given == 0
    lent.allow(Op.RETRIEVE)
    assert lent.given == 3
    lent.now = time.time() + TOLD_FOR + 120
    assert lent.given == 0


def test_what_was_decided_since_is_not_lent_until_it_is_told(two: tuple[Keeper, Keeper]) -> None:
    alpha, beta = two
    lent = Lent(alpha, beta, 3)
    lent.allow(Op.RETRIEVE)
    lent.tell()
    verbs = alpha.node.desk.verbs()
    verbs["correct"](target=lent.uid, attributes=["StudyDescription=MENDED"], reason="r", who="t")

    def ask(node_id: str, owner: bytes, study: str, timeout: float) -> bytes:
        return _told(lent, study) if node_id == "beta" else b""

    around = Around(lambda: "gamma", str, lambda: ["beta"], ask, lambda: 0.0)
    stated = alpha.node.catalog.stated(lent.uid)
    assert stated is not None
    assert Borrowing(around).kept(lent.owner.name, stated) == {}
    lent.tell()
    borrowing = Borrowing(around)
    assert set(borrowing.kept(lent.owner.name, stated).values()) == {"NEARLINE"}
    [entry, *_] = borrowing.manifest(lent.owner.name, stated.series[0])
    assert list(borrowing.sources(Source(lent.owner.name, "ALPHA", False, b"other"), entry)) == []
    first = alpha.node.catalog.select(Selection(studies=(lent.uid,)))[0]
    verbs["reject"](
        target=f"{lent.uid}/{first.SeriesInstanceUID}/{first.SOPInstanceUID}", reason="r", who="t"
    )
    lent.tell()
    assert lent.given == 2
    assert {row.corrections for row in unpacked(_told(lent, lent.uid)).rows} == {()}


def _told(lent: Lent, study: str) -> bytes:
    return lent.lending.told(GAMMA, lent.owner, study)
