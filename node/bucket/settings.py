"""What an operator may set about a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from node.sections import Confirm, Encryption

from .connecting import Endpoint

_MB = 1 << 20


class Spool(StrEnum):
    """Whether the spool survives what the bucket survives, so that an object in it may be acknowledged."""

    PERSISTENT = "persistent"
    PASSING = "passing"


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """One bucket and its cache; sizes in bytes, times in seconds."""

    endpoint: Endpoint
    spool: Spool = Spool.PASSING
    """Persistent: `sync` returns when the spool has the object, else when the bucket has confirmed it."""
    encryption: Encryption = Encryption.AES_256_GCM
    confirm: Confirm = Confirm.CHECKSUM
    chunk: int = _MB
    """Plain bytes that are sealed together, the smallest range that can be read."""
    multipart_above: int = 16 * _MB
    part: int = 8 * _MB
    """A multiple of `chunk`; servers want at least 5 MB and at most 10 000 parts."""
    bytes_per_second: int = 0
    """Pace of the uploads that nobody waits for; 0 for none."""
    longest_pause: float = 60
    """Between two tries while the bucket does not answer."""
    cache_bytes: int = 50 << 30
    """Confirmed objects in the spool are dropped above this, least recently read first ..."""
    cache_age: float = 0
    """... or when they came so long ago; 0 for never."""
    whole_below: int = 16 * _MB
    """A file up to this size is fetched into the cache when it is opened; a larger one is read by ranges."""
    probe_every: float = 20
    online_for: float = 60
    """The bucket counts as online so long after an answer."""
