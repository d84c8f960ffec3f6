"""Moving in: all that another PACS has comes here, day by day and series by series, and is compared then."""

from .book import Migration, MigrationBook, Phase
from .lanes import MoveIn

__all__ = ["Migration", "MigrationBook", "MoveIn", "Phase"]
