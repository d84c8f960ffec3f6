"""pynetdicom as SCU of our server and as SCP of our requestor: a second peer we did not write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from catalog import NotPermitted
from node.contracts import Device, StoreResult
from node.dimse import Requestor
from tests.node.dimse.archive import Archive, Node, identifier, instances, serving
from tests.node.dimse.test_services import taking

FIND = StudyRootQueryRetrieveInformationModelFind
GET = StudyRootQueryRetrieveInformationModelGet
MOVE = StudyRootQueryRetrieveInformationModelMove
LOOPBACK = "127.0.0.1"
CT_SMALL = str(pydicom.data.get_testdata_file("CT_small.dcm"))


@pytest.fixture
def alpha() -> Iterator[Node]:
    with serving() as node:
        for stored in instances(5, 40_000):
            node.archive.put(stored)
        yield node


@contextmanager
def associated(node: Node, *contexts: Any, **options: Any) -> Iterator[Any]:
    entity = AE(ae_title="PYNETDICOM")
    for context in contexts:
        entity.add_requested_context(context)
    association = entity.associate(LOOPBACK, node.port, ae_title="ALPHA", **options)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def question() -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "STUDY"
    dataset.StudyInstanceUID = "1.2.3"
    return dataset


def test_pynetdicom_echoes_stores_and_finds(alpha: Node) -> None:
    image = pydicom.dcmread(CT_SMALL)
    with associated(alpha, Verification, CTImageStorage, FIND) as association:
        assert association.send_c_echo().Status == 0
        assert association.send_c_store(image).Status == 0
        responses = list(association.send_c_find(question(), FIND))
    assert [status.Status for status, _ in responses] == [0xFF00, 0]
    assert responses[0][1].StudyInstanceUID == "1.2.3"
    assert image.SOPInstanceUID in alpha.archive.instances


def test_pynetdicom_gets(alpha: Node) -> None:
    got = []

    def keep(event: Any) -> int:
        got.append(event.dataset.SOPInstanceUID)
        return 0xB000 if len(got) == 2 else 0

    options = {
        "ext_neg": [build_role(CTImageStorage, scp_role=True)],
        "evt_handlers": [(evt.EVT_C_STORE, keep)],
    }
    with associated(alpha, GET, CTImageStorage, **options) as association:
        responses = [status for status, _ in association.send_c_get(question(), GET)]
    assert sorted(got) == sorted(alpha.archive.instances)
    final = responses[-1]
    assert (final.Status, final.NumberOfCompletedSuboperations, final.NumberOfWarningSuboperations) == (
        0xB000,
        4,
        1,
    )


@contextmanager
def pynetdicom_scp(*handlers: Any) -> Iterator[int]:
    entity = AE(ae_title="THEIRS")
    entity.supported_contexts = AllStoragePresentationContexts
    for context in (Verification, FIND, MOVE, GET):
        entity.add_supported_context(context)
    for context in entity.supported_contexts:
        context.scu_role = context.scp_role = True
    server: Any = entity.start_server((LOOPBACK, 0), block=False, evt_handlers=list(handlers))
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def test_we_move_to_pynetdicom(alpha: Node) -> None:
    got: list[tuple[str, str, int]] = []

    def keep(event: Any) -> int:
        originator = event.request.MoveOriginatorApplicationEntityTitle
        got.append((event.dataset.SOPInstanceUID, originator, event.request.MoveOriginatorMessageID))
        return 0

    with pynetdicom_scp((evt.EVT_C_STORE, keep)) as port:
        alpha.book.destinations["THEIRS"] = Device(ae_title="THEIRS", address=LOOPBACK, port=port)
        with associated(alpha, MOVE) as association:
            responses = [
                status for status, _ in association.send_c_move(question(), "THEIRS", MOVE, msg_id=12)
            ]
    assert (responses[0].Status, responses[-1].Status) == (0xFF00, 0)
    assert responses[-1].NumberOfCompletedSuboperations == 5
    assert sorted(got) == [(uid, "PYNETDICOM", 12) for uid in sorted(alpha.archive.instances)]


def test_our_requestor_echoes_stores_and_finds_at_pynetdicom() -> None:
    stored = []

    def keep(event: Any) -> int:
        stored.append(event.dataset.SOPInstanceUID)
        return 0xA700 if len(stored) == 2 else 0

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for number in range(3):
            found = Dataset()
            found.QueryRetrieveLevel = "STUDY"
            found.StudyInstanceUID = f"1.2.{number}"
            yield 0xFF00, found

    with pynetdicom_scp((evt.EVT_C_STORE, keep), (evt.EVT_C_FIND, find)) as port:
        requestor = Requestor("OURS", LOOPBACK, port, "THEIRS")
        requestor.echo()
        assert [sent.status for sent in requestor.store(instances(3))] == [0, 0xA700, 0]
        found = list(requestor.find(identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="")))
        assert [one["0020000D"]["Value"] for one in found] == [["1.2.0"], ["1.2.1"], ["1.2.2"]]


def test_our_requestor_gets_and_moves_at_pynetdicom() -> None:
    image = pydicom.dcmread(CT_SMALL)

    def get(event: Any) -> Iterator[Any]:
        yield 2
        yield 0xFF00, image
        yield 0xFF00, image

    def move(event: Any) -> Iterator[Any]:
        yield None, None

    mine = Archive()
    with pynetdicom_scp((evt.EVT_C_GET, get), (evt.EVT_C_MOVE, move)) as port:
        requestor = Requestor("OURS", LOOPBACK, port, "THEIRS")
        got = requestor.get(identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3"), taking(mine))
        assert (got.status, got.completed) == (0, 2)
        assert list(mine.instances) == [image.SOPInstanceUID]
        mine.result = StoreResult(0xC000, "cannot understand")
        got = requestor.get(identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3"), taking(mine))
        assert (got.completed, got.failed, got.failed_uids) == (0, 2, (image.SOPInstanceUID,) * 2)
        moved = requestor.move(identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3"), "NOWHERE")
        assert moved.status == 0xA801


def test_a_service_the_peer_does_not_offer_is_told_in_words() -> None:
    entity = AE(ae_title="THEIRS")
    entity.add_supported_context(Verification)
    server: Any = entity.start_server((LOOPBACK, 0), block=False)
    try:
        requestor = Requestor("OURS", LOOPBACK, server.server_address[1], "THEIRS")
        with pytest.raises(NotPermitted, match="does not offer the service"):
            list(requestor.find(identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="")))
        (sent,) = requestor.store(instances(1))
        assert "accepts no" in sent.comment
    finally:
        server.shutdown()
