"""Each status of the statement is answered by a running node where the statement says so, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE, evt

from catalog import Attributes
from node.app import Node
from node.contracts import Device, Service
from node.devices import DEV_RULE
from node.dimse.commands import C_ECHO_RQ, C_FIND_RQ, C_GET_RQ, C_MOVE_RQ, C_STORE_RQ
from node.dimse.meanings import MEANINGS
from node.dimse.statuses import _BY_ERROR, MATCHES_MAY_BE_MISSING
from node.reception import _STATUS
from sim.ports import free_port
from tests.homes import EXPLICIT, Peer, RawInstance, edited, phantoms, serving
from tests.node.conformance.talking import Talk
from tests.running import until

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ECHO = "1.2.840.10008.1.1"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
TOO_LONG = (1 << 20) + 2
GARBAGE = b"\xff" * 60
UNPROVOKED = {(C_STORE_RQ, 0x0110)}
"""A failure of the node itself: nobody can ask for it."""


@pytest.fixture
def alpha(tmp_path: Path) -> Iterator[Node]:
    with serving(tmp_path / "alpha", senders={"unknown_senders": "refuse"}) as node:
        yield node


def listed(field: int) -> set[int]:
    """Return the statuses that the statement has for a service."""
    return {one.status for one in MEANINGS[field]} - {status for of, status in UNPROVOKED if of == field}


def of(level: str, **uids: str) -> Attributes:
    """Return an identifier."""
    tags = {"study": "0020000D", "series": "0020000E", "blob": "00420011"}
    keys: Attributes = {tags[name]: {"vr": "UI", "Value": [uid]} for name, uid in uids.items()}
    return {"00080052": {"vr": "CS", "Value": [level]}, "0020000D": {"vr": "UI"}, **keys}


def not_any_more(node: Node, talk: Talk, field: int, context: str, data: bytes | Attributes) -> list[int]:
    """Take every right away and return the statuses of a request once that is noticed."""
    node.devices.remove(DEV_RULE.ae_title)
    return until(
        lambda: next((got for got in [talk.ask(field, context, data, instance="1.2")] if 0x0124 in got), [])
    )


def wrong_on(talk: Talk, field: int, context: str, other: str) -> set[int]:
    """Return what any service answers to a request that does not fit its context."""
    data = of("STUDY")
    return {
        talk.ask(field, context, data, uid="1.2.3", instance="1.2.3")[-1],
        talk.ask(field, other, data, instance="1.2.3")[-1],
        talk.ask(field, context, None, instance="1.2.3")[-1],
    }


def test_echo(alpha: Node) -> None:
    with Talk(alpha, ECHO, CT) as talk:
        heard = {
            *talk.ask(C_ECHO_RQ, ECHO),
            *talk.ask(C_ECHO_RQ, CT, uid=ECHO),
            *talk.ask(C_FIND_RQ, ECHO, of("STUDY")),
            *talk.ask(C_ECHO_RQ, ECHO, of("STUDY")),
        }
    # A C-FIND is answered with its own response field, but by the same hand.
    assert heard == listed(C_ECHO_RQ)


def test_store(alpha: Node, tmp_path: Path) -> None:
    one, other = phantoms(1, size=4000, instances=2)
    with Talk(alpha, one.SOPClassUID, FIND) as talk:
        heard = {
            talk.store(one),
            talk.store(other, data=other.data[:-50]),
            talk.store(other, data=one.data),
            talk.store(other, data=GARBAGE),
            talk.store(one, instance="not a uid"),
            *wrong_on(talk, C_STORE_RQ, one.SOPClassUID, FIND),
            *not_any_more(alpha, talk, C_STORE_RQ, one.SOPClassUID, one.data),
        }
    full = {"stop_below_mb": 1 << 20, "resume_above_mb": 1 << 20}
    with serving(tmp_path / "full", storage=full) as node, Talk(node, one.SOPClassUID) as talk:
        heard.add(talk.store(one))
    assert heard == listed(C_STORE_RQ)


def test_find(alpha: Node) -> None:
    many = [
        edited(phantoms(2, size=4000)[0], StudyInstanceUID=f"1.2.{n}", SOPInstanceUID=f"1.3.{n}")
        for n in range(400)
    ]
    renamed = [RawInstance(raw.SOPClassUID, f"1.3.{n}", EXPLICIT, raw.data) for n, raw in enumerate(many)]
    assert set(Peer(alpha).store(*renamed)) == {0}
    blob = of("STUDY") | {"00420011": {"vr": "OB", "InlineBinary": "AAAA"}}
    with Talk(alpha, FIND, MOVE) as talk:
        heard = {
            *talk.ask(C_FIND_RQ, FIND, of("STUDY", study="1.2.5")),
            *talk.ask(C_FIND_RQ, FIND, blob),
            *talk.ask(C_FIND_RQ, FIND, of("STUDY"), is_cancelled=True),
            *talk.ask(C_FIND_RQ, FIND, b"\0" * TOO_LONG),
            *talk.ask(C_FIND_RQ, FIND, of("NONSENSE")),
            *talk.ask(C_FIND_RQ, FIND, GARBAGE),
            *wrong_on(talk, C_FIND_RQ, FIND, MOVE),
            *not_any_more(alpha, talk, C_FIND_RQ, FIND, of("STUDY")),
        }
    # The warning takes a grid with a site that is down: tests/node/test_grid_find.py.
    assert heard | {MATCHES_MAY_BE_MISSING} == listed(C_FIND_RQ)


@contextmanager
def receiver(node: Node, ae_title: str, *accepted: str) -> Iterator[None]:
    """Run pynetdicom as a move destination that takes only some SOP Classes."""
    entity, port = AE(ae_title), free_port()
    for uid in accepted:
        entity.add_supported_context(uid, EXPLICIT)
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)]
    )
    node.devices.put(Device(ae_title=ae_title, address="127.0.0.1", port=port, services=(Service.ECHO,)))
    try:
        yield
    finally:
        server.shutdown()


def two_kinds() -> tuple[str, list[RawInstance]]:
    """Return a study with an instance of CT and one of MR."""
    raw = phantoms(4, size=4000)[0]
    made = []
    for number, uid in enumerate((CT, MR)):
        instance = f"1.9.{number}"
        changed = edited(
            raw,
            SOPClassUID=uid,
            SOPInstanceUID=instance,
            SeriesInstanceUID=f"1.8.{number}",
            StudyInstanceUID="1.7",
        )
        made.append(RawInstance(uid, instance, EXPLICIT, changed.data))
    return "1.7", made


def test_move(alpha: Node) -> None:
    name, sent = two_kinds()
    assert Peer(alpha).store(*sent) == [0, 0]
    alpha.devices.put(Device(ae_title="NOBODY", address="127.0.0.1", port=free_port()))
    with receiver(alpha, "BOTH", CT, MR), receiver(alpha, "ONE", CT), Talk(alpha, MOVE, FIND) as talk:

        def move(to: str, data: bytes | Attributes, *, is_cancelled: bool = False) -> list[int]:
            return talk.ask(C_MOVE_RQ, MOVE, data, destination=to, is_cancelled=is_cancelled)

        heard = {
            *move("BOTH", of("STUDY", study=name)),
            *move("ONE", of("STUDY", study=name)),
            *move("NOBODY", of("STUDY", study=name)),
            *move("UNKNOWN", of("STUDY", study=name)),
            *move("BOTH", of("STUDY", study=name), is_cancelled=True),
            *move("BOTH", b"\0" * TOO_LONG),
            *move("BOTH", of("SERIES")),
            *move("BOTH", GARBAGE),
            *wrong_on(talk, C_MOVE_RQ, MOVE, FIND),
            *not_any_more(alpha, talk, C_MOVE_RQ, MOVE, of("STUDY", study=name)),
        }
    assert heard == listed(C_MOVE_RQ)


def test_get(alpha: Node) -> None:
    name, sent = two_kinds()
    assert Peer(alpha).store(*sent) == [0, 0]
    heard = set[int]()
    for accepted in ((CT, MR), (CT,), ()):
        with Talk(alpha, GET, FIND, *accepted, roles=accepted) as talk:
            heard |= {*talk.ask(C_GET_RQ, GET, of("STUDY", study=name))}
    with Talk(alpha, GET, FIND, CT, MR, roles=(CT, MR)) as talk:
        heard |= {
            *talk.ask(C_GET_RQ, GET, of("STUDY", study=name), is_cancelled=True),
            *talk.ask(C_GET_RQ, GET, b"\0" * TOO_LONG),
            *talk.ask(C_GET_RQ, GET, of("SERIES")),
            *talk.ask(C_GET_RQ, GET, GARBAGE),
            *wrong_on(talk, C_GET_RQ, GET, FIND),
            *not_any_more(alpha, talk, C_GET_RQ, GET, of("STUDY", study=name)),
        }
    assert heard == listed(C_GET_RQ)


def test_every_error_of_ours_becomes_a_status_that_is_listed() -> None:
    assert {status for _, status in _STATUS} <= {one.status for one in MEANINGS[C_STORE_RQ]}
    for field in (C_FIND_RQ, C_MOVE_RQ, C_GET_RQ):
        listed_here = {one.status for one in MEANINGS[field]} | ({0xA700} if field != C_FIND_RQ else set())
        assert {*_BY_ERROR.values()} <= listed_here
