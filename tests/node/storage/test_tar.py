"""A segment is a tar file: what anybody's tar finds in it are the files, with the right bytes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import Holding
from node.storage import SegmentStore
from node.storage.members import Kind, Member, member_length, pack, unpack

from .filling import MB, Came, keep, segment_store

STAMP = b"0123456789abcdef"


def archive(store: SegmentStore) -> dict[str, bytes]:
    """Store some objects, two segments full and one large, and return them by the name tar should say."""
    source = random.Random(7)
    kept = {}
    for size in (0, 1, 512, 5000, 400_000, 300_000, 500_000, 2_000_000, 900):
        data = source.randbytes(size)
        keep(store, data)
        name = hashlib.sha256(data).hexdigest()
        kept[f"{name[:2]}/{name}.dcm"] = data
    return kept


def untar(objects: Path, target: Path) -> dict[str, bytes]:
    """Unpack all segments by GNU tar, which must have nothing to complain about."""
    assert shutil.which("tar"), "GNU tar is missing: sudo apt install tar"
    target.mkdir()
    for segment in sorted(objects.glob("*/*.tar")):
        done = subprocess.run(["tar", "xf", segment, "-C", target], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    files = (path for path in target.rglob("*") if path.is_file())
    return {str(path.relative_to(target)): path.read_bytes() for path in files}


def members(folder: Path) -> list[tarfile.TarInfo]:
    """Return what Python's tarfile finds in the first segment."""
    with tarfile.open(folder / "objects/00/000001.tar") as tar:
        return tar.getmembers()


def test_tar_recovers_exactly_the_objects_even_from_an_unsealed_segment(tmp_path: Path) -> None:
    kept = archive(segment_store(tmp_path))
    assert len([*(tmp_path / "objects" / "00").iterdir()]) == 3
    assert untar(tmp_path / "objects", tmp_path / "out") == kept


def test_sha256sum_agrees_with_the_names(tmp_path: Path) -> None:
    archive(segment_store(tmp_path))
    untar(tmp_path / "objects", tmp_path / "out")
    lines = "".join(f"{path.stem}  {path}\n" for path in (tmp_path / "out").rglob("*.dcm"))
    subprocess.run(["sha256sum", "--check", "--strict", "--status"], input=lines, text=True, check=True)


def test_decisions_and_removed_objects_are_members_too(tmp_path: Path) -> None:
    store = segment_store(tmp_path)
    gone, there = keep(store, b"gone" * 1000), keep(store, b"there")
    store.keep_decision("d-1", b'{"verb":"reject"}')
    store.remove(gone)
    assert untar(tmp_path / "objects", tmp_path / "out") == {
        f"deleted/{gone.sha256.hex()}.dcm": bytes(4000),
        f"{there.sha256.hex()[:2]}/{there.sha256.hex()}.dcm": b"there",
        "decisions/d-1.json": b'{"verb":"reject"}',
    }


def test_a_sealed_segment_ends_with_two_zero_blocks(tmp_path: Path) -> None:
    store = segment_store(tmp_path)
    holdings = [keep(store, bytes([number]) * 400_000) for number in range(4)]
    sealed = (tmp_path / "objects/00/000001.tar").read_bytes()
    assert len(sealed) == 2 * member_length(400_000) + 1024
    assert not any(sealed[-1024:])
    names = [member.name for member in members(tmp_path)]
    assert names == [f"{h.sha256.hex()[:2]}/{h.sha256.hex()}.dcm" for h in holdings[:2]]


def test_the_header_tells_who_sent_it_when_and_whether_it_is_held(tmp_path: Path) -> None:
    keep(segment_store(tmp_path), b"x", Came("CT ÄST", 1_700_000_000_123, is_held=True))
    [member] = members(tmp_path)
    assert (member.uname, member.gname, member.mtime) == ("CT ÄST", "held", 1_700_000_000)


def test_an_object_of_nine_gib_has_a_header_that_tar_can_read(tmp_path: Path) -> None:
    size = 9 << 30
    header = pack(Member(Kind.OBJECT, bytes(32), size, "AE", 0), STAMP)
    with open(tmp_path / "large.tar", "wb") as file:
        file.write(header)
        file.truncate(member_length(size))
    listed = subprocess.run(
        ["tar", "tvf", tmp_path / "large.tar"], capture_output=True, text=True, check=True
    )
    assert f" {size} " in listed.stdout
    known = unpack(header)
    assert known
    assert known[0].size == size


@given(
    size=st.integers(0, 1 << 60),
    source=st.text(max_size=40).filter(lambda text: "\0" not in text),
    received=st.integers(0, 1 << 42),
    is_held=st.booleans(),
)
def test_a_header_says_what_it_was_told(size: int, source: str, received: int, is_held: bool) -> None:
    member = Member(Kind.OBJECT, os.urandom(32), size, source, received, is_held)
    known = unpack(pack(member, STAMP), STAMP)
    assert known
    again, stamp = known
    assert (again.sha256, again.size, again.received, again.is_held) == (
        member.sha256,
        size,
        received,
        is_held,
    )
    assert source.startswith(again.source)
    assert stamp == STAMP


@given(st.integers(0, 511), st.integers(1, 255))
def test_a_header_with_a_changed_byte_is_none(at: int, change: int) -> None:
    header = bytearray(pack(Member(Kind.OBJECT, bytes(32), 5, "AE", 9), STAMP))
    header[at] ^= change
    known = unpack(bytes(header))
    assert known is None or known[0] == Member(Kind.OBJECT, bytes(32), 5, "AE", 9)


def test_two_errors_that_cancel_out_in_the_sum_of_tar_are_noticed() -> None:
    header = bytearray(pack(Member(Kind.OBJECT, bytes(32), 5, "AE", 9), STAMP))
    source = header.index(b"AE")
    header[source : source + 2] = b"BD"
    assert unpack(bytes(header)) is None


def test_a_header_of_another_segment_is_none() -> None:
    header = pack(Member(Kind.OBJECT, bytes(32), 5, "AE", 9), STAMP)
    assert unpack(header, STAMP)
    assert unpack(header, b"f" * 16) is None


@pytest.mark.parametrize("size", [3 * MB, 700])
def test_where_names_the_header_of_the_member(tmp_path: Path, size: int) -> None:
    store = segment_store(tmp_path)
    keep(store, b"first")
    holding: Holding = keep(store, b"z" * size)
    volume, segment, block = holding.where[0], holding.where[1:5], holding.where[5:]
    path = tmp_path / "objects/00" / f"{int.from_bytes(segment):06d}.tar"
    with open(path, "rb") as file:
        file.seek(int.from_bytes(block) * 512)
        assert file.read(3 + 64) == f"{holding.sha256.hex()[:2]}/{holding.sha256.hex()}".encode()
    assert volume == 0
