"""Policy at the owner: nothing without a grant, nothing beyond a view, nothing outside its hours."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

import msgspec
import pytest

from catalog import BadRequest, NotFound, NotPermitted, PatientKey
from catalog.statements import LEFT_SHARE, REJECTED, SeriesStatement, StudyStatement
from federation.trust.policy import (
    ALL,
    Caller,
    Grant,
    Op,
    Policy,
    Share,
    Throttle,
    View,
    check_grant,
    check_share,
    first_admitting,
)
from federation.trust.projection import ExactHashes, ExactStatement, Projection, share_key

NODE = str(uuid.uuid4())
CALLER = Caller(NODE, "HOSP-B")
NOON = datetime(2026, 11, 25, 12).timestamp()
NIGHT = datetime(2026, 11, 25, 23).timestamp()
MAMMO = Share(name="mammo", number=1, match={"00080060": {"vr": "CS", "Value": ["MG"]}})
STUDY = msgspec.msgpack.encode(
    StudyStatement(
        1,
        "1.2.3",
        PatientKey("BRNO", "4711"),
        json.dumps(
            {
                "00100010": {"vr": "PN", "Value": [{"Alphabetic": "NOVAK^JAN"}]},
                "00080050": {"vr": "SH", "Value": ["A-77"]},
                "00080020": {"vr": "DA", "Value": ["20260101"]},
            }
        ).encode(),
        5,
        False,
    )
)
SERIES = msgspec.msgpack.encode(
    SeriesStatement(
        1,
        "1.2.3",
        "1.2.3.4",
        json.dumps({"0008103E": {"vr": "LO", "Value": ["Thorax NOVAK"]}}).encode(),
        12,
        345,
        b"d" * 32,
        ("1.2",),
        5,
        True,
        False,
    )
)


def _grant(**changes: Any) -> Grant:
    return msgspec.structs.replace(
        Grant(peer=f"node:{NODE}", share="everything", ops=(Op.CATALOG,)), **changes
    )


def test_without_a_grant_nothing_is_permitted() -> None:
    for op in Op:
        with pytest.raises(NotPermitted, match="does not grant"):
            Policy([MAMMO], []).check(CALLER, op, NOON)


def test_a_grant_is_for_its_peer_its_operation_and_its_share() -> None:
    policy = Policy([MAMMO], [_grant(share="mammo")])
    assert policy.check(CALLER, Op.CATALOG, NOON, share=1)[0].share == MAMMO
    for caller, op, share in (
        (Caller(str(uuid.uuid4()), "HOSP-B"), Op.CATALOG, 1),
        (CALLER, Op.RETRIEVE, 1),
        (CALLER, Op.CATALOG, 0),
    ):
        with pytest.raises(NotPermitted):
            policy.check(caller, op, NOON, share=share)


def test_a_site_is_what_the_certificate_says_and_no_site_is_nobodys() -> None:
    policy = Policy([], [_grant(peer="site:HOSP-B"), _grant(peer="site:")])
    assert policy.check(Caller(str(uuid.uuid4()), "HOSP-B"), Op.CATALOG, NOON)
    with pytest.raises(NotPermitted):
        policy.check(Caller(NODE, ""), Op.CATALOG, NOON)


def test_a_grant_counts_in_its_hours_only() -> None:
    policy = Policy([], [_grant(hours="18-6")])
    assert policy.check(CALLER, Op.CATALOG, NIGHT)
    with pytest.raises(NotPermitted):
        policy.check(CALLER, Op.CATALOG, NOON)


def test_a_grant_that_names_purposes_counts_for_what_is_asked_for_one_of_them() -> None:
    """Who follows the catalog asks for itself; what a grant says of purposes is about persons and devices."""
    ops = (Op.CATALOG, Op.FIND_LIVE, Op.RETRIEVE)
    policy = Policy([], [_grant(ops=ops, purposes=("treatment", "payment"))])
    for op in (Op.FIND_LIVE, Op.RETRIEVE):
        assert policy.check(CALLER._replace(purpose="treatment"), op, NOON)
        assert policy.permissions(CALLER, op, NOON), "whatever the purpose, it is granted"
        for other in ("research", "operation", ""):
            with pytest.raises(NotPermitted, match=f"for {other or 'no purpose'}"):
                policy.check(CALLER._replace(purpose=other), op, NOON)
    assert policy.check(CALLER._replace(purpose="operation"), Op.CATALOG, NOON)


def test_a_grant_that_names_roles_counts_for_what_is_asked_in_one_of_them() -> None:
    ops, limits = (Op.CATALOG, Op.RETRIEVE), {"purposes": ("treatment",), "roles": ("ae", "node")}
    policy = Policy([], [_grant(ops=ops, **limits)])
    asked = CALLER._replace(purpose="treatment", role="ae")
    assert policy.check(asked, Op.RETRIEVE, NOON)
    assert policy.permissions(CALLER, Op.RETRIEVE, NOON), "whatever the role, it is granted"
    assert policy.check(asked._replace(role="user"), Op.CATALOG, NOON), "a node follows for itself"
    for caller, words in (
        (asked._replace(role="user"), "when user asks"),
        (asked._replace(purpose="research"), "for research"),
        (asked._replace(role="", purpose="research"), "for research when nobody asks"),
    ):
        with pytest.raises(NotPermitted, match=f"grant retrieve to {NODE} of [^ ]* {words}\\."):
            policy.check(caller, Op.RETRIEVE, NOON)
    assert policy.grants[0].words(Op.RETRIEVE) == "retrieve on everything for treatment by ae or node"
    assert policy.grants[0].words(Op.CATALOG) == "catalog on everything"


def test_each_record_is_judged_by_what_the_share_matches() -> None:
    permissions = Policy([MAMMO], [_grant(share="mammo")]).check(CALLER, Op.CATALOG, NOON)
    assert first_admitting(permissions, {"00080060": {"vr": "CS", "Value": ["MG"]}})
    assert first_admitting(permissions, {"00080060": {"vr": "CS", "Value": ["CT"]}}) is None
    assert first_admitting(permissions, {}) is None


def test_of_several_grants_the_fullest_view_counts_for_a_record() -> None:
    vault = Share(name="vault", number=2, view=View.MINIMAL)
    policy = Policy([MAMMO, vault], [_grant(share="vault"), _grant(share="mammo")])
    permissions = policy.check(CALLER, Op.CATALOG, NOON)
    mammogram, ct = ({"00080060": {"vr": "CS", "Value": [value]}} for value in ("MG", "CT"))
    found = [first_admitting(permissions, each) for each in (mammogram, ct)]
    assert [each.share.view for each in found if each] == [View.FULL, View.MINIMAL]


def test_a_grant_never_shows_more_than_its_share() -> None:
    for view, ops in (
        (View.MINIMAL, (Op.RETRIEVE,)),
        (View.COUNTS, (Op.FIND_LIVE,)),
        (View.DEID_ONLY, (Op.CATALOG,)),
    ):
        share = Share(name="s", number=1, view=view)
        with pytest.raises(BadRequest, match="needs more"):
            check_grant(_grant(share="s", ops=ops), [share])


def test_grants_and_shares_are_checked_when_they_are_written() -> None:
    for wrong in (
        _grant(purposes=("for fun!",)),
        _grant(roles=("doctor",)),
        _grant(peer="alpha"),
        _grant(peer="node:x"),
        _grant(hours="25-3"),
        _grant(ops=()),
        _grant(rate=-1),
    ):
        with pytest.raises(BadRequest):
            check_grant(wrong, [])
    with pytest.raises(NotFound):
        check_grant(_grant(share="nothing"), [])
    for share in (
        Share(name="Everything!", number=-1),
        Share(name="everything", number=-1),
        Share(name="s", number=-1, match={"00080018": {"vr": "UI"}}),
        Share(name="s", number=-1, match={"00080020": {"vr": "DA", "Value": ["someday"]}}),
    ):
        with pytest.raises(BadRequest):
            check_share(share, [])


def test_there_are_at_most_63_shares_beside_everything() -> None:
    shares: list[Share] = []
    for number in range(63):
        shares.append(check_share(Share(name=f"s{number}", number=-1), shares))
    assert [share.number for share in shares] == list(range(1, 64))
    assert check_share(Share(name="s7", number=-1, view=View.COUNTS), shares).number == 8
    with pytest.raises(BadRequest, match="63 shares"):
        check_share(Share(name="one-more", number=-1), shares)


def test_a_full_view_passes_rows_on_as_they_are() -> None:
    projection = Projection(ALL)
    assert projection.row(b"1.2.3", STUDY) is STUDY
    assert projection.row(b"1.2.3\x001.2.3.4", SERIES) is SERIES
    assert projection.key(b"1.2.3") == b"1.2.3"


@pytest.mark.parametrize("view", [View.MINIMAL, View.EXACT, View.COUNTS, View.DEID_ONLY])
def test_no_other_view_says_anything_of_a_patient(view: View) -> None:
    projection = Projection(Share(name="s", number=1, view=view), b"k" * 32)
    rows = projection.row(b"1.2.3", STUDY) + projection.row(b"1.2.3\x001.2.3.4", SERIES)
    assert not any(secret in rows for secret in (b"NOVAK", b"4711", b"BRNO", b"A-77", b"20260101"))


def test_a_minimal_view_is_enough_to_keep_copies() -> None:
    projection = Projection(Share(name="s", number=1, view=View.MINIMAL))
    series = msgspec.msgpack.decode(projection.row(b"1.2.3\x001.2.3.4", SERIES), type=SeriesStatement)
    assert (series.SeriesInstanceUID, series.instances, series.size, series.digest) == (
        "1.2.3.4",
        12,
        345,
        b"d" * 32,
    )


def test_an_exact_view_is_found_by_who_knows_the_number_and_by_nobody_else() -> None:
    share = Share(name="s", number=1, view=View.EXACT)
    key = share_key(b"secret", share)
    projection, hashes = Projection(share, key), ExactHashes(key)
    row = msgspec.msgpack.decode(projection.row(b"1.2.3", STUDY), type=ExactStatement)
    assert row.patient == hashes.patient("BRNO", "4711 ")
    assert row.patient != hashes.patient("PRAHA", "4711")
    assert (row.accession, row.study) == (hashes.accession("A-77"), hashes.study("1.2.3"))
    assert projection.key(b"1.2.3") == row.study.hex().encode()
    assert b"1.2.3" not in projection.key(b"1.2.3\x001.2.3.4")
    assert projection.row(b"1.2.3\x001.2.3.4", SERIES) == LEFT_SHARE
    assert share_key(b"secret", Share(name="t", number=2)) != key
    assert hashes.patient("BRNO", " ") == b""


def test_a_tombstone_is_one_in_every_view() -> None:
    for view in View:
        projection = Projection(Share(name="s", number=1, view=view), b"k")
        assert [projection.row(b"1.2.3", row) for row in (b"", REJECTED)] == [b"", REJECTED]


def test_a_rate_is_kept_over_time() -> None:
    throttle, now = Throttle(1_000_000), 0.0
    for _ in range(100):
        now += throttle.wait(100_000, now)
    assert 8.9 <= now <= 10
    assert Throttle(0).wait(1 << 40, 0) == 0
