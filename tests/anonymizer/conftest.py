"""What the anonymizer's tests share: keys, policies and small instances made on the spot."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from anonymizer import Deidentified, Engine, Policy, ProjectKey, load_policy, make_key

SECRET = bytes(range(32))


def stored(dataset: Dataset) -> bytes:
    """The data set as a Part 10 file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def sample(name: str = "CT_small.dcm", **changes: Any) -> Dataset:
    """One of pydicom's files with some attributes set."""
    dataset = dcmread(str(get_testdata_file(name)))
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def written(result: Deidentified) -> bytes:
    """The de-identified file's bytes."""
    return b"".join(bytes(chunk) for chunk in result.chunks())


def deidentified(
    dataset: Dataset, policy: Policy | str = "research", key: ProjectKey | None = None
) -> Dataset:
    """The data set after the engine, read back by pydicom."""
    chosen = load_policy(policy) if isinstance(policy, str) else policy
    result = Engine(chosen, key or ProjectKey("TRIAL", SECRET)).deidentify(stored(dataset))
    return dcmread(io.BytesIO(written(result)))


@pytest.fixture
def key() -> ProjectKey:
    return ProjectKey("TRIAL", SECRET)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "trial.key"
    make_key(path, "TRIAL")
    return path
