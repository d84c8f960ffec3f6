"""What strangers write is parsed or refused: multipart bodies, Accept headers, queries, chunked coding."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Iterator
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest
from cheroot.makefile import StreamReader
from hypothesis import given, settings
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser

from catalog import BadRequest, Level
from node.web import body as bodies
from node.web import parts as incoming
from node.web.body import Body
from node.web.media import MediaRange, parameters_of, parse
from node.web.parts import Parts
from node.web.problems import Malformed, TooLarge
from node.web.questions import understand
from tests.node.web.asking import Web, web

BOUNDARY = "b'ound+ary"
MARK = BOUNDARY.encode()
LOOK_ALIKES = st.sampled_from(
    [
        b"--" + MARK + b"x",
        b"\r\n",
        b"\n",
        b"\r",
        b"--",
        b"\r\n--",
        b"\r\n--b'ound",
        b"\n--b'ound+ar",
        b"--" + MARK,
        b"-" + MARK,
    ]
)
CONTENT = st.lists(st.one_of(st.binary(max_size=40), LOOK_ALIKES), max_size=8).map(b"".join)


class Pieces:
    """Gives bytes in pieces of given sizes, as sockets do."""

    def __init__(self, data: bytes, chance: Random) -> None:
        self._stream = io.BytesIO(data)
        self._chance = chance

    def read_into(self, buffer: memoryview) -> int:
        piece = self._stream.read(min(len(buffer), self._chance.randint(1, 60)))
        buffer[: len(piece)] = piece
        return len(piece)


def contents(data: bytes, seed: int = 0, boundary: str = BOUNDARY) -> list[bytes]:
    return [b"".join(map(bytes, part)) for part in Parts(Pieces(data, Random(seed)), boundary)]


def written(parts: list[bytes], line: bytes = b"\r\n", preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    head = line + b"Content-Type: application/dicom" + line + line
    return (
        preamble
        + b"".join(b"--" + MARK + head + each + line for each in parts)
        + b"--"
        + MARK
        + b"--"
        + epilogue
    )


def by_the_library(data: bytes) -> list[bytes]:
    found: list[bytearray] = []
    callbacks: Any = {
        "on_part_begin": lambda: found.append(bytearray()),
        "on_part_data": lambda piece, start, end: found[-1].extend(piece[start:end]),
    }
    parser = MultipartParser(MARK, callbacks)
    parser.write(data)
    parser.finalize()
    return [bytes(each) for each in found]


@settings(max_examples=300, deadline=None)
@given(st.lists(CONTENT, min_size=1, max_size=4), st.integers(0, 1000))
def test_parts_are_those_that_another_parser_finds(parts: list[bytes], seed: int) -> None:
    parts = [each for each in parts if b"\n--" + MARK not in b"\r\n" + each]
    if parts:
        data = written(parts) + b"\r\n"
        assert contents(data, seed) == parts == by_the_library(data)


@settings(max_examples=200, deadline=None)
@given(CONTENT, st.sampled_from([b"\r\n", b"\n"]), st.binary(max_size=30), st.integers(0, 1000))
def test_preambles_epilogues_and_bare_line_feeds_change_nothing(
    part: bytes, line: bytes, around: bytes, seed: int
) -> None:
    if b"\n--" + MARK in b"\n" + part or MARK in around or part.endswith(b"\r"):
        return
    data = written([part, b"", part], line, around + line, around)
    assert contents(data, seed) == [part, b"", part]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            LOOK_ALIKES,
            st.sampled_from(
                [b"\r\n--" + MARK + b"\r\n", b"\r\n--" + MARK + b"--", b"A: b\r\n\r\n", b": \r\n"]
            ),
        ),
        max_size=12,
    ).map(b"".join),
    st.integers(0, 1000),
)
def test_any_body_is_parsed_or_refused(data: bytes, seed: int) -> None:
    with contextlib.suppress(Malformed):
        contents(data, seed)


def test_a_body_cut_anywhere_is_refused() -> None:
    data = written([b"abc", b"defg" * 10])
    assert contents(data) == [b"abc", b"defg" * 10]
    for end in range(len(data)):
        with pytest.raises(Malformed):
            contents(data[:end])


@pytest.mark.parametrize("boundary", ["", " ", "a" * 201, "a\r\nb", 'a"b', "ž"])
def test_a_boundary_that_is_none_is_refused(boundary: str) -> None:
    with pytest.raises(Malformed):
        contents(b"", boundary=boundary)


# What clients of the listed complaints sent, and what they meant: dcm4chee-arc-light #1715, #2779 and #1470,
# DICOM-RST #60, wado-loader #54 and #356.
FIXTURES = {
    'multipart/related; type="application/dicom"': ("multipart/related", "application/dicom", ""),
    "multipart/related; type=application/dicom": ("multipart/related", "application/dicom", ""),
    'multipart/related; type="application/dicom"; transfer-syntax=*': (
        "multipart/related",
        "application/dicom",
        "*",
    ),
    'multipart/related; type="application/octet-stream"; transfer-syntax="1.2.840.10008.1.2.1"': (
        "multipart/related",
        "application/octet-stream",
        "1.2.840.10008.1.2.1",
    ),
    "multipart/related;type=image/jls;transfer-syntax=1.2.840.10008.1.2.4.80": (
        "multipart/related",
        "image/jls",
        "1.2.840.10008.1.2.4.80",
    ),
    "multipart/related; type=image/*": ("multipart/related", "image/*", ""),
    'Multipart/Related ; Type = "Application/DICOM"': ("multipart/related", "application/dicom", ""),
    "application/dicom; transfer-syntax=*": ("application/dicom", "", "*"),
    "application/dicom+json": ("application/dicom+json", "", ""),
    "*": ("*/*", "", ""),
    "*/*;q=0.8": ("*/*", "", ""),
    "multipart/related": ("multipart/related", "*/*", ""),
}


@pytest.mark.parametrize("text", FIXTURES)
def test_an_accept_header_means_what_its_client_meant(text: str) -> None:
    [found] = parse(text)
    assert (found.kind, found.root, found.transfer_syntax) == FIXTURES[text]


def test_the_best_comes_first_and_commas_in_quotes_divide_nothing() -> None:
    text = 'a/b;q=0.5, image/jls;x="1,2;q=0", */*, c/d;q=0, nonsense, e/f;q=x, application/dicom'
    assert [each.kind for each in parse(text)] == ["image/jls", "application/dicom", "*/*", "a/b", "c/d"]
    assert parameters_of('; a="x\\"y"; A=z') == {"a": 'x"y'}


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet=st.sampled_from('ab/*;,="\\ q0.=+-multipart/related;type="'), max_size=80))
def test_any_accept_header_is_understood_somehow(text: str) -> None:
    assert all(isinstance(each, MediaRange) and 0 <= each.quality <= 1 for each in parse(text))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "PatientName",
                    "00080020",
                    "StudyTime",
                    "limit",
                    "includefield",
                    "0040A730.0040A043",
                    "x",
                    "Rows",
                ]
            ),
            st.text(alphabet=st.sampled_from('0aB*?\\^=-,.%"ž\x00 '), max_size=12),
        ),
        max_size=4,
    )
)
def test_any_query_is_understood_or_refused(pairs: list[tuple[str, str]]) -> None:
    query = urlencode(pairs, errors="surrogatepass")
    for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
        with contextlib.suppress(Malformed, BadRequest):
            understand(query, level, {}, is_below_root=True)


def _received(data: bytes, length: int | None) -> bytes:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        ours.settimeout(60)
        found = Body(StreamReader(ours, "rb"), ours, length).read_all(1 << 20)
        assert found is not None
        return found


def test_what_is_left_of_a_body_longer_than_allowed_is_read_so_that_its_sender_hears_why() -> None:
    for coded, length in ((bytes(5000), 5000), (b"3e8\r\n" + bytes(1000) + b"\r\n0\r\n\r\n", None)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(coded)
            ours.settimeout(60)
            body = Body(StreamReader(ours, "rb"), ours, length, limit=500)
            with pytest.raises(TooLarge):
                body.read_all(1 << 20)
            assert body.drain()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.booleans())
def test_chunks_become_the_body_that_was_sent(chunks: list[bytes], has_more: bool) -> None:
    extension = b"; a=b" if has_more else b""
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in chunks)
    trailer = b"T: x\r\n" if has_more else b""
    assert _received(coded + b"0\r\n" + trailer + b"\r\n", None) == b"".join(chunks)
    for end in (len(coded), max(0, len(coded) - 1), len(coded) + 3):
        with pytest.raises(Malformed):
            _received((coded + b"0\r\n\r\n")[:end], None)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=9), st.sampled_from([b"5\r\n", b"\r\n", b"0\r\n\r\n", b"-1\r\n"])))
)
def test_any_chunks_are_read_or_refused(pieces: list[bytes]) -> None:
    with contextlib.suppress(Malformed):
        _received(b"".join(pieces), None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("parsers") / "home") as asked:
        yield asked


def test_slow_bodies_are_given_up_and_hold_nobody_else_up(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_GRACE", 0.2)
    head = b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nContent-Length: 99999\r\n"
    head += b'Content-Type: multipart/related; type="application/dicom"; boundary=x\r\n\r\n--x\r\n'
    connections = [socket.create_connection(("127.0.0.1", site.port), timeout=60) for _ in range(8)]
    answers: list[bytes] = []

    def drip(connection: socket.socket) -> None:
        connection.sendall(head)
        connection.settimeout(0.02)
        for _ in range(3000):
            # It may have been closed since: what was said before that can be read all the same.
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answers.append(connection.recv(65536))
                return

    threads = [threading.Thread(target=drip, args=(each,)) for each in connections]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    assert site.get("/studies", "*/*").status in (200, 204)
    assert time.monotonic() - began < 2
    for thread in threads:
        thread.join()
    for connection in connections:
        connection.close()
    assert len(answers) == 8
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)


def test_a_silent_connection_takes_no_thread(site: Web) -> None:
    idle = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(60)]
    try:
        began = time.monotonic()
        assert site.get("/studies", "*/*").status in (200, 204)
        assert time.monotonic() - began < 2
    finally:
        for each in idle:
            each.close()


def test_delimiters_are_found_wherever_the_buffer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "_WINDOW", 700)
    for seed in range(600):
        chance = Random(seed)
        alike = (b"\r\n", b"\n", b"\r", b"--", b"\r\n--b'ound", b"\n--b'ound+ar", b"\r\n--" + MARK + b"x")
        sent = [
            b"".join(chance.choice([chance.randbytes(chance.randint(0, 90)), *alike]) for _ in range(12))
            for _ in range(3)
        ]
        assert contents(written(sent), seed) == sent
