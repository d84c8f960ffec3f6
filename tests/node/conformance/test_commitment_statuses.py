"""Each status of Storage Commitment in the statement is answered by a running node, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.app import Node
from node.contracts import Reference
from node.devices import DEV_RULE
from node.dimse.commands import C_FIND_RQ, N_ACTION_RQ, N_EVENT_REPORT_RQ
from node.dimse.meanings import MEANINGS
from node.dimse.syntaxes import COMMITMENT
from node.dimse.transactions import LARGEST, encode_request
from tests.homes import EXPLICIT, serving
from tests.node.conformance.talking import Talk
from tests.running import until

WELL_KNOWN = "1.2.840.10008.1.20.1.1"
OF_THE_PULL_MODEL = "1.2.840.10008.1.20.2.1"
ONE = [Reference("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4")]
UNPROVOKED = {(N_ACTION_RQ, 0x0110), (N_EVENT_REPORT_RQ, 0x0110), (N_EVENT_REPORT_RQ, 0x0000)}
"""Failures of the node itself; and a result that the node asked for, which its own tests have."""


@pytest.fixture
def alpha(tmp_path: Path) -> Iterator[Node]:
    with serving(tmp_path / "alpha") as node:
        yield node


def listed(field: int) -> set[int]:
    """Return the statuses that the statement has for a service."""
    return {one.status for one in MEANINGS[field]} - {status for of, status in UNPROVOKED if of == field}


def asked(transaction: str, references: list[Reference] = ONE) -> bytes:
    """Return the data set of a request."""
    return encode_request(transaction, references, EXPLICIT)


def test_action(alpha: Node) -> None:
    with Talk(alpha, COMMITMENT) as talk:

        def act(data: bytes | None, **other: object) -> int:
            target = {"RequestedSOPClassUID": COMMITMENT, "RequestedSOPInstanceUID": WELL_KNOWN}
            fields = {"AffectedSOPClassUID": None, **target, "ActionTypeID": 1, **other}
            return talk.ask(N_ACTION_RQ, COMMITMENT, data, **fields)[-1]  # type: ignore[arg-type]

        heard = {
            act(asked("1.2.9")),
            act(asked("1.2.9", [Reference("1.2", "1.2.5")])),
            act(asked("1.2.8"), RequestedSOPInstanceUID="1.2.3"),
            act(asked("1.2.8"), RequestedSOPInstanceUID=None),
            act(asked("1.2.8"), RequestedSOPClassUID="1.2.3"),
            act(asked("1.2.8"), RequestedSOPInstanceUID=OF_THE_PULL_MODEL),
            act(b"\xff" * 40),
            act(asked("1.2.7"), ActionTypeID=2),
            act(None),
            act(bytes(LARGEST + 2)),
            talk.ask(C_FIND_RQ, COMMITMENT, asked("1.2.6"))[-1],
        }
        alpha.devices.remove(DEV_RULE.ae_title)
        assert until(lambda: act(asked("1.2.5")) == 0x0124)
    assert heard | {0x0124} == listed(N_ACTION_RQ)


def test_report(alpha: Node) -> None:
    with Talk(alpha, COMMITMENT, roles=(COMMITMENT,)) as talk:

        def report(data: bytes | None, **other: object) -> int:
            fields = {"AffectedSOPInstanceUID": WELL_KNOWN, "EventTypeID": 1, **other}
            return talk.ask(N_EVENT_REPORT_RQ, COMMITMENT, data, **fields)[-1]  # type: ignore[arg-type]

        heard = {
            report(asked("1.2.9")),
            report(asked("1.2.9"), AffectedSOPInstanceUID="1.2.3"),
            report(asked("1.2.9"), AffectedSOPInstanceUID=None),
            report(asked("1.2.9"), AffectedSOPClassUID="1.2.3"),
            report(asked("1.2.9"), AffectedSOPInstanceUID=OF_THE_PULL_MODEL),
            report(asked("1.2.9"), EventTypeID=3),
            talk.ask(C_FIND_RQ, COMMITMENT, asked("1.2.6"))[-1],
        }
    assert heard == listed(N_EVENT_REPORT_RQ)
