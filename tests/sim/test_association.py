"""The small SCU speaks the protocol as DCMTK's dcmqrscp and storescp understand it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.association import COMMITMENT, STUDY_ROOT_FIND, STUDY_ROOT_GET, Association
from sim.committing import request_of
from sim.pdu import (
    RELEASE_RQ,
    Address,
    ProtocolError,
    encode_command,
    encode_uid,
    encode_us,
    identifier,
    item,
    p_data,
    value,
)
from sim.phantoms import instances, study
from sim.servers import Server, dcmtk_program

CT = "1.2.840.10008.5.1.4.1.1.2"


class Qrscp(Server):
    """DCMTK's dcmqrscp with one empty archive."""

    name = "dcmqrscp"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "ARCHIVE")
        (folder / "archive").mkdir()
        (folder / "dcmqrscp.cfg").write_text(
            f"NetworkTCPPort = {self.address.port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nARCHIVE {folder / 'archive'} RW (200, 1024mb) ANY\nAETable END\n"
        )

    def command(self) -> list[str]:
        return [dcmtk_program("dcmqrscp"), "-c", str(self.folder / "dcmqrscp.cfg")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    server = Qrscp(tmp_path_factory.mktemp("qrscp") / "server")
    server.start()
    with Association(server.address, sends=[CT]) as association:
        for number in range(3):
            for instance in instances(study(1, number, instances=2, size=100_000)):
                assert association.store(instance) == 0
    yield server.address
    server.remove()


def test_a_find_yields_every_match_with_its_keys(archive: Address) -> None:
    wanted = study(1, 1)
    question = identifier("STUDY", PatientID=wanted.patient.PatientID, StudyInstanceUID="", StudyDate="")
    with Association(archive, [STUDY_ROOT_FIND]) as association:
        [answer] = association.find(question)
        assert value(answer, "StudyInstanceUID") == wanted.StudyInstanceUID
        assert value(answer, "StudyDate") == wanted.StudyDate
        assert len(association.find(identifier("STUDY", StudyInstanceUID=""))) == 3
        assert association.find(identifier("STUDY", PatientID="NOBODY", StudyInstanceUID="")) == []


def test_a_get_receives_all_of_a_study_and_nothing_else(archive: Address) -> None:
    sent = list(instances(study(1, 2, instances=2, size=100_000)))
    question = identifier("STUDY", StudyInstanceUID=study(1, 2).StudyInstanceUID)
    with Association(archive, [STUDY_ROOT_GET], receives=[CT]) as association:
        got = association.get(question)
    assert (got.instances, got.status) == (2, 0)
    assert got.size == pytest.approx(sum(instance.size for instance in sent), abs=2000)


def test_an_association_that_offers_nothing_known_is_an_error(archive: Address) -> None:
    with pytest.raises(ProtocolError, match="accepted none"):
        Association(archive, ["1.2.3.4"])


def test_a_rejection_is_told_with_its_numbers(archive: Address) -> None:
    with pytest.raises(ProtocolError, match=r"AE title that it was called by: .*\(1, 1, 7\)"):
        Association(Address("NOSUCHAE", archive.port), [STUDY_ROOT_FIND])


def test_a_service_that_was_not_proposed_is_an_error(archive: Address) -> None:
    with (
        pytest.raises(ProtocolError, match="did not accept"),
        Association(archive, sends=[CT]) as association,
    ):
        association.find(identifier("STUDY", StudyInstanceUID=""))


def test_a_key_that_is_no_keyword_is_refused() -> None:
    with pytest.raises(ValueError, match="PatientNumber"):
        identifier("STUDY", PatientNumber="1")


def test_the_result_of_an_earlier_request_for_commitment_is_not_taken_for_that_of_this_one() -> None:
    accepted = item(0x21, bytes((1, 0, 0, 0)) + item(0x40, b"1.2.840.10008.1.2"))
    field = bytes.fromhex("00010000") + bytes(64) + accepted
    taken = {0x0002: encode_uid(COMMITMENT), 0x0100: encode_us(0x8130), 0x0120: encode_us(1)}
    taken |= {0x0800: encode_us(0x0101), 0x0900: encode_us(0)}

    def report(transaction: str, kind: int) -> bytes:
        command = {0x0002: encode_uid(COMMITMENT), 0x0100: encode_us(0x0100), 0x0110: encode_us(kind)}
        command |= {0x0800: encode_us(0), 0x1002: encode_us(kind)}
        return p_data(1, 0x03, encode_command(command)) + p_data(1, 0x02, request_of(transaction, []))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"\2\0" + len(field).to_bytes(4, "big") + field)
            connection.recv(65536)
            connection.sendall(report("1.2.1", 2) + p_data(1, 0x03, encode_command(taken)))
            connection.sendall(report("1.2.2", 1))
            said = b""
            while not said.endswith(RELEASE_RQ):
                said += connection.recv(65536)
            connection.sendall(bytes.fromhex("06000000000400000000"))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        with Association(Address("PACS", server.getsockname()[1]), [COMMITMENT], timeout=20.0) as association:
            kind, result = association.commit(request_of("1.2.2", []))
        thread.join()
    assert (kind, value(result, "TransactionUID")) == (1, "1.2.2")
