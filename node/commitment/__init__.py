"""Storage Commitment (PS3.4 Annex J): what was asked, whether it is safe, and telling whoever asked."""

from .asking import Asked, Inquiries
from .promises import Promise, Promises, Stage
from .reporting import Call, Commitments
from .safety import (
    AWAITING,
    COMMITTED,
    PROCESSING_FAILURE,
    BucketSafety,
    DiskSafety,
    Elsewhere,
    Judge,
    Safe,
    Safety,
    nobody_else,
)

__all__ = [
    "AWAITING",
    "COMMITTED",
    "PROCESSING_FAILURE",
    "Asked",
    "BucketSafety",
    "Call",
    "Commitments",
    "DiskSafety",
    "Elsewhere",
    "Inquiries",
    "Judge",
    "Promise",
    "Promises",
    "Safe",
    "Safety",
    "Stage",
    "nobody_else",
]
