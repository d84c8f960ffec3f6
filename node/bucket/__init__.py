"""An object store on S3 with the segments as spool and cache; files leave the node sealed."""

from node.sections import Confirm, Encryption

from .connecting import Endpoint
from .sealing import load_key
from .settings import BucketSettings, Spool
from .store import BucketStore

__all__ = ["BucketSettings", "BucketStore", "Confirm", "Encryption", "Endpoint", "Spool", "load_key"]
