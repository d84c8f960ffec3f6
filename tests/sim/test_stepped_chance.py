"""The same seed has a node draw the same keys, certificates, tokens and names, and another one others."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from random import Random
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.trust.keys import make_key, sign
from sim.stepping import chance
from tests.sim.drawn import DRAWN

ROOT = Path(__file__).parents[2]


def drawn(folder: Path, seed: int, *when: str) -> dict[str, Any]:
    """Return what a process draws; sets of strings are in another order in each."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.sim.drawn", str(seed), str(folder), *when]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_what_is_drawn_follows_from_the_seed_whether_the_node_is_imported_before_or_after(
    tmp_path: Path,
) -> None:
    first, second, other = (
        drawn(tmp_path / "1", 7),
        drawn(tmp_path / "2", 7, "late"),
        drawn(tmp_path / "3", 8),
    )
    assert set(first) == set(DRAWN)
    for name in DRAWN:
        assert first[name] == second[name], name
        assert not [a for a, b in zip(first[name], other[name], strict=True) if a == b], name


def test_within_one_process_a_seed_begins_anew() -> None:
    def some() -> list[Any]:
        with chance.installed(3):
            key = make_key()
            drawn: list[Any] = [random.random(), Random().random(), secrets.token_hex(8), os.urandom(5)]
            return [*drawn, str(uuid.uuid4()), sign(key, b"text"), sign(key, b"text") == sign(key, b"text")]

    assert some() == some()
    assert some()[-1]


def test_two_draws_differ() -> None:
    with chance.installed(3):
        assert os.urandom(16) != os.urandom(16)
        assert Random().random() != Random().random()
        assert make_key().private_numbers() != make_key().private_numbers()
        assert [len(os.urandom(size)) for size in (0, 1, 5000)] == [0, 1, 5000]


def test_a_generator_with_a_seed_of_its_own_draws_what_it_always_does() -> None:
    plain = Random(5).random()
    with chance.installed(3):
        assert Random(5).random() == plain
        random.seed(5)
        assert random.random() == plain


def test_afterwards_chance_is_chance_again() -> None:
    places = [
        (os, "urandom"),
        (random, "_urandom"),
        (random, "seed"),
        (Random, "seed"),
        (uuid, "_node"),
        (tempfile, "_name_sequence"),
        (ec, "generate_private_key"),
        (ec.ECDSA, "deterministic_signing"),
        (Ed25519PrivateKey, "generate"),
        (x509.CertificateBuilder, "sign"),
    ]
    before = [vars(owner)[name] for owner, name in places]
    state = random.getstate()
    with chance.installed(3):
        secret = os.urandom(16), secrets.token_hex(16), make_key().private_numbers()
        random.random()
    assert [vars(owner)[name] for owner, name in places] == before
    assert random.getstate() == state
    assert secret != (os.urandom(16), secrets.token_hex(16), make_key().private_numbers())
    key = make_key()
    assert sign(key, b"text") != sign(key, b"text")
