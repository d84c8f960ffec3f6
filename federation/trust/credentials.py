"""A node's own certificate and key: kept in one file, renewed at half life, replaced without a restart."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from catalog import Clock, Damaged

from .certificates import identity_in, parse, public_key, to_der, to_pem
from .keys import PrivateKey, key_pem, parse_key, read_secret, spki, write_secret
from .names import Identity
from .trust import Trust

NODE_FILE: Final = "node.pem"
PENDING_FILE: Final = "pending.pem"
"""The key that waits for its certificate while an admin has not approved yet."""
_ALARMS: Final = (14, 7, 1)
"""Days before the end at which a person must know that renewal does not work."""
_JITTER: Final = 0.1


class Pair(NamedTuple):
    """A key and its chain, at one moment."""

    key: PrivateKey
    chain: tuple[x509.Certificate, ...]
    identity: Identity

    @property
    def key_pem(self) -> bytes:
        """The key, for TLS."""
        return key_pem(self.key)

    @property
    def chain_pem(self) -> bytes:
        """The node's certificate and its issuer's, for TLS."""
        return to_pem(self.chain)

    @property
    def leaf(self) -> bytes:
        """The node's certificate, DER."""
        return to_der(self.chain[0])


class Credentials:
    """The pair in force; whoever serves or dials asks for it each time."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Read what is there.

        Raises:
            NotFound: this node has no certificate yet.
            Damaged: key and certificate cannot be used.
        """
        self._path = folder / NODE_FILE
        self._clock = clock
        self.pair = _parse(read_secret(self._path), str(self._path))

    def refresh(self) -> bool:
        """Take in a pair that another process of this node wrote; say whether there was one."""
        pair = _parse(read_secret(self._path), str(self._path))
        is_new = pair.identity != self.pair.identity
        self.pair = pair
        return is_new

    def replace(self, key: PrivateKey, chain: Sequence[bytes]) -> None:
        """Put a new pair in force; on disk whole or not at all.

        Raises:
            Damaged: they do not belong together.
        """
        write_pair(self._path.parent, key, chain)
        self.refresh()

    def renew_at(self) -> float:
        """Return when to renew: half life and up to a tenth of it more or less, the same at each call."""
        identity = self.pair.identity
        draw = int.from_bytes(sha256(str(identity.serial).encode()).digest()[:4], "big") / 2**32
        return identity.issued + (identity.expires - identity.issued) * (0.5 + _JITTER * (draw - 0.5))

    def is_due(self) -> bool:
        """Say whether it is time to renew."""
        return self._clock() >= self.renew_at()

    def days_left(self) -> float:
        """Return the days until the certificate ends; negative when it has."""
        return (self.pair.identity.expires - self._clock()) / 86400

    def alarm(self) -> str:
        """Return what to tell a person about the certificate's end, or nothing."""
        left = self.days_left()
        if left <= 0:
            return "This node's certificate has ended; no peer speaks to it. Come back with: peerpacs join"
        due = [days for days in _ALARMS if left <= days and self.is_due()]
        if not due:
            return ""
        return (
            f"This node's certificate ends in {max(left, 0.1):.1f} days and was not renewed: no authority of "
            "the grid was reached. See: peerpacs peers"
        )


def write_pair(folder: Path, key: PrivateKey, chain: Sequence[bytes]) -> None:
    """Write key and chain (DER) as the node's.

    Raises:
        Damaged: they do not belong together.
    """
    content = key_pem(key) + to_pem([parse(der) for der in chain])
    _parse(content, "What was issued")
    write_secret(folder / NODE_FILE, content)


def pending_key(folder: Path, make: PrivateKey | None = None) -> PrivateKey:
    """Return the key that waits for a certificate; `make` is kept when there is none yet.

    Raises:
        NotFound: there is none.
    """
    path = folder / PENDING_FILE
    if not path.exists() and make is not None:
        write_secret(path, key_pem(make))
    return parse_key(read_secret(path), str(path))


def drop_pending(folder: Path) -> None:
    """Forget the waiting key, once its certificate is in force or was denied."""
    (folder / PENDING_FILE).unlink(missing_ok=True)


def check_admission(trust: Trust, chain: Sequence[bytes], node_id: str, key: PrivateKey) -> None:
    """Make sure that a chain we were sent is for our key and our id, from an authority of the grid.

    Raises:
        Damaged: it is not.
    """
    if not chain:
        raise Damaged("The authority sent no certificate.", "Ask again: peerpacs join")
    identity = trust.identify(chain[0])
    if identity.node_id != node_id or spki(public_key(parse(chain[0]))) != spki(key.public_key()):
        raise Damaged("The authority sent a certificate of somebody else.", "Tell the grid's admin.")


def _parse(content: bytes, where: str) -> Pair:
    try:
        chain = tuple(x509.load_pem_x509_certificates(content))
    except ValueError as error:
        raise Damaged(f"{where} holds no certificate.", "Restore it from a backup.") from error
    key = parse_key(content, where)
    if not chain or spki(public_key(chain[0])) != spki(key.public_key()):
        raise Damaged(f"{where}: key and certificate do not belong together.", "Restore it from a backup.")
    return Pair(key, chain, identity_in(chain[0]))
