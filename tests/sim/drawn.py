"""What a node draws at random, in a process of its own: `python -m tests.sim.drawn SEED FOLDER [late]`.

Prints it as JSON. With `late`, all of the node is imported before chance is seeded.
"""

from __future__ import annotations

import json
import random
import secrets
import sys
import tempfile
import uuid
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from sim.stepping import chance

NOW = 1_800_000_000.0


def numbers(folder: Path) -> Any:
    """Draw by the standard library."""
    shuffled = list(range(20))
    random.shuffle(shuffled)
    unseeded = random.Random()
    unseeded.seed()
    random.seed()
    return [
        shuffled,
        [random.random(), unseeded.random(), random.Random().random(), random.SystemRandom().random()],
        [secrets.randbelow(10**9), secrets.randbits(63), secrets.choice(range(1000)), secrets.token_hex(8)],
        [secrets.token_bytes(4).hex(), secrets.token_urlsafe(9)],
    ]


def names(folder: Path) -> Any:
    """Draw names."""
    from pydicom.uid import generate_uid

    made = [Path(tempfile.mkdtemp(dir=folder)).name, Path(tempfile.mkstemp(dir=folder)[1]).name]
    return [made, str(uuid.uuid4()), uuid.uuid1().fields[3:], generate_uid(), generate_uid(None)]


def keys(folder: Path) -> Any:
    """Draw keys, and sign with them."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from federation.trust.keys import is_signed, key_pem, make_key, sign

    key, large = make_key(), ec.generate_private_key(ec.SECP521R1())
    signature = sign(key, b"text")
    assert is_signed(key.public_key(), signature, b"text")
    raw = [kind.generate().private_bytes_raw().hex() for kind in (Ed25519PrivateKey, X25519PrivateKey)]
    return [key_pem(key).decode(), signature.hex(), large.private_numbers().private_value, raw]


def enrolment(folder: Path) -> Any:
    """Found a grid and have somebody join it."""
    from federation.trust.certificates import make_crl
    from federation.trust.credentials import check_admission
    from federation.trust.enrolment import resume_text
    from federation.trust.keys import sign
    from federation.trust.ticket import write
    from tests.federation.members import NONCE, invited, make_grid

    grid = make_grid(folder / "grid")
    joiner = invited(grid)
    pending = joiner.ask(grid)
    grid.registrar.approve(pending.request_id, "admin")
    proof = sign(joiner.key, resume_text(pending.request_id, NONCE))
    chain = grid.registrar.resume(pending.request_id, proof, NONCE)
    assert isinstance(chain, tuple)
    check_admission(grid.trust, chain, joiner.node_id, joiner.key)
    member = grid.node("ostrava")
    files = {
        str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest()
        for file in sorted([*(folder / "grid").rglob("*.pem"), *(folder / "grid").rglob("*.key")])
    }
    assert files
    grid.close()
    crl = make_crl(grid.authority.issuer, 7, (), NOW).hex()
    return [
        write(joiner.ticket),
        [each.hex() for each in chain],
        joiner.csr().hex(),
        crl,
        files,
        member.node_id,
    ]


def web(folder: Path) -> Any:
    """Draw what people and browsers are shown."""
    from node.certificates import make_certificate
    from node.passwords import hashed, is_right, one_time

    make_certificate(folder / "node.pem", folder / "node.key", "alpha", ("127.0.0.1",), NOW)
    password = one_time()
    kept = hashed(password)
    assert is_right(password, kept)
    assert not is_right(password + "x", kept)
    return [password, kept, *((folder / name).read_text() for name in ("node.pem", "node.key"))]


DRAWN: dict[str, Callable[[Path], Any]] = {
    each.__name__: each for each in (numbers, names, keys, enrolment, web)
}


def main(seed: str, folder: str, when: str = "") -> None:
    if when == "late":
        import node.app  # noqa: F401
        import tests.federation.members  # noqa: F401
    with chance.installed(int(seed)):
        print(json.dumps({name: draw(Path(folder)) for name, draw in DRAWN.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
