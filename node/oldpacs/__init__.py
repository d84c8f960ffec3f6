"""The old PACS as a read-only peer: its catalog by C-FIND, its objects by C-MOVE to ourselves.

Nothing is ever written there. What it has is stated in the mirror like what a node of the grid has, so the
grid's answers, priors and doors know nothing of it but where to fetch.
"""

from .fetching import OldObjects
from .following import Crawl
from .reaching import Reach

__all__ = ["Crawl", "OldObjects", "Reach"]
