"""Chance from a seed: what is drawn at random in this process is the same for the same seed and order.

All of it comes from one stream of bytes that stands in for the kernel's. Where libraries in C draw by
themselves, what Python calls of them is replaced: keys are derived from the stream, and ECDSA signs as by RFC
6979. Three sources stay as they are: handshakes of TLS, the names of Tantivy's segments, and the salt of a
key's passphrase. The order of sets of strings is Python's own chance: PYTHONHASHSEED rules it, from outside.
Keys and tokens that are made meanwhile can be guessed by anybody who knows the seed; this is for trials only.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import tempfile
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from .swaps import Swaps

_SEED_SIZE: Final = 32
_SIGNERS: Final = (
    x509.CertificateBuilder,
    x509.CertificateSigningRequestBuilder,
    x509.CertificateRevocationListBuilder,
)


class _Stream:
    """Bytes that a seed determines; each call has its own, so that threads need no lock."""

    def __init__(self, seed: int) -> None:
        self._key = hashlib.sha256(b"peerpacs chance\0%d" % seed).digest()
        self._numbers = itertools.count()

    def draw(self, size: int, flags: int = 0) -> bytes:
        """Return so many bytes, as os.urandom and os.getrandom do."""
        number = next(self._numbers).to_bytes(8, "big")
        return hashlib.shake_256(self._key + number).digest(size)


def install(seed: int) -> Callable[[], None]:
    """Draw from a seed from now on, also in modules that are imported already; return what ends that."""
    draw, swaps, state = _Stream(seed).draw, Swaps(), random.getstate()
    swaps.put(os, "urandom", draw)
    swaps.put(os, "getrandom", draw)
    _seed_numbers(swaps, draw)
    _seed_names(swaps, draw)
    _seed_keys(swaps, draw)
    _sign_without_chance(swaps)

    def restore() -> None:
        swaps.undo()
        random.setstate(state)

    return restore


@contextlib.contextmanager
def installed(seed: int) -> Iterator[None]:
    """Draw from a seed inside the block."""
    restore = install(seed)
    try:
        yield
    finally:
        restore()


def _seed_numbers(swaps: Swaps, draw: Callable[[int], bytes]) -> None:
    """Seed `random` and `Random()`; `SystemRandom`, and so `secrets`, draws by a name of its own."""
    swaps.put(random, "_urandom", draw)
    plain = random.Random.seed

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        # Without a seed the interpreter asks the kernel past os.urandom.
        plain(self, int.from_bytes(draw(_SEED_SIZE), "big") if a is None else a, version)

    swaps.put(random.Random, "seed", seed)
    # The module's functions are methods of one hidden instance, bound when it was imported.
    swaps.put(random, "seed", seed.__get__(vars(random)["_inst"]))
    random.seed()


def _seed_names(swaps: Swaps, draw: Callable[[int], bytes]) -> None:
    """Have names of temporary files begin anew, and UUIDs of version 1 know no network card."""
    swaps.put(tempfile, "_name_sequence", None)
    swaps.put(uuid, "_generate_time_safe", None)
    swaps.put(uuid, "_UuidCreate", None)
    swaps.put(uuid, "_last_timestamp", None)
    # The bit says that the number is of no card (RFC 4122 4.5).
    swaps.put(uuid, "_node", int.from_bytes(draw(6), "big") | 1 << 40)


def _seed_keys(swaps: Swaps, draw: Callable[[int], bytes]) -> None:
    def elliptic(curve: ec.EllipticCurve, backend: Any = None) -> ec.EllipticCurvePrivateKey:
        # A byte less than the curve has is below the order of every curve there is.
        return ec.derive_private_key(int.from_bytes(draw(curve.key_size // 8 - 1), "big") + 1, curve)

    swaps.put(ec, "generate_private_key", elliptic)
    for kind in (Ed25519PrivateKey, X25519PrivateKey):
        swaps.put(kind, "generate", staticmethod(lambda kind=kind: kind.from_private_bytes(draw(32))))


def _sign_without_chance(swaps: Swaps) -> None:
    swaps.put(ec.ECDSA, "deterministic_signing", property(lambda algorithm: True))
    for builder in _SIGNERS:
        swaps.put(builder, "sign", _signing(vars(builder)["sign"]))


def _signing(plain: Callable[..., Any]) -> Callable[..., Any]:
    def sign(builder: Any, private_key: Any, *args: Any, **options: Any) -> Any:
        if isinstance(private_key, ec.EllipticCurvePrivateKey):
            options["ecdsa_deterministic"] = True
        return plain(builder, private_key, *args, **options)

    return sign
