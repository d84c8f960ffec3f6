"""A target that gives or takes a byte now and then hangs, whatever it was asked for, and is told of so."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import pytest

from sim.association import PENDING, STUDY_ROOT_MOVE, Association
from sim.experiments.catalogue import EXPERIMENTS, carry_out
from sim.experiments.outcome import Plan
from sim.pdu import Address, encode_command, encode_uid, encode_us, identifier, item, p_data
from sim.phantoms import instances, study
from sim.ports import free_port
from sim.targets import Target, reason
from sim.wire import Overdue
from tests.homes import serving

from .listening import listening

PLAN: Final = Plan(share=0.003, pause=0.0, patience=0.2)
TIMEOUT: Final = 1.0
_PAUSE: Final = 0.02
_BYTES: Final = 200
"""So many come one by one, for four seconds: long after the end of all patience. Then the end."""
ACCEPTANCE: Final = bytes.fromhex("02000000ffff0001")
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: 60000\r\n\r\n"


def quiet(line: str) -> None:
    """Say nothing."""


def one_by_one(connection: socket.socket) -> None:
    """Send a byte, and soon another one, until nobody listens any more."""
    for _ in range(_BYTES):
        time.sleep(_PAUSE)
        connection.sendall(b"\0")


@contextmanager
def beginning(first: bytes) -> Iterator[int]:
    """Answer whatever comes with these bytes, and go on byte by byte."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(first)
        one_by_one(connection)

    with listening(serve) as port:
        yield port


@contextmanager
def drained(port: int, answers: int = 1 << 40, requests: int = 1 << 40) -> Iterator[int]:
    """Yield a way to a port on which, after so many bytes of answers or requests, bytes go one by one."""

    def serve(near: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as far:
            left = {far: answers, near: requests}
            while True:
                for each in select.select([near, far], [], [])[0]:
                    if left[each] <= 0:
                        time.sleep(_PAUSE)
                    if left[each] < -_BYTES:
                        return
                    data = each.recv(max(1, min(65536, left[each])))
                    left[each] -= len(data)
                    if not data:
                        return
                    (near if each is far else far).sendall(data)

    with listening(serve) as there:
        yield there


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_target_that_answers_byte_by_byte_is_said_to_hang(name: str) -> None:
    with beginning(ACCEPTANCE) as dicom, beginning(ANSWER) as web:
        there = Address("SLOW", dicom)
        target = Target(
            name="slow", address=there, web=f"http://127.0.0.1:{web}/dicom-web", elsewhere=there,
            destination=Address("SINK", free_port()), timeout=0.3,
        )  # fmt: skip
        outcome = carry_out(name, target, PLAN, quiet)
    assert "It did not answer in time" in outcome.stopped


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Our node, with a study of two images of 512 KB."""
    with serving(tmp_path_factory.mktemp("ours") / "home", web={"plain_port": free_port()}) as node:
        web = f"http://127.0.0.1:{node.ports['web']}/dicom-web"
        target = Target(name="ours", address=Address("ALPHA", node.ports["dicom"]), web=web, timeout=TIMEOUT)
        assert len(list(replace(target, timeout=30.0).store(list(instances(MADE))))) == 2
        yield target


MADE: Final = study(1, 1, instances=2, size=524_288)


@pytest.mark.parametrize("way", ["C-GET", "WADO-RS"])
def test_a_study_that_comes_byte_by_byte_from_its_middle_on_hangs(way: str, ours: Target) -> None:
    assert ours.address
    port = int(ours.web.rpartition(":")[2].partition("/")[0]) if way == "WADO-RS" else ours.address.port
    with drained(port, answers=300_000) as there:
        target = replace(ours, address=Address("ALPHA", there), web=f"http://127.0.0.1:{there}/dicom-web")
        with pytest.raises(Overdue) as told, target.retriever(way) as retriever:
            retriever.study(MADE.StudyInstanceUID)
    assert "bytes went over the line" in reason(told.value)


def test_matches_that_come_byte_by_byte_hang(ours: Target) -> None:
    assert ours.address
    with drained(ours.address.port, answers=300) as there:
        target = replace(ours, address=Address("ALPHA", there), web="")
        with pytest.raises(Overdue), target.finder() as finder:
            finder.find("STUDY", StudyInstanceUID="", PatientName="", StudyDescription="")


@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
def test_a_target_that_takes_a_byte_now_and_then_hangs(way: str, ours: Target) -> None:
    assert ours.address
    large = list(instances(study(1, 2, size=32_000_000)))
    port = int(ours.web.rpartition(":")[2].partition("/")[0]) if way == "STOW-RS" else ours.address.port
    with drained(port, requests=1000) as there:
        target = replace(ours, address=Address("ALPHA", there), web=f"http://127.0.0.1:{there}/dicom-web")
        with pytest.raises(Overdue):
            list(target.store(large) if way == "C-STORE" else target.stow([large]))


def test_a_move_that_is_said_to_be_pending_for_ever_hangs_if_no_image_ever_goes() -> None:
    accepted = item(0x21, bytes((1, 0, 0, 0)) + item(0x40, b"1.2.840.10008.1.2"))
    field = bytes.fromhex("00010000") + bytes(64) + accepted
    response = {0x0002: encode_uid(STUDY_ROOT_MOVE), 0x0100: encode_us(0x8021), 0x0120: encode_us(1)}
    response |= {0x0800: encode_us(0x0101), 0x0900: encode_us(PENDING[0])}

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"\2\0" + len(field).to_bytes(4, "big") + field)
        connection.recv(65536)
        for _ in range(_BYTES):
            time.sleep(_PAUSE)
            connection.sendall(p_data(1, 0x03, encode_command(response)))

    with listening(serve) as port:
        address = Address("SLOW", port)
        with pytest.raises(Overdue), Association(address, [STUDY_ROOT_MOVE], timeout=TIMEOUT) as association:
            association.move(identifier("STUDY", StudyInstanceUID="1.2.3"), "SINK")


def test_a_slow_target_that_goes_on_is_measured_however_long_it_takes(ours: Target) -> None:
    assert ours.address

    def serve(near: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", ours.address.port)) as far:  # type: ignore[union-attr]
            while True:
                for each in select.select([near, far], [], [])[0]:
                    if not (data := each.recv(65536)):
                        return
                    if each is far:
                        time.sleep(0.2)
                    (near if each is far else far).sendall(data)

    with listening(serve) as there:
        target = replace(ours, address=Address("ALPHA", there), web="")
        began = time.monotonic()
        with target.retriever("C-GET") as retriever:
            assert retriever.study(MADE.StudyInstanceUID).instances == 2
    assert time.monotonic() - began > TIMEOUT
