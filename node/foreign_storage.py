"""Whether a folder is the storage of another PACS: its files are as they came, nothing is corrected in them.

Those PACS keep corrections, merges and deletions in their databases, so an import of the folder brings back
what people put right. What a folder is, is told by how names in it are made.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from typing import Final

_LOOKED_AT: Final = 400
_ORTHANC: Final = re.compile(
    r"(^|/)[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
)
"""The first bytes of an attachment's UUID, and the UUID."""
_DCM4CHEE: Final = re.compile(r"(^|/)\d{4}/\d{1,2}/\d{1,2}/(\d{1,2}/)?[0-9A-F]{8}/[0-9A-F]{8}/[0-9A-F]{8}$")
"""A date, and hashes of study, series and instance: the storage paths of dcm4chee 2 and dcm4chee-arc."""
_HOROS: Final = re.compile(r"(^|/)DATABASE\.noindex/\d+/\d+\.dcm$")
"""Folders and files of ten thousand each, beside Database.sql: OsiriX does the same."""
_DCMQRSCP: Final = "index.dat"


def foreign_storage(source: Path) -> str:
    """Return whose storage a folder is, in a sentence with what that means; empty for an ordinary one."""
    if not source.is_dir():
        return ""
    # The folder's own name counts: a person may name one inside the storage.
    names = [f"{source.name}/{name}" for name in islice(_names(source), _LOOKED_AT)]
    if any(map(_ORTHANC.search, names)):
        found = "Orthanc"
    elif any(map(_DCM4CHEE.search, names)):
        found = "dcm4chee"
    elif any(map(_HOROS.search, names)):
        found = "Horos or OsiriX"
    elif any(Path(name).name == _DCMQRSCP for name in names):
        found = "dcmqrscp"
    else:
        return ""
    return (
        f"{source} looks like the storage of {found}. Corrections, merges and deletions that were made "
        f"there are in its database and not in these files, so they come as they were sent. Move in from the "
        f"running PACS instead: peerpacs migrate --from AE --dates 2009-"
    )


def _names(source: Path) -> list[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(source):
        folders.sort()
        found += [str(Path(folder, name).relative_to(source)) for name in sorted(names)]
        if len(found) >= _LOOKED_AT:
            break
    return found
