"""A sealed file is read back chunk by chunk, or refused."""

from __future__ import annotations

import random
import stat
from pathlib import Path

import pytest

from catalog import Damaged, NotPermitted
from node.bucket.sealing import HEADER, TAG, Header, Key, Note, Sealed, load_key

KEY = Key(b"k" * 8, b"s" * 32)
NAME = b"n" * 32
CHUNK = 1000


def sealed_file(data: bytes, key: Key | None, salt: bytes = b"") -> bytes:
    sealed = Sealed.new(NAME, len(data), Note("CT-1", 17, True), key, CHUNK, salt)
    chunks = [sealed.seal(at, data[at * CHUNK : (at + 1) * CHUNK]) for at in range(sealed.count)]
    return sealed.header.pack() + b"".join(chunks)


def opened(file: bytes, key: Key | None, name: bytes = NAME) -> bytes:
    sealed = Sealed(name, Header.unpack(file[:HEADER]), key)
    spans = [sealed.span(at, at) for at in range(sealed.count)]
    return b"".join(sealed.open(at, file[start : start + size]) for at, (start, size) in enumerate(spans))


@pytest.fixture(params=[KEY, None], ids=["encrypted", "plain"])
def key(request: pytest.FixtureRequest) -> Key | None:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000])
def test_a_sealed_file_opens_as_it_was(size: int, key: Key | None) -> None:
    data = random.Random(size).randbytes(size)
    file = sealed_file(data, key)
    assert opened(file, key) == data
    assert len(file) == Sealed(NAME, Header.unpack(file[:HEADER]), key).length
    assert Sealed(NAME, Header.unpack(file[:HEADER]), key).note() == Note("CT-1", 17, True)
    assert (data[:500] not in file) == (key is not None) or size < 20


def test_every_flipped_bit_of_the_body_is_noticed(key: Key | None) -> None:
    file = sealed_file(bytes(2500), key)
    for at in range(HEADER, len(file), 97):
        flipped = bytearray(file)
        flipped[at] ^= 1
        with pytest.raises(Damaged):
            opened(bytes(flipped), key)


def test_chunks_that_were_exchanged_are_refused(key: Key | None) -> None:
    file = sealed_file(bytes(3000), key)
    step = CHUNK + TAG
    first, second = file[HEADER : HEADER + step], file[HEADER + step : HEADER + 2 * step]
    with pytest.raises(Damaged):
        opened(file[:HEADER] + second + first + file[HEADER + 2 * step :], key)


def test_a_file_that_was_cut_at_a_chunk_is_refused_even_with_a_header_that_agrees(key: Key | None) -> None:
    file = sealed_file(bytes(3000), key)
    header = Header.unpack(file[:HEADER])
    shorter = Header(header.mode, header.key_id, header.salt, header.chunk, 2000, header.note)
    with pytest.raises(Damaged):
        opened(shorter.pack() + file[HEADER : -CHUNK - TAG], key)


def test_a_file_under_another_name_is_refused(key: Key | None) -> None:
    with pytest.raises(Damaged):
        opened(sealed_file(b"abc", key), key, b"m" * 32)


def test_the_same_salt_seals_the_same_bytes_and_another_salt_others() -> None:
    assert sealed_file(b"abc", KEY, b"x" * 32) == sealed_file(b"abc", KEY, b"x" * 32)
    assert sealed_file(b"abc", KEY) != sealed_file(b"abc", KEY)


@pytest.mark.parametrize("other", [None, Key(b"o" * 8, b"s" * 32)])
def test_a_node_without_the_key_says_which_is_missing(other: Key | None) -> None:
    with pytest.raises(NotPermitted, match=KEY.id.hex()):
        opened(sealed_file(b"abc", KEY), other)


def test_a_key_file_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "bucket.key"
    key = load_key(path)
    assert load_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(NotPermitted):
        load_key(path)
    path.chmod(0o600)
    path.write_text("torn")
    with pytest.raises(Damaged):
        load_key(path)
