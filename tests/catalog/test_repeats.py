"""Describing with memory gives exactly what describing without it gives."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import MoreNeeded, PacsError, describe, encode_identifier
from catalog.repeats import Describer
from catalog.terms import terms_of
from tests.catalog.samples import EXPLICIT, data_set


def data_sets() -> list[tuple[str, bytes, str]]:
    found = []
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm")):
        try:
            with Path(path).open("rb") as file:
                meta = pydicom.filereader.read_file_meta_info(path)
                pydicom.filereader.read_partial(file, stop_when=lambda tag, vr, length: tag.group != 2)
                found.append((Path(path).name, file.read(), str(meta.TransferSyntaxUID)))
        except Exception:
            # Files without File Meta Information are other tests' matter.
            continue
    return found


def check(describer: Describer, data: bytes, syntax: str, limit: int) -> None:
    view = memoryview(data)[:limit]
    try:
        expected = describe(view, syntax, len(data))
    except (PacsError, MoreNeeded) as error:
        with pytest.raises(type(error)):
            describer.describe(view, syntax, len(data))
        return
    found = describer.describe(view, syntax, len(data))
    assert found.attributes == expected
    assert sorted(found.terms) == sorted(terms_of(expected))


def test_every_file_of_pydicom_is_described_as_by_describe() -> None:
    describer = Describer()
    samples = data_sets()
    assert len(samples) > 50
    for limit in (1 << 30, 16 * 1024, 16 * 1024):
        for _, data, syntax in samples:
            check(describer, data, syntax, limit)


texts = st.text("ABC äß山", max_size=8).map(str.strip)


@given(
    st.lists(
        st.tuples(texts, texts, st.sampled_from(["ISO_IR 100", "ISO_IR 192", ""])), min_size=1, max_size=8
    )
)
def test_equal_bytes_under_another_character_set_are_not_mistaken(rows: list[tuple[str, str, str]]) -> None:
    describer = Describer()
    for number, (name, description, character_set) in enumerate(rows):
        private = {"00091001": {"vr": "LO", "Value": [description]}} if description else {}
        keys = data_set("1", "1.1", f"1.1.{number}", PatientName=name, StationName=description, **private)
        data = encode_identifier(keys, EXPLICIT, character_set)
        check(describer, data, EXPLICIT, len(data))
