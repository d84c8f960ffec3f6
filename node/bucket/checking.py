"""Whether what the bucket confirmed is still what it has: read whole, or only asked about."""

from __future__ import annotations

from collections.abc import Callable

from catalog import Damaged, Holding, NotFound
from node.storage import SegmentStore

from .client import Bucket
from .fetching import Fetcher
from .ledger import Ledger, Row
from .reading import AGAIN, object_key, read_header, read_whole
from .sealing import Key, sealed_length


class Checker:
    """Looks at single objects; what turns out bad is not safe any more, and uploaded again if it can be."""

    def __init__(
        self,
        bucket: Bucket,
        ledger: Ledger,
        spool: SegmentStore,
        fetcher: Fetcher,
        key: Key | None,
        chunk: int,
        forget: Callable[[bytes, tuple[bytes, ...]], None],
    ) -> None:
        """`forget` takes an object and the places in the spool that have lost it."""
        self._bucket = bucket
        self._ledger = ledger
        self._spool = spool
        self._fetcher = fetcher
        self._key = key
        self._chunk = chunk
        self._forget = forget

    def verify(self, holding: Holding, row: Row) -> None:
        """Read what bucket and cache have of it. Raises as `BucketStore.verify`."""
        is_whole, why = False, ""
        if row.proof:
            try:
                for _ in read_whole(self._bucket, holding.sha256, self._key, row.size):
                    pass
                is_whole = True
            except (Damaged, NotFound) as error:
                # What the cache has is uploaded again, if it is whole.
                self._fetcher.distrust(holding.sha256, Damaged(error.what, AGAIN))
                why = error.what
        for place in row.local:
            try:
                self._spool.verify(Holding(holding.sha256, place, holding.size))
                is_whole = True
            except (Damaged, NotFound) as error:
                why = why or error.what
                if is_whole or len(row.local) > 1:
                    self._forget(holding.sha256, (place,))
        if not is_whole:
            gone = f"Neither the spool nor the bucket has the object {holding.sha256.hex()}."
            raise Damaged(why or gone, AGAIN)

    def glance(self, holding: Holding) -> None:
        """Ask the bucket for size and checksum. Raises as `BucketStore.glance`."""
        row = self._ledger.get(holding.sha256)
        if row is None or not row.proof:
            return
        try:
            self._ask(holding.sha256, row)
        except (Damaged, NotFound) as error:
            self._fetcher.distrust(holding.sha256, Damaged(error.what, AGAIN))
            if not row.local:
                raise Damaged(error.what, AGAIN) from error

    def _ask(self, sha256: bytes, row: Row) -> None:
        name = object_key(sha256)
        size, told = self._bucket.head(name)
        if size != sealed_length(row.size, self._chunk):
            # An older version may have sealed it in other chunks, which its header tells.
            sealed = read_header(self._bucket, name, sha256, self._key)
            if (sealed.size, sealed.length) != (row.size, size):
                raise Damaged(f"The bucket has {size} bytes of {sha256.hex()}, not those it took.", AGAIN)
        if row.sealed and told and told != row.sealed:
            raise Damaged(f"The bucket has other bytes of {sha256.hex()} than it took.", AGAIN)
