"""The inventory of an archive: every stored version, where it belongs, whose it is, and its SHA-256."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from catalog import CatalogWriter
from node.keys import tag_of, text_of

_PAGE: Final = 500
_UIDS: Final = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "TransferSyntaxUID",
)
_ABOUT: Final = ("IssuerOfPatientID", "PatientID", "PatientName", "StudyDate", "AccessionNumber")


def page_of(catalog: CatalogWriter, find: Callable[..., list[Any]], after: str) -> dict[str, Any]:
    """Return a page of all that is stored, hidden versions too, and where the next one begins.

    `find` answers `Keyword=Value` keys as the desk does. A hidden study is listed without its patient.
    """
    found = catalog.stored_after(bytes.fromhex(after), _PAGE)
    studies = {uid: _about(find, uid) for uid in {entry.StudyInstanceUID for _, entry in found}}
    rows = [
        {
            **{keyword: getattr(entry, keyword) for keyword in _UIDS},
            **studies[entry.StudyInstanceUID],
            "bytes": entry.holding.size,
            "sha256": entry.holding.sha256.hex(),
            "received": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.received / 1000)),
            "source": entry.source,
        }
        for _, entry in found
    ]
    return {"rows": rows, "after": found[-1][0].hex() if found else after}


def _about(find: Callable[..., list[Any]], study: str) -> dict[str, str]:
    found = find([f"StudyInstanceUID={study}", *_ABOUT], "STUDY", 1)
    return {keyword: text_of(found[0].get(tag_of(keyword), {})) for keyword in _ABOUT} if found else {}
