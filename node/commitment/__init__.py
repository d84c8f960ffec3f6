"""Storage Commitment (PS3.4 Annex J): what was asked, whether it is safe, and telling whoever asked."""

from .asking import Asked, Inquiries
from .promises import Promise, Promises, Stage
from .reporting import Call, Commitments
from .safety import BucketSafety, DiskSafety, Judge, Safe, Safety

__all__ = [
    "Asked",
    "BucketSafety",
    "Call",
    "Commitments",
    "DiskSafety",
    "Inquiries",
    "Judge",
    "Promise",
    "Promises",
    "Safe",
    "Safety",
    "Stage",
]
